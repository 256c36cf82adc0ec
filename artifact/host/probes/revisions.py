"""Tell which of Alembic's revisions a release has before it, or run them: in its interpreter.

It answers in the shape of `migrations`. The application's own env.py opens the databases, and the
`alembic` of its environment migrates.
Nobody judges revisions: their code is free, so that each is "unknown".

Python 3.8 and Alembic 1.8 are enough.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import os
import subprocess
import sys
import textwrap
from typing import Any, Callable, Dict, List, Optional, Set

from . import answering, single_flight

Known = Optional[Dict[str, List[str]]]
Look = Callable[[], Dict[str, Any]]

_WHY = "nobody but its author knows what it changes"
_APP = "alembic"


def answer(request: Dict[str, Any]) -> Dict[str, Any]:
    """Do what is asked."""
    script = _script()
    if request["mode"] == "look":
        return _look(script, request["known"])
    found: List[Dict[str, Any]] = []

    def act(look: Look) -> None:
        found.append(_act(script, request, look))

    try:
        _under_lock(script, request, act)
    except single_flight.Busy as error:
        return {"busy": str(error)}
    except Exception as error:
        # When all is done, a connection that waited meanwhile may have been closed by the server.
        if not found:
            return {"databases": [_unreachable(error)]}
    return found[0]


def _script() -> Any:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(Config("alembic.ini"))


def _within(script: Any, see: Callable[[Any, Any], Any]) -> None:
    """Have env.py connect, and call `see` with the heads and the context of every database."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext

    with EnvironmentContext(Config("alembic.ini"), script, fn=see, dont_mutate=True):
        script.run_env()


def _look(script: Any, known: Known) -> Dict[str, Any]:
    rows: List[Dict[str, Any]] = []
    ours = {one.revision: one for one in reversed(list(script.walk_revisions()))}

    def see(heads: Any, context: Any) -> List[Any]:
        alias = "default" if not rows else f"default-{len(rows) + 1}"
        rows.append({"alias": alias, **_described(script, ours, set(heads), context, known)})
        return []

    try:
        _within(script, see)
    except Exception as error:
        if not _is_of_a_database(error):
            raise
        rows.append(_unreachable(error))
    return {"databases": rows, "skipped": [], "known": {_APP: sorted(ours)}}


def _described(
    script: Any, ours: Dict[str, Any], heads: Set[str], context: Any, known: Any
) -> Dict[str, Any]:
    found = {"vendor": context.dialect.name}
    latest = [ours[head] for head in script.get_heads()]
    if len(latest) > 1 and not all(one.branch_labels for one in latest):
        names = ", ".join(sorted(one.revision for one in latest))
        return {**found, "outcome": "conflict", "detail": f"none comes after the other: {names}"}
    ahead = sorted(heads - ours.keys())
    applied = _ancestors(ours, heads & ours.keys())
    # What is between here and there nobody knows, where newer code has migrated.
    pending = [] if ahead else [one for name, one in ours.items() if name not in applied]
    theirs = None if known is None else set(known.get(_APP, ()))
    newer = [one for name, one in ours.items() if theirs is not None and name in applied - theirs]
    atomic = bool(context.impl.transactional_ddl)
    return {
        **found,
        "outcome": "pending" if pending else "ahead" if ahead else "current",
        "applied": [name for name in ours if name in applied] + ahead,
        "pending": [_row(one, atomic) for one in pending],
        "ahead": ahead,
        "difference": [_row(one, atomic) for one in reversed(newer)],
    }


def _ancestors(ours: Dict[str, Any], heads: Set[str]) -> Set[str]:
    found: Set[str] = set()
    left = list(heads)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += _before(ours[name])
    return found


def _before(revision: Any) -> List[str]:
    """Return what must have been applied before a revision."""
    down = revision.down_revision or ()
    names = [down] if isinstance(down, str) else list(down)
    return names + list(getattr(revision, "_resolved_dependencies", ()) or ())


def _row(revision: Any, atomic: bool) -> Dict[str, Any]:
    reversible = not _is_empty(revision.module, "downgrade") or _is_empty(
        revision.module, "upgrade"
    )
    said = {"risk": "unknown", "reason": _WHY, "reversible": reversible}
    operation = {"kind": "Revision", "description": revision.doc or "", "lock": "table", **said}
    return {"name": revision.revision, "atomic": atomic, "operations": [operation], **said}


def _is_empty(module: Any, name: str) -> bool:
    """Tell whether a function is not there, does nothing, or only says that it cannot."""
    function = getattr(module, name, None)
    if function is None:
        return True
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body  # type: ignore[attr-defined]
    except (OSError, SyntaxError, AttributeError):
        return False
    nothing = (ast.Pass, ast.Raise)
    return all(
        isinstance(one, nothing)
        or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
        for one in body
    )


def _is_of_a_database(error: BaseException) -> bool:
    from sqlalchemy.exc import DBAPIError

    # Drivers for asyncio raise what the socket says.
    return isinstance(error, (DBAPIError, OSError))


def _unreachable(error: BaseException) -> Dict[str, Any]:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    detail = lines[0] if lines else type(error).__name__
    return {"alias": "default", "vendor": "", "outcome": "unreachable", "detail": detail}


def _under_lock(script: Any, request: Dict[str, Any], act: Callable[[Look], None]) -> None:
    """Act while no other run migrates the first of the databases; hands on how to look at them."""
    wait, known = request["wait"], request["known"]
    seen: List[str] = []

    def see(_heads: Any, context: Any) -> List[Any]:
        vendor = {"mariadb": "mysql"}.get(context.dialect.name, context.dialect.name)
        seen.append(vendor)
        if len(seen) > 1:
            return []
        engine = context.connection.engine
        name = str(engine.url.database or "")
        if vendor == "sqlite":
            held.enter_context(single_flight.directory_of(name, "default", wait, _say))
        elif vendor in {"postgresql", "mysql"}:
            # A connection of its own, that has no transaction open while others work.
            plain = engine.connect()
            keeper = plain.execution_options(isolation_level="AUTOCOMMIT")
            question = single_flight.statement(vendor, name)

            def take() -> bool:
                return bool(keeper.exec_driver_sql(question).scalar())

            single_flight.wait_for(take, "default", wait, _say)
            if engine.dialect.is_async:
                # It lives no longer than the event loop of env.py.
                act(lambda: _ask(known))
                plain.close()
                seen.append("done")
            else:
                held.callback(plain.close)
        else:
            _say(f"nothing keeps two runs from migrating at once: {vendor} has no lock for it")
        return []

    with contextlib.ExitStack() as held:
        _within(script, see)
        if "done" not in seen:
            act(lambda: _look(script, known))


def _act(script: Any, request: Dict[str, Any], look: Look) -> Dict[str, Any]:
    # Anew, for what another run did while this one waited is not pending any more.
    before = look()
    rows = before["databases"]
    if any(one["outcome"] in {"unreachable", "conflict"} for one in rows):
        return before
    for one in rows:
        _say(" ".join([f"before on {one['alias']}:", *one["applied"]]))
    backwards = request["mode"] == "reverse"
    chosen = _chosen(rows, request, backwards)
    if request["only_safe"] or not chosen:
        return {**before, "refused": chosen if request["only_safe"] else []}
    target = _base_of(script, chosen) if backwards else chosen[-1]["name"]
    if backwards and (target is None or not all(one["reversible"] for one in chosen)):
        stuck = [one for one in chosen if not one["reversible"]] or chosen
        return {**before, "refused": [{**one, "reversible": False} for one in stuck]}
    if not backwards and request["only"] is None:
        target = "heads"
    for one in chosen:
        _say(f"{'taking back' if backwards else 'applying'} {one['name']} on default")
    wrong = _alembic("downgrade" if backwards else "upgrade", str(target), request["lock_timeout"])
    return {**before, **_outcome(rows, chosen, wrong, look)}


def _chosen(
    rows: List[Dict[str, Any]], request: Dict[str, Any], backwards: bool
) -> List[Dict[str, Any]]:
    found: Dict[str, Dict[str, Any]] = {}
    for described in rows:
        for one in described["difference" if backwards else "pending"]:
            if request["only"] is None or one["name"] in request["only"]:
                found[one["name"]] = one
    return list(found.values())


def _base_of(script: Any, chosen: List[Dict[str, Any]]) -> Optional[str]:
    """Return the revision to go back to, so that exactly these are taken back; None if there is
    none: the history has branches there."""
    names = [one["name"] for one in chosen]
    for name, older in zip(names, [*names[1:], None]):
        down = script.get_revision(name).down_revision
        if older is None:
            return "base" if down is None else down if isinstance(down, str) else None
        if down != older:
            return None
    return None


def _outcome(
    rows: List[Dict[str, Any]], chosen: List[Dict[str, Any]], wrong: str, look: Look
) -> Dict[str, Any]:
    after = {one["alias"]: one.get("applied", ()) for one in look()["databases"]}
    ran: Dict[str, List[str]] = {}
    for described in rows:
        had, has = set(described["applied"]), set(after.get(described["alias"], ()))
        changed = had ^ has
        ran[described["alias"]] = [one["name"] for one in chosen if one["name"] in changed]
    result: Dict[str, Any] = {"refused": [], "ran": ran, "after": after}
    if wrong:
        left = [one for one in chosen if one["name"] not in ran[rows[0]["alias"]]] or chosen
        at = {"alias": rows[0]["alias"], "migration": left[0]["name"]}
        result["failed"] = {**at, "detail": wrong, "half": not left[0]["atomic"]}
    return result


def _ask(known: Known) -> Dict[str, Any]:
    """Look at the databases in a process of its own."""
    look = {"mode": "look", "known": known}
    ran = subprocess.run(
        [sys.executable, "-"],
        input=answering.program(answering.texts, "revisions", look),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: Dict[str, Any] = json.loads(ran.stdout.rpartition("\n")[2])
    if "broken" in found:
        raise RuntimeError(found["broken"])
    return found


def _alembic(verb: str, target: str, lock_timeout: float) -> str:
    """Run `alembic upgrade` or `downgrade`; returns what was wrong, "" when nothing was."""
    # Drivers of libpq read it; nobody should wait long behind who waits for a table.
    option = f"-c lock_timeout={int(lock_timeout * 1000)}"
    child = subprocess.Popen(
        [sys.executable, "-m", "alembic", verb, target],
        env={**os.environ, "PGOPTIONS": f"{os.environ.get('PGOPTIONS', '')} {option}".strip()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = [""]
    assert child.stdout is not None
    for line in child.stdout:
        print(line, end="", file=sys.stderr, flush=True)
        # SQLAlchemy ends with a link to its documentation.
        if line.strip() and not line.startswith(("[SQL", "[parameters", "(Background")):
            said.append(line.strip())
    status = child.wait()
    return "" if status == 0 else said[-1] or f"alembic ended with status {status}"


def _say(text: str) -> None:
    """Tell the tool, which knows by the prefix that it is not the application that speaks."""
    print(f"artifact: {text}", file=sys.stderr, flush=True)
