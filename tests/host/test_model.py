"""Random installs, failures, rollbacks, prunes, freezes, kills and recoveries against a model.

All of it is real but the servers: artifacts, a site on the disk, locks, leases, SIGKILL. The steps
run in this process, and those that are killed in children of a process that has all modules.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from artifact import files, steps
from artifact.errors import Refused
from artifact.host.commands import install, prune, recover, rollback
from artifact.host.records import freeze, history, journal, releases, state
from artifact.manifest import Install
from tests.host.machine import Machine
from tests.host.site_model import KEEP, Model
from tortures import place

VERSIONS = [f"v{number}" for number in range(7)]
FAILING = "fails"
"""A version that is found bad when it is tried."""


class Sites(RuleBasedStateMachine):
    """The rules; `model` says what the site must be after each.

    None has a precondition: how far a killed command came may differ from run to run, and then
    hypothesis would find that the same choices are possible at one time and not at another.
    """

    machine: Machine
    artifacts: dict[str, Path]
    dying: subprocess.Popen[str]
    steps = 0

    @initialize()
    def begin(self) -> None:
        # The artifacts are built for one root: the site is emptied in place.
        files.remove_tree(self.machine.site.root)
        self.machine.site.private.mkdir(parents=True)
        self.model = Model()
        self.frozen = False
        self.leases: dict[str, IO[str]] = {}
        self.slot = ""

    def teardown(self) -> None:
        for lease in getattr(self, "leases", {}).values():
            lease.close()

    @rule(version=st.sampled_from([*VERSIONS, FAILING]))
    def installs(self, version: str) -> None:
        already = version == self.model.live
        try:
            install.install(self.artifacts[version], self.options(), steps.nobody)
        except Refused:
            assert not already
            assert self.frozen or version == FAILING
            if not self.frozen:
                self.model.failed(version)
            return
        assert already or not self.frozen
        assert version != FAILING
        self.model.installed(version)

    @rule()
    def rolls_back(self) -> None:
        older = self.model.older()
        self.roll_back("", older[0] if older and not self.frozen else None)

    @rule(version=st.sampled_from([*VERSIONS, FAILING]))
    def rolls_back_to(self, version: str) -> None:
        possible = version in self.model.order and not self.frozen
        self.roll_back(version, version if possible else None)

    def roll_back(self, wanted: str, target: str | None) -> None:
        options = rollback.RollbackOptions(version=wanted, probation=0.0, wait=0.0)
        try:
            outcome = rollback.rollback(self.machine.site, options, steps.nobody)
        except Refused:
            assert target in {None, FAILING}
            return
        assert target is not None
        assert outcome.target.version == target
        if target != self.model.live:
            self.model.rolled_back(target)

    @rule(keep=st.integers(1, 4))
    def prunes(self, keep: int) -> None:
        prune.prune(self.machine.site, keep, 0.0, steps.nobody)
        self.model.pruned(keep)

    @rule(events=st.integers(1, 16), version=st.sampled_from(VERSIONS))
    def an_install_is_killed(self, events: int, version: str) -> None:
        if self.frozen:
            return
        was_there = version in self.model.order
        run = self.killed(events, "install", str(self.artifacts[version]))
        if run is None:
            self.model.installed(version)
            return
        if run.reached("switch"):
            # Either end is right while it is not over; recovery decides by whether it was good.
            assert releases.live_version(self.machine.site) in {self.model.live, version}
        self.recovers()
        if _is_good(run, version):
            # What it had no time to prune is left to the next.
            self.model.installed(version)
            prune.prune(self.machine.site, KEEP, 0.0, steps.nobody)
        elif run.reached("switch"):
            self.model.failed(version)
        elif version not in self.model.good and (
            _told(run, version) or (not was_there and self.machine.site.release(version).is_dir())
        ):
            self.model.arrived(version)

    @rule(events=st.integers(1, 10))
    def a_rollback_is_killed(self, events: int) -> None:
        older = self.model.older()
        if self.frozen or not older:
            return
        run = self.killed(events, "rollback", str(self.machine.site.root))
        self.recovers()
        if run is None or _is_good(run, older[0]):
            self.model.rolled_back(older[0])

    @rule(events=st.integers(1, 4))
    def a_prune_is_killed(self, events: int) -> None:
        self.killed(events, "prune", str(self.machine.site.root))
        self.recovers()
        # How far it came, only the disk tells; but nothing else may be gone.
        wanted = replace(self.model, good=set(self.model.good))
        wanted.pruned(1)
        there = set(history.versions_on_disk(self.machine.site))
        assert set(wanted.order) <= there <= set(self.model.order)
        self.model.order = [version for version in self.model.order if version in there]
        self.model.good &= there

    @rule()
    def recovers(self) -> None:
        site = self.machine.site
        with files.locked(site.lock, doing="a test", wait=0.0):
            recover.recover(site, steps.nobody)

    @rule(version=st.sampled_from(VERSIONS))
    def a_process_lives(self, version: str) -> None:
        if version in self.model.order and version not in self.leases:
            self.lease(version)

    @rule(others=st.permutations(VERSIONS))
    def a_process_drains_while_releases_come_and_go(self, others: list[str]) -> None:
        drains = self.model.live
        if drains not in VERSIONS or self.frozen:
            return
        if drains not in self.leases:
            self.lease(drains)
        # After two more it is neither live nor the previous one.
        for version in [other for other in others if other != drains][:2]:
            self.installs(version)
        self.prunes(1)

    def lease(self, version: str) -> None:
        path = self.machine.site.lease(version)
        path.parent.mkdir(exist_ok=True)
        self.leases[version] = path.open("w")
        fcntl.flock(self.leases[version], fcntl.LOCK_SH)
        self.note_held()

    @rule()
    def a_process_ends(self) -> None:
        if not self.leases:
            return
        version = min(self.leases)
        self.leases.pop(version).close()
        self.note_held()

    @rule(version=st.sampled_from(VERSIONS))
    def a_slot_is_to_run(self, version: str) -> None:
        if version in self.model.order:
            self.slot = version
            state.write(self.machine.site.state, state.State(slots={"web": ("", version)}))
            self.note_held()

    @rule()
    def somebody_freezes_or_thaws(self) -> None:
        site = self.machine.site
        if self.frozen:
            freeze.thaw(site)
        else:
            freeze.freeze(site, "for the test")
        self.frozen = not self.frozen

    @invariant()
    def the_site_is_what_the_model_says(self) -> None:
        site, model = self.machine.site, self.model
        type(self).steps += 1
        assert releases.live_version(site) == model.live
        if model.live:
            assert f'VERSION = "{model.live}"' in (site.current / "app.py").read_text()
            place.whole(site, model.live, self.artifacts)
        assert releases.previous_version(site) == model.previous
        assert set(history.versions_on_disk(site)) == set(model.order)
        records = history.records_of(site)
        assert [version for version in records if records[version].good] == [
            version for version in reversed(model.order) if version in model.good
        ]
        assert self.machine.leftovers() == []
        place.agreed(site)

    @invariant()
    def what_a_process_lives_of_stays(self) -> None:
        for version in self.leases:
            release = self.machine.site.release(version)
            assert f'VERSION = "{version}"' in (release / "lazy.py").read_text()
            assert (release / "virtualenv" / "lib" / "module.py").exists()

    def options(self) -> install.InstallOptions:
        return install.InstallOptions(command="artifact", probation=0.0, wait=0.0)

    def note_held(self) -> None:
        self.model.held = {*self.leases, self.slot} - {""}

    def killed(self, events: int, *command: str) -> journal.Run | None:
        """Run a command that dies after so many events; None when it ended before, or at once."""
        before = journal.last_run(self.machine.site.journal)
        assert self.dying.stdin is not None
        assert self.dying.stdout is not None
        print(json.dumps([events, *command]), file=self.dying.stdin, flush=True)
        code = int(self.dying.stdout.readline())
        assert code in {0, -9}, f"it ended with {code}"
        run = journal.last_run(self.machine.site.journal)
        if code == 0 or run is None:
            return None
        assert before is None or before.began.run != run.began.run
        return run


def _is_good(run: journal.Run, version: str) -> bool:
    return any(
        (line.event, line.version, line.state) == ("release", version, "good") for line in run.lines
    )


def _told(run: journal.Run, version: str) -> bool:
    return any(line.event == "release" and line.version == version for line in run.lines)


@pytest.fixture
def dying() -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.host.dying"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        with suppress(OSError):
            child.communicate(timeout=20)


@dataclass(frozen=True)
class Mode:
    """How the commands are chosen."""

    seed: int | None
    """None: the same ones every time."""
    examples: int
    least: int
    """Steps that are taken at least."""


def random_mode() -> Mode:
    """Return other commands every time, or those of MODEL_SEED once more."""
    return Mode(int(os.environ.get("MODEL_SEED") or secrets.randbelow(1 << 32)), 15, 500)


@pytest.mark.slow
@pytest.mark.timeout(900)  # 2,000 steps; a busy machine takes five minutes for them
@pytest.mark.parametrize(
    "mode", [lambda: Mode(None, 52, 2000), random_mode], ids=["fixed", "random"]
)
def test_a_site_is_what_its_model_says(
    dying: subprocess.Popen[str],
    mode: Callable[[], Mode],
    record_property: Callable[[str, object], None],
) -> None:
    class Chosen(Sites):
        """What a seed is set on stays seeded."""

    chosen = mode()
    if chosen.seed is not None:
        print(
            f"to repeat: MODEL_SEED={chosen.seed} scripts/test tests/host/test_model.py -k random"
        )
        record_property("MODEL_SEED", chosen.seed)
        seed(chosen.seed)(Chosen)
    with place.scratch() as directory:
        quiet = Install(restart="none", keep=KEEP)
        machine = Machine(directory, place.tiny_environment(directory, python="exit 0"))
        artifacts = {
            version: machine.build(version, install=quiet, processes={}) for version in VERSIONS
        }
        (directory / "other").mkdir()
        broken = Machine(directory, place.tiny_environment(directory / "other", python="exit 1"))
        artifacts[FAILING] = broken.build(
            FAILING, install=quiet, processes={}, environment=place.described("f" * 32)
        )
        Chosen.machine, Chosen.artifacts, Chosen.dying, Chosen.steps = machine, artifacts, dying, 0
        run_state_machine_as_test(
            Chosen,
            settings=settings(
                max_examples=chosen.examples,
                stateful_step_count=50,
                deadline=None,
                database=None,
                derandomize=chosen.seed is None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        assert Chosen.steps >= chosen.least
