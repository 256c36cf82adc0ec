"""Preview what a release's new migrations do to the old code, before anything is unpacked.

Their text is read from the artifact and nothing of it is run, so that it is known at worst: what
the schema or the author's own code decides is "unknown", and only the install itself can tell it.
The verdicts are those of `probes/verdicts.py`, given without a schema.
"""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from artifact.archive import checking, opening
from artifact.archive.checking import Pieces
from artifact.archive.opening import Artifact
from artifact.archive.toc import Record
from artifact.host.probes import verdicts
from artifact.host.probes.verdicts import Fresh
from artifact.host.trees import unpack
from artifact.manifest import Manifest

SAFE, UNSAFE, UNKNOWN = verdicts.SAFE, verdicts.UNSAFE, verdicts.UNKNOWN

_APP = "-"
"""In place of the application's label, for one application is judged at a time."""
_NO_SCHEMA = SimpleNamespace(models={})
_NAMES = ("name", "model_name", "old_name", "new_name")
_UNTOLD: dict[str, object] = {
    **dict.fromkeys(("code", "sql", "constraint", "database_operations")),
    "options": {},
    "fields": (),
}
"""What the verdicts ask an operation for, and its text does not tell."""


Texts = Callable[[str, Collection[str]], Mapping[str, bytes]]
"""Given an application's label and names of its migrations: name to text, where one is found."""


def new_migrations(live: Manifest | None, manifest: Manifest, texts_of: Texts) -> list[str]:
    """Return the migrations that the live release has not, with what they do: "shop.0007 (safe)".

    What is pending, only the databases know; of what a dependency brings, only the name is known.

    Args:
        texts_of: `in_artifact` or `in_directory`; `untold` where the databases will tell, and
            better.

    Raises:
        ArtifactRejected: the artifact is damaged.
    """
    found: list[str] = []
    for application, names in new_names(live, manifest).items():
        texts = texts_of(application, names)
        fresh = verdicts.nothing_fresh()
        for name in names:
            risk = f" ({judge(texts[name], fresh)})" if name in texts else ""
            found.append(f"{application}.{name}{risk}")
    return found


def new_names(live: Manifest | None, manifest: Manifest) -> dict[str, list[str]]:
    """Return what manifests alone tell: label to names."""
    if live is None:
        return {}
    found = {
        label: [name for name in names if name not in live.migrations.get(label, ())]
        for label, names in manifest.migrations.items()
    }
    return {label: names for label, names in found.items() if names}


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


def untold(_label: str, _names: Collection[str]) -> dict[str, bytes]:
    """Read nothing."""
    return {}


def in_directory(release: Path) -> Texts:
    """Return what reads migrations in the directory of an unpacked release."""

    def read(label: str, names: Collection[str]) -> dict[str, bytes]:
        paths = [str(path) for path in release.rglob("migrations/*.py")]
        return {name: Path(path).read_bytes() for path, name in _paths(paths, label, names).items()}

    return read


def in_artifact(artifact: Artifact) -> Texts:
    """Return what reads migrations in an artifact that need not be unpacked."""
    return partial(_read_artifact, artifact)


def _read_artifact(artifact: Artifact, label: str, names: Collection[str]) -> dict[str, bytes]:
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


def _judge(written: ast.expr, names: Mapping[str, str], fresh: Fresh) -> str:
    dotted = _dotted(written, names)
    if not isinstance(written, ast.Call) or not dotted.startswith("django."):
        return UNKNOWN
    kind = dotted.rpartition(".")[2]
    place = verdicts.Place(None, _APP, _NO_SCHEMA, _NO_SCHEMA, fresh)
    return verdicts.judge_kind(kind, _operation(written, kind, names), place).risk


def _operation(call: ast.Call, kind: str, names: Mapping[str, str]) -> SimpleNamespace:
    """Return what looks like Django's operation, as far as its text tells."""
    given = _arguments(call, (*verdicts.names_of(kind), "field"))
    texts = {name: _text(given.get(name)) for name in _NAMES}
    return SimpleNamespace(**_UNTOLD, **texts, field=_field(given.get("field"), names))


def _field(column: ast.expr | None, names: Mapping[str, str]) -> SimpleNamespace | None:
    """Return what looks like Django's field; None where its text does not tell enough."""
    if not isinstance(column, ast.Call) or any(one.arg is None for one in column.keywords):
        return None
    given = _arguments(column, ())
    null = given.get("null")
    is_null = isinstance(null, ast.Constant) and null.value is True
    where, _, kind = _dotted(column, names).rpartition(".")
    if not is_null and (null is not None or not where.startswith("django.db.models")):
        return None
    field = SimpleNamespace(
        null=is_null,
        many_to_many=kind == "ManyToManyField",
        generated=kind == "GeneratedField",
        unique=kind == "OneToOneField" or not given.keys().isdisjoint({"unique", "primary_key"}),
        db_index=False,
    )
    if "db_default" in given:
        field.db_default = SimpleNamespace(resolve_expression=None)
    return field


def _arguments(call: ast.Call, positional: Sequence[str]) -> dict[str, ast.expr]:
    named = {one.arg: one.value for one in call.keywords if one.arg is not None}
    return {**dict(zip(positional, call.args, strict=False)), **named}


def _text(node: ast.expr | None) -> str:
    value = node.value if isinstance(node, ast.Constant) else ""
    return value if isinstance(value, str) else ""
