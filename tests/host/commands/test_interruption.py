"""An install that is stopped or killed at any moment leaves the old release live."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from artifact.host.records import journal
from artifact.manifest import Install
from surroundings.waiting import await_
from tests.host import interrupted
from tests.host.machine import Machine, load

MOMENTS = [
    "started:prepare",
    "progress",
    "started:check",
    "started:switch",
    "said:starting",
    "said:goes to sleep",
    "started:confirm",
    "started:finish",
]
KILLED = [*MOMENTS[2:], "said:was up", "after:goes to sleep", "ended:switch"]
"""Between any two of them something is switched that was not before."""


def stopped(machine: Machine, path: Path, number: str, where: str) -> tuple[int, str]:
    """Install with a signal at one moment; return how it ended and what it said."""
    command = ("install", str(path), "--probation", "0s")
    child = interrupted.strike(number, where, *command, env=machine.variables())
    return child.returncode, child.stderr


def asleep(machine: Machine) -> int:
    """Count the slots that hold the socket and serve nothing."""
    commands = [
        Path(f"/proc/{member.pid}/cmdline").read_bytes()
        for member in machine.members().values()
        if member.pid
    ]
    return sum(command.startswith(b"sleep\0") for command in commands)


@pytest.mark.slow
def test_a_signal_at_any_moment_leaves_the_old_release_live(machine: Machine) -> None:
    machine.start_supervisord()
    assert machine.install(machine.build("old")).returncode == 0
    with load(machine, threads=2, pause=0.05) as seen:
        for number, where in enumerate(MOMENTS):
            name = "SIGTERM" if number % 2 else "SIGINT"
            status, said = stopped(machine, machine.build(f"{number}"), name, where)
            assert status == 128 + signal.Signals[name], f"{where}: {said}"
            assert os.readlink(machine.site.current) == "old", where
            assert machine.get() == "old", where
            assert machine.leftovers() == [], where
            await_(f"one slot asleep: {where}", lambda: asleep(machine) == 1)
            run = journal.last_run(machine.site.journal)
            assert run is not None
            assert run.over is not None
            assert run.over.code == status
    assert seen.failures == []
    # One stopped before it was unpacked is as if it had never been; a whole release is kept.
    kept = {path.name for path in machine.site.releases.iterdir()} - {"current", "old"}
    assert kept == {str(number) for number in range(2, len(MOMENTS))}
    assert machine.run("status", str(machine.site.root)).returncode == 0


def test_a_first_install_that_is_stopped_leaves_nothing_live(machine: Machine) -> None:
    machine.start_supervisord()
    path = machine.build("1")
    # Not a word of the switch: whether a slot has to be sent to sleep depends on how far it is.
    status, said = stopped(machine, path, "SIGHUP", "ended:switch")
    assert status == 129, said
    assert not machine.site.current.is_symlink()
    await_("both slots asleep", lambda: asleep(machine) == 2)
    assert machine.install(path).returncode == 0
    assert machine.get() == "1"


@pytest.mark.slow
def test_a_kill_at_any_moment_is_recovered_by_the_next_command(machine: Machine) -> None:
    machine.start_supervisord()
    old, root = machine.build("old"), str(machine.site.root)
    assert machine.install(old).returncode == 0
    with load(machine, threads=2, pause=0.05) as seen:
        for number, where in enumerate(KILLED):
            status, said = stopped(machine, machine.build(f"{number}"), "SIGKILL", where)
            assert status == -signal.SIGKILL, f"{where}: {said}"
            assert (machine.site.current / "app.py").exists(), where
            assert "did not end" in machine.run("status", str(machine.site.root)).stderr, where
            served = machine.get()
            assert served in {"old", str(number)}, where
            following = ("install", str(old)), ("recover", root), ("prune", root)
            recovered = machine.run(*following[number % 3])
            assert recovered.returncode == 0, f"{where}: {recovered.stderr}"
            if number % 3 == 0:
                assert "already live" in recovered.stderr, where
            assert os.readlink(machine.site.current) == "old", where
            assert machine.leftovers() == [], where
            assert machine.get() == "old", where
            await_(f"one slot asleep: {where}", lambda: asleep(machine) == 1)
    assert seen.failures == []
    assert machine.run("status", str(machine.site.root)).returncode == 0
    # What a killed run had unpacked is whole, and used.
    again = machine.install(machine.build("0"))
    assert again.returncode == 0, again.stderr
    assert "reuse the release" in again.stderr


def test_a_killed_unpack_is_swept_and_the_repeat_succeeds(machine: Machine) -> None:
    none = Install(restart="none")
    old = machine.build("old", install=none)
    assert machine.install(old).returncode == 0
    path = machine.build("1", files={"big.bin": "x" * 5_000_000}, install=none)
    status, said = stopped(machine, path, "SIGKILL", "progress")
    assert status == -signal.SIGKILL, said
    assert machine.leftovers() != [], "it was killed too late or too early"
    # Whatever is installed next, even where there is nothing to do.
    swept = machine.install(old)
    assert swept.returncode == 0, swept.stderr
    assert "cleaned up after the interrupted install of 1" in swept.stderr
    assert machine.leftovers() == []
    assert machine.install(path).returncode == 0
    assert os.readlink(machine.site.current) == "1"


def test_what_was_tried_ends_with_an_install_that_is_killed(machine: Machine) -> None:
    """The trial is a server of its own: it must not outlive the one who asked for it."""
    slow = "import time\ntime.sleep(30)\n"
    machine.start_supervisord()
    child = machine.popen("install", str(machine.build("1", files={"app.py": slow})))
    word = machine.site.running("web", "trial")
    await_("the release being tried", word.exists)
    pid = int(word.read_text().partition('"pid":')[2].partition(",")[0])
    child.kill()
    child.communicate()
    await_(
        "the end of what was tried",
        lambda: (
            not Path(f"/proc/{pid}/cmdline").exists()
            or b"gunicorn" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        ),
    )

    def gone() -> bool:
        try:
            return b"gunicorn" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return True

    await_("the end of what was tried", gone)


def test_what_is_still_starting_ends_with_an_install_that_is_killed(machine: Machine) -> None:
    """It asks the kernel for a signal when its parent dies, and the parent is dead by then."""
    root = str(machine.site.root).encode()

    def started() -> list[int]:
        """Return who has been started in the site for a trial, or serves in it by now."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes()
                if root in words and (b"--trial" in words or b"gunicorn" in words):
                    found.append(int(path.parent.name))
        return found

    child = machine.popen("install", str(machine.build("1", install=Install(restart="none"))))
    await_("the start of the trial", started)
    child.kill()
    child.communicate()
    try:
        await_("the end of what was started", lambda: not started())
    finally:
        for pid in started():
            os.kill(pid, signal.SIGKILL)
