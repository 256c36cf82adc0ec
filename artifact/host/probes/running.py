"""Run migrations, or take some back, one run at a time and never waiting long for a table."""

from __future__ import annotations

import sys
import traceback
from typing import Any, Dict, List, Set

from . import history, single_flight


def run(request: Dict[str, Any]) -> Dict[str, Any]:
    """Run what is pending and allowed, or reverse what another release does not know.

    Nothing is run when a database cannot be, or when a migration is refused.
    """
    from django.db import DatabaseError, connections

    ours, skipped = history.databases()
    aliases = [connection.alias for connection in ours]
    _bound_locks(aliases, request["lock_timeout"])
    try:
        with single_flight.held(connections, aliases, request["wait"], _say):
            # What another run did while this one waited is not pending any more.
            seen = [history.described(connection, request["known"]) for connection in ours]
            found = {"databases": seen, "skipped": skipped}
            if any(one["outcome"] in {"unreachable", "conflict"} for one in seen):
                return found
            for one in seen:
                # Said before anything is done: who is killed from here on could not say it.
                _say(" ".join([f"before on {one['alias']}:", *one["applied"]]))
            if request["mode"] == "reverse":
                return {**found, **_reverse(ours, request)}
            return {**found, **_forward(ours, seen, request)}
    except single_flight.Busy as error:
        return {"busy": str(error)}
    except DatabaseError as error:
        detail = str(error).strip()
        return {
            "databases": [
                {"alias": alias, "vendor": "", "outcome": "unreachable", "detail": detail}
                for alias in aliases[:1]
            ]
        }


def _bound_locks(aliases: List[str], seconds: float) -> None:
    """Have the databases give up waiting for a table: behind whoever waits, all others wait too."""
    from django.db import connections
    from django.db.backends.signals import connection_created

    def bound(connection: Any, **_rest: Any) -> None:
        if connection.vendor == "postgresql":
            statements = [f"SET lock_timeout = {int(seconds * 1000)}"]
        elif connection.vendor == "mysql":
            whole = max(1, round(seconds))
            statements = [
                f"SET SESSION lock_wait_timeout = {whole}",
                f"SET SESSION innodb_lock_wait_timeout = {whole}",
            ]
        else:
            return
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    # A signal, for what reconnects in the middle must be bound as well.
    connection_created.connect(bound, weak=False)
    for alias in aliases:
        connections[alias].close()


def _forward(ours: List[Any], seen: List[Dict[str, Any]], request: Dict[str, Any]) -> Any:
    allowed, unmatched = _allowed(ours[0], request["allow"]) if ours else (set(), [])
    if unmatched:
        return {"unmatched": unmatched}
    left: List[Dict[str, Any]] = []
    chosen = []
    for connection, described in zip(ours, seen):
        wanted = request["only"]
        rows = [one for one in described["pending"] if wanted is None or one["name"] in wanted]
        names = [one["name"] for one in rows]
        refused = [one for one in rows if one["risk"] != "safe" and one["name"] not in allowed]
        left += refused
        chosen.append((connection, _without(connection, names, {one["name"] for one in refused})))
    if left and not request["only_safe"]:
        return {"refused": left}
    result: Dict[str, Any] = {"refused": left, "ran": {}, "after": {}}
    for connection, names in chosen:
        failure = _attempt(connection, names, _migrate)
        _note(connection, result, names, forwards=True)
        if failure:
            return {**result, "failed": failure}
    return result


def _allowed(connection: Any, given: List[str]) -> Any:
    """Return the full names of what is allowed, and the given names that fit none or two."""
    every = [".".join(key) for key in history.read(connection).executor.loader.disk_migrations]
    allowed: Set[str] = set()
    unmatched = []
    for one in given:
        found = [name for name in every if name == one] or [
            name for name in every if name.startswith(one) and "." in one
        ]
        if len(found) == 1:
            allowed.update(found)
        else:
            unmatched.append(one)
    return allowed, unmatched


def _without(connection: Any, names: List[str], refused: Set[str]) -> List[str]:
    """Return what is left when some are not run: what depends on them cannot run either."""
    graph = history.read(connection).executor.loader.graph
    kept = []
    for name in names:
        app, _, own = name.partition(".")
        needed = {".".join(key) for key in graph.forwards_plan((app, own))}
        if not needed & refused:
            kept.append(name)
    return kept


def _reverse(ours: List[Any], request: Dict[str, Any]) -> Dict[str, Any]:
    chosen, stuck = [], []
    for connection in ours:
        rows = list(history.difference(history.read(connection), request["known"]))
        stuck += [one for one in rows if not one["reversible"]]
        chosen.append((connection, [one["name"] for one in rows]))
    if stuck:
        return {"refused": stuck}
    result: Dict[str, Any] = {"refused": [], "ran": {}, "after": {}}
    for connection, names in chosen:
        failure = _attempt(connection, names, _take_back)
        _note(connection, result, names, forwards=False)
        if failure:
            return {**result, "failed": failure}
    return result


def _note(connection: Any, result: Dict[str, Any], names: List[str], *, forwards: bool) -> None:
    """Write down what became of a database, as its own record tells."""
    from django.db import Error

    try:
        read = history.read(connection)
    except Error as error:
        _say(f"cannot look at {connection.alias} again: {error}")
        return
    after = [".".join(key) for key in read.applied]
    result["after"][connection.alias] = after
    result["ran"][connection.alias] = [name for name in names if (name in after) == forwards]


def _attempt(connection: Any, names: List[str], do: Any) -> Any:
    """Do it; return what failed, None when nothing did."""
    if not names:
        return None
    at = {"migration": names[0], "half": False}

    def progress(action: str, migration: Any = None, fake: bool = False) -> None:
        if action in {"apply_start", "unapply_start"}:
            at["migration"] = f"{migration.app_label}.{migration.name}"
            whole = migration.atomic and connection.features.can_rollback_ddl
            at["half"] = not whole and len(migration.operations) > 0
            verb = "applying" if action == "apply_start" else "taking back"
            _say(f"{verb} {at['migration']} on {connection.alias}")
        elif action in {"apply_success", "unapply_success"}:
            at["half"] = False

    try:
        do(connection, names, progress)
    except Exception as error:
        traceback.print_exc()
        connection.close()
        detail = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
        return {"alias": connection.alias, "detail": detail or type(error).__name__, **at}
    return None


def _migrate(connection: Any, names: List[str], progress: Any) -> None:
    """Do what Django's own `migrate` does, for these alone: its signals make permissions."""
    from django.apps import apps
    from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
    from django.db.migrations.executor import MigrationExecutor
    from django.db.migrations.state import ModelState

    executor = MigrationExecutor(connection, progress)
    targets = executor.loader.graph.leaf_nodes()
    plan = [
        (migration, False)
        for migration, _ in executor.migration_plan(targets)
        if f"{migration.app_label}.{migration.name}" in names
    ]
    connection.prepare_database()
    # As in django/core/management/commands/migrate.py, which takes no plan of others.
    before = executor._create_project_state(with_applied_migrations=True)
    emit_pre_migrate_signal(
        1, False, connection.alias, stdout=sys.stderr, apps=before.apps, plan=plan
    )
    after = executor.migrate(targets, plan=plan, state=before.clone())
    after.clear_delayed_apps_cache()
    models = after.apps
    with models.bulk_update():
        keys = [(state.app_label, state.name_lower) for state in models.real_models]
        for key in keys:
            models.unregister_model(*key)
    models.render_multiple([ModelState.from_model(apps.get_model(*key)) for key in keys])
    emit_post_migrate_signal(1, False, connection.alias, stdout=sys.stderr, apps=models, plan=plan)


def _take_back(connection: Any, names: List[str], progress: Any) -> None:
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection, progress)
    known = executor.loader.disk_migrations
    plan = [(known[tuple(name.split(".", 1))], True) for name in names]
    executor.migrate(None, plan=plan)


def _say(text: str) -> None:
    """Tell the tool, which knows by the prefix that it is not the application that speaks."""
    print(f"artifact: {text}", file=sys.stderr, flush=True)
