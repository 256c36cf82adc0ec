"""Random installs, failures, rollbacks, prunes and kills, compared with a model of a site.

Everything runs in this process with `restart = "none"`: no servers, so that a step takes
milliseconds. A kill is an exception that no step may catch, with the undoing left out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from artifact import files, journal, steps
from artifact.errors import Refused
from artifact.host import history, install, recover, releases, retention, rollback
from artifact.manifest import Install
from tests.host.machine import Environment, Machine

VERSIONS = [f"v{number}" for number in range(8)]
MOMENTS = ["prepare", "check", "switch", "finish"]


class Killed(BaseException):
    """As if the kernel had ended the run here."""


def killing(at: str) -> Callable[[steps.Event], None]:
    """Return a listener that dies where a step begins."""

    def hear(event: steps.Event) -> None:
        if isinstance(event, steps.Started) and event.name == at:
            raise Killed

    return hear


class Sites(RuleBasedStateMachine):
    """The model: which versions are good, in the order of their installs, and which is live."""

    environment: Environment
    artifacts: dict[str, Path]
    machine: Machine

    @initialize()
    def begin(self) -> None:
        # The artifacts are built for one root: the site is emptied in place.
        files.remove_tree(self.machine.site.root)
        self.order: list[str] = []
        self.good: set[str] = set()
        self.bad: set[str] = set()
        self.live = ""
        self.interrupted = False

    def wishes(self) -> install.Wishes:
        return install.Wishes(command="artifact", probation=0.0, wait=0.0)

    @rule(version=st.sampled_from(VERSIONS))
    def installs(self, version: str) -> None:
        install.install(self.artifacts[version], self.wishes(), steps.nobody)
        self.recovered()
        if version == self.live and version in self.good:
            return
        self.becomes_good(version)
        self.live = version

    @precondition(lambda self: not self.interrupted)
    @rule(version=st.sampled_from(VERSIONS), at=st.sampled_from(MOMENTS))
    def an_install_is_killed(self, version: str, at: str) -> None:
        """Between two steps: what each leaves when it dies inside is tested with real signals."""
        if version == self.live and version in self.good:
            return
        self.killed(lambda: install.install(self.artifacts[version], self.wishes(), killing(at)))
        if at in {"switch", "finish"}:
            # Recovery takes it back, for the switch had begun.
            self.good.discard(version)
            self.bad.add(version)

    @rule()
    def rolls_back(self) -> None:
        self.recovered_first()
        older = self.older()
        try:
            outcome = rollback.rollback(
                self.machine.site, rollback.Wishes(probation=0.0), steps.nobody
            )
        except Refused:
            assert older == []
            return
        assert outcome.facts.version == older[0]
        self.leave_for(older[0])

    @rule(version=st.sampled_from(VERSIONS))
    def rolls_back_to(self, version: str) -> None:
        self.recovered_first()
        there = version in history.here(self.machine.site)
        try:
            rollback.rollback(
                self.machine.site, rollback.Wishes(version, probation=0.0), steps.nobody
            )
        except Refused:
            assert not there
            return
        assert there
        if version != self.live:
            if version not in self.order:
                self.order.append(version)
            self.good.add(version)
            self.bad.discard(version)
            self.leave_for(version)

    @rule(keep=st.integers(1, 4))
    def prunes(self, keep: int) -> None:
        self.recovered_first()
        site = self.machine.site
        before = set(history.here(site))
        needed = {self.live, releases.previous_version(site), *self.newest_good()[:keep]}
        retention.prune(site, keep, 0.0, steps.nobody)
        after = set(history.here(site))
        assert needed & before <= after, "something in use was deleted"
        gone = before - after
        assert not gone & self.bad, "a failed release went before its week was over"
        self.good -= gone
        self.order = [version for version in self.order if version not in gone]

    @rule()
    def recovers(self) -> None:
        self.recovered_first()

    @invariant()
    def current_is_a_whole_release(self) -> None:
        site = self.machine.site
        if not site.current.is_symlink():
            assert self.live == "" or self.interrupted
            return
        assert releases.read(site, releases.live_version(site)).manifest.version
        assert (site.current / "app.py").read_text() != ""
        if not self.interrupted:
            assert releases.live_version(site) == self.live

    @invariant()
    def journal_and_disk_agree(self) -> None:
        if self.interrupted or not self.machine.site.private.is_dir():
            return
        site = self.machine.site
        there = set(history.here(site))
        told = history.tell_of(journal.read(site.journal))
        assert {v for v, one in told.items() if one.state != "removed"} == there
        assert {v for v, one in told.items() if one.good} == self.good
        assert self.machine.leftovers() == []

    def older(self) -> list[str]:
        position = self.order.index(self.live) if self.live in self.order else len(self.order)
        return [v for v in reversed(self.order[:position]) if v in self.good and v != self.live]

    def newest_good(self) -> list[str]:
        return [version for version in reversed(self.order) if version in self.good]

    def becomes_good(self, version: str) -> None:
        self.order = [*(v for v in self.order if v != version), version]
        self.good.add(version)
        self.bad.discard(version)

    def leave_for(self, version: str) -> None:
        if self.live:
            self.good.discard(self.live)
            self.bad.add(self.live)
        self.live = version

    def killed(self, run: Callable[[], object]) -> None:
        """Run something that dies: nothing is taken back, nothing more is written."""
        real = steps._take_back
        steps._take_back = lambda *_: None
        try:
            with suppress(Killed):
                run()
        finally:
            steps._take_back = real
        self.interrupted = True

    def recovered_first(self) -> None:
        site = self.machine.site
        site.private.mkdir(parents=True, exist_ok=True)
        with files.locked(site.lock, doing="a test", wait=0.0):
            recover.recover(site, steps.nobody)
        self.recovered()

    def recovered(self) -> None:
        self.interrupted = False


@pytest.mark.slow
def test_a_site_behaves_as_its_model(environment: Environment, tmp_path: Path) -> None:
    machine = Machine(tmp_path, environment)
    Sites.machine = machine
    kept = Install(restart="none", keep=100)
    Sites.artifacts = {version: machine.build(version, install=kept) for version in VERSIONS}
    run_state_machine_as_test(
        Sites,
        settings=settings(
            max_examples=10,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
