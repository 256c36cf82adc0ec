"""The environment's key: what decides an environment's content, and why two of them differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import msgspec

from artifact.building.locking.pins import Lock
from artifact.building.locking.tools.contract import Tools

SCHEMA = 2
"""Raised when this program compiles in another way, so that no older environment is reused."""

_KEY_DIGITS = 32

_LABELS = {
    ("schema",): "artifact's way of compiling",
    ("root",): "site root",
    ("python", "implementation"): "implementation",
    ("python", "version"): "python",
    ("python", "abi"): "ABI",
    ("python", "prefix"): "python's prefix",
    ("python", "executable"): "python's executable",
    ("machine",): "machine",
    ("libc",): "libc",
    ("system",): "system",
    ("tools",): "tools",
    ("virtualenv",): "virtualenv",
}


def inputs(
    root: str, lock: Lock, tools: Tools, declared: Mapping[str, str], salt: str
) -> dict[str, Any]:
    """Return everything that decides the content of an environment, ready for JSON.

    Not in it: comments and order of the lock, markers that do not apply, index URLs, the clock,
    the workspace. The dictionary travels in every artifact's manifest, so declared variables,
    which may hold a token, are represented by a digest.
    """
    interpreter = lock.interpreter
    return {
        "schema": SCHEMA,
        "root": root,
        "python": {
            "implementation": interpreter.implementation,
            "version": interpreter.version,
            "abi": interpreter.abi,
            "prefix": interpreter.base_prefix,
            "executable": str(interpreter.path),
        },
        "machine": interpreter.markers["platform_machine"],
        "libc": interpreter.libc,
        "system": interpreter.system,
        "requirements": {name: list(rest) for name, *rest in lock.identities},
        "flags": sorted(lock.flags),
        "build-env": {name: _fingerprint(value) for name, value in declared.items()},
        "tools": tools.version,
        "virtualenv": metadata.version("virtualenv"),
        "salt": salt,
    }


def key_of(inputs: Mapping[str, Any]) -> str:
    """Return the key: the first 32 hex digits of the sha256 of the inputs' canonical JSON."""
    canonical = msgspec.json.encode(inputs, order="sorted")
    return hashlib.sha256(canonical).hexdigest()[:_KEY_DIGITS]


def reasons(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Return every reason why the inputs of two environments give different keys."""
    return (
        *_values(old, new),
        *_requirements(old.get("requirements", {}), new.get("requirements", {})),
        *_flags(old.get("flags", []), new.get("flags", [])),
        *_declared(old.get("build-env", {}), new.get("build-env", {})),
        *(["salt changed"] if old.get("salt", "") != new.get("salt", "") else []),
    )


def _fingerprint(value: str) -> str:
    return "sha256:" + hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()


def _values(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for path, label in _LABELS.items():
        before, after = _at(old, path), _at(new, path)
        if before != after:
            yield f"{label} {before} → {after}"


def _at(inputs: Mapping[str, Any], path: tuple[str, ...]) -> object:
    found: Any = inputs
    for name in path:
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return found if found != {} else "unknown"


def _requirements(old: Mapping[str, list[str]], new: Mapping[str, list[str]]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is None:
            assert after is not None
            yield f"+ {name} {after[0]}"
        elif after is None:
            yield f"- {name} {before[0]}"
        elif before[0] != after[0]:
            yield f"{name} {before[0]} → {after[0]}"
        else:
            yield f"{name} {after[0]}: other files, source or build settings"


def _flags(old: list[str], new: list[str]) -> Iterator[str]:
    yield from (f"+ {flag}" for flag in new if flag not in old)
    yield from (f"- {flag}" for flag in old if flag not in new)


def _declared(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield f"build-env {name} changed"
