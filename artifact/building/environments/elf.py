"""What a compiled file needs of the machine it runs on."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import msgspec
from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

MAGIC = b"\x7fELF"

# What glibc itself brings; it is on every machine whose interpreter runs. Not libcrypt: since
# glibc 2.28 it is a package of its own.
_GLIBC = re.compile(
    r"lib(?:c|m|dl|rt|util|pthread|anl|mvec|nsl|resolv|thread_db|BrokenLocale)\.so\.\d+"
    r"|ld-linux.*|ld64\.so\.\d+|ld\.so\.\d+|libc\.musl-.*"
)
_TEXTS = {
    "DT_NEEDED": "needed",
    "DT_SONAME": "soname",
    "DT_RPATH": "rpath",
    "DT_RUNPATH": "runpath",
}
_GLIBC_VERSION = re.compile(r"GLIBC_(\d+(?:\.\d+)+)")


class Binary(msgspec.Struct, frozen=True):
    """A shared library, extension module or executable."""

    path: str
    """Relative to the environment."""
    soname: str
    needed: tuple[str, ...]
    search: tuple[str, ...]
    """RPATH or RUNPATH, as they are written: "$ORIGIN/../numpy.libs"."""
    glibc: str
    """Highest version of glibc's symbols it needs: "2.28"; empty when it needs none."""


def platform_of(executable: Path) -> tuple[int, int]:
    """Return word size and machine of an executable, as its ELF header has them.

    Raises:
        OSError: it cannot be read.
    """
    with executable.open("rb") as stream:
        header = stream.read(20)
    order = "little" if header[5:6] == b"\x01" else "big"
    return (header[4], int.from_bytes(header[18:20], order))  # type: ignore[arg-type]


def read_binary(root: Path, path: str, platform: tuple[int, int]) -> Binary | None:
    """Return what a file needs; None when it is not linked, damaged, or of another platform.

    A wheel may well carry binaries for other machines as data, and object files.
    """
    if platform_of(root / path) != platform:
        return None
    with (root / path).open("rb") as stream:
        try:
            return _binary(path, ELFFile(stream))
        except (ELFError, UnicodeDecodeError, AssertionError, ValueError):
            return None


def _binary(path: str, elf: ELFFile) -> Binary | None:
    soname, needed, search = "", [], []
    for segment in elf.iter_segments("PT_DYNAMIC"):
        assert isinstance(segment, DynamicSegment)
        for tag in segment.iter_tags():
            # pyelftools names the attribute after the tag.
            text = str(getattr(tag, _TEXTS.get(tag.entry.d_tag, ""), ""))
            match tag.entry.d_tag:
                case "DT_NEEDED":
                    needed.append(text)
                case "DT_SONAME":
                    soname = text
                case "DT_RPATH" | "DT_RUNPATH":
                    search += text.split(":")
        return Binary(path, soname, tuple(needed), tuple(search), _glibc(elf))
    return None


def _glibc(elf: ELFFile) -> str:
    versions = [
        found[1]
        for section in elf.iter_sections("SHT_GNU_verneed")
        if isinstance(section, GNUVerNeedSection)
        for _library, symbols in section.iter_versions()
        for symbol in symbols
        if (found := _GLIBC_VERSION.fullmatch(symbol.name))
    ]
    return highest(versions)


def highest(versions: list[str]) -> str:
    """Return the highest of dotted versions; empty when there is none."""
    return max(versions, key=lambda text: [int(part) for part in text.split(".")], default="")


def is_glibc(name: str) -> bool:
    """Tell whether a needed library is part of the C library."""
    return _GLIBC.fullmatch(name) is not None


def search_directories(binary: Binary) -> tuple[str, ...]:
    """Return the directories inside the environment where the loader looks for its needs.

    Absolute ones lead out of it: on a server they might hold anything.
    """
    origin = posixpath.dirname(binary.path)
    found = []
    for written in binary.search:
        expanded = re.sub(r"\$ORIGIN|\$\{ORIGIN\}", "/" + origin, written)
        if expanded != written:
            found.append(posixpath.normpath(expanded).lstrip("/"))
    return tuple(found)
