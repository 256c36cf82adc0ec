"""One way from a TOML file to a value, whoever's file it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from artifact.configuration import toml_document
from artifact.configuration.schema import KeyProblem
from artifact.configuration.toml_document import Section
from artifact.errors import ConfigurationError


class Cellar(Section, frozen=True, kw_only=True):
    """One table of the document"""

    degrees: int = 12


class House(Section, frozen=True, kw_only=True):
    """The document of these tests"""

    owner: str = ""
    cellar: Cellar = Cellar()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "house.toml"


def test_a_file_that_is_not_there_has_the_defaults(path: Path) -> None:
    assert toml_document.load(path, House) == House()


def test_every_problem_has_a_line_that_begins_with_the_file_and_the_key(path: Path) -> None:
    path.write_text("ownr = 'Ann'\n[cellar]\ndegrees = 'cold'\n")
    with pytest.raises(ConfigurationError) as caught:
        toml_document.load(path, House)
    assert caught.value.message.splitlines() == [
        f'{path}: ownr: unknown key, did you mean "owner"?',
        f'{path}: cellar.degrees: expected a whole number, got "cold"',
    ]


def test_variables_override_only_the_keys_that_have_some(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("owner = 'Ann'\n")
    monkeypatch.setenv("ARTIFACT_OWNER", "Bob")
    monkeypatch.setenv("ARTIFACT_CELLAR_DEGREES", "9")
    loaded = toml_document.load(path, House, overridable={"cellar"})
    assert loaded == House(owner="Ann", cellar=Cellar(degrees=9))
    assert toml_document.load(path, House).owner == "Bob"


def test_what_the_types_cannot_say_is_told_with_the_variable_it_came_from(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_warm(house: House) -> Iterator[KeyProblem]:
        if house.cellar.degrees > 15:
            yield KeyProblem(("cellar", "degrees"), "wine would spoil")

    monkeypatch.setenv("ARTIFACT_CELLAR_DEGREES", "20")
    with pytest.raises(ConfigurationError, match=r"^ARTIFACT_CELLAR_DEGREES: wine would spoil$"):
        toml_document.load(path, House, check=too_warm)
