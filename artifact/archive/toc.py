"""The table of contents of a component: what it may list, how it is written and read.

The rules on names and links are one set of functions that both sides ask: the writer refuses to
pack what the reader would refuse to unpack.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Literal, NamedTuple, NoReturn

import msgspec

from artifact.archive import format as layout
from artifact.archive import tar
from artifact.archive.format import ENVIRONMENT_COMPONENT
from artifact.errors import ArtifactRejected
from artifact.manifest import Component, Manifest
from artifact.site import ENVIRONMENT_DIRECTORY, PRIVATE_DIRECTORY

Kind = Literal["file", "directory", "link"]

PATH_BYTES = 1024
NAME_BYTES = 255

TAR_KIND: dict[Kind, bytes] = {"file": tar.FILE, "directory": tar.DIRECTORY, "link": tar.LINK}

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")  # what os.fsdecode makes of other bytes
_EMPTY_OR_DOTS = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")
_RELATIVE_TARGET = re.compile(r"(?P<up>(?:\.\./)*)(?P<names>[^/]+(?:/[^/]+)*)")
_INTERPRETER_LINK = re.compile(rf"{ENVIRONMENT_DIRECTORY}/bin/python[^/]*")

_FILE = re.compile(r"f\t(0644|0755)\t(0|[1-9][0-9]{0,10})\t([0-9a-f]{64})\t([^\t]+)")
_DIRECTORY = re.compile(r"d\t0755\t0\t-\t([^\t]+)")
_LINK = re.compile(r"l\t0777\t0\t-\t([^\t]+)\t([^\t]+)")
_MEMBER = re.compile(r"g\t([1-9][0-9]{0,9})\t([1-9][0-9]{0,9})\t([0-9a-f]{64})")


class Record(NamedTuple):
    """One entry; a tuple, for there are 17,000 and a dataclass takes three times as long."""

    kind: Kind
    mode: int
    size: int
    """Bytes of content; 0 unless it is a file."""
    sha256: str
    """Of the content, in hex; empty unless it is a file."""
    path: str
    target: str
    """Of a link; else empty."""


class Member(NamedTuple):
    """One gzip member."""

    offset: int
    """In the artifact's file."""
    length: int
    raw: int
    """Bytes of tar in it."""
    sha256: str
    """Of its compressed bytes."""


class Group(NamedTuple):
    """Whole entries and the members that hold them: one, or several for one large file."""

    records: tuple[Record, ...]
    members: tuple[Member, ...]


class Toc(msgspec.Struct, frozen=True):
    """All that is known of a component without reading its data."""

    component: Component
    records: tuple[Record, ...]
    groups: tuple[Group, ...]


def record_line(record: Record) -> str:
    """Return an entry's line, with its newline."""
    if record.kind == "file":
        return f"f\t{record.mode:04o}\t{record.size}\t{record.sha256}\t{record.path}\n"
    if record.kind == "directory":
        return f"d\t0755\t0\t-\t{record.path}\n"
    return f"l\t0777\t0\t-\t{record.path}\t{record.target}\n"


def member_line(length: int, raw: int, sha256: str) -> str:
    """Return the line that ends a group, or a piece of a large file."""
    return f"g\t{length}\t{raw}\t{sha256}\n"


def path_fault(component: str, path: str) -> str | None:
    """Return what is wrong with a path, in words that follow "its name …"; None when nothing."""
    # Nearly all names pass this, at a quarter of the cost of the two searches.
    plain = path.isprintable() and "/." not in path and "//" not in path
    if not plain or not path or path.strip("./") != path:
        if _CONTROL.search(path):
            return "has a control character"
        if _EMPTY_OR_DOTS.search(path):
            return "is not relative or has an empty, `.` or `..` part"
        if _SURROGATE.search(path):
            return "is not UTF-8"
    # No character takes more than four bytes: only longer names need counting.
    if len(path) > NAME_BYTES // 4:
        encoded = path.encode()
        if len(encoded) > PATH_BYTES:
            return f"is longer than {PATH_BYTES} bytes"
        if max(map(len, encoded.split(b"/"))) > NAME_BYTES:
            return f"has a part longer than {NAME_BYTES} bytes"
    top = path.partition("/")[0]
    in_environment = top == ENVIRONMENT_DIRECTORY
    if in_environment != (component == ENVIRONMENT_COMPONENT) or top == PRIVATE_DIRECTORY:
        return f"does not belong to the component {component}"
    return None


def link_fault(component: str, path: str, target: str) -> str | None:
    """Return what is wrong with a link's target, in words that follow "its target …".

    An absolute target is right only for the environment's interpreter; that it is the manifest's
    is for the caller to compare (`interpreter_fault`).
    """
    if target.startswith("/"):
        if _INTERPRETER_LINK.fullmatch(path):
            plain = target.isprintable() and not _EMPTY_OR_DOTS.search(target[1:])
            return None if plain and len(target) <= PATH_BYTES // 4 else "is not a plain path"
        return "is absolute"
    resolved = resolve(component, path, target)
    if resolved is None:
        return f"is not a plain relative path or leaves the component {component}"
    fault = path_fault(component, resolved)
    return fault.replace("does not belong to", "leaves") if fault else None


def resolve(component: str, path: str, target: str) -> str | None:
    """Return the path a relative target means, or None when it is none or leaves the component.

    Counting is enough: what is above a link is directories, and after its leading `..` a target
    only goes down.
    """
    matched = _RELATIVE_TARGET.fullmatch(target)
    if matched is None:
        return None
    directories = path.split("/")[:-1]
    left = len(directories) - len(matched["up"]) // len("../")
    # The environment is unpacked under another name: "../virtualenv/x" would be somewhere else.
    if left < (component == ENVIRONMENT_COMPONENT):
        return None
    return "/".join([*directories[:left], matched["names"]])


def interpreter_fault(target: str, manifest: Manifest) -> str | None:
    """Return what is wrong with an absolute target: only the manifest's interpreter is right."""
    if target == manifest.python.interpreter:
        return None
    return f"is not the manifest's interpreter, {manifest.python.interpreter!r}"


def interpreters(records: Iterable[Record]) -> tuple[str, ...]:
    """Return the absolute targets among the links, in order."""
    return tuple(sorted({one.target for one in records if one.target.startswith("/")}))


def decode(data: bytes, manifest: Manifest, name: str) -> Toc:
    """Return a table of contents, with everything checked that can be without the data.

    Raises:
        ArtifactRejected: it breaks a rule of docs/format.md or contradicts the manifest.
    """
    component = manifest.component(name)
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise ArtifactRejected(f"the contents of {name} are not UTF-8") from error
    if lines.pop() != "":
        raise ArtifactRejected(f"the contents of {name} end within a line")
    groups = tuple(_groups(lines, component))
    records = tuple(record for group in groups for record in group.records)
    _check_names(records, name)
    _check_links(records, manifest, name)
    _check_totals(records, groups, component)
    # There is one way to write an entry, so these lines are what `record_line` would make again.
    entries = "".join([f"{line}\n" for line in lines if not line.startswith("g\t")])
    if hashlib.sha256(entries.encode()).hexdigest() != component.tree:
        raise ArtifactRejected(f"the contents of {name} are not those the manifest's digest names")
    return Toc(component, records, groups)


def encode(groups: Iterable[Group]) -> bytes:
    """Return the text of a table of contents; there is one way to write each line."""
    lines: list[str] = []
    for group in groups:
        lines += map(record_line, group.records)
        lines += (member_line(one.length, one.raw, one.sha256) for one in group.members)
    return "".join(lines).encode()


def check_unique(tocs: Sequence[Toc]) -> None:
    """Refuse components that share anything but directories.

    Raises:
        ArtifactRejected: two list the same path.
    """
    for one, other in combinations(tocs, 2):
        kinds = {record.path: record.kind for record in one.records}
        for record in other.records:
            kind = kinds.get(record.path)
            if kind is not None and not kind == record.kind == "directory":
                raise ArtifactRejected(
                    f"{record.path!r} is in {one.component.name} and in {other.component.name}"
                )


def _groups(lines: Iterable[str], component: Component) -> Iterator[Group]:
    name = component.name
    offset = component.data.offset
    records: list[Record] = []
    members: list[Member] = []
    for number, line in enumerate(lines, 1):
        matched = _MEMBER.fullmatch(line) if line.startswith("g\t") else None
        if matched is None:
            if members:
                yield _group(records, members, name)
                records, members = [], []
            records.append(_record(line, name, number))
            continue
        member = Member(offset, int(matched[1]), int(matched[2]), matched[3])
        if max(member.length, member.raw) > layout.LARGEST_MEMBER:
            _reject(name, number, f"a member has more than {layout.LARGEST_MEMBER} bytes")
        offset += member.length
        members.append(member)
    if records or members:
        yield _group(records, members, name)
    if offset != component.data.end:
        raise ArtifactRejected(f"the members of {name} do not fill the range the manifest gives")


def _group(records: list[Record], members: list[Member], name: str) -> Group:
    if not records or not members:
        raise ArtifactRejected(f"the contents of {name} have entries in no member")
    if len(members) > 1 and (len(records) > 1 or records[0].kind != "file"):
        raise ArtifactRejected(f"the contents of {name} cut what is not one large file")
    return Group(tuple(records), tuple(members))


def _record(line: str, name: str, number: int) -> Record:
    if matched := _FILE.fullmatch(line):
        mode, size, sha256, path = matched.groups()
        record = Record("file", int(mode, 8), int(size), sha256, path, "")
        if record.size > tar.LARGEST_FILE:
            _reject(name, number, f"{path!r} is larger than a tar entry can be")
    elif matched := _DIRECTORY.fullmatch(line):
        record = Record("directory", 0o755, 0, "", matched[1], "")
    elif matched := _LINK.fullmatch(line):
        record = Record("link", 0o777, 0, "", matched[1], matched[2])
    else:
        _reject(name, number, f"not an entry: {line[:200]!r}")
    return record


def _reject(name: str, number: int, what: str) -> NoReturn:
    raise ArtifactRejected(f"the contents of {name}, line {number}: {what}")


def _check_names(records: Iterable[Record], name: str) -> None:
    """Check every path, their order, and that a directory of the component is above each."""
    directories = {""}
    last = ""
    for record in records:
        path = record.path
        fault = path_fault(name, path)
        if fault:
            raise ArtifactRejected(f"{path!r} in {name}: its name {fault}")
        # Code points sort as their UTF-8 does. Strictly ascending: so none is listed twice.
        if path <= last:
            raise ArtifactRejected(f"{path!r} in {name} is listed twice or out of order")
        if path.rpartition("/")[0] not in directories:
            raise ArtifactRejected(f"{path!r} in {name} is not below a directory")
        if record.kind == "directory":
            directories.add(path)
        last = path


def _check_links(records: Iterable[Record], manifest: Manifest, name: str) -> None:
    links = [record for record in records if record.kind == "link"]
    absolute = tuple(f"{link.path}/" for link in links if link.target.startswith("/"))
    for path, target in [(link.path, link.target) for link in links]:
        fault = link_fault(name, path, target)
        if fault is None and target.startswith("/"):
            fault = interpreter_fault(target, manifest)
        elif fault is None and (resolve(name, path, target) or "").startswith(absolute):
            fault = "passes through a link that leaves the component"
        if fault:
            raise ArtifactRejected(f"{path!r} in {name}: its target {target!r} {fault}")


def _check_totals(records: Sequence[Record], groups: Iterable[Group], component: Component) -> None:
    if len(records) != component.entries or sum(r.size for r in records) != component.raw:
        raise ArtifactRejected(
            f"the contents of {component.name} have not the entries and bytes the manifest gives"
        )
    for group in groups:
        # Headers and padding come on top; a file cannot be larger than what holds it.
        if sum(r.size for r in group.records) > sum(m.raw for m in group.members):
            raise ArtifactRejected(
                f"{group.records[0].path!r} in {component.name} is larger than its member"
            )
