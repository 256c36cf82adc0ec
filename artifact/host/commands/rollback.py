"""Go back to an older release: the same switch as an install's, to what is here already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from artifact import files, process, steps
from artifact.errors import Refused, ReleaseFailed
from artifact.host.commands import recover
from artifact.host.inspecting import preflight
from artifact.host.migrations import schema_compatibility
from artifact.host.migrations.schema_compatibility import Compatibility
from artifact.host.processes import check
from artifact.host.processes import target as targets
from artifact.host.processes.target import Target
from artifact.host.records import freeze, history, problem, releases
from artifact.host.records.history import Record
from artifact.host.runs import switching
from artifact.host.runs.run import SwitchingRun
from artifact.host.runs.switching import Plan
from artifact.site import Site
from artifact.steps import Step, Warned


class RollbackOptions(msgspec.Struct, frozen=True):
    """What the command line asks for."""

    version: str = ""
    """Where to; "" for the newest good release before the live one."""
    wait: float = 900.0
    """Seconds to wait for another run."""
    probation: float = 10.0
    """Seconds to watch the old release before the new one counts as left."""
    despite_freeze: bool = False
    migrations: schema_compatibility.Choice = "judge"
    """What to do where the databases have migrations that the target does not know."""


class RollbackPlan(Plan, frozen=True, kw_only=True):
    """What was done, or would be."""

    schema: Compatibility
    """What the databases have and the target does not know."""


def plan(site: Site, options: RollbackOptions) -> RollbackPlan:
    """Say what a rollback would do; changes nothing.

    Raises:
        Refused: there is nothing to go back to, or a check says no.
    """
    _check_freeze(site, options, steps.nobody)
    planned = _plan(site, options, steps.nobody)
    if planned.stages:
        problem.refuse(planned.problems, planned.refusal, steps.nobody)
        schema_compatibility.check(planned.schema, planned.target.version, options.migrations)
    return planned


def rollback(site: Site, options: RollbackOptions, tell: steps.Listener) -> RollbackPlan:
    """Make an older release live again and mark what it leaves as rolled back.

    Raises:
        Refused: there is nothing to go back to, or a check says no; nothing live changed.
        Locked: another run is at work.
        ReleaseFailed: the older release does not serve, and what was live is so again.
        RollbackFailed: that failed as well.
    """
    doing = f"rolling back {site.root}"
    with files.locked(site.lock, doing=doing, wait=options.wait, tell=tell) as lock:
        recover.recover(site, tell)
        _check_freeze(site, options, tell)
        planned = _plan(site, options, tell)
        if planned.stages:
            switching.carry_out(planned, lock, tell)
        return planned


def _plan(site: Site, options: RollbackOptions, tell: steps.Listener) -> RollbackPlan:
    """Look at the site, choose where to go back to, and write the plan; changes nothing.

    Raises:
        ConfigurationError: the site's own settings are wrong.
        Refused: there is nothing to go back to.
    """
    records = history.records_of(site)
    live = releases.live_version(site)
    wanted = options.version
    record = _named(site, records, wanted) if wanted else _newest_good(site, records, live)
    release = releases.read(site, record.version)
    target = targets.of_manifest(site, release.manifest)
    old = _leaving(site, live)
    described = RollbackPlan(
        command="rollback",
        target=target,
        digest=release.digest,
        live=live,
        old=old,
        refusal=f"{site.root} cannot go back to {target.reference}",
        warnings=tuple(_warnings(record, live, old)),
        schema=Compatibility(),
    )
    if target.version == live:
        return described
    schema = schema_compatibility.judge(site, live, release, tell)
    return msgspec.structs.replace(
        described,
        schema=schema,
        stages=(tuple(_steps(described, schema, options)),),
        problems=tuple(preflight.problems_of_release(target)),
    )


def _warnings(record: Record, live: str, old: Target | None) -> Iterator[Warned]:
    if not record.good:
        text = f"{record.version} is {record.state}, not good: {record.reason}"
        yield Warned(text.removesuffix(": "))
    if live and old is None:
        yield Warned(f"{live} is not whole: there is no way back to it")


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
    others = ", ".join(
        f"{one.version} ({one.state})" for one in records.values() if one.version != live
    )
    hint = "`artifact install` of the file of an older version; it needs --allow-downgrade"
    if records.keys() - {live}:
        hint = f"`artifact rollback VERSION` goes to any that is here: {others}; or {hint}"
    older_than = f"older than {live}" if live else "to go back to"
    raise Refused(f"{site.root} has no good release {older_than}", hint=hint)


def _leaving(site: Site, live: str) -> Target | None:
    try:
        return targets.of_version(site, live) if live else None
    except Refused:
        return None  # somebody damaged it: one reason more to leave it


def _check_freeze(site: Site, options: RollbackOptions, tell: steps.Listener) -> None:
    if not options.despite_freeze:
        freeze.refuse_frozen(site, hint="in an emergency: `artifact rollback --despite-freeze`")
        return
    found = freeze.freeze_of(site)
    if found is not None:
        tell(Warned(f"{site.root} is {found.describe()}; rolled back all the same"))


def _steps(
    planned: RollbackPlan, schema: Compatibility, options: RollbackOptions
) -> Iterator[Step[SwitchingRun]]:
    target, live = planned.target, planned.live
    site, version = target.site, target.version

    def judged(run: SwitchingRun, action: Callable[[], str]) -> str:
        try:
            return action()
        except (Refused, ReleaseFailed) as error:
            # Else the next rollback would choose it again.
            run.record.release(version, "failed", reason=error.message)
            raise

    def try_it(run: SwitchingRun) -> str:
        return judged(run, lambda: check.check(site, target.manifest, run.tell))

    def go(run: SwitchingRun) -> str:
        return judged(run, run.switch.go)

    def back(run: SwitchingRun) -> None:
        run.switch.back()

    def watch(run: SwitchingRun) -> str:
        return judged(run, lambda: run.switch.watch(options.probation))

    def finish(run: SwitchingRun) -> None:
        run.record.rolled_back(version, digest=planned.digest, left=live)
        # From here on it is done: recovery does the rest, and a fault is a warning.
        try:
            recover.point_before(site, version)
        except OSError as error:
            run.tell(Warned(f"{site.previous} does not point where it should: {error}"))

    was = f" (was {live})" if live else ""
    yield Step("check", f"try {target.reference} on a private socket", try_it)
    yield from _about_databases(target, schema, options.migrations)
    yield Step("switch", f"switch {site.current} back to {version}{was}", go, back)
    if target.managed:
        yield Step("confirm", f"watch {version} for {options.probation:g} s", watch)
    left = f"mark {live} as rolled back" if live else f"call {version} good"
    yield Step("finish", left, finish, commits=True)


def _about_databases(
    target: Target, schema: Compatibility, choice: schema_compatibility.Choice
) -> Iterator[Step[SwitchingRun]]:
    """Plan what is done about the databases before the switch."""
    if not (schema.names or schema.trouble or schema.pending):
        return
    site, version = target.site, target.version

    def compare(run: SwitchingRun) -> str:
        return schema_compatibility.compare(schema, version, choice, run.tell)

    def take_back(run: SwitchingRun) -> str:
        with process.sharing(run.lock):
            return schema_compatibility.take_back(schema, site, run.tell, run.record)

    def put_back(run: SwitchingRun) -> None:
        schema_compatibility.put_back(site, run.tell, run.record)

    what = f": it does not know {', '.join(schema.names)}" if schema.names else ""
    yield Step("compare-migrations", f"see that the databases suit {version}{what}", compare)
    if choice == "take back" and schema.names:
        names = ", ".join(one.name for one in schema.migrations)
        summary = f"take back {names} with the code of {schema.by}"
        yield Step("reverse-migrations", summary, take_back, put_back)
