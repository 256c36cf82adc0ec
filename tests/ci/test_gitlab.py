"""The pipelines on GitLab's side, run from clean clones up to applications that are served."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from artifact import files
from artifact.site import Site
from surroundings import repository
from surroundings.waiting import await_, free_port
from tests.ci import runner
from tests.ci.runner import Runner
from tests.host import prepared
from tests.integration.command import artifact, clean_environment

TEMPLATE = runner.PROJECT / "ci/templates/gitlab/artifact.gitlab-ci.yml"
SITE_VARIABLES = "DJANGO_SETTINGS_MODULE=accounting.settings.production\nSECRET_KEY=x\nHTTPS=0\n"

pytestmark = pytest.mark.slow


def dotenv(path: Path) -> dict[str, str]:
    """Return what a job told the next ones."""
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


@pytest.mark.timeout(900)
def test_a_clean_clone_goes_through_all_stages_to_a_served_application(tmp_path: Path) -> None:
    port = free_port()
    site = Site(tmp_path / "site")
    here = Runner(
        runner.clean_clone(tmp_path),
        {
            "UNIT_TESTS": "tests/test_manifest.py -n 0",
            "INTEGRATION_TESTS": "tests/ci/test_jenkins.py -k same_order -n 0",
            "ARTIFACT_ROOT": str(site.root),
            "ARTIFACT_PROCESSES_WEB_LISTEN": f"127.0.0.1:{port}",
        },
        tmp_path / "home",
    )
    here.pipeline(41)
    for stage in ("unit", "integration"):
        (suite,) = ET.parse(here.kept(stage, f"reports/{stage}.xml")).getroot().iter("testsuite")
        assert int(suite.attrib["tests"]) > 0
        assert int(suite.attrib["failures"]) + int(suite.attrib["errors"]) == 0
    for pattern in ("*.whl", "*.tar.gz", "artifact-*.pyz", "accounting-*.tgz"):
        assert list(here.kept("build", "dist").glob(pattern)), pattern
    first = dotenv(here.kept("build", "dist/artifact.env"))
    assert here.kept("build", first["ARTIFACT_PATH"]).is_file()

    with prepared.daemon(tmp_path / "supervisor", "pypi") as (url, programs):
        me = pwd.getpwuid(os.geteuid()).pw_name
        options: list[str | Path] = ["--user", me, "--supervisor-dir", programs]
        path = here.kept("build", first["ARTIFACT_PATH"])
        env = clean_environment(ARTIFACT_SUPERVISOR_URL=url)
        artifact("setup", path, *options, cwd=tmp_path, env=env)
        site.variables.write_text(SITE_VARIABLES)
        here.pipeline(41, "deploy")
        assert served(port) == "41"

    here.pipeline(42, "build")
    the_log_of_a_cached_build_is_readable(here.log("build"))
    page = here.kept("build", "dist/summary.md").read_text()
    assert " reused" in page
    assert "### Since 41" in page, "the cache kept what was built last"


def served(port: int) -> str:
    """Ask the application which release it is."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=10) as answer:
        return str(json.load(answer)["version"])


def the_log_of_a_cached_build_is_readable(log: str, *, assets: bool = True) -> None:
    """One line a step, with its seconds; nothing that needs a terminal."""
    lines = log.splitlines()
    assert len(lines) <= 60, log
    assert "\r" not in log
    assert "\x1b" not in log
    steps = ["requirements", "environment", "pack", "write"]
    for step in [*steps, "collect static files"] if assets else steps:
        told = [line for line in lines if line.startswith(f"{step}") and line.endswith(" s)")]
        assert told, (step, log)
    assert any("environment" in line and "reused" in line for line in lines)


@pytest.fixture
def project(tmp_path: Path, wheels: Path) -> Runner:
    """A project outside this repository that uses the template, as docs/ci.md shows it."""
    path = tmp_path / "project"
    (path / "ci").mkdir(parents=True)
    shutil.copy(TEMPLATE, path / "ci")
    content = {
        ".gitignore": ".cache/\n.venv/\ndist/\n",
        ".gitlab-ci.yml": (
            "include:\n"
            "  - local: ci/artifact.gitlab-ci.yml\n"
            "    inputs:\n"
            '      test: python -c "import small"\n'
            "stages: [test, build, deploy]\n"
        ),
        "artifact.toml": 'name = "small"\n',
        "requirements.txt": "ledgerlib==1.0\n",
        "small.py": "import ledgerlib\n",
    }
    for name, text in content.items():
        (path / name).write_text(text)
    repository.create(path)
    variables = {
        "ARTIFACT_ROOT": str(tmp_path / "site"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }
    return Runner(path, variables, tmp_path / "home")


def test_a_project_with_the_template_is_tested_built_and_deployed(
    project: Runner, tmp_path: Path
) -> None:
    current = Site(tmp_path / "site").current
    project.pipeline(1, "artifact-test", "artifact-build", "artifact-deploy")
    assert "first environment of this site" in project.log("artifact-build")
    assert current.readlink().name == "1"

    project.pipeline(2, "artifact-build")
    the_log_of_a_cached_build_is_readable(project.log("artifact-build"), assets=False)

    (project.checkout / "requirements.txt").write_text("ledgerlib==1.1\n")
    repository.commit(project.checkout)
    project.pipeline(3, "artifact-build", "artifact-deploy")
    assert "compiled: ledgerlib 1.0 → 1.1" in project.log("artifact-build")
    page = project.kept("artifact-build", "dist/summary.md").read_text()
    assert "### Since 2" in page
    assert "| changed | ledgerlib | 1.0 | 1.1 |" in page
    assert current.readlink().name == "3"


def test_of_two_jobs_at_once_one_is_cancelled_and_the_other_finishes(
    project: Runner, tmp_path: Path
) -> None:
    other = Runner(tmp_path / "other", project.variables, tmp_path / "home")
    shutil.copytree(project.checkout, other.checkout)
    started = tmp_path / "started"
    step = (
        f'[[assets]]\nname = "slow"\nrun = "touch {started}; sleep 1000"\n'
        'inputs = ["small.py"]\noutputs = ["nothing/**"]\n'
    )
    (project.checkout / "artifact.toml").write_text(f'name = "small"\n{step}')
    repository.commit(project.checkout)

    cancelled, finishing = project.start(1, "artifact-build"), other.start(2, "artifact-build")
    try:
        await_("the step that is cancelled", started.exists, 120)
        os.killpg(cancelled.pid, signal.SIGTERM)
        cancelled.wait(60)
        assert finishing.wait(120) == 0, other.log("artifact-build")
        await_("the end of all that was started", lambda: not mentioning(project.checkout), 60)
    finally:
        for child in (cancelled, finishing):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    assert other.kept("artifact-build", "dist/small-2.tgz").is_file()
    assert not list(tmp_path.rglob("small-1.tgz"))
    # The runner takes a job that a signal ended for a good one; on a busy machine it copies what
    # lay in dist/ at that moment to where it keeps artifacts.
    copies = project.state / "artifacts"
    left = [path for path in tmp_path.rglob(".artifact-build-*") if copies not in path.parents]
    assert left == []
    environments = tmp_path / "site" / "virtualenv"
    assert len([path for path in environments.iterdir() if path.name[0] != "."]) == 1
    for lock in environments.rglob("*.lock"):
        if not lock.name.startswith("requirements"):
            with files.locked(lock, doing="looking"):
                pass


def mentioning(path: Path) -> list[str]:
    """Return the processes that work below a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if process.readlink().is_relative_to(path):
                found.append(process.parent.name)
    return found
