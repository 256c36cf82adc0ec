"""Read requirement files as pip reads them.

pip's own parser (`pip._internal.req.req_file`) is no API, and the copy of it on PyPI pulls in code
for things we refuse. What is kept: line continuations, comments, `${NAME}`, nested `-r` and `-c`,
global options, and `--hash` and `--config-settings` of a single requirement.
https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

from __future__ import annotations

import optparse
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from artifact import redaction
from artifact.build.indexes import Options
from artifact.errors import UsageError

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_NAMED_LINK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]]*\])?\s*@")
_VERSION_CONTROL = re.compile(r"(git|hg|svn|bzr)\+")
_COMMIT = {"git": re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}"), "hg": re.compile(r"[0-9a-f]{40}")}
_REVISION = re.compile(r"\d+")
_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz")
_HASH = re.compile(r"sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})")

Kind = Literal["index", "vcs", "url", "path"]


@dataclass(frozen=True, slots=True)
class Entry:
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


@dataclass(frozen=True, slots=True)
class Parsed:
    """What requirement files say together."""

    entries: tuple[Entry, ...] = ()
    constraints: tuple[Entry, ...] = ()
    options: Options = field(default_factory=Options)


def parse(path: Path, project: Path, environment: Mapping[str, str]) -> Parsed:
    """Read a requirement file and what it includes.

    Args:
        project: relative paths of requirements start here, as with `pip` run in it.
        environment: where `${NAME}` is looked up.

    Raises:
        UsageError: a file is missing, or a line is malformed or not allowed; the message starts
            with file and line.
    """
    reader = _Reader(project, environment)
    reader.read(path, constraint=False, included_at="")
    return Parsed(tuple(reader.entries), tuple(reader.constraints), reader.options)


def parse_line(text: str, project: Path, where: str, *, hashes: Iterable[str] = ()) -> Entry:
    """Return the requirement in a text that is not of a requirement file, as in pyproject.toml.

    Raises:
        UsageError: it is malformed or not allowed.
    """
    entry = _entry(text, text, project, where)
    entry = replace(entry, hashes=_hashes([*entry.hashes, *hashes], where))
    _check_link(entry)
    return entry


class _Parser(optparse.OptionParser):
    """pip parses these options with optparse too: abbreviations and `-rfile` mean the same."""

    def error(self, msg: str) -> NoReturn:
        raise ValueError(msg)


def _parser() -> _Parser:
    parser = _Parser(add_help_option=False)
    parser.add_option("-i", "--index-url", "--pypi-url", dest="index_url")
    parser.add_option("--extra-index-url", action="append", dest="extra_index_urls")
    parser.add_option("-f", "--find-links", action="append", dest="find_links")
    parser.add_option("--trusted-host", action="append", dest="trusted_hosts")
    parser.add_option("--no-binary", action="append", dest="no_binary")
    parser.add_option("--only-binary", action="append", dest="only_binary")
    for flag in ("--no-index", "--pre", "--prefer-binary", "--require-hashes"):
        parser.add_option(flag, action="store_true", default=False)
    parser.add_option("-r", "--requirement", dest="requirement")
    parser.add_option("-c", "--constraint", dest="constraint")
    parser.add_option("-e", "--editable", dest="editable")
    parser.add_option("--hash", action="append", dest="hashes")
    parser.add_option(
        "-C", "--config-settings", "--config-setting", action="append", dest="settings"
    )
    parser.add_option("--use-feature", action="append", dest="features")
    return parser


class _Reader:
    """Collects over nested files."""

    def __init__(self, project: Path, environment: Mapping[str, str]) -> None:
        self.entries: list[Entry] = []
        self.constraints: list[Entry] = []
        self.options = Options()
        self._project = project
        self._environment = environment
        self._open: list[Path] = []
        self._options = _parser()

    def read(self, path: Path, *, constraint: bool, included_at: str) -> None:
        shown = _shown(path, self._project)
        if path.resolve() in self._open:
            raise UsageError(
                f"{included_at}: {shown} includes itself", hint="remove one of the `-r` lines"
            )
        self._open.append(path.resolve())
        for number, line in _lines(_text(path, shown, included_at)):
            self._line(line, path, f"{shown}:{number}", constraint=constraint)
        self._open.pop()

    def _line(self, raw: str, path: Path, where: str, *, constraint: bool) -> None:
        expanded = _expand(raw, self._environment)
        text, options = self._split(expanded, where)
        if text:
            entry = _entry(text, self._split(raw, where)[0], self._project, where)
            entry = replace(
                entry,
                hashes=_hashes([*entry.hashes, *(options.hashes or ())], where),
                settings=tuple(options.settings or ()),
            )
            _check_link(entry)
            (self.constraints if constraint else self.entries).append(entry)
        elif options.editable:
            _refuse_editable(options.editable, where)
        elif options.requirement or options.constraint:
            target = options.requirement or options.constraint
            if re.match(r"(https?|file)://", target):
                raise UsageError(
                    f"{where}: {redaction.redact(target)} is a file on another machine, "
                    "and what it holds may change unseen",
                    hint="commit a copy of it and include that",
                )
            nested = constraint or bool(options.constraint)
            self.read(path.parent / target, constraint=nested, included_at=where)
        else:
            self.options = _options(self.options, options, path.parent)

    def _split(self, line: str, where: str) -> tuple[str, optparse.Values]:
        """Return the requirement and the options behind it."""
        words = line.split(" ")
        cut = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
        try:
            options, rest = self._options.parse_args(shlex.split(" ".join(words[cut:])))
            if rest:
                raise ValueError(f"{' '.join(rest)!r} is not expected here")
        except ValueError as error:
            raise UsageError(
                f"{where}: {redaction.redact(str(error))}",
                hint="the line must be as pip's requirements file format has it",
            ) from error
        return " ".join(words[:cut]).strip(), options


def _text(path: Path, shown: str, included_at: str) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        by = f"{included_at}: " if included_at else ""
        raise UsageError(
            f"{by}there is no file {shown}",
            hint="correct the path (it is relative to the file that names it) or commit the file",
        ) from None
    except OSError as error:
        raise UsageError(f"{shown} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{shown} is not UTF-8 (byte {error.start})", hint=f"save {shown} as UTF-8"
        ) from error


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number of the first line, logical line) without comments and empty lines."""
    pending: list[str] = []
    first = 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first if pending else number
        comment = _COMMENT.search(line) is not None
        if line.endswith("\\") and not comment:
            pending.append(line.rstrip("\\"))
            continue
        # A comment ends a continued line, and stays recognisable as one when joined to it.
        logical = "".join([*pending, " " + line if comment else line])
        pending = []
        if stripped := _COMMENT.sub("", logical).strip():
            yield first, stripped
    if pending and (stripped := _COMMENT.sub("", "".join(pending)).strip()):
        yield first, stripped


def _expand(line: str, environment: Mapping[str, str]) -> str:
    # An unset variable stays as it is written, as in pip.
    return _VARIABLE.sub(lambda match: environment.get(match[1]) or match[0], line)


def _options(before: Options, found: optparse.Values, directory: Path) -> Options:
    links = [_find_links(link, directory) for link in found.find_links or ()]
    no_binary, only_binary = before.no_binary, before.only_binary
    for value in found.no_binary or ():
        no_binary, only_binary = _binary(value, no_binary, only_binary)
    for value in found.only_binary or ():
        only_binary, no_binary = _binary(value, only_binary, no_binary)
    return Options(
        index_url=found.index_url or before.index_url,
        extra_index_urls=(*before.extra_index_urls, *(found.extra_index_urls or ())),
        find_links=(*before.find_links, *links),
        trusted_hosts=(*before.trusted_hosts, *(found.trusted_hosts or ())),
        no_index=before.no_index or found.no_index,
        pre=before.pre or found.pre,
        prefer_binary=before.prefer_binary or found.prefer_binary,
        require_hashes=before.require_hashes or found.require_hashes,
        no_binary=no_binary,
        only_binary=only_binary,
    )


def _find_links(link: str, directory: Path) -> str:
    if _SCHEME.match(link):
        return link
    beside = directory / link
    return str(beside.resolve()) if beside.exists() else link


def _binary(
    value: str, wanted: tuple[str, ...], other: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Add names to one of the two sets and take them from the other, as pip's FormatControl."""
    chosen, rest = set(wanted), set(other)
    for name in filter(None, (word.strip() for word in value.split(","))):
        if name == ":none:":
            chosen.clear()
        elif name == ":all:":
            chosen, rest = {":all:"}, set()
        elif ":all:" not in chosen:
            chosen.add(canonicalize_name(name))
            rest.discard(canonicalize_name(name))
    return tuple(sorted(chosen)), tuple(sorted(rest))


def _hashes(texts: list[str], where: str) -> tuple[str, ...]:
    for text in texts:
        if _HASH.fullmatch(text) is None:
            raise UsageError(
                f"{where}: {text!r} is not a hash of a file",
                hint="a hash is sha256: and 64 hexadecimal digits",
            )
    return tuple(sorted(set(texts)))


def _entry(text: str, raw: str, project: Path, where: str) -> Entry:
    try:
        if _NAMED_LINK.match(text):
            return _named_link(text, raw, project, where)
        if _SCHEME.match(text):
            return _bare_link(text, raw, project, where)
        if _is_path(text, project):
            return _path(text, project, where)
        found = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0].rstrip()
        raise UsageError(
            f"{where}: {redaction.redact(text)!r} is not a requirement: {reason}",
            hint='a requirement looks like `name>=1.2`, `name[extra]==1.2; python_version < "3.12"`'
            " or `name @ https://…`",
        ) from error
    return Entry(
        name=canonicalize_name(found.name),
        extras=tuple(sorted(found.extras)),
        specifier=str(found.specifier),
        marker=str(found.marker or ""),
        where=where,
    )


def _named_link(text: str, raw: str, project: Path, where: str) -> Entry:
    found = Requirement(text)
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


def _bare_link(text: str, raw: str, project: Path, where: str) -> Entry:
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


def _link(link: str, written: str, project: Path, where: str) -> Entry:
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
    return Entry("", kind=kind, link=link, written=written, hashes=hashes, where=where)


def _is_path(text: str, project: Path) -> bool:
    path = text.partition(";")[0].partition("[")[0].strip()
    if path.startswith(".") or os.sep in path:
        return True
    return path.endswith(_ARCHIVES) and (project / path).is_file()


def _path(text: str, project: Path, where: str) -> Entry:
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
    return Entry(
        "",
        extras=tuple(sorted(extra.strip() for extra in extras.split(",") if extra.strip())),
        marker=marker.strip(),
        kind="path",
        link=str(path),
        written=_written_path(path, project),
        where=where,
    )


def _written_path(path: Path, project: Path) -> str:
    relative = os.path.relpath(path, project)
    return str(path) if relative.startswith("../..") else f"./{relative}"


def _check_link(entry: Entry) -> None:
    """Refuse a link whose content may change.

    Raises:
        UsageError: it is a branch or tag, or a URL without a hash.
    """
    if entry.kind == "vcs":
        check_commit(entry.link, entry.written, entry.where)
    elif entry.kind == "url" and not entry.hashes:
        raise UsageError(
            f"{entry.where}: {entry.written} has no hash, and what it leads to may change",
            hint="download it, then add ` --hash=sha256:…` as `pip hash FILE` prints it",
        )


def check_commit(link: str, written: str, where: str) -> None:
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


def _refuse_editable(target: str, where: str) -> NoReturn:
    written = redaction.strip_credentials(target)
    if os.path.normpath(target.partition("[")[0]) == ".":
        hint = (
            "remove the line and list what the project needs: "
            "its own code travels in the artifact anyway"
        )
    elif _VERSION_CONTROL.match(target):
        hint = "write `NAME @ git+https://HOST/PATH@COMMIT` without `-e`, with the full commit"
    else:
        hint = f"write `{written}` without `-e`: it is then built to a wheel"
    raise UsageError(
        f"{where}: `-e {written}` is editable: it would point into this checkout "
        "instead of going into the environment",
        hint=hint,
    )


def _shown(path: Path, project: Path) -> str:
    relative = os.path.relpath(path, project)
    return str(path) if relative.startswith("../..") else relative
