"""Bad days of a server: each is said beforehand, or ends with the old release live."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from artifact import steps
from artifact.archive import signature
from artifact.errors import Refused
from artifact.host.commands import prune
from artifact.host.processes import application_checks
from artifact.host.records import releases
from artifact.manifest import Install, Process
from surroundings.waiting import await_
from tests.archive.test_signature import allow, make_key
from tests.host import prepared
from tests.host.machine import APPLICATION, Environment, Machine
from tests.host.shop import Shop

NOTHING = Install(restart="none")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, environment: Environment) -> Iterator[Machine]:
    """A machine whose site has a live release, which stays live whatever these tests install."""
    machine = Machine(tmp_path_factory.mktemp("served"), environment)
    machine.start_supervisord()
    try:
        done = machine.install(machine.build("1"))
        assert done.returncode == 0, done.stderr
        yield machine
    finally:
        machine.stop_supervisord()


def turning(machine: Machine, version: str, after: float, what: str) -> Path:
    """Build a release that is well until so many seconds after its first answer."""
    turn = f"""
import threading
first = []
def answered():
    if not first:
        first.append(time.monotonic())
    return time.monotonic() - first[0] < {after}
"""
    code = APPLICATION.format(version=version, health="200 OK")
    code = code.replace("VERSION =", f"{turn}\nVERSION =", 1)
    code = code.replace(
        'path = environ["PATH_INFO"]', f'path = environ["PATH_INFO"]\n    {what}', 1
    )
    return machine.build(version, files={"app.py": code})


def test_a_release_whose_health_turns_bad_in_its_probation_is_left(served: Machine) -> None:
    bad = 'if not answered(): start_response("500 No", []); return [b""]'
    path = turning(served, "2", 1.5, bad)
    done = served.run("install", str(path), "--probation", "20s")
    assert done.returncode == 7, done.stderr
    assert "500 No; 1 is live again" in done.stderr
    assert served.get() == "1"


def test_a_release_whose_process_ends_in_its_probation_is_left(served: Machine) -> None:
    ends = "if not answered(): os.kill(os.getppid(), 9); os.kill(os.getpid(), 9)"
    path = turning(served, "3", 1.5, ends)
    done = served.run("install", str(path), "--probation", "20s")
    assert done.returncode == 7, done.stderr
    assert "1 is live again" in done.stderr
    assert served.get() == "1"


def test_a_wrong_health_path_is_found_before_anything_live_changes(served: Machine) -> None:
    done = served.install(served.build("4", health="404 Not Found"))
    assert done.returncode == 5, done.stderr
    assert "does not serve /healthz: 404 Not Found" in done.stderr
    assert "is /healthz the right health path?" in done.stderr
    assert served.get() == "1"


def test_a_port_that_another_program_has_is_named_with_its_holder(machine: Machine) -> None:
    with socket.socket() as other, prepared.supervisord(machine):
        other.bind(("127.0.0.1", machine.port))
        other.listen()
        path = machine.build("1")
        refused = machine.run("setup", str(path), "--user", prepared.ME)
        assert refused.returncode == 5, refused.stderr
        assert f"web is to listen on 127.0.0.1:{machine.port}, which py" in refused.stderr
        assert set(machine.members()) == {"bystander:bystander"}
        other.close()
        assert machine.run("setup", str(path), "--user", prepared.ME).returncode == 0
        # What supervisor itself holds for the process is not in its way.
        done = machine.install(path)
        assert done.returncode == 0, done.stderr


def test_what_a_killed_supervisord_left_behind_is_named_with_the_way_out(machine: Machine) -> None:
    machine.start_supervisord()
    assert machine.install(machine.build("1")).returncode == 0
    left = machine.kill_supervisord()
    try:
        assert machine.get() == "1", "it serves on"
        refused = machine.install(machine.build("2"))
        pids = sorted(
            int(pid) for pid in re.findall(r"`kill ([0-9 ]+)`", refused.stderr)[0].split()
        )
        assert (refused.returncode, pids) == (5, sorted(left)), refused.stderr
    finally:
        for pid in left:
            os.kill(pid, signal.SIGTERM)
    await_("their end", lambda: not any(psutil.pid_exists(pid) for pid in left))
    machine.stop_supervisord()
    machine.start_supervisord()
    told = ("status", str(machine.site.root))
    await_("the release's return", lambda: machine.run(*told).returncode == 0)
    assert machine.get() == "1"


def test_only_what_an_allowed_signer_signed_is_installed(machine: Machine, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    signers = allow(tmp_path / "signers", key)
    machine.site.root.mkdir()
    machine.site.settings.write_text(f'signers = "{signers}"\n')
    unsigned = machine.build("1", install=NOTHING)
    rejected = machine.install(unsigned)
    assert rejected.returncode == 4
    assert "it is not signed" in rejected.stderr
    assert not machine.site.private.exists()
    assert machine.install(unsigned, "--plan").returncode == 4
    other = make_key(tmp_path / "other")
    assert machine.install(signed(machine, "2", other)).returncode == 4
    done = machine.install(signed(machine, "3", key))
    assert done.returncode == 0, done.stderr
    machine.site.settings.write_text('signers = "signers"\n')
    assert machine.install(unsigned).returncode == 2
    machine.site.settings.write_text('signers = "/nonexistent"\n')
    assert "there is no file of allowed signers" in machine.install(unsigned).stderr


def signed(machine: Machine, version: str, key: Path) -> Path:
    return machine.build(version, install=NOTHING, sign=lambda text: signature.sign(text, key))


def test_a_pinned_release_is_never_pruned(machine: Machine) -> None:
    for version in ("1", "2", "3", "4"):
        done = machine.install(machine.build(version, install=NOTHING))
        assert done.returncode == 0, done.stderr
    machine.site.settings.write_text('pinned = ["1"]\n')
    planned = machine.run("prune", str(machine.site.root), "--keep", "1", "--plan")
    assert "pinned" in next(line for line in planned.stdout.splitlines() if "release 1 " in line)
    assert machine.run("prune", str(machine.site.root), "--keep", "1").returncode == 0
    assert sorted(path.name for path in machine.site.releases.iterdir() if path.is_dir()) == [
        "1", "3", "4", "current", "previous"
    ]  # fmt: skip
    assert "pinned" in machine.run("releases", str(machine.site.root)).stdout
    assert prune.uses(machine.site)["1"] == ("pinned",)


# the application's own checks


def test_gunicorns_own_check_is_asked_where_it_cannot_be_tried_privately(machine: Machine) -> None:
    process = Process(command="python -m gunicorn app:application", server="gunicorn")
    machine.start_supervisord({"api": process})
    assert machine.install(machine.build("1", processes={"api": process})).returncode == 0
    broken = Process(command="python -m gunicorn app:nothing_of_this_name", server="gunicorn")
    done = machine.install(machine.build("2", processes={"api": broken}))
    assert done.returncode == 5, done.stderr
    assert "api of pages-2 is refused by gunicorn --check-config" in done.stderr
    assert "nothing_of_this_name" in done.stderr
    assert "failed" in machine.run("releases", str(machine.site.root)).stdout
    assert list(machine.site.failures.glob("*.tgz"))


APPS = """
from django.apps import AppConfig
from django.core import checks

class Shop(AppConfig):
    name = "shop"

@checks.register
def judged(app_configs, **_):
    return [{finding}]
"""


def test_djangos_checks_are_told_and_only_errors_stop_an_install(
    tmp_path: Path, django: Path
) -> None:
    shop = Shop(tmp_path, django)
    findings = {
        "1": 'checks.Warning("so so", id="shop.W1")',
        "2": 'checks.Error("this is wrong", id="shop.E1")',
        "3": "1 / 0",
    }
    for version, finding in findings.items():
        shop.release(version, {})
        (shop.site.release(version) / "shop" / "apps.py").write_text(APPS.format(finding=finding))
    heard: list[steps.Event] = []

    def checked(version: str) -> list[str]:
        described = releases.read(shop.site, version).manifest
        return application_checks.check(shop.site, described, heard.append)

    (note,) = checked("1")
    assert "shop.W1" in note
    assert "security.W" in note, "--deploy"
    assert steps.Output("(shop.W1) so so") in heard
    with pytest.raises(Refused, match=r"finds 1 error: \(shop.E1\) this is wrong") as error:
        checked("2")
    assert "SILENCED_SYSTEM_CHECKS" in error.value.hint
    with pytest.raises(Refused, match=r"check of shop-3 does not load: ZeroDivision"):
        checked("3")
