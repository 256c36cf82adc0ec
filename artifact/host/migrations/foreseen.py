"""Foresee what a release's new migrations do to the old code, before anything is unpacked.

Their text is read from the artifact and nothing of it is run, so that it is known at worst: what
the schema or the author's own code decides is "unknown", and only the install itself can tell it.
"""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Collection, Mapping

import msgspec

from artifact.archive import checking, opening
from artifact.archive.checking import Pieces
from artifact.archive.opening import Artifact
from artifact.archive.toc import Record
from artifact.host.trees import unpack
from artifact.manifest import Manifest

SAFE, UNSAFE, UNKNOWN = "safe", "unsafe", "unknown"
"""As `artifact migrations` has them."""

# What `probes/verdicts.py` says of operations whatever the schema is; a test compares the two.
_ALWAYS_SAFE = frozenset(
    {
        *("CreateModel", "AlterModelTableComment", "AlterModelOptions", "AlterModelManagers"),
        *("AlterIndexTogether", "AddIndex", "AddIndexConcurrently", "RemoveIndex", "RenameIndex"),
        *("RemoveIndexConcurrently", "ValidateConstraint", "AlterConstraint", "RemoveConstraint"),
        *("CreateExtension", "CreateCollation"),
    }
)
_UNSAFE = frozenset(
    {
        *("DeleteModel", "RenameModel", "RemoveField", "RenameField", "RemoveCollation"),
        *("AddConstraint", "AddConstraintNotValid", "AlterOrderWithRespectTo"),
    }
)
_OF_A_MODEL = frozenset(
    {
        *("DeleteModel", "RenameModel", "RemoveField", "RenameField", "AddField", "AlterField"),
        *("AddConstraint", "AddConstraintNotValid", "AlterOrderWithRespectTo"),
        *("AlterModelTable", "AlterUniqueTogether"),
    }
)


def news(live: Manifest | None, artifact: Artifact, *, judged: bool) -> list[str]:
    """Return the migrations that the live release has not, with what they do: "shop.0007 (safe)".

    What is pending, only the databases know; of what a dependency brings, only the name is known.

    Args:
        judged: read what they do; an install tells that from the databases, and better.

    Raises:
        ArtifactRejected: the artifact is damaged.
    """
    found: list[str] = []
    for application, names in new_ones(live, artifact.manifest).items():
        texts, fresh = _texts(artifact, application, names) if judged else {}, Fresh()
        for name in names:
            risk = f" ({judge(texts[name], fresh)})" if name in texts else ""
            found.append(f"{application}.{name}{risk}")
    return found


def new_ones(live: Manifest | None, manifest: Manifest) -> dict[str, list[str]]:
    """Return what manifests alone tell: label to names."""
    if live is None:
        return {}
    found = {
        label: [name for name in names if name not in live.migrations.get(label, ())]
        for label, names in manifest.migrations.items()
    }
    return {label: names for label, names in found.items() if names}


class Fresh(msgspec.Struct):
    """What earlier operations made: no old code can use it. All in lower case."""

    models: set[str] = msgspec.field(default_factory=set)
    fields: set[tuple[str, str]] = msgspec.field(default_factory=set)


def judge(text: bytes, fresh: Fresh) -> str:
    """Return the gravest risk of a migration's operations, with those of that risk.

    Args:
        fresh: what the migrations before it made; what this one makes is added.
    """
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError):
        return UNKNOWN
    operations = _operations(module)
    if operations is None:
        return UNKNOWN
    names = _imports(module)
    judged = [(_judge(one, names, fresh), _dotted(one, names)) for one in operations]
    for risk in (UNSAFE, UNKNOWN):
        kinds = dict.fromkeys(kind.rpartition(".")[2] for found, kind in judged if found == risk)
        if kinds:
            return (
                f"{risk}: {', '.join(kind or 'what nobody but its author knows' for kind in kinds)}"
            )
    return SAFE


def _texts(artifact: Artifact, label: str, names: Collection[str]) -> dict[str, bytes]:
    """Read the migrations of an application from the artifact's code."""
    found: dict[str, bytes] = {}
    wanted: Mapping[str, str] = {}

    def keep(record: Record, pieces: Pieces) -> None:
        if record.path in wanted:
            found[wanted[record.path]] = b"".join(pieces)

    for component in unpack.of_release(artifact):
        toc = artifact.toc(component)
        wanted = _paths([record.path for record in toc.records], label, names)
        groups = [g for g in toc.groups if any(record.path in wanted for record in g.records)]
        members = [member for group in groups for member in group.members]
        with opening.naming(artifact.name), artifact.expecting(members):
            for group in groups:
                checking.check_group(artifact, group, toc.component.mtime, keep)
    return found


def _paths(paths: Collection[str], label: str, names: Collection[str]) -> Mapping[str, str]:
    """Return the path of each migration to its name, where it is clear which it is."""
    found: dict[str, str] = {}
    for name in names:
        those = [path for path in paths if path.endswith(f"/migrations/{name}.py")]
        named = [path for path in those if posixpath.basename(path.rsplit("/", 2)[0]) == label]
        if len(named or those) == 1:
            found[(named or those)[0]] = name
    return found


def _operations(module: ast.Module) -> list[ast.expr] | None:
    """Return the operations of a migration; None where its text does not list them."""
    for node in module.body:
        if not isinstance(node, ast.ClassDef) or node.name != "Migration":
            continue
        assigned = {
            target.id: statement.value
            for statement in node.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        # django-safemigrate's: the author knows better.
        listed = assigned.get("operations") if "safe" not in assigned else None
        return listed.elts if isinstance(listed, ast.List) else None
    return None


def _imports(module: ast.Module) -> dict[str, str]:
    """Return what the module's names stand for: "models" for "django.db.models"."""
    found: dict[str, str] = {}
    for node in module.body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {n.asname or n.name: f"{node.module}.{n.name}" for n in node.names}
        elif isinstance(node, ast.Import):
            found |= {n.asname: n.name for n in node.names if n.asname}
            found |= {(top := n.name.partition(".")[0]): top for n in node.names if not n.asname}
    return found


def _dotted(node: ast.expr, names: Mapping[str, str]) -> str:
    if isinstance(node, ast.Call):
        return _dotted(node.func, names)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, "") if isinstance(node, ast.Name) else ""


def _judge(operation: ast.expr, names: Mapping[str, str], fresh: Fresh) -> str:
    dotted = _dotted(operation, names)
    if not isinstance(operation, ast.Call) or not dotted.startswith("django."):
        return UNKNOWN
    kind = dotted.rpartition(".")[2]
    first = "old_name" if kind == "RenameModel" else "name"
    model = _text(operation, 0, "model_name") or _text(operation, 0, first)
    if kind == "CreateModel":
        fresh.models.add(model)
    if kind in _OF_A_MODEL and model in fresh.models:
        if kind == "RenameModel":
            fresh.models.add(_text(operation, 1, "new_name"))
        return SAFE
    if kind == "AddField":
        fresh.fields.add((model, _text(operation, 1, "name")))
        return _added(_argument(operation, 2, "field"), names)
    if (model, _text(operation, 1, "name")) in fresh.fields and kind == "RemoveField":
        return SAFE
    if (model, _text(operation, 1, "old_name")) in fresh.fields and kind == "RenameField":
        fresh.fields.add((model, _text(operation, 2, "new_name")))
        return SAFE
    if kind in _ALWAYS_SAFE:
        return SAFE
    return UNSAFE if kind in _UNSAFE else UNKNOWN


def _added(column: ast.expr | None, names: Mapping[str, str]) -> str:
    """Judge a column that a table gets which old code writes to."""
    if not isinstance(column, ast.Call) or any(one.arg is None for one in column.keywords):
        return UNKNOWN
    given = {one.arg: one.value for one in column.keywords}
    null = given.get("null")
    if isinstance(null, ast.Constant) and null.value is True:
        return SAFE
    where, _, kind = _dotted(column, names).rpartition(".")
    if not where.startswith("django.db.models") or null is not None:
        return UNKNOWN
    if kind in {"ManyToManyField", "GeneratedField"}:
        return SAFE
    if "db_default" in given:
        unique = kind == "OneToOneField" or {"unique", "primary_key"} & given.keys()
        return UNKNOWN if unique else SAFE
    return UNSAFE


def _argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    if position < len(call.args):
        return call.args[position]
    return next((one.value for one in call.keywords if one.arg == name), None)


def _text(call: ast.Call, position: int, name: str) -> str:
    found = _argument(call, position, name)
    value = found.value if isinstance(found, ast.Constant) else ""
    return value.lower() if isinstance(value, str) else ""
