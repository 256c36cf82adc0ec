"""Every rule of docs/format.md that a reader must keep, broken once by a crafted artifact."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import re
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from artifact.archive import checking, opening, toc, unpacking
from artifact.errors import ArtifactRejected, UsageError
from tests.archive import samples
from tests.archive.crafting import (
    INTERPRETER,
    MTIME,
    craft,
    directory,
    file,
    link,
    member,
    stored,
)
from tests.archive.independent_reader import header, pad


def check(path: Path) -> None:
    """Read all of an artifact."""
    with opening.open_artifact(path) as artifact:
        checking.verify(artifact)


def unpack(path: Path, destination: Path) -> None:
    """Unpack all of an artifact."""
    with opening.open_artifact(path) as artifact:
        names = [component.name for component in artifact.manifest.components]
        unpacking.extract(artifact, names, destination)


def refused(path: Path, saying: str) -> None:
    """Demand that it is refused by checking and by unpacking, which leaves nothing behind."""
    with pytest.raises(ArtifactRejected, match=saying) as checked:
        check(path)
    assert path.name in checked.value.message
    assert checked.value.hint
    out = path.with_suffix(".out")
    with pytest.raises(ArtifactRejected, match=saying):
        unpack(path, out)
    assert not out.exists()


def test_what_the_crafted_artifacts_are_made_from_is_accepted(tmp_path: Path) -> None:
    crafted = craft(
        tmp_path / "a.tgz",
        [directory("a"), file("a/b"), link("a/c", "../a/b"), file("a/empty", b""), link("d", "a")],
        venv=[
            directory("virtualenv"),
            directory("virtualenv/bin"),
            link("virtualenv/bin/python", INTERPRETER),
            link("virtualenv/bin/python3", "python"),
        ],
        assets=[directory("a"), file("a/app.js")],
    )
    check(crafted)


# --- the file as a whole ---------------------------------------------------------------------


def _first(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["components"][2]
    return found


def _overlap(manifest: dict[str, Any]) -> None:
    _first(manifest)["toc"]["offset"] -= 1
    _first(manifest)["toc"]["length"] += 1


def _reordered(manifest: dict[str, Any]) -> None:
    manifest["components"].reverse()


def _negative(manifest: dict[str, Any]) -> None:
    data, toc = _first(manifest)["data"], _first(manifest)["toc"]
    toc["length"] += data["length"]
    toc["offset"] = data["offset"] - 5
    data["length"] = -5


WHOLE: dict[str, tuple[dict[str, Any], str]] = {
    "overlapping ranges": ({"manifest": _overlap}, "does not follow"),
    "negative length": ({"manifest": _negative}, "does not follow"),
    "components out of order": ({"manifest": _reordered}, "its components are"),
    "a component nobody knows": (
        {"manifest": lambda m: _first(m).update(name="extra")},
        "its components are",
    ),
    "a gap before the manifest": (
        {"before_manifest": member(b"hidden")},
        "before its manifest belong to no component",
    ),
    "bytes behind the footer": ({"after": b"\0"}, "1 bytes follow the footer"),
    "a second archive behind the footer": (
        {"after": gzip.compress(b"more", mtime=0)},
        "24 bytes follow the footer",
    ),
    "a footer of a later format": (
        {"footer": lambda f: f[:16] + b"\2\0" + f[18:]},
        "has format 2; this version of artifact reads format 1",
    ),
    "a footer that points elsewhere": (
        {"footer": lambda f: f[:18] + b"\1" + f[19:]},
        "its footer does not fit the file",
    ),
    "another manifest's footer": (
        {"footer": lambda f: f[:34] + bytes(32) + f[66:]},
        "its manifest is not the one its footer names",
    ),
    "a compressed manifest": ({"manifest_member": member}, "its manifest's member is damaged"),
    "a manifest with another block behind the last": (
        {"manifest_member": lambda raw: stored(raw)[:-8] + b"\1\0\0\xff\xff" + stored(raw)[-8:]},
        "its manifest's member is damaged",
    ),
    "an entry beside the manifest": (
        {"beside_manifest": header(b"0", b"etc/cron.d/x", 0o644, 4, MTIME) + pad(b"evil")},
        "something is hidden beside its manifest",
    ),
    "two signatures": (
        {"beside_manifest": 2 * (header(b"0", b".artifact/manifest.sig", 0o644, 0, MTIME))},
        "something is hidden beside its manifest",
    ),
    "a manifest of a later format": (
        {"manifest": lambda m: m.update(format=2)},
        "the artifact has format 2",
    ),
    "a manifest that is no JSON": ({"content": lambda c: c[:-1]}, "manifest cannot be read"),
    "a name that is a path": ({"manifest": lambda m: m.update(name="../x")}, "not allowed"),
    "a version that is a path": ({"manifest": lambda m: m.update(version="a/../b")}, "not allowed"),
    "a time before all": ({"manifest": lambda m: m.update(created=-1)}, "cannot be"),
    "a component's time before all": ({"manifest": lambda m: _first(m).update(mtime=-1)}, "cannot"),
}


@pytest.mark.parametrize("lie", WHOLE)
def test_a_file_that_is_not_laid_out_as_it_must_be_is_refused(lie: str, tmp_path: Path) -> None:
    places, saying = WHOLE[lie]
    refused(craft(tmp_path / "a.tgz", **places), saying)


def test_a_manifest_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = craft(tmp_path / "a.tgz")
    length = 17 << 20
    footer = path.read_bytes()[-76:]
    footer = footer[:18] + struct.pack("<QQ", 0, length) + footer[34:]
    path.write_bytes(footer.rjust(length + 76, b"\0"))
    refused(path, "its manifest is too long: 17825792 bytes")


def test_a_second_footer_is_refused(tmp_path: Path) -> None:
    path = craft(tmp_path / "a.tgz")
    path.write_bytes(path.read_bytes() + path.read_bytes()[-76:])
    refused(path, "its footer does not fit the file")


def test_two_artifacts_in_one_file_are_refused(tmp_path: Path) -> None:
    path = craft(tmp_path / "a.tgz")
    path.write_bytes(path.read_bytes() * 2)
    refused(path, "its footer does not fit the file")


# --- the table of contents -------------------------------------------------------------------


def _line(text: str) -> Callable[[str], str]:
    return lambda lines: text + lines


CONTENTS: dict[str, tuple[dict[str, Any], str]] = {
    "another table of contents": (
        {"manifest": lambda m: _first(m).update({"toc-sha256": "0" * 64})},
        "not those the manifest names",
    ),
    "another tree": ({"manifest": lambda m: _first(m).update(tree="0" * 64)}, "digest names"),
    "entries that are not there": ({"manifest": lambda m: _first(m).update(entries=2)}, "entries"),
    "bytes that are not there": ({"manifest": lambda m: _first(m).update(raw=8)}, "bytes"),
    "another time": ({"manifest": lambda m: _first(m).update(mtime=1)}, "hidden beside"),
    "something beside the contents": (
        {"toc": lambda found: member(gzip.decompress(found) + bytes(512))},
        "something is hidden beside the contents of code",
    ),
    "contents in two members": (
        {"toc": lambda found: found + member(b"x")},
        "a member holds|follow a member",
    ),
    "an unknown letter": ({"lines": _line("h\t0644\t0\t-\thard\n")}, "line 1: not an entry"),
    "setuid": ({"code": [file("a", mode=0o4755)]}, "line 1: not an entry"),
    "setgid": ({"code": [file("a", mode=0o2755)]}, "line 1: not an entry"),
    "sticky": ({"code": [directory("a", mode=0o1755)]}, "line 1: not an entry"),
    "world-writable": ({"code": [file("a", mode=0o666)]}, "line 1: not an entry"),
    "an empty line": ({"lines": _line("\n")}, "line 1: not an entry"),
    "a carriage return": (
        {"lines": lambda text: text.replace("\n", "\r\n", 1)},
        r"control character",
    ),
    "no newline at the end": ({"lines": lambda text: text[:-1]}, "end within a line"),
    "entries in no member": ({"lines": lambda text: text.partition("g\t")[0]}, "in no member"),
    "members without entries": (
        {"lines": lambda text: text[text.index("g\t") :]},
        "in no member",
    ),
    "members that leave a gap": (
        {"data": lambda found: found + b"gap", "group": lambda g: _sizes(g, packed=-3)},
        "do not fill the range",
    ),
    "pieces of what is no large file": (
        {"code": [file("a"), file("b")], "group": lambda g: g + "g\t1\t1\t" + "0" * 64 + "\n"},
        "cut what is not one large file",
    ),
    "a member larger than any": (
        {"group": lambda g: _sizes(g, raw=1 << 30)},
        "a member has more than",
    ),
    "a file larger than its member": (
        {
            "code": [file("a", line=f"f\t0644\t7777777\t{'0' * 64}\ta\n")],
            "manifest": lambda m: _first(m).update(raw=7777777),
        },
        "'a' in code is larger than its member",
    ),
    "a file larger than a tar can hold": (
        {"code": [file("a", line=f"f\t0644\t99999999999\t{'0' * 64}\ta\n")]},
        "larger than a tar entry can be",
    ),
    "not UTF-8": ({"code": [file("caf\udce9")]}, "are not UTF-8"),
}


def _sizes(line: str, *, packed: int = 0, raw: int | None = None) -> str:
    letter, length, was, digest = line.split("\t")
    return "\t".join((letter, str(int(length) + packed), str(raw or was), digest))


@pytest.mark.parametrize("lie", CONTENTS)
def test_a_table_of_contents_that_breaks_a_rule_is_refused(lie: str, tmp_path: Path) -> None:
    places, saying = CONTENTS[lie]
    refused(craft(tmp_path / "a.tgz", **places), saying)


PATHS: dict[str, str] = {
    "../evil": "is not relative or has an empty",
    "a/../evil": "is not relative or has an empty",
    "..": "is not relative or has an empty",
    "/etc/passwd": "is not relative or has an empty",
    ".": "is not relative or has an empty",
    "./a": "is not relative or has an empty",
    "a/./b": "is not relative or has an empty",
    "a//b": "is not relative or has an empty",
    "a/": "is not relative or has an empty",
    "a\0b": "has a control character",
    "a\x1b[31mb": "has a control character",
    "a\x7fb": "has a control character",
    "a\x9bb": "has a control character",
    "n" * 256: "has a part longer than 255 bytes",
    "ü" * 128: "has a part longer than 255 bytes",
    "p/" * 512 + "x": "is longer than 1024 bytes",
    "virtualenv": "does not belong to the component code",
    "virtualenv/bin/x": "does not belong to the component code",
    ".artifact/manifest.json": "does not belong to the component code",
    "a/b": "is not below a directory",
}


@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_a_path_that_may_not_be_is_refused(path: str, tmp_path: Path) -> None:
    refused(craft(tmp_path / "a.tgz", [file(path)]), PATHS[path])


@pytest.mark.parametrize(
    ("nodes", "saying"),
    [
        ([file("a"), file("a")], "is listed twice or out of order"),
        ([file("a", b"1"), directory("a")], "is listed twice or out of order"),
        ([file("b"), file("a")], "is listed twice or out of order"),
        ([file("a"), file("a/b")], "'a/b' in code is not below a directory"),
        ([link("a", "b"), file("a/b")], "'a/b' in code is not below a directory"),
        ([directory("a"), directory("a/b/c")], "'a/b/c' in code is not below a directory"),
    ],
)
def test_names_that_contradict_each_other_are_refused(
    nodes: list[Any], saying: str, tmp_path: Path
) -> None:
    refused(craft(tmp_path / "a.tgz", nodes), saying)


def test_the_environment_stays_in_its_directory(tmp_path: Path) -> None:
    refused(
        craft(tmp_path / "a.tgz", venv=[file("manage.py")]),
        "does not belong to the component venv",
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([file("same", b"1")], [file("same", b"2")]),
        ([file("same")], [directory("same")]),
        ([link("same", "x")], [directory("same"), file("same/file")]),
        ([directory("same")], [link("same", "x")]),
    ],
)
def test_components_share_nothing_but_directories(
    one: list[Any], other: list[Any], tmp_path: Path
) -> None:
    refused(craft(tmp_path / "a.tgz", other, assets=one), "'same' is in assets and in code")


TARGETS: dict[str, str] = {
    "/etc/passwd": "is absolute",
    INTERPRETER: "is absolute",
    "../outside": "leaves the component code",
    "a/../../outside": "has an empty, `.` or `..` part",
    "a/..": "has an empty, `.` or `..` part",
    "..": "has an empty, `.` or `..` part|not a plain relative path",
    ".": "has an empty, `.` or `..` part",
    "a//b": "is not a plain relative path",
    "a/": "is not a plain relative path",
    "virtualenv/bin/python": "leaves the component code",
    ".artifact/manifest.json": "leaves the component code",
    "a\x1bb": "has a control character",
}


@pytest.mark.parametrize("target", TARGETS, ids=ascii)
def test_a_link_that_may_not_be_is_refused(target: str, tmp_path: Path) -> None:
    refused(craft(tmp_path / "a.tgz", [link("link", target)]), TARGETS[target])


ENVIRONMENT_LINKS: dict[str, tuple[str, str, str]] = {
    "another program": ("bin/python", "/bin/sh", "is not the manifest's interpreter"),
    "the interpreter under another name": ("bin/pip", INTERPRETER, "is absolute"),
    "the interpreter elsewhere": ("lib/python", INTERPRETER, "is absolute"),
    "an interpreter with dots": ("bin/python", "/usr/../bin/python", "is not a plain path"),
    "the release": ("bin/x", "../../manage.py", "leaves the component venv"),
    "its own place by the name it has here": (
        "bin/x",
        "../../virtualenv/bin/python",
        "leaves the component venv",
    ),
    "something below the interpreter": (
        "lib/x",
        "../bin/python/../..",
        "has an empty, `.` or `..` part",
    ),
}


@pytest.mark.parametrize("lie", ENVIRONMENT_LINKS)
def test_a_link_of_the_environment_that_may_not_be_is_refused(lie: str, tmp_path: Path) -> None:
    path, target, saying = ENVIRONMENT_LINKS[lie]
    nodes = [directory("virtualenv"), directory("virtualenv/bin"), directory("virtualenv/lib")]
    refused(craft(tmp_path / "a.tgz", venv=[*nodes, link(f"virtualenv/{path}", target)]), saying)


def test_no_link_passes_through_the_one_that_leaves(tmp_path: Path) -> None:
    def root_as_interpreter(manifest: dict[str, Any]) -> None:
        manifest["python"]["interpreter"] = "/etc"

    nodes = [
        directory("virtualenv"),
        directory("virtualenv/bin"),
        link("virtualenv/bin/python", "/etc"),
        link("virtualenv/secret", "bin/python/shadow"),
    ]
    refused(
        craft(tmp_path / "a.tgz", venv=nodes, manifest=root_as_interpreter),
        "passes through a link that leaves the component",
    )


# --- the data --------------------------------------------------------------------------------


def _tar(path: str, content: bytes, *, kind: bytes = b"0", mode: int = 0o644) -> bytes:
    return header(kind, path.encode(), mode, len(content), MTIME) + pad(content)


DATA: dict[str, tuple[dict[str, Any], str]] = {
    "another name for tar": (
        {"code": [file("a", blocks=_tar("evil", b"content"))]},
        "its tar header is not what",
    ),
    "another mode for tar": (
        {"code": [file("a", blocks=_tar("a", b"content", mode=0o4755))]},
        "its tar header is not what",
    ),
    "another type for tar": (
        {"code": [file("a", b"", blocks=_tar("a", b"", kind=b"3"))]},
        "its tar header is not what",
    ),
    "another content": (
        {"code": [file("a", blocks=_tar("a", b"Content"))]},
        "its content is not what",
    ),
    "something in the padding": (
        {"code": [file("a", blocks=_tar("a", b"content")[:-1] + b"x")]},
        "the padding behind it is not what",
    ),
    "another entry behind the last": (
        {"code": [file("a", blocks=_tar("a", b"content") + _tar("evil", b""))]},
        "what follows it is not what",
    ),
    "an end before the last entry": (
        {"code": [file("a", blocks=_tar("a", b"content") + bytes(1024)), file("b")]},
        "its tar header is not what",
    ),
    "a member behind the member": (
        {"data": lambda found: found + member(_tar("evil", b""))},
        "bytes follow a member",
    ),
    "zeros behind the member": ({"data": lambda found: found + bytes(8)}, "follow a member"),
    "a name in the member's header": (
        {"data": lambda found: b"\x1f\x8b\x08\x08" + found[4:10] + b"evil\0" + found[10:]},
        "does not begin as one",
    ),
    "a member cut short": ({"data": lambda found: found[:-1]}, "a member ends too early"),
    "a member that is none": (
        {"data": lambda found: found[:10] + b"\xff" * 20},
        "a member cannot be inflated",
    ),
    "another member": (
        {"group": lambda g: g[:-2] + ("0" if g[-2] != "0" else "1") + "\n"},
        "it is damaged at byte \\d+ and after, where manage.py is",
    ),
    "more than was promised": ({"group": lambda g: _sizes(g, raw=1023)}, "holds more than the"),
    "less than was promised": ({"group": lambda g: _sizes(g, raw=1025)}, "holds 1024 bytes, not"),
}


@pytest.mark.parametrize("lie", DATA)
def test_data_that_is_not_what_is_listed_is_refused(lie: str, tmp_path: Path) -> None:
    places, saying = DATA[lie]
    refused(craft(tmp_path / "a.tgz", **places), saying)


LARGE = 9 * 1024 * 1024


@pytest.mark.parametrize(
    ("change", "saying"),
    [
        (lambda blocks: b"x" + blocks[1:], "its tar header"),
        (lambda blocks: blocks[:5000] + b"x" + blocks[5001:], "its content"),
        (lambda blocks: blocks[:-1] + b"x", "the padding behind it"),
        (lambda blocks: blocks + bytes(512), "its size"),
    ],
)
def test_a_file_in_pieces_is_held_to_the_same(
    change: Callable[[bytes], bytes], saying: str, tmp_path: Path
) -> None:
    content = bytes(LARGE + 1)
    blocks = change(_tar("large", content))
    pieces = [blocks[at : at + (4 << 20)] for at in range(0, len(blocks), 4 << 20)]
    members = [member(piece) for piece in pieces]
    listed = "".join(
        f"g\t{len(one)}\t{len(piece)}\t{hashlib.sha256(one).hexdigest()}\n"
        for one, piece in zip(members, pieces, strict=True)
    )
    refused(
        craft(
            tmp_path / "a.tgz",
            [file("large", content, blocks=b"replaced below")],
            data=lambda _: b"".join(members),
            group=lambda _: listed,
        ),
        saying,
    )


@pytest.mark.parametrize("where", ["data", "toc"])
def test_a_bomb_is_not_inflated(where: str, tmp_path: Path) -> None:
    bomb = member(bytes((1 << 27) + 1))
    assert len(bomb) < 1_000_000
    if where == "data":
        # Says that it holds as little as the table of contents does.
        path = craft(tmp_path / "a.tgz", data=lambda found: bomb)
        saying = "holds more than the"
    else:
        path = craft(tmp_path / "a.tgz", toc=lambda found: bomb)
        saying = "are too long"
    tracemalloc.start()
    try:
        refused(path, saying)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


# --- accidents -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small artifact as the writer makes it."""
    path = tmp_path_factory.mktemp("small") / "accounting-1337.tgz"
    samples.build(path, code={"manage.py": b"#!/usr/bin/env python3\n", "b": b"b"})
    return path.read_bytes()


def test_a_flipped_bit_anywhere_is_found(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "accounting-1337.tgz"
    for at in range(len(small)):
        damaged = bytearray(small)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        with pytest.raises(ArtifactRejected):
            check(path)


def test_an_artifact_cut_short_anywhere_is_found(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "accounting-1337.tgz"
    path.write_bytes(small)
    for length in range(len(small) - 1, -1, -1):
        with path.open("rb+") as stream:
            stream.truncate(length)
        with pytest.raises(ArtifactRejected, match=r"is empty|no footer|footer that every"):
            check(path)


def test_a_byte_missing_anywhere_is_found(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "accounting-1337.tgz"
    for at in range(0, len(small), 7):
        path.write_bytes(small[:at] + small[at + 1 :])
        with pytest.raises(ArtifactRejected):
            check(path)


def test_where_the_damage_is_gets_said(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "accounting-1337.tgz"
    path.write_bytes(small[:20] + b"\0" + small[21:])
    with pytest.raises(
        ArtifactRejected, match=re.escape("it is damaged at byte 0 and after, where virtualenv is")
    ):
        check(path)


@pytest.mark.parametrize(
    ("content", "saying"),
    [
        (b"", "is empty"),
        (b"hello", "it is no artifact, not even a gzip file"),
        (b"hello" * 1000, "it is no artifact, not even a gzip file"),
        (gzip.compress(b"foreign", mtime=0), "it is no artifact, but a .tgz of another kind"),
        (gzip.compress(bytes(10240), mtime=0), "it is no artifact, but a .tgz of another kind"),
    ],
    ids=["empty", "short", "text", "gzip", "tar"],
)
def test_a_file_that_is_no_artifact_is_told_so(content: bytes, saying: str, tmp_path: Path) -> None:
    path = tmp_path / "foreign.tgz"
    path.write_bytes(content)
    with pytest.raises(ArtifactRejected, match=f"foreign.tgz: {saying}") as rejected:
        check(path)
    assert rejected.value.hint


def test_what_is_no_file_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        check(tmp_path / "absent.tgz")
    with pytest.raises(ArtifactRejected, match="is a directory, not an artifact"):
        check(tmp_path)
    with pytest.raises(ArtifactRejected, match="is not a regular file"):
        check(Path("/dev/null"))


def test_the_manifest_is_read_from_the_tail_alone(tmp_path: Path) -> None:
    path = tmp_path / "accounting-1337.tgz"
    digest = samples.build(path, code={"large": bytes(LARGE)} | samples.CODE)
    asked: list[tuple[int, int]] = []

    class Watched:
        size = path.stat().st_size

        def expecting(self, members: Sequence[toc.Member]) -> AbstractContextManager[None]:
            raise AssertionError("nothing but the tail is read")

        def read_range(self, offset: int, length: int) -> bytes:
            asked.append((offset, length))
            return path.read_bytes()[offset : offset + length]

    artifact = opening.from_source(Watched(), "accounting-1337.tgz")
    assert artifact.digest == digest
    assert artifact.interpreter == samples.INTERPRETER
    artifact.toc("code")
    assert asked == [(max(0, Watched.size - 262144), min(Watched.size, 262144))]


def test_a_file_that_shrinks_while_it_is_read_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "accounting-1337.tgz"
    noise = random.Random(1).randbytes(600_000)
    samples.build(path, code={"noise": noise, "more": noise[::-1]})
    with opening.open_artifact(path) as artifact:
        os.truncate(path, 100)
        with pytest.raises(ArtifactRejected, match="became shorter"):
            checking.verify(artifact)
