"""Where things are: the names of objects in a store, and the addresses of stores."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from artifact.errors import UsageError
from artifact.manifest import NAME, is_name, is_version

SUFFIX = ".tgz"

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]*")
_CHANNEL = re.compile(rf"(?P<name>{NAME.pattern})@(?P<channel>{NAME.pattern})")


class Located(msgspec.Struct, frozen=True):
    """An object and the address of the store it is in."""

    store: str
    name: str


def artifact(name: str, version: str) -> str:
    """Return "accounting/artifacts/accounting-1337.tgz"."""
    return f"{artifacts(name)}{name}-{version}{SUFFIX}"


def artifacts(name: str) -> str:
    """Return the prefix of all artifacts of an application."""
    return f"{name}/artifacts/"


def version_of(name: str, found: str) -> str:
    """Return the version an object's name gives; empty when it is no artifact of `name`."""
    prefix = f"{artifacts(name)}{name}-"
    if not found.startswith(prefix) or not found.endswith(SUFFIX):
        return ""
    version = found[len(prefix) : -len(SUFFIX)]
    return version if is_version(version) else ""


def channel(name: str, channel: str) -> str:
    """Return "accounting/channels/production.json".

    Raises:
        UsageError: the channel cannot be called so.
    """
    if not is_name(channel):
        raise UsageError(
            f"{channel!r} cannot be a channel's name",
            hint="a small letter, then small letters, digits, _ and -: `production`",
        )
    return f"{channels(name)}{channel}.json"


def channels(name: str) -> str:
    """Return the prefix of all channels of an application."""
    return f"{name}/channels/"


def environment(name: str, key: str) -> str:
    """Return "accounting/environments/<key>.json"."""
    return f"{name}/environments/{key}.json"


def references(text: str) -> tuple[tuple[str, str], ...]:
    """Return every (name, version) that "my-app-1337" or "my-app-1337.tgz" can mean.

    Names and versions may both hold dashes; a store tells which of them exists. The likeliest
    comes first: the one whose version begins with a digit and whose name is longest.
    """
    bare = text.removesuffix(SUFFIX)
    found = [
        (bare[:at], bare[at + 1 :])
        for at in range(len(bare) - 1, 0, -1)
        if bare[at] == "-" and is_name(bare[:at]) and is_version(bare[at + 1 :])
    ]
    return tuple(sorted(found, key=lambda one: not one[1][0].isdigit()))


def split_channel(text: str) -> tuple[str, str] | None:
    """Return name and channel of "accounting@production"; None if it is none."""
    matched = _CHANNEL.fullmatch(text)
    return (matched["name"], matched["channel"]) if matched else None


def is_address(text: str) -> bool:
    """Tell whether the text is a URL of an object or a store, not a path or a name."""
    return text.lower().startswith(("s3://", "https://", "http://"))


def locate(url: str) -> Located:
    """Split the URL of one object, which may be presigned, into its store's address and its name.

    Raises:
        UsageError: it names no object.
    """
    parts = urlsplit(url)
    path, slash, name = parts.path.rpartition("/")
    if not slash or not name or not parts.netloc:
        raise UsageError(
            f"{parts.scheme}://{parts.hostname or ''}{parts.path} names no object",
            hint="give the artifact's whole URL: s3://bucket/accounting-1337.tgz",
        )
    return Located(parts._replace(path=f"{path}/", fragment="").geturl(), name)


def checked(name: str) -> str:
    """Return an object's name if it is a plain relative path.

    Raises:
        UsageError: it is not.
    """
    if not all(_PART.fullmatch(part) for part in name.split("/")):
        raise UsageError(f"{name!r} cannot be the name of an object in a store")
    return name
