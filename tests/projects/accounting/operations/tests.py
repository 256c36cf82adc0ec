import json
import os
import tempfile
from pathlib import Path
from unittest import mock

from django.db import OperationalError
from django.test import SimpleTestCase, TestCase, override_settings

from operations import release


class PagesTest(TestCase):
    def test_it_is_well_when_the_database_answers(self):
        self.assertEqual(self.client.get("/healthz").json()["status"], "ok")

    def test_it_is_not_well_when_the_database_does_not_answer(self):
        with mock.patch("operations.views.connection.cursor", side_effect=OperationalError("gone")):
            self.assertEqual(self.client.get("/healthz").status_code, 503)

    def test_the_version_page_names_release_and_process(self):
        answer = self.client.get("/version").json()
        self.assertEqual(answer, {"version": "development", "pid": os.getpid()})

    def test_a_slow_page_takes_as_long_as_asked(self):
        self.assertEqual(self.client.get("/slow?seconds=0.01").json()["seconds"], 0.01)
        self.assertEqual(self.client.get("/slow?seconds=long").status_code, 400)

    def test_a_late_import_comes_from_this_project(self):
        project = Path(__file__).resolve().parents[1]
        self.assertEqual(self.client.get("/lazy").json()["module"], str(project / "ledger/reports.py"))


class ReleaseTest(SimpleTestCase):
    def setUp(self):
        site = tempfile.TemporaryDirectory()
        self.addCleanup(site.cleanup)
        self.directory = Path(site.name, "releases", "1337")
        self.directory.mkdir(parents=True)
        release.version.cache_clear()
        self.addCleanup(release.version.cache_clear)

    def test_the_manifest_of_the_artifact_says_it(self):
        self.directory.joinpath(".artifact").mkdir()
        self.directory.joinpath(".artifact/manifest.json").write_text(json.dumps({"version": "1338"}))
        with override_settings(BASE_DIR=self.directory):
            self.assertEqual(release.version(), "1338")

    def test_without_a_manifest_the_directory_says_it(self):
        with override_settings(BASE_DIR=self.directory):
            self.assertEqual(release.version(), "1337")
