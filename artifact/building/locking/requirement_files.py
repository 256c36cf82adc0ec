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
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import msgspec
from packaging.utils import canonicalize_name

from artifact import redaction
from artifact.building.locking.indexes import Options
from artifact.building.locking.requirement import Requirement, parse_requirement, shown_path
from artifact.errors import UsageError

_COMMENT = re.compile(r"(^|\s+)#.*$")
# The lines of a lock are nothing but these: without optparse a hundred pins cost 10 ms, not 50.
_HASH = re.compile(r" --hash=(sha256:[0-9a-f]{64})(?= |$)")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")


class Parsed(msgspec.Struct, frozen=True):
    """What requirement files say together."""

    entries: tuple[Requirement, ...] = ()
    constraints: tuple[Requirement, ...] = ()
    options: Options = msgspec.field(default_factory=Options)


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


class _Parser(optparse.OptionParser):
    """pip parses these options with optparse too: abbreviations and `-rfile` mean the same."""

    def error(self, msg: str) -> NoReturn:
        raise ValueError(msg)


def _parser() -> _Parser:
    parser = _Parser(add_help_option=False)
    parser.add_option("-i", "--index-url", "--pypi-url")
    parser.add_option("--extra-index-url", action="append")
    parser.add_option("-f", "--find-links", action="append")
    parser.add_option("--trusted-host", action="append")
    parser.add_option("--no-binary", action="append")
    parser.add_option("--only-binary", action="append")
    for flag in ("--no-index", "--pre", "--prefer-binary", "--require-hashes"):
        parser.add_option(flag, action="store_true", default=False)
    parser.add_option("-r", "--requirement")
    parser.add_option("-c", "--constraint")
    parser.add_option("-e", "--editable")
    parser.add_option("--hash", action="append")
    parser.add_option("-C", "--config-settings", "--config-setting", action="append")
    parser.add_option("--use-feature", action="append")
    return parser


class _Reader:
    """Collects over nested files."""

    def __init__(self, project: Path, environment: Mapping[str, str]) -> None:
        self.entries: list[Requirement] = []
        self.constraints: list[Requirement] = []
        self.options = Options()
        self._project = project
        self._environment = environment
        self._open: list[Path] = []
        self._options = _parser()
        self._no_options = self._options.get_default_values()

    def read(self, path: Path, *, constraint: bool, included_at: str) -> None:
        shown = shown_path(path, self._project)
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
        hashes = _HASH.findall(expanded)
        text, options = self._split(_HASH.sub("", expanded) if hashes else expanded, where)
        if text:
            entry = parse_requirement(
                text,
                self._project,
                where,
                raw=text if raw == expanded else self._split(raw, where)[0],
                hashes=[*hashes, *(options.hash or ())],
                settings=options.config_settings or (),
            )
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
        if cut == len(words):
            return line.strip(), self._no_options
        try:
            options, rest = self._options.parse_args(_shell_words(words[cut:]))
            if rest:
                raise ValueError(f"{' '.join(rest)!r} is not expected here")
        except ValueError as error:
            raise UsageError(
                f"{where}: {redaction.redact(str(error))}",
                hint="the line must be as pip's requirements file format has it",
            ) from error
        return " ".join(words[:cut]).strip(), options


def _shell_words(words: list[str]) -> list[str]:
    # shlex reads character by character: 0.1 s for the hashes of a hundred packages.
    text = " ".join(words)
    return shlex.split(text) if any(mark in text for mark in "'\"\\") else text.split()


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
    line = Options(
        index_url=found.index_url,
        extra_index_urls=tuple(found.extra_index_url or ()),
        find_links=tuple(_find_links(link, directory) for link in found.find_links or ()),
        trusted_hosts=tuple(found.trusted_host or ()),
        no_index=found.no_index,
        pre=found.pre,
        prefer_binary=found.prefer_binary,
        require_hashes=found.require_hashes,
    )
    no_binary, only_binary = before.no_binary, before.only_binary
    for value in found.no_binary or ():
        no_binary, only_binary = _binary(value, no_binary, only_binary)
    for value in found.only_binary or ():
        only_binary, no_binary = _binary(value, only_binary, no_binary)
    return replace(before.joined(line), no_binary=no_binary, only_binary=only_binary)


def _find_links(link: str, directory: Path) -> str:
    if "://" in link or link.startswith("file:"):
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


def _refuse_editable(target: str, where: str) -> NoReturn:
    written = redaction.strip_credentials(target)
    if os.path.normpath(target.partition("[")[0]) == ".":
        hint = (
            "remove the line and list what the project needs: "
            "its own code travels in the artifact anyway"
        )
    elif re.match(r"\w+\+", target):
        hint = "write `NAME @ git+https://HOST/PATH@COMMIT` without `-e`, with the full commit"
    else:
        hint = f"write `{written}` without `-e`: it is then built to a wheel"
    raise UsageError(
        f"{where}: `-e {written}` is editable: it would point into this checkout "
        "instead of going into the environment",
        hint=hint,
    )
