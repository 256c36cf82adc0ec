"""`scripts/bootstrap`: the tool in one file, on a machine that has only Python and no network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from artifact import files
from surroundings.waiting import await_
from tests.integration import projects
from tests.integration.command import clean_environment, run

BOOTSTRAP = Path(__file__).parents[2] / "scripts" / "bootstrap"
PYTHON = os.path.realpath(sys.executable)
_CLI = "lib/artifact/cli/__init__.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def packed(shared_directory: Path) -> Path:
    """The tool in one file, packed once in this run."""
    path = shared_directory / "packed" / "artifact.pyz"
    with files.locked(shared_directory / "packed.lock", doing="packing", wait=240):
        if not path.exists():
            run([BOOTSTRAP, "--output", path], cwd=shared_directory)
    return path


def another(packed: Path, path: Path, content: Mapping[str, str], **about: str) -> Path:
    """Copy the file with other members and another description."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(packed, path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")  # the later of two entries is what counts
        before = json.loads(archive.read("about.json"))
        archive.writestr("about.json", json.dumps({**before, **about}))
        for name, text in content.items():
            archive.writestr(name, text)
    return path


def bare(*argv: str | Path, home: Path, status: int = 0) -> str:
    """Run a program where there is Python and nothing else, and no network at all."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}
    ran = run(["unshare", "--net", *argv], cwd=home, env=env, status=status)
    return ran.stdout + ran.stderr


def put(file: Path, server: Path, *options: str, status: int = 0) -> str:
    """Run `FILE bootstrap` on a server, which is a directory here."""
    server.mkdir(exist_ok=True)
    where = ["--directory", str(server / "opt"), "--link", str(server / "artifact")]
    return bare(PYTHON, "-I", file, "bootstrap", *where, *options, home=server, status=status)


@pytest.fixture(scope="module")
def server(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server with the tool on it; tests leave it as it is."""
    server = tmp_path_factory.mktemp("server")
    assert "is in" in put(packed, server)
    return server


def test_without_a_network_it_installs_an_artifact(
    server: Path, wheels: Path, tmp_path: Path
) -> None:
    checkout = projects.small(tmp_path / "small", wheels)
    path = checkout.build("--version", "1337").stdout.strip()
    shutil.rmtree(checkout.root)  # what the build left; a server has nothing yet
    routes = bare("/bin/cat", "/proc/net/route", "/proc/net/ipv6_route", home=server)
    assert "eth" not in routes, "else this would prove nothing"
    said = bare(server / "artifact", "install", path, "--probation", "0s", home=server)
    assert f"small-1337 is live in {checkout.root}" in said
    code = "import small, ledgerlib; print(ledgerlib.version)"
    live = checkout.root / "current"
    python = (live if live.exists() else checkout.root / "releases/current") / "virtualenv/bin"
    assert run([python / "python", "-c", code], cwd=python.parents[1]).stdout == "1.0\n"


def test_without_a_network_it_builds_one(server: Path, wheels: Path, tmp_path: Path) -> None:
    checkout = projects.small(tmp_path / "small", wheels)
    env = {**checkout.environment_variables, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    argv = ["unshare", "--net", str(server / "artifact"), "build", "--version", "7"]
    ran = run(argv, cwd=checkout.path, env=env)
    assert Path(ran.stdout.strip()).name == "small-7.tgz"


def test_what_supervisor_runs_follows_upgrades(server: Path) -> None:
    where = server / "opt/versions"
    version = next(where.iterdir())
    code = (
        f"import sys; sys.argv[0] = {str(server / 'artifact')!r}; "
        "from artifact.cli.install import own_path; print(own_path())"
    )
    said = run([version / "bin/python", "-c", code], cwd=server).stdout
    assert said == f"{server / 'artifact'}\n"


def test_it_is_upgraded_in_one_step_also_after_a_killed_try_and_goes_back(
    packed: Path, server: Path, tmp_path: Path
) -> None:
    newer = another(
        packed,
        tmp_path / "newer.pyz",
        {"lib/artifact/__init__.py": '__version__ = "9.9.9"\n'},
        version="9.9.9",
        id="newer",
    )
    first = bare(server / "artifact", "--version", home=server)
    answers, done = list[str](), threading.Event()

    def ask() -> None:
        while not done.wait(0.05):
            answers.append(bare(server / "artifact", "--version", home=server))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        unpacked_and_killed(newer, server)
        assert bare(server / "artifact", "--version", home=server) == first
        assert "9.9.9-newer is in" in put(newer, server)
        assert not list((server / "opt/versions").glob(".new-*")), "tidied up"
        assert bare(server / "artifact", "--version", home=server) == "artifact 9.9.9\n"
        assert "already" in put(newer, server)
        assert "(was 9.9.9-newer)" in put(newer, server, "--back")
        assert bare(server / "artifact", "--version", home=server) == first
    finally:
        done.set()
        asking.join()
    assert set(answers) == {first, "artifact 9.9.9\n"}, "never nothing"


def unpacked_and_killed(file: Path, server: Path) -> None:
    """Begin an upgrade and kill it with SIGKILL while it unpacks."""
    options = ["--directory", str(server / "opt"), "--link", str(server / "artifact")]
    argv = [PYTHON, "-I", str(file), "bootstrap", *options]
    versions = server / "opt/versions"
    child = subprocess.Popen(argv, env=clean_environment(), cwd=server)
    await_("the unpacking", lambda: list(versions.glob(".new-*/lib/*/site-packages/click/*")))
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert list(versions.glob(".new-*")), "killed in the middle"


def test_a_version_that_does_not_run_changes_nothing(
    packed: Path, server: Path, tmp_path: Path
) -> None:
    before = (server / "opt/current").readlink()
    broken = another(packed, tmp_path / "broken.pyz", {_CLI: "import no_such"}, id="broken")
    said = put(broken, server, status=4)
    assert "does not run here" in said
    assert "No module named 'no_such'" in said
    assert (server / "opt/current").readlink() == before
    assert bare(server / "artifact", "--version", home=server).startswith("artifact ")


def test_another_python_than_it_was_packed_for_is_told_which(
    packed: Path, server: Path, tmp_path: Path
) -> None:
    other = another(packed, tmp_path / "x.pyz", {}, python="3.99.1", abi="cpython-399", id="x")
    said = put(other, server, status=4)
    assert "x.pyz is for Python 3.99.1 (cpython-399)" in said
    assert "hint: run it with that Python, or pack one: scripts/bootstrap --python" in said


def test_what_is_not_ours_is_not_overwritten(packed: Path, tmp_path: Path) -> None:
    server = tmp_path / "server"
    server.mkdir()
    (server / "artifact").write_text("somebody's script\n")
    assert "is there already and is not a link to" in put(packed, server, status=5)
    assert not (server / "opt").exists()
    assert "there is no" in put(packed, server, "--back", status=5)


def test_it_runs_as_it_is_too_also_twice_at_once(packed: Path, tmp_path: Path) -> None:
    env = clean_environment(XDG_CACHE_HOME=str(tmp_path / "cache"))
    both = [
        subprocess.Popen(
            [packed, "--version"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [child.communicate(timeout=120)[0] for child in both]
    assert said[0].startswith("artifact ")
    assert said[0] == said[1]
    assert len(list((tmp_path / "cache/artifact/tool/versions").iterdir())) == 1


def test_nothing_in_it_tells_of_the_machine_that_packed_it(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        own = [name for name in archive.namelist() if "single_artifact" in name]
        assert not [name for name in own if "direct_url" in name or "uv_cache" in name]
        checkout = str(BOOTSTRAP.parents[1]).encode()
        for name in own:
            assert checkout not in archive.read(name), name
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
