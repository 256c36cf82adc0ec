"""Installing: what becomes live, what visitors notice, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from artifact import files
from artifact.host.records import journal
from artifact.manifest import Install, Process, Python
from tests.host.machine import ARTIFACT, Machine, load
from tests.host.prepared import small_disk


def links(machine: Machine) -> tuple[str, str]:
    def target(path: Path) -> str:
        return os.readlink(path) if path.is_symlink() else ""

    return target(machine.site.current), target(machine.site.previous)


RUNNING = {"web-0.json", "web-1.json"}


def snapshot(root: Path) -> dict[str, bytes | str]:
    """Return what is in a tree, but for the journal and the lock."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file() and path.name not in {"journal.jsonl", "lock"} | RUNNING:
            found[str(path)] = path.read_bytes()
    return found


def test_a_first_install_serves_and_lays_the_site_out(machine: Machine) -> None:
    machine.start_supervisord()
    done = machine.install(machine.build("1337"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert machine.get() == "1337"
    site = machine.site
    assert links(machine) == ("1337", "")
    assert os.readlink(site.default_environment) == "../releases/current/virtualenv"
    assert os.readlink(site.release("1337") / "virtualenv") == f"../../virtualenv/{'e' * 32}"
    assert site.default_environment.resolve() == site.environment("e" * 32)
    assert (site.release("1337") / ".artifact" / "venv.toc").exists()
    assert site.private.stat().st_mode & 0o777 == 0o700
    for path in (site.release("1337"), site.release("1337") / "app.py", site.environment("e" * 32)):
        assert not path.stat().st_mode & 0o222, f"{path} can be written"
    assert machine.leftovers() == []
    states = journal.release_states(site.journal)
    assert states["1337"].state == "good"


def test_a_process_lives_in_real_paths_with_the_sites_variables(machine: Machine) -> None:
    machine.site.root.mkdir()
    machine.site.variables.write_text("# ours\n\nGREETING=a 'b' $c # d\n")
    machine.start_supervisord()
    assert machine.install(machine.build("1337")).returncode == 0
    assert machine.get("/where") == str(machine.site.release("1337"))
    found = dict(line.split("=", 1) for line in machine.get("/environ").splitlines())
    environment = machine.site.environment("e" * 32)
    assert found["GREETING"] == "a 'b' $c # d"
    assert found["PWD"] == str(machine.site.release("1337"))
    assert found["VIRTUAL_ENV"] == str(environment)
    assert found["PATH"].startswith(f"{environment}/bin:")
    assert found["HOME"] == os.path.expanduser("~root" if os.geteuid() == 0 else "~")
    assert "PYTHONPATH" not in found


BAD_RELEASES: dict[str, tuple[dict[str, Any], str]] = {
    "does-not-import": ({"files": {"app.py": "raise ImportError('no such')\n"}}, "no such"),
    "answers-500": ({"health": "500 Internal Server Error"}, "500 Internal Server Error"),
    "answers-404": ({"health": "404 Not Found"}, "is /healthz the right health path?"),
    "answers-400": ({"health": "400 Bad Request"}, "set health = { host ="),
}


@pytest.mark.slow
def test_a_release_that_does_not_serve_never_meets_a_visitor(machine: Machine) -> None:
    machine.start_supervisord()
    assert machine.install(machine.build("good")).returncode == 0
    before = {member.name: member.pid for member in machine.members().values()}
    with load(machine, threads=2, pause=0.05) as seen:
        for version, (changes, message) in BAD_RELEASES.items():
            failed = machine.install(machine.build(version, **changes))
            assert failed.returncode == 5, failed.stderr
            assert message in failed.stderr
            assert machine.leftovers() == []
            assert journal.release_states(machine.site.journal)[version].state == "failed"
    assert seen.failures == []
    assert set(seen.bodies) == {"good"}
    assert links(machine) == ("good", "")
    after = {member.name: member.pid for member in machine.members().values()}
    assert after == before, "a process was restarted"
    assert machine.install(machine.build("better")).returncode == 0
    assert links(machine) == ("better", "good")


def test_one_that_works_only_when_tried_is_taken_back(machine: Machine) -> None:
    """It knows that it is in a slot, and breaks there: only the health check can see that."""
    code = (
        "import os\n"
        "def application(environ, start_response):\n"
        "    good = 'SUPERVISOR_ENABLED' not in os.environ\n"
        "    start_response('200 OK' if good else '500 Oops', [])\n"
        "    return [b'new']\n"
    )
    machine.site.root.mkdir()
    machine.site.settings.write_text('pass-env = ["SUPERVISOR_ENABLED"]\n')
    machine.start_supervisord()
    assert machine.install(machine.build("1337")).returncode == 0
    failed = machine.install(machine.build("1338", files={"app.py": code}))
    assert failed.returncode == 7, failed.stderr
    assert "500 Oops" in failed.stderr
    assert "1337 is live again" in failed.stderr
    assert links(machine) == ("1337", "")
    assert machine.get() == "1337"
    assert machine.run("status", str(machine.site.root)).returncode == 0
    assert journal.release_states(machine.site.journal)["1338"].state == "rolled-back"


def test_the_same_artifact_twice_is_already_live(machine: Machine) -> None:
    machine.start_supervisord()
    path = machine.build("1337")
    assert machine.install(path).returncode == 0
    before = {member.pid for member in machine.members().values()}
    again = machine.install(path, "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["already_live"] is True
    assert {member.pid for member in machine.members().values()} == before


def test_other_content_under_the_same_version_is_refused(machine: Machine) -> None:
    machine.start_supervisord()
    assert machine.install(machine.build("1337")).returncode == 0
    other = machine.install(machine.build("1337", files={"more.txt": "x"}))
    assert other.returncode == 5
    assert "has another pages-1337" in other.stderr
    assert machine.get() == "1337"


def test_a_live_release_whose_processes_died_is_repaired_by_installing_it_again(
    machine: Machine,
) -> None:
    from artifact.services.supervisor import Supervisor

    machine.start_supervisord()
    path = machine.build("1337")
    assert machine.install(path).returncode == 0
    Supervisor(machine.url).stop("pages-web:slot_0", 5)
    assert machine.install(path).returncode == 0
    assert machine.run("status", str(machine.site.root)).returncode == 0


def test_the_plan_is_told_and_nothing_is_done(machine: Machine) -> None:
    machine.start_supervisord()
    planned = machine.install(machine.build("1337"), "--plan", "--json")
    assert planned.returncode == 0
    document = json.loads(planned.stdout)
    assert [step["name"] for step in document["steps"]] == [
        "prepare", "unpack-environment", "unpack-release", "check", "migrations",
        "switch", "confirm", "finish",
    ]  # fmt: skip
    assert document["problems"] == []
    assert not machine.site.root.exists()


def test_a_corrupt_artifact_is_rejected_and_changes_nothing(machine: Machine) -> None:
    machine.start_supervisord()
    assert machine.install(machine.build("1337")).returncode == 0
    before = snapshot(machine.site.root)
    path = machine.build("1338", files={"data.bin": "x" * 300_000})
    content = bytearray(path.read_bytes())
    content[-3000] ^= 1
    for name, damaged in {
        "flipped": bytes(content),
        "cut": bytes(content[:-10]),
        "empty": b"",
    }.items():
        bad = path.with_name(f"{name}.tgz")
        bad.write_bytes(damaged)
        rejected = machine.install(bad)
        assert rejected.returncode == 4, f"{name}: {rejected.stderr}"
    assert snapshot(machine.site.root) == before
    assert machine.leftovers() == []


def test_an_artifact_of_another_digest_is_rejected(machine: Machine) -> None:
    path = machine.build("1337")
    assert machine.install(path, "--digest", "sha256:" + "0" * 64).returncode == 4
    assert machine.install(path, "--digest", "latest").returncode == 2
    assert not machine.site.root.exists()


def test_an_artifact_of_another_root_is_refused(machine: Machine) -> None:
    refused = machine.install(machine.build("1337"), "--site", "/srv/elsewhere")
    assert refused.returncode == 5
    assert f"was built for {machine.site.root}, not for /srv/elsewhere" in refused.stderr
    assert not machine.site.root.exists()


def test_an_artifact_with_an_impossible_root_is_rejected(machine: Machine) -> None:
    for number, root in enumerate(("/", "relative", "/srv/../etc")):
        assert machine.install(machine.build(f"{number}", root=root)).returncode == 4


def test_an_artifact_for_another_machine_is_rejected(machine: Machine) -> None:
    python = Python(
        **{
            field: getattr(machine.environment.python, field)
            for field in Python.__struct_fields__
            if field != "platform"
        },
        platform="linux-pdp11",
    )
    rejected = machine.install(machine.build("1337", python=python))
    assert rejected.returncode == 4
    assert "is for linux-pdp11" in rejected.stderr


def test_all_reasons_not_to_install_are_told_at_once(machine: Machine) -> None:
    python = Python(
        implementation="cpython",
        version="3.11.99",
        abi=machine.environment.python.abi,
        platform=machine.environment.python.platform,
        interpreter=machine.environment.python.interpreter,
        glibc="99.1",
    )
    path = machine.build("1337", python=python, install=Install(shared=(".env", "media/")))
    refused = machine.install(path)
    assert refused.returncode == 5
    for part in ("cpython 3.11.99", "needs glibc 99.1", "shared/.env is missing", "supervisor"):
        assert part in refused.stderr
    assert not machine.site.releases.exists()
    planned = machine.install(path, "--plan")
    assert planned.returncode == 5
    assert "and 3 more" in planned.stderr


def test_a_program_supervisor_does_not_know_is_shown_ready_to_add(machine: Machine) -> None:
    machine.start_supervisord({})
    refused = machine.install(machine.build("1337"))
    assert refused.returncode == 5
    assert "program pages-web is not known to supervisor" in refused.stderr
    assert "[fcgi-program:pages-web]" in refused.stderr


def test_shared_paths_are_links_to_what_outlives_the_release(machine: Machine) -> None:
    shared = machine.site.shared
    shared.mkdir(parents=True)
    (shared / ".env").write_text("A=1")
    install = Install(restart="none", shared=("media/", ".env", "var/log/"))
    files = {"media/.gitkeep": "", "var/readme": "mine"}
    done = machine.install(machine.build("1", files=files, install=install))
    assert done.returncode == 0, done.stderr
    assert "gives way to the site's shared/media" in done.stderr
    release = machine.site.release("1")
    assert (release / ".env").read_text() == "A=1"
    assert (release / "media").resolve() == shared / "media"
    assert (release / "var/log").resolve() == shared / "var/log"
    assert (release / "var/readme").read_text() == "mine"


def test_without_supervisor_only_the_links_are_switched(machine: Machine) -> None:
    for version in ("1", "2"):
        path = machine.build(version, install=Install(restart="none"))
        assert machine.install(path).returncode == 0
    assert links(machine) == ("2", "1")
    assert machine.run("status", str(machine.site.root)).returncode == 0


def test_the_servers_own_settings_override_the_artifacts(machine: Machine) -> None:
    machine.site.root.mkdir()
    machine.site.settings.write_text('[install]\nrestart = "none"\n')
    assert machine.install(machine.build("1")).returncode == 0


def test_an_environment_that_was_changed_is_not_used(machine: Machine) -> None:
    none = Install(restart="none")
    assert machine.install(machine.build("1", install=none)).returncode == 0
    changed = next(machine.site.environment("e" * 32).rglob("gunicorn/__init__.py"))
    changed.parent.chmod(0o755)
    other = changed.with_name("other")  # as editors and `sed -i` do
    other.write_text(changed.read_text().replace("2", "3"))
    other.rename(changed)
    refused = machine.install(machine.build("2", install=none))
    assert refused.returncode == 5
    assert "gunicorn/__init__.py has another content" in refused.stderr
    assert links(machine) == ("1", "")


def test_an_environment_compiled_here_is_used_whatever_its_times(machine: Machine) -> None:
    """Where the build and the site share a machine, the environment stands there already."""
    target = machine.site.environment("e" * 32)
    target.parent.mkdir(parents=True)
    shutil.copytree(machine.environment.path, target, symlinks=True)
    for path in target.rglob("*.py"):
        os.utime(path, (1, 1))
    done = machine.install(machine.build("1", install=Install(restart="none")))
    assert done.returncode == 0, done.stderr
    assert "reuse the environment" in done.stderr


def test_a_release_that_was_changed_while_not_live_is_unpacked_again(machine: Machine) -> None:
    none = Install(restart="none")
    first = machine.build("1", install=none)
    assert machine.install(first).returncode == 0
    assert machine.install(machine.build("2", install=none)).returncode == 0
    (machine.site.release("1") / "app.py").unlink()
    assert machine.install(first).returncode == 0
    assert (machine.site.release("1") / "app.py").exists()
    assert machine.leftovers() == []


def test_two_at_once_go_one_after_the_other_or_give_up(machine: Machine) -> None:
    install = Install(restart="none")
    first, second = (machine.build(v, install=install) for v in ("1", "2"))
    machine.site.private.mkdir(parents=True)
    with files.locked(machine.site.lock, doing="installing pages-0"):
        gave_up = machine.install(first, "--wait", "0")
        assert gave_up.returncode == 6
        assert f"(pid {os.getpid()})" in gave_up.stderr
        assert "installing pages-0" in gave_up.stderr
        waiting = [machine.popen("install", str(p), "--probation", "0") for p in (first, second)]
        time.sleep(0.5)
        assert [child.poll() for child in waiting] == [None, None]
    for child in waiting:
        child.communicate(timeout=60)
    assert [child.returncode for child in waiting] == [0, 0]
    assert set(links(machine)) == {"1", "2"}


@pytest.mark.parametrize(
    ("options", "message"), [("size=40m", "MiB are missing"), ("nr_inodes=60", "inodes free")]
)
def test_a_disk_that_is_too_small_is_found_before_it_is_filled(
    machine: Machine, options: str, message: str
) -> None:
    with small_disk(machine, options):
        big = {"big.bin": "x" * 20_000_000}
        path = machine.build("1", files=big, install=Install(restart="none"))
        refused = machine.install(path)
        assert refused.returncode == 5
        assert message in refused.stderr
        assert not machine.site.releases.exists()


def test_a_disk_that_is_full_already_is_a_sentence_too(machine: Machine) -> None:
    path = machine.build("1", install=Install(restart="none"))
    with small_disk(machine, "size=1m"):
        with pytest.raises(OSError, match="No space"):
            (machine.site.root / "filler").write_bytes(b"x" * 2_000_000)
        refused = machine.install(path)
        assert refused.returncode == 5, refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_disk_that_fills_up_while_unpacking_leaves_nothing_behind(machine: Machine) -> None:
    """Whatever preflight expected: somebody else writes to the disk as well."""
    path = machine.build("1", files={"big.bin": "x" * 3_000_000})
    with small_disk(machine, "size=48m"):
        filler = machine.site.root / "filler"
        machine.site.private.mkdir()
        filler.write_bytes(b"x" * 47_000_000)
        failed = subprocess.run(
            [sys.executable, "-c", WITHOUT_PREFLIGHT, str(path)],
            env=machine.variables(),
            capture_output=True,
            text=True,
        )
        assert failed.returncode == 5, failed.stderr
        assert "No space left on device" in failed.stderr
        assert machine.leftovers() == []
        assert not list(machine.site.releases.iterdir())


# As if the disk had filled up right after it was found large enough.
WITHOUT_PREFLIGHT = """
import sys
from artifact import cli
from artifact.host.inspecting import preflight
preflight.problems = lambda facts, artifact_command: []
sys.exit(cli.run(["install", sys.argv[1]]))
"""


def test_an_owner_without_roots_powers_installs_and_installs_again(machine: Machine) -> None:
    """What is read-only is moved and removed by its owner, not by root's right to everything."""
    first = machine.build("1", install=Install(restart="none"))
    second = machine.build("2", install=Install(restart="none"))

    def install(path: Path) -> None:
        powerless = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        subprocess.run(
            [*powerless, ARTIFACT, "install", str(path)],
            env=machine.variables(),
            capture_output=True,
            check=True,
        )

    install(first)
    install(second)
    code = machine.site.release("1") / "app.py"
    code.chmod(0o644)
    code.write_text("changed")
    install(first)
    assert links(machine) == ("1", "2")
    assert machine.leftovers() == []


@pytest.mark.slow
def test_workers_are_restarted_in_the_new_release(machine: Machine) -> None:
    loop = "python -c 'import time, lazy; print(lazy.VERSION, flush=True); time.sleep(600)'"
    processes = {"web": machine.web(), "worker": Process(command=loop, instances=2)}
    machine.start_supervisord(processes)
    for version in ("1", "2"):
        done = machine.install(machine.build(version, processes=processes))
        assert done.returncode == 0, done.stderr
        document = json.loads(machine.run("status", str(machine.site.root), "--json").stdout)
        running = {row["name"]: row["release"] for row in document["processes"]}
        assert running["pages-worker:pages-worker_0"] == version
        assert running["pages-worker:pages-worker_1"] == version


@pytest.mark.slow
def test_a_worker_that_does_not_stay_up_brings_the_old_release_back(machine: Machine) -> None:
    loop = "python -c 'import worker'"
    processes = {"web": machine.web(), "worker": Process(command=loop)}
    machine.start_supervisord(processes)
    good = {"worker.py": "import time\ntime.sleep(600)\n"}
    assert machine.install(machine.build("1", processes=processes, files=good)).returncode == 0
    bad = {"worker.py": "raise SystemExit('no broker')\n"}
    # On a slow machine it takes its time to fail.
    path = machine.build("2", processes=processes, files=bad)
    failed = machine.install(path, "--probation", "20s")
    assert failed.returncode == 7, failed.stderr
    assert "no broker" in failed.stderr
    assert machine.get() == "1"
    assert machine.run("status", str(machine.site.root)).returncode == 0


def test_a_graceful_program_configured_by_hand_is_stopped_and_started(machine: Machine) -> None:
    """What the origins did: supervisor runs gunicorn through the links, no slots."""
    install = Install(restart="graceful")
    site = machine.site
    program = (
        f"[program:pages-web]\ncommand = {site.current}/virtualenv/bin/python -m gunicorn "
        f"--bind 127.0.0.1:{machine.port} app:application --no-control-socket\n"
        f"directory = {site.current}\nautostart = false\nstopwaitsecs = 35\n"
    )
    machine.start_supervisord({}, extra=program)
    for version in ("1", "2"):
        done = machine.install(machine.build(version, install=install))
        assert done.returncode == 0, done.stderr
        assert machine.get() == version
    bad = {
        "app.py": "import os\nos._exit(3) if 'SUPERVISOR_ENABLED' in os.environ else None\n"
        "def application(e, s):\n    s('200 OK', [])\n    return [b'3']\n"
    }
    failed = machine.install(machine.build("3", install=install, files=bad))
    assert failed.returncode == 7, failed.stderr
    assert machine.get() == "2"
    assert links(machine) == ("2", "1")
