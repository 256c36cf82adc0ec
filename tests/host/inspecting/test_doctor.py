"""The doctor: each finding is provoked on a real server, and comes with its fix."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from artifact import files, manifest
from artifact.configuration.site_toml import Settings, SupervisorSection
from artifact.host.inspecting import doctor, preflight
from artifact.host.inspecting.doctor import Report
from artifact.host.processes import programs
from artifact.host.processes.target import Target
from artifact.host.records import freeze, journal, releases
from artifact.host.records.problem import Problem
from artifact.manifest import Install, Manifest, Process
from artifact.services.process_manager import ProcessManagerError
from artifact.services.supervisor import Supervisor
from artifact.site import Site
from surroundings import supervisord
from surroundings.waiting import free_port
from tests.host import prepared
from tests.host.machine import NAME, Environment, Machine
from tests.test_manifest import example

NOTHING = Path("/nonexistent")
ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, environment: Environment) -> Iterator[Machine]:
    """A machine whose site has a live release; tests put right what they break."""
    machine = Machine(tmp_path_factory.mktemp("served"), environment)
    machine.start_supervisord()
    try:
        done = machine.install(machine.build("1", install=Install(shared=("media/",))))
        assert done.returncode == 0, done.stderr
        machine.site.variables.write_text("A=1\n")
        machine.site.variables.chmod(0o640)
        yield machine
    finally:
        machine.stop_supervisord()


@pytest.fixture
def site(served: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("ARTIFACT_SUPERVISOR_URL", served.url)
    assert found(served.site) == {}
    yield served.site
    assert found(served.site) == {}


def found(site: Site, nginx: Path = NOTHING) -> dict[str, tuple[str, str]]:
    """Return check to text and hint of the findings."""
    report: Report = doctor.examine(site, nginx_directory=nginx)
    assert len({one.check for one in report.findings}) == len(report.findings), report.findings
    assert all(one.hint and "\n" not in one.text + one.hint for one in report.findings)
    return {one.check: (one.text, one.hint) for one in report.findings}


@contextmanager
def manifest_with(site: Site, change: Callable[[Manifest], Manifest]) -> Iterator[None]:
    """Have the live release's manifest say something else for the block."""
    path = site.release("1") / ".artifact" / "manifest.json"
    before = path.read_bytes()
    path.parent.chmod(0o755)
    files.write(path, manifest.encode(change(manifest.decode(before))))
    yield
    files.write(path, before)


def python_with(**changes: str) -> Callable[[Manifest], Manifest]:
    def change(described: Manifest) -> Manifest:
        python = msgspec.structs.replace(described.python, **changes)
        return msgspec.structs.replace(described, python=python)

    return change


def test_a_server_without_a_fault_is_well_and_one_with_a_fault_exits_with_5(
    served: Machine, site: Site
) -> None:
    well = served.run("doctor", str(site.root), "--nginx-dir", "/nonexistent")
    assert (well.returncode, well.stderr) == (0, "")
    assert "supervisor: well" in well.stdout.splitlines()
    site.variables.chmod(0o644)
    ill = served.run("doctor", str(site.root), "--nginx-dir", "/nonexistent")
    assert ill.returncode == 5
    line = f"env: {site.variables} has mode 0644, and holds what others must not read or change; "
    assert line + f"fix: chmod 0640 {site.variables}" in ill.stdout.splitlines()
    answer = served.run("doctor", str(site.root), "--nginx-dir", "/nonexistent", "--json")
    assert answer.returncode == 5
    document = json.loads(answer.stdout)
    assert document["ok"] is False
    assert [one["check"] for one in document["findings"]] == ["env"]
    site.variables.chmod(0o640)


@pytest.mark.parametrize(
    ("changes", "check", "text", "hint"),
    [
        (
            {"version": "3.11.99"},
            "interpreter",
            "the environment was compiled for cpython 3.11.99",
            "",
        ),
        (
            {"interpreter": "/nonexistent/python"},
            "interpreter",
            "/nonexistent/python does not work here",
            "install cpython",
        ),
        ({"glibc": "99.1"}, "glibc", "needs glibc 99.1", "oldest distribution"),
    ],
    ids=["another version", "no interpreter", "an older glibc"],
)
def test_a_machine_that_an_environment_was_not_made_for_is_found(
    site: Site, changes: dict[str, str], check: str, text: str, hint: str
) -> None:
    with manifest_with(site, python_with(**changes)):
        said = found(site)[check]
    assert text in said[0]
    assert said[1]
    assert hint in said[1]


def test_too_little_room_is_found(site: Site) -> None:
    def vast(described: Manifest) -> Manifest:
        one = msgspec.structs.replace(described.components[0], raw=1 << 60)
        return msgspec.structs.replace(described, components=(one,))

    with manifest_with(site, vast):
        text, hint = found(site)["disk"]
        assert "MiB are missing" in text
        assert "delete old releases" in hint


def test_a_clock_that_goes_wrong_is_found(site: Site) -> None:
    ahead = time.time() + 3600
    os.utime(site.state, (ahead, ahead))
    text, hint = found(site)["clock"]
    assert str(site.state) in text
    assert hint == "timedatectl set-ntp true"
    os.utime(site.state)


def test_too_few_inodes_are_found_on_a_file_system_without_any(site: Site, tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=100", "none", str(mount)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        # Where nothing can be mounted, a file system can still be asked for more than it has.
        def many(described: Manifest) -> Manifest:
            one = msgspec.structs.replace(described.components[0], entries=1 << 50, raw=0)
            return msgspec.structs.replace(described, components=(one,))

        with manifest_with(site, many):
            assert "disk" in {one.check for one in doctor.examine(site).findings}
        return
    try:
        small = Site(mount / "site")
        small.private.mkdir(parents=True)
        texts = [one.text for one in doctor.examine(small, nginx_directory=NOTHING).findings]
        assert any("inodes free and needs" in text for text in texts), texts
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_frozen_site_is_found(site: Site) -> None:
    freeze.freeze(site, "inventory")
    text, hint = found(site)["runs"]
    assert "inventory" in text
    assert hint == "artifact thaw"
    freeze.thaw(site)


def test_a_run_that_was_killed_is_found(site: Site) -> None:
    kept = site.journal.read_bytes()
    journal.begin(site.journal, command="prune", version="", digest="", previous="1")
    text, hint = found(site)["runs"]
    assert "did not end" in text
    assert hint == f"artifact recover {site.root}"
    site.journal.write_bytes(kept)


def test_bad_health_is_found(served: Machine, site: Site) -> None:
    def strict(described: Manifest) -> Manifest:
        wish = manifest.Health(path="/healthz", status=(204,))
        web = msgspec.structs.replace(described.processes["web"], health=wish)
        return msgspec.structs.replace(described, processes={"web": web})

    with manifest_with(site, strict):
        text, hint = found(site)["health"]
        assert f"web does not answer well at 127.0.0.1:{served.port}/healthz: 200 OK" in text
        assert hint == f"artifact status {site.root}"


def test_private_sockets_that_others_can_reach_are_found(site: Site) -> None:
    site.private.chmod(0o755)
    text, hint = found(site)["rights"]
    assert "others can reach the private sockets" in text
    assert hint == f"chmod 0700 {site.private}"
    site.private.chmod(0o700)


def test_settings_that_nobody_knows_are_found(site: Site) -> None:
    site.settings.write_text('usr = "x"\n')
    wrong = f'{site.settings}: usr: unknown key, did you mean "user"?'
    assert found(site) == {"settings": (wrong, f"edit {site.settings}")}, "one typo, one finding"
    site.settings.write_text('usr = "x"\n[store]\nurll = "/x"\n')
    report = doctor.examine(site, nginx_directory=NOTHING)
    assert [(one.check, one.text.split(": ")[1]) for one in report.findings] == [
        ("settings", "usr"),
        ("settings", "store.urll"),
    ]
    assert "supervisor" not in report.checks, "nobody knows which one is meant"
    site.settings.unlink()


def test_a_shared_file_that_is_missing_is_found(site: Site) -> None:
    site.settings.write_text('[install]\nshared = ["media/", ".env"]\n')
    text, hint = found(site)["shared"]
    assert f"{site.shared / '.env'} is missing" in text
    assert "put it there" in hint
    site.settings.unlink()


def test_a_line_of_env_that_is_none_is_found(site: Site) -> None:
    site.variables.write_text("export A=1\n")
    text, hint = found(site)["env"]
    assert f"{site.variables}:1: expected KEY=value" in text
    assert "no `export`" in hint
    site.variables.write_text("A=1\n")


def test_a_release_without_its_manifest_is_found(site: Site) -> None:
    manifest_file = site.release("1") / ".artifact" / "manifest.json"
    kept = manifest_file.read_bytes()
    manifest_file.parent.chmod(0o755)
    manifest_file.unlink()
    text, hint = found(site)["release"]
    assert "is not whole" in text
    assert "install it again" in hint
    manifest_file.write_bytes(kept)


def test_a_store_whose_directory_is_gone_is_found(site: Site, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    site.settings.write_text(f'[store]\nurl = "{gone}"\n')
    text, hint = found(site)["store"]
    assert f"{gone} is not a directory that exists" in text
    assert hint
    gone.mkdir()
    assert found(site) == {}
    site.settings.unlink()


def test_a_variable_of_the_store_that_is_none_is_found(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.settings.write_text(f'[store]\nurl = "{tmp_path}"\n')
    monkeypatch.setenv("ARTIFACT_STORE_CHECKSUMS", "never")
    text, hint = found(site)["store"]
    assert text.startswith("ARTIFACT_STORE_CHECKSUMS: expected")
    assert hint == "correct that variable, or unset it"
    monkeypatch.delenv("ARTIFACT_STORE_CHECKSUMS")
    site.settings.unlink()


def test_a_store_that_does_not_answer_is_found(site: Site) -> None:
    site.settings.write_text(f'[store]\nurl = "http://127.0.0.1:{free_port()}/artifacts"\n')
    text, hint = found(site)["store"]
    assert "does not answer" in text
    assert "network" in hint
    site.settings.unlink()


@pytest.mark.parametrize("of", ["environment", "release"])
def test_a_file_that_was_written_to_in_place_is_found_by_reading_it(site: Site, of: str) -> None:
    release = releases.read(site, "1")
    root = release.environment if of == "environment" else release.directory
    path = next(root.rglob("gunicorn/__init__.py" if of == "environment" else "app.py"))
    before, kept, mode = path.stat(), path.read_bytes(), path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(kept[:-1] + b" ")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    text, hint = found(site)["content"]
    assert text.startswith(f"{root} has been changed: ")
    assert text.endswith(f"{path.name} has another content")
    assert ("install another version" if of == "environment" else "artifact rollback") in hint
    path.write_bytes(kept)
    path.chmod(mode)


def test_a_site_without_a_release_says_what_to_do_next(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTIFACT_SUPERVISOR_URL", f"unix://{machine.directory}/none")
    machine.site.private.mkdir(parents=True, mode=0o700)
    said = found(machine.site)
    assert said["release"] == (
        f"{machine.site.root} has no live release", "artifact install FILE"
    )  # fmt: skip
    assert "supervisor does not answer" in said["supervisor"][0]
    assert "start supervisord" in said["supervisor"][1]


@pytest.mark.skipif(not ROOT, reason="only root runs processes as another user")
def test_what_the_processes_user_cannot_reach_is_found(site: Site) -> None:
    # pytest's own directories are closed to others, but only those of the site are judged.
    site.settings.write_text('user = "nobody"\n')
    text, hint = found(site)["rights"]
    media = site.shared / "media"
    assert text.startswith(f"the shared directory {media} cannot be written by nobody")
    assert hint == f"chown nobody {media}"
    account = pwd.getpwnam("nobody")
    os.chown(media, account.pw_uid, account.pw_gid)
    # The interpreter these tests run in may be root's own.
    assert set(found(site)) <= {"interpreter"}
    site.releases.chmod(0o700)
    assert found(site)["rights"] == (
        f"{site.releases} cannot be read by nobody, who the processes run as",
        f"chmod a+rx {site.releases}",
    )
    site.releases.chmod(0o755)
    site.settings.write_text('user = "nobody-at-all"\n')
    findings = doctor.examine(site, nginx_directory=NOTHING).findings
    (missing,) = (one for one in findings if one.check == "env")
    assert "there is no user 'nobody-at-all'" in missing.text
    assert missing.hint == f"artifact setup {site.root}"
    site.settings.unlink()


@pytest.mark.skipif(not ROOT, reason="only root runs processes as another user")
def test_an_interpreter_that_the_processes_user_cannot_reach_is_found(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(0o755)
    site, python = Site(tmp_path / "site"), tmp_path / "closed" / "python"
    site.root.mkdir()
    site.settings.write_text('user = "nobody"\n')
    python.parent.mkdir(mode=0o700)
    python.touch()
    wanted = msgspec.structs.replace(example().python, interpreter=str(python))
    (problem,) = preflight.interpreter(site, wanted)
    assert f"cannot reach the interpreter {python}: {python.parent} is closed" in problem.text
    assert f"chmod a+x {python.parent}" in problem.hint
    python.parent.chmod(0o711)
    (problem,) = preflight.interpreter(site, wanted)
    assert "Permission denied" in problem.text, "it is reached, and is no program"


@pytest.mark.skipif(not ROOT, reason="only root runs processes as another user")
def test_the_interpreter_that_an_artifact_names_is_not_run_as_root(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(0o755)
    site, python = Site(tmp_path / "site"), tmp_path / "python"
    site.root.mkdir()
    site.settings.write_text('user = "nobody"\n')
    python.write_text('#!/bin/sh\nprintf \'["%s", "3", "abi"]\' "run by $(/usr/bin/id -un)"\n')
    python.chmod(0o755)
    wanted = msgspec.structs.replace(example().python, interpreter=str(python))
    (problem,) = preflight.interpreter(site, wanted)
    assert f"{python} is run by nobody 3 (abi)" in problem.text
    site.settings.write_text('user = "nobody-at-all"\n')
    assert list(preflight.interpreter(site, wanted)) == []


# supervisor


def test_supervisor_that_does_not_answer_or_may_not_be_asked_is_found(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.site.private.mkdir(parents=True, mode=0o700)
    with prepared.supervisord(machine):
        monkeypatch.setenv("ARTIFACT_SUPERVISOR_URL", machine.url)
        assert "supervisor" not in found(machine.site)
        if ROOT:
            hint = hint_as_nobody(machine.url)
        else:
            os.chmod(machine.url.removeprefix("unix://"), 0)
            text, hint = found(machine.site)["supervisor"]
            assert "Permission denied" in text
        assert "run as a user who may write to that socket" in hint
    text, hint = found(machine.site)["supervisor"]
    assert "supervisor does not answer" in text
    assert "start supervisord" in hint


def hint_as_nobody(url: str) -> str:
    """Ask supervisor as somebody who may not; root may do everything."""
    Supervisor(url).members()  # nobody could not read what it imports
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(pwd.getpwnam("nobody").pw_uid)
        try:
            Supervisor(url).members()
        except ProcessManagerError as error:
            os.write(writer, error.hint.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        hint = answer.read()
    os.waitpid(child, 0)
    return hint


BY_HAND = """
[program:accounting-quick]
command = sleep 600
stopsignal = QUIT
stopwaitsecs = 60
killasgroup = true
[program:accounting-old]
command = sleep 600
stopsignal = TERM
stopwaitsecs = 60
killasgroup = true
[program:accounting-tasks]
command = sleep 600
stopsignal = INT
stopwaitsecs = 60
killasgroup = true
[program:accounting-emperor]
command = sleep 600
stopwaitsecs = 60
killasgroup = true
[program:accounting-hasty]
command = sleep 600
killasgroup = true
[program:accounting-orphans]
command = sleep 600
stopwaitsecs = 60
[program:accounting-crowd]
command = sleep 600
stopwaitsecs = 60
stopasgroup = true
[program:accounting-moved]
command = /nonexistent/bin/artifact exec accounting --process moved
stopwaitsecs = 60
killasgroup = true
autostart = false
[program:accounting-single]
command = sleep 600
stopwaitsecs = 60
killasgroup = true
[program:accounting-right]
command = sleep 600
stopwaitsecs = 60
killasgroup = true
"""


@pytest.fixture(scope="module", params=supervisord.PROGRAMS)
def by_hand(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Supervisor with programs that a person configured, each with a fault."""
    home = tmp_path_factory.mktemp("by-hand")
    file = home / "conf.d" / "by-hand.conf"
    file.parent.mkdir()
    file.write_text(BY_HAND)
    with prepared.daemon(home, request.param) as (url, _):
        yield url


def problems(url: str, name: str, process: Process, *, gunicorn: str = "23.0.0") -> list[Problem]:
    described = msgspec.structs.replace(
        example(),
        processes={name: process},
        environment=manifest.Environment(key="", packages={"gunicorn": gunicorn}),
    )
    settings = Settings(supervisor=SupervisorSection(url=url))
    wanted = Target(Site(Path("/srv/accounting")), described, settings)
    return [*programs.problems(wanted), *programs.details(wanted)]


GUNICORN = Process(command="gunicorn a:b", server="gunicorn")
CELERY = Process(command="celery -A a worker", server="celery")
UWSGI = Process(command="uwsgi --module a", server="other")
FAULTS = {
    "quick": (GUNICORN, "with QUIT, on which gunicorn 23.0.0 drops", "stopsignal = TERM"),
    "tasks": (CELERY, "is stopped with INT, on which celery drops", "stopsignal = TERM"),
    "emperor": (UWSGI, "TERM makes uWSGI reload, not end", "--die-on-term"),
    "hasty": (GUNICORN, "after 10 s, and it may take 35 s", "stopwaitsecs = 50"),
    "orphans": (GUNICORN, "what it started lives on", "killasgroup = true"),
    "crowd": (GUNICORN, "stops the workers of accounting-crowd together", "stopasgroup = false"),
    "moved": (GUNICORN, "runs /nonexistent/bin/artifact, which is not there", "artifact setup"),
    "absent": (GUNICORN, "accounting-absent is not known to supervisor", "artifact setup"),
    "single": (
        msgspec.structs.replace(GUNICORN, listen="127.0.0.1:1"),
        "has the processes accounting-single, not two slots",
        "[fcgi-program]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_a_program_is_found_with_its_fix(by_hand: str, name: str) -> None:
    process, text, hint = FAULTS[name]
    (problem,) = problems(by_hand, name, process)
    assert text in problem.text
    assert hint in problem.hint


def test_which_signal_is_graceful_depends_on_gunicorns_version(by_hand: str) -> None:
    assert problems(by_hand, "right", GUNICORN) == []
    assert problems(by_hand, "quick", GUNICORN, gunicorn="18.0") == []
    (problem,) = problems(by_hand, "old", GUNICORN, gunicorn="18.0")
    assert "is stopped with TERM, on which gunicorn 18.0 drops its requests" in problem.text
    assert "stopsignal = QUIT" in problem.hint
    patient = msgspec.structs.replace(UWSGI, command="uwsgi --module a --die-on-term")
    assert problems(by_hand, "right", patient) == []


def test_an_install_is_refused_when_stopping_would_drop_requests(machine: Machine) -> None:
    machine.start_supervisord()
    wrong = machine.directory / "supervisord.conf"
    wrong.write_text(wrong.read_text().replace("stopsignal = TERM", "stopsignal = QUIT"))
    Supervisor(machine.url).reread()
    refused = machine.install(machine.build("1"))
    assert refused.returncode == 5
    assert "is stopped with QUIT" in refused.stderr


# nginx


@pytest.fixture
def in_front(site: Site, served: Machine, tmp_path: Path) -> Iterator[prepared.Nginx]:
    """An nginx whose block for the site is as it should be."""
    with prepared.nginx(tmp_path) as nginx:
        assert found(site, nginx.directory) == {}, "a site without nginx"
        file = nginx.directory / "sites-available" / NAME
        file.write_text(f"upstream pages-web {{ server 127.0.0.1:{served.port}; }}\n")
        (nginx.directory / "sites-enabled" / NAME).symlink_to(file)
        assert found(site, nginx.directory) == {}
        yield nginx


def test_a_block_that_is_not_enabled_is_found(site: Site, in_front: prepared.Nginx) -> None:
    (in_front.directory / "sites-enabled" / NAME).unlink()
    text, hint = found(site, in_front.directory)["nginx"]
    assert "is not enabled" in text
    assert "ln -s" in hint


def test_a_block_that_passes_requests_on_elsewhere_is_found(
    site: Site, served: Machine, in_front: prepared.Nginx
) -> None:
    file = in_front.directory / "sites-available" / NAME
    file.write_text(file.read_text().replace(str(served.port), "9"))
    text, hint = found(site, in_front.directory)["nginx"]
    assert f"does not pass requests on to 127.0.0.1:{served.port}" in text
    assert "--nginx" in hint


def test_a_block_that_nginx_does_not_understand_is_found(
    site: Site, in_front: prepared.Nginx
) -> None:
    (in_front.directory / "sites-available" / NAME).write_text("nonsense;\n")
    text, hint = found(site, in_front.directory)["nginx"]
    assert "nonsense" in text
    assert "nginx -t" in hint
