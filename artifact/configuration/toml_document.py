"""The one way a TOML file that people write becomes a value, or an error with every problem.

`artifact.toml`, `[tool.artifact]` of `pyproject.toml` and `site.toml` are all read here: variables
are laid over the file, and the result is fitted to a struct.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from artifact import variables
from artifact.configuration import overrides, schema
from artifact.errors import ConfigurationError

Kind = TypeVar("Kind", bound=msgspec.Struct)


class Section(
    msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True
):
    """Base of every table: keys in kebab-case, unknown ones are errors."""


def load(
    path: Path,
    kind: type[Kind],
    *,
    overridable: Collection[str] | None = None,
    check: Callable[[Kind], Iterable[schema.KeyProblem]] = lambda _value: (),
) -> Kind:
    """Return a file as `kind`; a file that is not there counts as an empty one.

    Raises:
        ConfigurationError: as for `fit` and `read_toml`.
    """
    content = read_toml(path) if path.exists() else {}
    return fit(content, kind, label=str(path), overridable=overridable, check=check)


def fit(
    content: Mapping[str, Any],
    kind: type[Kind],
    *,
    label: str,
    prefix: schema.Key = (),
    options: Mapping[str, str] | None = None,
    overridable: Collection[str] | None = None,
    check: Callable[[Kind], Iterable[schema.KeyProblem]] = lambda _value: (),
) -> Kind:
    """Return the content of a file, with variables and options on top, as `kind`.

    Args:
        label: what messages call the file.
        prefix: the key in the file that the content stands under.
        options: values of the command line's options, by key; an empty one counts as not given.
        overridable: the keys and tables at the top that variables may override; None: all.
        check: yields the problems that types cannot express; called when the types are right.

    Raises:
        ConfigurationError: with a line for every problem. A line begins with the file and the key,
            or with the variable or the option that the value came from.
    """
    laid = overrides.lay_over(content, kind, variables.everything(), overridable)
    for name, text in (options or {}).items():
        if text:
            laid.document[name] = text
            laid.origins[(name,)] = f"--{name}"
    value, problems = schema.fit(laid.document, kind)
    if value is not None:
        problems = list(check(value))
    lines = [f"{variable}: {text}" for variable, text in laid.problems]
    for problem in problems:
        origin = _origin(problem.key, laid.origins)
        place = origin or f"{label}: {schema.dotted((*prefix, *problem.key))}"
        lines.append(f"{place}: {problem.text}")
    if lines or value is None:
        raise ConfigurationError("\n".join(lines))
    return value


def _origin(key: schema.Key, origins: Mapping[schema.Key, str]) -> str:
    """Return the variable or option that the value of a key came from, or ""."""
    above = (key[:length] for length in range(len(key), 0, -1))
    return next((origins[part] for part in above if part in origins), "")


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        ConfigurationError: it is not TOML, and where; or it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
