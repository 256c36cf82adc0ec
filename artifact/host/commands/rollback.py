"""Go back to an older release: the same switch as an install's, to what is here already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from artifact import files, steps
from artifact.errors import Refused, ReleaseFailed
from artifact.host.commands import recover
from artifact.host.inspecting import preflight
from artifact.host.migrations import newer
from artifact.host.migrations.newer import Gap
from artifact.host.processes import check, programs
from artifact.host.processes import target as targets
from artifact.host.processes.activate import Switch
from artifact.host.processes.target import Target
from artifact.host.records import freeze, history, problem, releases
from artifact.host.records.history import Record
from artifact.host.records.journal import Journal
from artifact.host.runs import failure_report, recording
from artifact.site import Site
from artifact.steps import Step


class Wishes(msgspec.Struct, frozen=True):
    """What the command line asks for."""

    version: str = ""
    """Where to; "" for the newest good release before the live one."""
    wait: float = 900.0
    """Seconds to wait for another run."""
    probation: float = 10.0
    """Seconds to watch the old release before the new one counts as left."""
    despite_freeze: bool = False
    migrations: newer.Choice = "judge"
    """What to do where the databases have migrations that the target does not know."""


class Facts(msgspec.Struct, frozen=True):
    """What a rollback's plan is written from."""

    target: Target
    """The release to go back to."""
    digest: str
    """Its identity."""
    live: str
    """The version to leave; empty when nothing is live."""
    leaving: Target | None
    """That release; None where it cannot be read, or nothing is live."""
    record: Record
    """What the journal says of the target."""
    gap: Gap
    """What the databases have and the target does not know."""

    @property
    def site(self) -> Site:
        return self.target.site

    @property
    def version(self) -> str:
        return self.target.version


class Outcome(msgspec.Struct, frozen=True):
    """What was done, or would be."""

    facts: Facts
    steps: tuple[Step, ...]
    """Empty where the target is live already."""


def plan(site: Site, wishes: Wishes) -> Outcome:
    """Say what a rollback would do; changes nothing.

    Raises:
        Refused: there is nothing to go back to, or a check says no.
    """
    _check_freeze(site, wishes, steps.nobody)
    facts = observe(site, wishes.version)
    if facts.version == facts.live:
        return Outcome(facts, ())
    _preflight(facts, steps.nobody)
    newer.check(facts.gap, facts.version, wishes.migrations)
    switch = _switch(facts, steps.nobody)
    return Outcome(facts, tuple(_planned(facts, wishes, switch, steps.nobody, None)))


def rollback(site: Site, wishes: Wishes, tell: steps.Listener) -> Outcome:
    """Make an older release live again and mark what it leaves as rolled back.

    Raises:
        Refused: there is nothing to go back to, or a check says no; nothing live changed.
        Locked: another run is at work.
        ReleaseFailed: the older release does not serve, and what was live is so again.
        RollbackFailed: that failed as well.
    """
    doing = f"rolling back {site.root}"
    with files.locked(site.lock, doing=doing, wait=wishes.wait, tell=tell) as lock:
        recover.recover(site, tell)
        _check_freeze(site, wishes, tell)
        facts = observe(site, wishes.version, tell)
        if facts.version == facts.live:
            return Outcome(facts, ())
        return _run(facts, wishes, lock, tell)


def observe(site: Site, wanted: str, tell: steps.Listener = steps.nobody) -> Facts:
    """Look at the site and choose where to go back to; changes nothing.

    Raises:
        ConfigurationError: the site's own settings are wrong.
        Refused: there is nothing to go back to.
    """
    records = history.of(site)
    live = releases.live_version(site)
    record = _named(site, records, wanted) if wanted else _newest_good(site, records, live)
    release = releases.read(site, record.version)
    target = targets.of_manifest(site, release.manifest)
    return Facts(
        target=target,
        digest=release.digest,
        live=live,
        leaving=_leaving(target, live),
        record=record,
        gap=Gap() if live == record.version else newer.find(site, live, release, tell),
    )


def _named(site: Site, records: Mapping[str, Record], version: str) -> Record:
    try:
        return records[version]
    except KeyError:
        there = ", ".join(records) or "none"
        raise Refused(
            f"release {version} is not in {site.root}; there are: {there}",
            hint=f"`artifact install` of the file with {version} brings it back",
        ) from None


def _newest_good(site: Site, records: dict[str, Record], live: str) -> Record:
    older = history.good_before(records, live)
    if older:
        return older[0]
    others = ", ".join(f"{one.version} ({one.state})" for one in records.values())
    hint = "`artifact install` of the file of an older version; it needs --allow-downgrade"
    if records.keys() - {live}:
        hint = f"`artifact rollback VERSION` goes to any that is here: {others}; or {hint}"
    older_than = f"older than {live}" if live else "to go back to"
    raise Refused(f"{site.root} has no good release {older_than}", hint=hint)


def _leaving(target: Target, live: str) -> Target | None:
    try:
        return targets.of_version(target.site, live) if live else None
    except Refused:
        return None  # somebody damaged it: one reason more to leave it


def _check_freeze(site: Site, wishes: Wishes, tell: steps.Listener) -> None:
    if not wishes.despite_freeze:
        freeze.check(site, hint="in an emergency: `artifact rollback --despite-freeze`")
        return
    found = freeze.read(site)
    if found is not None:
        tell(steps.Warned(f"{site.root} is {found.describe()}; rolled back all the same"))


def _preflight(facts: Facts, tell: steps.Listener) -> None:
    """Refuse what would only fail in the middle.

    Raises:
        Refused: with all that stands in the way.
    """
    manifest, site = facts.target.manifest, facts.site
    found = [
        *preflight.rights(site),
        *preflight.interpreter(manifest.python),
        *preflight.glibc(manifest.python),
        *preflight.shared_files(site, facts.target.install.shared),
        *preflight.application(site),
    ]
    if facts.target.managed:
        found += programs.problems(facts.target)
    problem.refuse(found, f"{site.root} cannot go back to {manifest.reference}", tell)


def _run(facts: Facts, wishes: Wishes, lock: int, tell: steps.Listener) -> Outcome:
    record = recording.begin(
        facts.site,
        command="rollback",
        version=facts.version,
        digest=facts.digest,
        previous=facts.live,
    )
    seen = failure_report.Bundle(facts.target, record)
    listener = steps.everybody(record.hear, seen.hear, tell)
    with failure_report.mentioned(seen), recording.recorded(record, tell):
        if not facts.record.good:
            text = f"{facts.version} is {facts.record.state}, not good: {facts.record.reason}"
            listener(steps.Warned(text.removesuffix(": ")))
        _preflight(facts, listener)
        if facts.live and facts.leaving is None:
            listener(steps.Warned(f"{facts.live} is not whole: there is no way back to it"))
        switch = _switch(facts, listener)
        planned = tuple(_planned(facts, wishes, switch, listener, record, lock))
        with recording.in_words(facts.live if facts.leaving else "", switch):
            steps.run(planned, listener)
    return Outcome(facts, planned)


def _planned(
    facts: Facts,
    wishes: Wishes,
    switch: Switch,
    tell: steps.Listener,
    record: Journal | None,
    lock: int = -1,
) -> Iterator[Step]:
    site, version, manifest = facts.site, facts.version, facts.target.manifest

    def try_it() -> str:
        return judged(lambda: check.check(site, manifest, tell))

    def judged(trial: Callable[[], str]) -> str:
        try:
            return trial()
        except (Refused, ReleaseFailed) as error:
            # Else the next rollback would choose it again.
            assert record is not None, "a plan for reading was run"
            record.release(version, "failed", reason=error.message)
            raise

    def watch() -> str:
        return switch.watch(wishes.probation)

    def finish() -> None:
        assert record is not None, "a plan for reading was run"
        record.rolled_back(version, digest=facts.digest, left=facts.live)
        # From here on it is done: recovery does the rest, and a fault is a warning.
        try:
            recover.point_before(site, version)
        except OSError as error:
            tell(steps.Warned(f"{site.previous} does not point where it should: {error}"))

    was = f" (was {facts.live})" if facts.live else ""
    yield Step("check", f"try {manifest.reference} on a private socket", try_it)
    run = newer.Run(record, lock) if record is not None else None
    yield from newer.steps_of(facts.gap, site, version, wishes.migrations, tell, run)
    yield Step(
        "switch",
        f"switch {site.current} back to {version}{was}",
        lambda: judged(switch.go),
        switch.back,
    )
    if facts.target.managed:
        watched = f"watch {version} for {wishes.probation:g} s"
        yield Step("confirm", watched, lambda: judged(watch))
    left = f"mark {facts.live} as rolled back" if facts.live else f"call {version} good"
    yield Step("finish", left, finish, commits=True)


def _switch(facts: Facts, tell: steps.Listener) -> Switch:
    return Switch(facts.leaving, facts.target, tell)
