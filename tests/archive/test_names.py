"""The rules on names and links, compared with what the operating system makes of them."""

from __future__ import annotations

import os.path
import unicodedata

from hypothesis import example, given, settings
from hypothesis import strategies as some

from artifact.archive import tar, toc
from tests.archive import independent_reader

# No deadline, for a busy machine is no failure; no database, for it would lie in the checkout.
PATIENT = settings(deadline=None, database=None)

PART = some.sampled_from(["a", "b.c", "..", ".", "", "...", " ", "ü", "virtualenv", "\n", "\x9f"])
PATH = some.lists(PART, min_size=1, max_size=6).map("/".join)
CLEAN = some.lists(some.sampled_from(["a", "b", "c.d"]), min_size=1, max_size=4).map("/".join)


@PATIENT
@given(PATH)
@example("")
def test_a_path_is_allowed_just_when_each_of_its_parts_is_a_name(path: str) -> None:
    parts = path.split("/")
    names = not {"", ".", ".."} & set(parts)
    printable = not any(unicodedata.category(letter) == "Cc" for letter in path)
    allowed = toc.path_fault("code", path) is None
    assert allowed == (names and printable and parts[0] != "virtualenv")


@PATIENT
@given(CLEAN, PATH)
@example("a/b/c", "../../x")
@example("a/b", "../../x")
def test_a_link_that_is_allowed_stays_inside(path: str, target: str) -> None:
    if toc.link_fault("code", path, target) is not None:
        return
    meant = os.path.normpath(os.path.join("/release", os.path.dirname(path), target))
    assert meant.startswith("/release/")
    assert not meant.startswith("/release/virtualenv")


@PATIENT
@given(CLEAN, PATH)
@example("a", "../virtualenv/b")
def test_a_link_of_the_environment_stays_inside_whatever_its_name(path: str, target: str) -> None:
    listed = f"virtualenv/{path}"
    if toc.link_fault("venv", listed, target) is not None:
        return
    place = os.path.join("/environments/0123", os.path.dirname(path), target)
    assert os.path.normpath(place).startswith("/environments/0123/")


NAME = some.lists(some.text("aä/", min_size=1, max_size=120), max_size=4).map("/".join)


@PATIENT
@given(NAME, NAME, some.booleans(), some.integers(0, tar.LARGEST_FILE))
@example("ô" * 50 + "/" + "ô" * 50, "", False, 0)
@example("\U0010ffff" * 38 + "/" + "\U0010ffff" * 25, "\U0010ffff" * 25, False, 8**11 - 1)
def test_a_header_is_the_one_the_specification_gives(
    path: str, target: str, is_directory: bool, size: int
) -> None:
    kind = tar.DIRECTORY if is_directory else tar.FILE
    name = path.encode() + b"/" * is_directory
    expected = independent_reader.header(kind, name, 0o644, size, 77, target.encode())
    assert tar.header(kind, path, 0o644, size, 77, target) == expected
