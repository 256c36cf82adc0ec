"""One requirement: parsed, and refused when its content could change unnoticed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from packaging import requirements as pep508
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from artifact import redaction
from artifact.errors import UsageError

_PIN = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(==\d+(?:\.\d+)*(?:(?:a|b|rc|\.post|\.dev)\d+)?)"
)
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_NAMED_LINK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]]*\])?\s*@")
_VERSION_CONTROL = re.compile(r"(git|hg|svn|bzr)\+")
_COMMIT = {"git": re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}"), "hg": re.compile(r"[0-9a-f]{40}")}
_REVISION = re.compile(r"\d+")
_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz")
_HASH = re.compile(r"sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})")
Kind = Literal["index", "vcs", "url", "path"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement."""

    name: str
    """Normalised; empty for a link that does not say what it leads to."""
    extras: tuple[str, ...] = ()
    specifier: str = ""
    """ "==1.2", ">=1,<2"…; empty for a link."""
    marker: str = ""
    kind: Kind = "index"
    link: str = field(default="", repr=False)
    """URL with variables expanded, which may hold credentials, or an absolute path."""
    written: str = ""
    """The link as it may stand in a lock: `${NAME}` kept, credentials left out, paths relative."""
    hashes: tuple[str, ...] = ()
    """ "sha256:…", sorted."""
    settings: tuple[str, ...] = ()
    """`--config-settings`, "KEY=VALUE"."""
    where: str = ""
    """ "requirements.txt:3"."""

    @property
    def pinned(self) -> bool:
        """Whether it can only ever mean one set of files."""
        if self.kind != "index":
            return True
        exact = re.fullmatch(r"===?\s*[^,*\s]+", self.specifier) is not None
        return exact and bool(self.hashes)

    @property
    def version(self) -> str:
        """The version of a pinned one, normalised."""
        text = self.specifier.lstrip("=").strip()
        try:
            return str(Version(text))
        except InvalidVersion:
            return text


def parse_requirement(
    text: str,
    project: Path,
    where: str,
    *,
    raw: str = "",
    hashes: Iterable[str] = (),
    settings: Iterable[str] = (),
) -> Requirement:
    """Return the requirement in a text.

    Args:
        text: as a line of a requirements file has it, without options.
        project: where relative paths start.
        where: the file and line, for messages.
        raw: the text before variables were put in, when it had any.
        hashes: "sha256:…", on top of one in a URL's fragment.

    Raises:
        UsageError: it is malformed or not allowed.
    """
    entry = _entry(text, raw or text, project, where)
    given = _hashes([*entry.hashes, *hashes], where)
    entry = replace(entry, hashes=given, settings=tuple(settings))
    _check_link(entry)
    return entry


def _entry(text: str, raw: str, project: Path, where: str) -> Requirement:
    if pin := _PIN.fullmatch(text):
        # The most frequent line of a lock; packaging's parser takes 0.3 ms for it.
        return Requirement(canonicalize_name(pin[1]), specifier=pin[2], where=where)
    try:
        if _NAMED_LINK.match(text):
            return _named_link(text, raw, project, where)
        if _SCHEME.match(text):
            return _bare_link(text, raw, project, where)
        if _is_path(text, project):
            return _path(text, project, where)
        found = pep508.Requirement(text)
    except pep508.InvalidRequirement as error:
        reason = str(error).splitlines()[0].rstrip()
        raise UsageError(
            f"{where}: {redaction.redact(text)!r} is not a requirement: {reason}",
            hint='a requirement looks like `name>=1.2`, `name[extra]==1.2; python_version < "3.12"`'
            " or `name @ https://…`",
        ) from error
    return Requirement(
        name=canonicalize_name(found.name),
        extras=tuple(sorted(found.extras)),
        specifier=str(found.specifier),
        marker=str(found.marker or ""),
        where=where,
    )


def _named_link(text: str, raw: str, project: Path, where: str) -> Requirement:
    found = pep508.Requirement(text)
    written = found.url or ""
    if raw != text and (match := re.search(r"@\s*(\S+)", raw)):
        written = match[1]
    entry = _link(found.url or "", written, project, where)
    return replace(
        entry,
        name=canonicalize_name(found.name),
        extras=tuple(sorted(found.extras)),
        marker=str(found.marker or ""),
    )


def _bare_link(text: str, raw: str, project: Path, where: str) -> Requirement:
    link, _, marker = text.partition("; ")
    entry = _link(link.strip(), raw.partition("; ")[0].strip(), project, where)
    egg = re.search(r"[#&]egg=([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?", unquote(link))
    name, extras = (egg[1], egg[2] or "") if egg else ("", "")
    if not egg and entry.kind == "url" and link.partition("#")[0].endswith(".whl"):
        name = unquote(link.partition("#")[0].rpartition("/")[2]).partition("-")[0]
    return replace(
        entry,
        name=canonicalize_name(name),
        extras=tuple(sorted(extra.strip() for extra in extras.split(",") if extra.strip())),
        marker=marker.strip(),
    )


def _link(link: str, written: str, project: Path, where: str) -> Requirement:
    if link.startswith("file:"):
        return _path(unquote(urlsplit(link).path), project, where)
    if match := re.search(r"\$\{([A-Z0-9_]+)\}", link):
        raise UsageError(
            f"{where}: the variable {match[1]} is not set",
            hint=f"set {match[1]}, for the requirement's URL names it",
        )
    if "${" not in written and not re.match(r"\w+\+ssh:", written):
        written = redaction.strip_credentials(written)
    kind: Kind = "vcs" if _VERSION_CONTROL.match(link) else "url"
    digest = re.search(r"[#&](sha(?:256|384|512))=([0-9a-f]+)", link)
    hashes = (f"{digest[1]}:{digest[2]}",) if digest else ()
    return Requirement("", kind=kind, link=link, written=written, hashes=hashes, where=where)


def _is_path(text: str, project: Path) -> bool:
    path = text.partition(";")[0].partition("[")[0].strip()
    if path.startswith(".") or os.sep in path:
        return True
    return path.endswith(_ARCHIVES) and (project / path).is_file()


def _path(text: str, project: Path, where: str) -> Requirement:
    head, _, marker = text.partition(";")
    written, _, extras = head.strip().rstrip("]").partition("[")
    path = Path(os.path.normpath(project / written.strip()))
    if not path.exists():
        raise UsageError(
            f"{where}: there is no file or directory {written}",
            hint="a path in a requirements file is relative to the project's directory",
        )
    if path.is_dir() and not any(
        (path / name).is_file() for name in ("pyproject.toml", "setup.py")
    ):
        raise UsageError(
            f"{where}: {written} has neither pyproject.toml nor setup.py",
            hint="name a directory that holds a Python project, an sdist or a wheel",
        )
    if path.is_file() and not path.name.endswith(_ARCHIVES):
        raise UsageError(
            f"{where}: {written} is neither a wheel nor an sdist",
            hint="include another requirements file with `-r`",
        )
    return Requirement(
        "",
        extras=tuple(sorted(extra.strip() for extra in extras.split(",") if extra.strip())),
        marker=marker.strip(),
        kind="path",
        link=str(path),
        written=_written_path(path, project),
        where=where,
    )


def _written_path(path: Path, project: Path) -> str:
    shown = shown_path(path, project)
    return shown if os.path.isabs(shown) else f"./{shown}"


def shown_path(path: Path, project: Path) -> str:
    """Return a path as messages show it: relative to the project, absolute when far from it."""
    relative = os.path.relpath(path, project)
    return str(path) if relative.startswith("../..") else relative


def _check_link(entry: Requirement) -> None:
    """Refuse a link whose content may change.

    Raises:
        UsageError: it is a branch or tag, or a URL without a hash.
    """
    if entry.kind == "vcs":
        _check_commit(entry.link, entry.written, entry.where)
    elif entry.kind == "url" and not entry.hashes:
        raise UsageError(
            f"{entry.where}: {entry.written} has no hash, and what it leads to may change",
            hint="download it, then add ` --hash=sha256:…` as `pip hash FILE` prints it",
        )


def _check_commit(link: str, written: str, where: str) -> None:
    """Refuse version control links that do not name a commit.

    Raises:
        UsageError: it names a branch, a tag or nothing.
    """
    system = link.partition("+")[0]
    revision = urlsplit(link).path.rpartition("@")[2] if "@" in urlsplit(link).path else ""
    if _COMMIT.get(system, _REVISION).fullmatch(revision):
        return
    called = f"{revision!r} is a branch or a tag" if revision else "names no commit"
    raise UsageError(
        f"{where}: {written}: {called}, and what it means may change"
        if not revision
        else f"{where}: {called} of {written}, and what it means may change",
        hint="write the full commit behind the `@`; "
        f"`git ls-remote {written.partition('+')[2].partition('#')[0].rpartition('@')[0] or 'URL'}`"
        " lists them",
    )


def _hashes(texts: list[str], where: str) -> tuple[str, ...]:
    for text in texts:
        if _HASH.fullmatch(text) is None:
            raise UsageError(
                f"{where}: {text!r} is not a hash of a file",
                hint="a hash is for example sha256: and 64 hexadecimal digits",
            )
    return tuple(sorted(set(texts)))
