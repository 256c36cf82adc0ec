"""What happens to a site besides its commands: edited links, a torn journal, clocks, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from artifact import steps
from artifact.errors import Refused
from artifact.host.commands import prune, rollback
from artifact.host.inspecting import status
from artifact.host.records import history, journal, releases
from tests.host import interrupted
from tortures import place as places
from tortures.place import NEW, OLD, OLDEST, Place


@pytest.fixture
def place() -> Iterator[Place]:
    """A site with two releases."""
    with places.scratch() as directory:
        made = places.make(directory)
        made.install(OLDEST)
        made.install(OLD)
        yield made


def stopped(place: Place, number: str, where: str) -> subprocess.CompletedProcess[str]:
    command = ("install", str(place.artifacts[NEW]), "--probation", "0s")
    return interrupted.strike(number, where, *command, env=place.machine.variables())


def dangles(place: Place) -> None:
    place.site.current.symlink_to("gone")


def leads_outside(place: Place) -> None:
    other = place.machine.directory / "other" / OLD
    other.mkdir(parents=True)
    place.site.current.symlink_to(other)


def leads_into_a_release(place: Place) -> None:
    place.site.current.symlink_to(f"{OLD}/static")


@pytest.mark.parametrize("edit", [dangles, leads_outside, leads_into_a_release])
def test_a_current_that_names_no_release_is_told_and_the_next_install_puts_it_right(
    place: Place, edit: Callable[[Place], None]
) -> None:
    place.site.current.unlink()
    edit(place)
    problems = status.status_of(place.site).problems
    assert len(problems) == 1
    assert "gone" in problems[0] or "names no release of this site" in problems[0]
    prune.prune(place.site, 1, 0.0, steps.nobody)
    assert OLD in history.versions_on_disk(place.site)
    place.install(OLD)
    assert os.readlink(place.site.current) == OLD
    places.judge(place.site, place.artifacts, {OLD})


def test_a_current_that_somebody_deleted_comes_back_by_the_command_that_doctor_names(
    place: Place,
) -> None:
    place.site.current.unlink()
    site = str(place.site.root)
    told = place.machine.run("doctor", site, "--json")
    assert told.returncode == 5, told.stderr
    (finding,) = [one for one in json.loads(told.stdout)["findings"] if one["check"] == "release"]
    assert finding["text"] == f"{place.site.current} is gone; {OLD} is good"
    program, *command = finding["hint"].split()
    assert program == "artifact"
    done = place.machine.run(*command)
    assert done.returncode == 0, done.stderr
    assert os.readlink(place.site.current) == OLD
    places.judge(place.site, place.artifacts, {OLD})


def test_a_live_release_that_was_damaged_is_made_whole_the_way_doctor_says(place: Place) -> None:
    site, artifact = str(place.site.root), str(place.artifacts[OLD])
    directory = place.site.release(OLD)
    damaged = next(path for path in directory.rglob("*.py") if path.is_file())
    damaged.parent.chmod(0o755)
    damaged.unlink()
    told = place.machine.run("doctor", site)
    assert (
        f"{directory} has been changed: {damaged.relative_to(directory)} is missing" in told.stdout
    )
    assert "`artifact rollback`, then install it again" in told.stdout
    for command in (["rollback", site], ["install", artifact, "--allow-downgrade"]):
        done = place.machine.run(*command)
        assert done.returncode == 0, done.stderr
    assert "has been changed" not in place.machine.run("doctor", site).stdout
    places.judge(place.site, place.artifacts, {OLD})


def test_a_current_that_is_a_directory_stops_everything_before_it_begins(place: Place) -> None:
    place.site.current.unlink()
    place.site.current.mkdir()
    before = place.site.journal.read_bytes()
    for command in (
        ["install", str(place.artifacts[NEW])],
        ["rollback", str(place.site.root)],
        ["prune", str(place.site.root), "--keep", "1"],
    ):
        done = place.machine.run(*command)
        assert done.returncode == 5, done.stderr
        assert "is not a link to a release" in done.stderr
        assert "hint: `mv " in done.stderr
    assert place.site.journal.read_bytes() == before
    assert history.versions_on_disk(place.site).count(NEW) == 0
    assert place.machine.run("status", str(place.site.root)).returncode == 5


def test_an_absolute_link_to_a_release_is_as_good(place: Place) -> None:
    place.site.current.unlink()
    place.site.current.symlink_to(place.site.release(OLD))
    assert releases.live_version(place.site) == OLD
    assert status.status_of(place.site).problems == ()


@pytest.mark.slow
def test_a_journal_cut_off_anywhere_leaves_a_site_that_works(place: Place) -> None:
    content = place.site.journal.read_bytes()
    place.keep()
    for at in range(0, len(content), len(content) // 25):
        place.put_back()
        place.site.journal.write_bytes(content[:at])
        status.status_of(place.site)
        place.recover()
        live = releases.live_version(place.site)
        assert live in {OLDEST, OLD}, at
        places.whole(place.site, live, place.artifacts)
        prune.prune(place.site, 1, 0.0, steps.nobody)
        assert live in history.versions_on_disk(place.site), at
        place.install(NEW)
        places.judge_live(place.site, place.artifacts, NEW)
        assert list(journal.read(place.site.journal))[-1].event == "over"


def test_a_clock_that_goes_back_an_hour_changes_no_order(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    place.install(NEW)
    assert list(history.records_of(place.site)) == [NEW, OLD, OLDEST]
    assert {one.name for one in prune.plan(place.site, 2).doomed} == {OLDEST}
    rollback.rollback(place.site, rollback.RollbackOptions(probation=0.0), steps.nobody)
    assert releases.live_version(place.site) == OLD
    places.judge(place.site, place.artifacts, {OLD})
    # What failed in what is now the future is kept until its week is over.
    assert NEW not in {one.name for one in prune.plan(place.site, 1).doomed}


def test_a_lock_is_worth_what_its_holder_is(place: Place) -> None:
    hold = (
        "import sys; from pathlib import Path; from artifact import files\n"
        "with files.locked(Path(sys.argv[1]), doing='holding it'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(place.site.lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    refused = place.machine.run("install", str(place.artifacts[NEW]), "--wait", "0s")
    assert refused.returncode == 6
    assert f"pid {holder.pid}" in refused.stderr
    assert "holding it" in refused.stderr
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=20)
    assert str(holder.pid) in place.site.lock.read_text()
    place.install(NEW)
    places.judge(place.site, place.artifacts, {NEW})


@pytest.mark.slow
def test_a_signal_in_each_step_and_again_all_the_while_it_is_undone(place: Place) -> None:
    place.keep()
    place.install(NEW)
    run = journal.last_run(place.site.journal)
    assert run is not None
    names = [line.step for line in run.lines if line.event == "started"]
    assert {"prepare", "unpack-release", "static", "check", "switch", "finish"} <= set(names)
    for name in names:
        place.put_back()
        done = stopped(place, "SIGINT", f"started:{name}!")
        assert done.returncode == 130, f"{name}: {done.stderr}"
        places.judge(place.site, place.artifacts, {OLD})
    place.put_back()
    # It is done: nothing is taken back any more.
    done = stopped(place, "SIGINT", "ended:finish")
    assert done.returncode == 0, done.stderr
    places.judge(place.site, place.artifacts, {NEW})


def test_a_command_that_is_refused_by_a_link_changes_nothing(place: Place) -> None:
    place.site.previous.unlink()
    place.site.previous.mkdir()
    with pytest.raises(Refused, match="previous is not a link"):
        place.install(NEW)
    assert releases.live_version(place.site) == OLD
