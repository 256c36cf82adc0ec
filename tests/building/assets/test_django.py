"""Django's own asset steps, run by a real Django with django-compressor."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from artifact import files, process
from artifact.building import source
from artifact.building.assets import django
from artifact.building.assets.plan import AssetTree
from artifact.building.caches import Caches
from artifact.configuration.artifact_toml import Config, DjangoSection
from artifact.errors import BuildFailed
from artifact.steps import Ended, Event, Warned, nobody
from tests.building.assets.running import build, content_of

MANAGE = """\
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "apps"))
def main():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
if __name__ == "__main__":
    main()
"""
SETTINGS = """\
from pathlib import Path
print("settings may talk")
BASE_DIR = Path(__file__).resolve().parent.parent
INSTALLED_APPS = ["django.contrib.staticfiles", "compressor", "till"]
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "collected"
STORAGES = {"staticfiles": {
    "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}}
STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.AppDirectoriesFinder",
                       "compressor.finders.CompressorFinder"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
COMPRESS_OFFLINE = True
"""
PAGE = """\
{% load compress static %}{% compress css %}
<link rel="stylesheet" href="{% static 'till/page.css' %}">{% endcompress %}
"""
CATALOG = """\
msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"
msgid "yes"
msgstr "ja"
"""
PROJECT = {
    "manage.py": MANAGE,
    "shop/__init__.py": "",
    "shop/settings.py": SETTINGS,
    "apps/till/__init__.py": "",
    "apps/till/static/till/page.css": "body { color: red; }\n",
    "apps/till/templates/till/page.html": PAGE,
    "apps/till/locale/de/LC_MESSAGES/django.po": CATALOG,
}


@pytest.fixture(scope="session")
def environment(shared_directory: Path) -> Path:
    """A virtualenv with Django and django-compressor, made once a run."""
    directory = shared_directory / "django-environment"
    done = directory / ".complete"
    with files.locked(shared_directory / "django.lock", doing="installing Django", wait=240):
        if not done.exists():
            uv = Path(sys.executable).with_name("uv")
            process.run([str(uv), "venv", "--quiet", "--clear", str(directory)])
            # Compiled as a real environment is: Django starts three times as fast.
            install = [str(uv), "pip", "install", "--quiet", "--compile-bytecode", "--python"]
            requirements = ["django>=5.2,<6", "django-compressor>=4.5"]
            process.run([*install, str(directory / "bin/python"), *requirements])
            done.touch()
    return directory


class Project:
    """A Django project, and the events of its last build."""

    def __init__(self, directory: Path, environment: Path) -> None:
        self.top = directory / "shop"
        self.caches = Caches(str(directory / "site"), directory / "cache")
        self.environment = environment
        self.events: list[Event] = []
        self.write(PROJECT)

    def write(self, content: dict[str, str]) -> None:
        for path, text in content.items():
            (self.top / path).parent.mkdir(parents=True, exist_ok=True)
            (self.top / path).write_text(text)

    def setting(self, text: str) -> None:
        self.write({"shop/settings.py": f"{SETTINGS}{text}\n"})

    def build(self, section: DjangoSection | None = None) -> AssetTree:
        self.events = []
        config = Config(name="shop", root=self.caches.root, django=section or DjangoSection())
        snapshot = source.take_snapshot(self.top, (), nobody)
        return build(snapshot, config, self.environment, "k1", self.caches, self.events.append)

    def refused(self, section: DjangoSection | None = None) -> BuildFailed:
        with pytest.raises(BuildFailed) as caught:
            self.build(section)
        assert caught.value.code == 3
        assert caught.value.hint
        return caught.value

    @property
    def notes(self) -> dict[str, str]:
        return {event.name: event.note for event in self.events if isinstance(event, Ended)}

    @property
    def warnings(self) -> list[Warned]:
        return [event for event in self.events if isinstance(event, Warned)]


@pytest.fixture
def project(tmp_path: Path, environment: Path) -> Project:
    return Project(tmp_path, environment)


def content(tree: AssetTree) -> dict[str, str]:
    return {file.path: content_of(file).read_text("utf-8", "replace") for file in tree.files}


def test_messages_static_files_and_compressed_ones_are_made_in_this_order(
    project: Project,
) -> None:
    before = sorted(project.top.rglob("*"))
    tree = project.build()
    assert [step.name for step in tree.steps] == ["compilemessages", "collectstatic", "compress"]
    found = content(tree)
    assert "ja" in found["apps/till/locale/de/LC_MESSAGES/django.mo"]
    assert found["collected/till/page.css"] == "body { color: red; }\n"
    # compress rendered {% static %}, which needs the manifest of the hashed storage.
    assert "collected/staticfiles.json" in found
    compressed = [path for path in found if path.startswith("collected/CACHE/css/")]
    assert [found[path] for path in compressed] == ["body{color:red}"]
    assert "collected/CACHE/manifest.json" in found
    assert tree.settings == "shop.settings"
    assert sorted(project.top.rglob("*")) == before
    assert not [path for path in found if "__pycache__" in path]


def test_an_unchanged_project_starts_no_python(project: Project, tmp_path: Path) -> None:
    first = project.build()
    project.environment = tmp_path / "broken"
    for package in ("django", "compressor"):
        directory = project.environment / "lib/python3/site-packages" / package
        directory.mkdir(parents=True)
        (directory / "__init__.py").touch()
    assert project.build() == first
    assert set(project.notes.values()) == {
        "1 file, inputs unchanged", "3 files, inputs unchanged", "2 files, inputs unchanged",
    }  # fmt: skip


def test_a_change_of_code_does_not_compile_translations_again(project: Project) -> None:
    project.build()
    project.write({"apps/till/views.py": "x = 1\n"})
    project.build()
    assert project.notes["assets.compilemessages"] == "1 file, inputs unchanged"
    assert "unchanged" not in project.notes["assets.collectstatic"]
    # Nothing that compress reads came out differently, but templates and settings may be anywhere.
    assert "unchanged" not in project.notes["assets.compress"]


def test_stale_files_in_static_root_are_replaced(project: Project) -> None:
    project.write({"collected/till/page.css": "old\n", "collected/robots.txt": "by hand\n"})
    tree = project.build()
    assert content(tree)["collected/till/page.css"] == "body { color: red; }\n"
    assert "collected/robots.txt" not in tree.paths


def test_compiled_messages_in_the_source_are_left_alone(project: Project) -> None:
    project.write({"apps/till/locale/de/LC_MESSAGES/django.mo": "committed"})
    assert [step.name for step in project.build().steps] == ["collectstatic", "compress"]
    tree = project.build(DjangoSection(compilemessages=True))
    assert "ja" in content(tree)["apps/till/locale/de/LC_MESSAGES/django.mo"]


def test_a_missing_msgfmt_is_told_with_its_package(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("git", "sh"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    error = project.refused()
    assert "needs msgfmt" in error.message
    assert "apt-get install gettext" in error.hint


def test_without_static_root_nothing_is_collected_and_the_setting_is_named(
    project: Project,
) -> None:
    project.setting("STATIC_ROOT = None\nINSTALLED_APPS.remove('compressor')")
    tree = project.build()
    assert [step.name for step in tree.steps] == ["compilemessages"]
    assert project.warnings[0].text == (
        "static files are not collected: shop.settings has no STATIC_ROOT"
    )
    assert "STATIC_ROOT = BASE_DIR" in project.warnings[0].hint
    assert project.notes["assets.compress"] == "nothing to do, compressor is not in INSTALLED_APPS"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("'/var/www/static'", "STATIC_ROOT in shop.settings is /var/www/static, outside"),
        ("BASE_DIR.parent / 'static'", "outside the project"),
        ("BASE_DIR", "STATIC_ROOT in shop.settings is the project's own directory"),
    ],
)
def test_a_static_root_no_artifact_can_hold_is_refused(
    project: Project, value: str, message: str
) -> None:
    project.setting(f"STATIC_ROOT = {value}")
    error = project.refused()
    assert message in error.message
    assert "collectstatic = false" in error.hint


def test_settings_that_need_the_environment_get_a_placeholder(project: Project) -> None:
    project.setting("import os\nSECRET_KEY = os.environ['SHOP_SECRET']")
    error = project.refused()
    assert error.message == (
        "manage.py cannot import its settings shop.settings: KeyError: 'SHOP_SECRET'"
    )
    assert 'env = { NAME = "only-for-the-build" }' in error.hint
    assert error.output[-1] == "KeyError: 'SHOP_SECRET'"
    assert project.build(DjangoSection(env={"SHOP_SECRET": "only-for-the-build"})).files


def test_settings_that_lack_a_module_name_it(project: Project) -> None:
    project.setting("import nowhere")
    error = project.refused()
    assert error.message.endswith("ModuleNotFoundError: No module named 'nowhere'")
    assert "requirements" in error.hint


def test_compress_runs_only_where_it_is_used_offline(project: Project) -> None:
    project.setting("COMPRESS_OFFLINE = False")
    assert [step.name for step in project.build().steps] == ["compilemessages", "collectstatic"]
    assert project.notes["assets.compress"] == "nothing to do, COMPRESS_OFFLINE is not on"


def test_a_message_of_several_lines_is_quoted_by_its_first(project: Project) -> None:
    project.setting("raise ValueError('first\\nsecond')")
    assert project.refused().message.endswith("shop.settings: ValueError: first")


def test_a_step_of_django_that_fails_shows_its_end(project: Project) -> None:
    project.write({"apps/till/static/till/page.css": "a { background: url(gone.png) }\n"})
    error = project.refused()
    assert error.message == "asset step collectstatic exited with status 1"
    assert "gone.png" in "\n".join(error.output)


def test_the_variables_of_the_caller_do_not_choose_the_settings(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "of.another.project")
    assert project.build().settings == "shop.settings"


def test_manage_py_may_stand_below_the_top(project: Project) -> None:
    (project.top / "src").mkdir()
    for name in ("manage.py", "shop", "apps"):
        (project.top / name).rename(project.top / "src" / name)
    tree = project.build(DjangoSection(manage="src/manage.py"))
    assert "src/collected/till/page.css" in tree.paths
    assert "src/apps/till/locale/de/LC_MESSAGES/django.mo" in tree.paths


def test_a_manage_py_without_django_has_no_steps(project: Project, tmp_path: Path) -> None:
    project.environment = tmp_path / "empty"
    (project.environment / "bin").mkdir(parents=True)
    tree = project.build()
    assert (tree.files, tree.steps, tree.settings) == ((), (), "")


def test_switched_off_steps_do_not_run(project: Project) -> None:
    off = DjangoSection(collectstatic=False, compress=False, compilemessages=False)
    tree = project.build(off)
    assert tree.files == ()
    assert tree.settings == "shop.settings"
    assert not project.caches.assets.exists()


@pytest.mark.parametrize(
    ("section", "wsgi", "chosen"),
    [
        (DjangoSection(), "", "shop.settings.dev"),
        (DjangoSection(), 'os.environ["DJANGO_SETTINGS_MODULE"] = "shop.live"', "shop.live"),
        (DjangoSection(env={"DJANGO_SETTINGS_MODULE": "shop.other"}), "", "shop.other"),
        (DjangoSection(settings="shop.said"), "", "shop.said"),
    ],
)
def test_the_settings_are_those_a_server_runs_with(
    tmp_path: Path, section: DjangoSection, wsgi: str, chosen: str
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/wsgi.py").write_text(wsgi)
    (tmp_path / "manage.py").write_text(MANAGE.replace("shop.settings", "shop.settings.dev"))
    assert django.settings_module(tmp_path, section) == chosen
