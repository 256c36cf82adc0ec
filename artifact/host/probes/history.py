"""What of a release's migrations every database has, and what of it the release does not know."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from . import verdicts

Key = Tuple[str, str]
Known = Optional[Dict[str, List[str]]]


class History(NamedTuple):
    """A database beside the code."""

    executor: Any
    applied: List[Key]
    """In the order in which they were applied."""
    pending: List[Any]
    """Migrations in the order in which Django would run them."""


def look(known: Known) -> Dict[str, Any]:
    """Describe all databases; with `known`, the names of another release's migrations, also what
    is applied that that release does not know."""
    ours, skipped = databases()
    rows = [described(one, known) for one in ours]
    return {"databases": rows, "skipped": skipped, "known": _known()}


def _known() -> Dict[str, List[str]]:
    """Return all that this code knows, with what its squashed migrations stand for.

    From what is imported: settings can put migrations where no search in files would find them.
    """
    from django.db.migrations.loader import MigrationLoader

    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    names: Dict[str, Set[str]] = {}
    for (app, name), migration in loader.disk_migrations.items():
        names.setdefault(app, set()).add(name)
        for other_app, other in migration.replaces:
            names.setdefault(other_app, set()).add(other)
    return {app: sorted(names[app]) for app in sorted(names)}


def databases() -> Tuple[List[Any], List[Dict[str, str]]]:
    """Return the connections that Django migrates, and why the others are not among them."""
    from django.db import connections

    ours: List[Any] = []
    skipped = []
    for alias in sorted(connections, key=lambda alias: alias != "default"):
        connection = connections[alias]
        why = _not_ours(connection, ours)
        if why:
            skipped.append({"alias": alias, "why": why})
        elif connection.vendor != "unknown":  # Django's placeholder for "no database"
            ours.append(connection)
    return ours, skipped


def _not_ours(connection: Any, ours: List[Any]) -> str:
    if connection.alias == "default" or connection.vendor == "unknown":
        return ""
    mirrored = connection.settings_dict.get("TEST", {}).get("MIRROR")
    if mirrored:
        return f"a mirror of {mirrored}"
    same = next((one.alias for one in ours if _identity(one) == _identity(connection)), None)
    if same:
        return f"the same database as {same}"
    return _cannot_be_written(connection)


def _cannot_be_written(connection: Any) -> str:
    from django.db import Error
    from django.db.migrations.recorder import MigrationRecorder

    try:
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_is_in_recovery()")
                if cursor.fetchone()[0]:
                    return "a replica"
        if not MigrationRecorder(connection).has_table():
            return f"never migrated: `manage.py migrate --database {connection.alias}` begins that"
    except Error:
        pass  # looking at it will say that it cannot be reached
    return ""


def _identity(connection: Any) -> Tuple[Any, ...]:
    shown = connection.settings_dict
    return (connection.vendor, *(str(shown.get(key, "")) for key in ("HOST", "PORT", "NAME")))


def described(connection: Any, known: Known) -> Dict[str, Any]:
    """Describe one database; what is wrong with it is an outcome, never an exception."""
    from django.db import Error
    from django.db.migrations import exceptions

    found: Dict[str, Any] = {"alias": connection.alias, "vendor": connection.vendor}
    try:
        history = read(connection)
    except Error as error:
        return {**found, "outcome": "unreachable", "detail": _line(error)}
    except (
        exceptions.NodeNotFoundError,
        exceptions.CircularDependencyError,
        exceptions.BadMigrationError,
        exceptions.InconsistentMigrationHistory,
        Conflict,
    ) as error:
        return {**found, "outcome": "conflict", "detail": _line(error)}
    ahead, leftover = _unknown(history)
    outcome = "pending" if history.pending else "ahead" if ahead else "current"
    return {
        **found,
        "outcome": outcome,
        "applied": [".".join(key) for key in history.applied],
        "pending": list(judged(history, {_key(one) for one in history.pending})),
        "ahead": ahead,
        "leftover": leftover,
        "difference": list(difference(history, known)),
    }


class Conflict(Exception):
    """Two migrations of an application both are its last."""


def read(connection: Any) -> History:
    """Read the code's migrations and the database's.

    Raises Django's errors, and Conflict.
    """
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    conflicts = executor.loader.detect_conflicts()
    if conflicts:
        lists = (f"{', '.join(sorted(names))} of {app}" for app, names in sorted(conflicts.items()))
        raise Conflict(f"none of these comes after the other: {'; '.join(lists)}")
    executor.loader.check_consistent_history(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return History(executor, applied(executor), [migration for migration, _ in plan])


def applied(executor: Any) -> List[Key]:
    """Return what the database's own record holds, oldest first."""
    recorder = executor.recorder
    if not recorder.has_table():
        return []
    return list(recorder.migration_qs.order_by("id").values_list("app", "name"))


def _unknown(history: History) -> Tuple[List[str], List[str]]:
    """Return what newer code applied, and what only is left of code that went.

    Squashed migrations and removed applications stay in the record for ever; a migration that
    newer code applied came after all that this code knows of its application.
    """
    loader = history.executor.loader
    known = set(loader.disk_migrations)
    for migration in loader.disk_migrations.values():
        known.update(migration.replaces)
    last = {app: place for place, (app, name) in enumerate(history.applied) if (app, name) in known}
    ahead: List[str] = []
    leftover: List[str] = []
    for place, key in enumerate(history.applied):
        if key not in known:
            (ahead if place > last.get(key[0], place) else leftover).append(".".join(key))
    return ahead, leftover


def difference(history: History, known: Known) -> Iterator[Dict[str, Any]]:
    """Describe what is applied and another release does not know, newest first."""
    if known is None:
        return
    theirs = {(app, name) for app, names in known.items() for name in names}
    ours = history.executor.loader.disk_migrations
    torn = _squashed(ours, theirs)
    chosen = set(history.executor.loader.applied_migrations) - theirs
    for row in reversed(list(judged(history, chosen))):
        if row["name"] in torn:
            why = "it stands for migrations of which the older release knows some"
            row.update(risk=verdicts.UNKNOWN, reason=why, reversible=False)
        yield row


def _squashed(ours: Dict[Key, Any], theirs: Set[Key]) -> Set[str]:
    """Add to `theirs` what only has another name there; return what is known there in part."""
    torn: Set[str] = set()
    # One squashed migration can stand for another, which sorts before or after it.
    for _ in range(len(ours)):
        before = len(theirs)
        for key, migration in ours.items():
            replaced = {tuple(one) for one in migration.replaces}
            if key in theirs:
                theirs.update(replaced)
            elif replaced and replaced <= theirs:
                theirs.add(key)
        if len(theirs) == before:
            break
    for key, migration in ours.items():
        if key not in theirs and {tuple(one) for one in migration.replaces} & theirs:
            torn.add(".".join(key))
    return torn


def judged(history: History, chosen: Set[Key]) -> Iterator[Dict[str, Any]]:
    """Describe some of the code's migrations in order, judged on the schema that they meet."""
    from django.db.migrations.state import ProjectState

    executor = history.executor
    full = executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)
    state, fresh = ProjectState(), verdicts.nothing_fresh()
    for migration, _ in full:
        if _key(migration) not in chosen:
            state = migration.mutate_state(state, preserve=False)
            continue
        rows, found = [], []
        for operation in migration.operations:
            before = state.clone()
            operation.state_forwards(migration.app_label, state)
            place = verdicts.Place(executor.connection, migration.app_label, before, state, fresh)
            found.append(verdicts.judge(operation, place))
            rows.append(_operation(operation, found[-1]))
        total = verdicts.marked(migration) or verdicts.worst(found)
        if not history.applied:
            total = verdicts.Verdict(verdicts.SAFE, "no code has used this database before")
        yield {
            "name": ".".join(_key(migration)),
            "risk": total.risk,
            "reason": total.reason,
            "reversible": all(operation.reversible for operation in migration.operations),
            "atomic": bool(migration.atomic and executor.connection.features.can_rollback_ddl),
            "operations": rows,
        }


def _operation(operation: Any, verdict: verdicts.Verdict) -> Dict[str, Any]:
    return {
        "kind": type(operation).__name__,
        "description": str(operation.describe()),
        "reversible": bool(operation.reversible),
        **verdict._asdict(),
    }


def _key(migration: Any) -> Key:
    return migration.app_label, migration.name


def _line(error: BaseException) -> str:
    """Return an error's text as one line; drivers use several."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
