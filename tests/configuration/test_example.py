"""The commented examples of both files: complete, true, and loadable as they are written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest

from artifact.configuration import artifact_toml, example, schema, site_toml
from artifact.configuration.artifact_toml import Config
from artifact.configuration.example import ARTIFACT_TOML, SITE_TOML, Table
from artifact.configuration.site_toml import ProxySection, Settings
from artifact.manifest import Install

# What the example shows is what holds when the key is left out; elsewhere it is an example.
DEFAULTS = [
    ("python", "interpreter"), ("requirements", "tools"), ("requirements", "salt"),
    ("assets", "timeout"), ("django", "manage"), ("django", "collectstatic"),
    ("django", "compress"), ("django", "compilemessages"), ("django", "timeout"),
    ("processes", "stop-timeout"), ("processes", "instances"), ("install", "restart"),
    ("install", "migrations"), ("install", "keep"), ("install", "static"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ARTIFACT_NAME", "ARTIFACT_ROOT", "ARTIFACT_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "manage.py").touch()
    return tmp_path


def keys(kind: type[msgspec.Struct], table: dict[str, Any], above: str = "") -> Iterator[str]:
    """Yield the keys of a structure that a table lacks."""
    for field in msgspec.structs.fields(kind):
        name = field.encode_name
        if name not in table:
            yield f"{above}{name}"
            continue
        value = table[name]
        inner = schema.struct_of(field.type)
        if get_origin(field.type) is dict:
            inner, value = schema.struct_of(get_args(field.type)[1]), next(iter(value.values()))
        if get_origin(field.type) is tuple:
            inner, value = schema.struct_of(get_args(field.type)[0]), value[0]
        if inner is not None and isinstance(value, dict):
            yield from keys(inner, value, f"{above}{name}.")


@pytest.mark.parametrize(("kind", "path"), [(Config, ARTIFACT_TOML), (Settings, SITE_TOML)])
def test_every_key_of_the_schema_is_in_the_example(kind: type[msgspec.Struct], path: Path) -> None:
    assert list(keys(kind, tomllib.loads(example.uncommented(path)))) == []


def test_the_example_with_every_key_set_can_be_loaded(project: Path) -> None:
    (project / "artifact.toml").write_text(example.uncommented(ARTIFACT_TOML))
    loaded = artifact_toml.load(project)
    assert loaded.root == "/srv/accounting"
    assert [step.name for step in loaded.assets] == ["frontend"]
    assert artifact_toml.processes(loaded)["worker"].server == "celery"


def test_the_spelled_out_health_check_of_the_comment_can_be_loaded(project: Path) -> None:
    text = example.uncommented(ARTIFACT_TOML)
    spelled = next(line[2:] for line in text.splitlines() if line.startswith("# { path"))
    (project / "artifact.toml").write_text(
        text.replace('health = "/healthz"', f"health = {spelled}")
    )
    health = artifact_toml.processes(artifact_toml.load(project))["web"].health
    assert health is not None
    assert health.host == "example.com"
    assert set(tomllib.loads(f"x = {spelled}")["x"]) == set(health.__struct_fields__)


def test_the_example_as_it_stands_sets_only_a_name(project: Path) -> None:
    bare = artifact_toml.load(project, name="shop")
    (project / "artifact.toml").write_text(example.fill(ARTIFACT_TOML, "shop", []))
    assert artifact_toml.load(project) == bare
    (project / "manage.py").unlink()
    assert artifact_toml.load(project).django is None


@pytest.mark.parametrize(("section", "key"), DEFAULTS)
def test_what_the_example_calls_the_default_is_it(section: str, key: str) -> None:
    shown = tomllib.loads(example.uncommented(ARTIFACT_TOML))[section]
    kinds: dict[str, type[msgspec.Struct]] = {
        "assets": artifact_toml.AssetSection,
        "django": artifact_toml.DjangoSection,
        "processes": artifact_toml.ProcessSection,
        "install": Install,
        "python": artifact_toml.PythonSection,
        "requirements": artifact_toml.RequirementsSection,
    }
    value = (shown[0] if section == "assets" else shown.get("web", shown))[key]
    fields = {field.encode_name: field.default for field in msgspec.structs.fields(kinds[section])}
    assert value == fields[key]


def test_values_replace_their_comments(project: Path) -> None:
    text = example.fill(
        ARTIFACT_TOML,
        "shop",
        [
            Table("", {"name": "shop"}),
            Table("[processes.web]", {"command": 'sh "a"', "listen": "127.0.0.1:9000"}),
            Table("[[assets]]", {"name": "npm", "run": "npm ci", "outputs": ["dist/**"]}),
            Table("[django]", {"env": {"SECRET_KEY": "x"}}),
        ],
    )
    (project / "artifact.toml").write_text(text)
    loaded = artifact_toml.load(project)
    assert loaded.processes["web"].command == 'sh "a"'
    assert "worker" not in loaded.processes
    assert loaded.assets[0].outputs == ("dist/**",)
    assert loaded.assets[0].inputs == ()
    assert loaded.django is not None
    assert loaded.django.env == {"SECRET_KEY": "x"}
    assert "#interpreter" in text
    assert "accounting" not in text


def settings(tmp_path: Path, text: str) -> Settings:
    (tmp_path / "site.toml").write_text(text)
    return site_toml.load(tmp_path / "site.toml", overridable=[])


def test_the_example_of_a_site_with_every_key_set_can_be_loaded(tmp_path: Path) -> None:
    loaded = settings(tmp_path, example.uncommented(SITE_TOML))
    assert loaded.user == "accounting"
    # What the example shows is what holds when the key is left out.
    assert loaded.supervisor == Settings().supervisor
    defaults = Install(shared=("media/",))
    assert loaded.merged(Install(keep=9, restart="none")) == defaults
    assert loaded.store.gates["production"].channel == "staging"


def test_the_example_of_a_site_as_it_stands_sets_nothing(tmp_path: Path) -> None:
    text = example.fill(SITE_TOML, "shop", [])
    assert settings(tmp_path, text) == Settings()
    # What scripts append is no second table of that name.
    assert settings(tmp_path, f"{text}[install]\nkeep = 9\n").install.keep == 9


def test_values_of_a_site_replace_their_comments(tmp_path: Path) -> None:
    tables = [Table("", {"user": "shop"}), Table("[proxy]", {"server-name": "shop.example:80"})]
    loaded = settings(tmp_path, example.fill(SITE_TOML, "shop", tables))
    assert loaded == Settings(user="shop", proxy=ProxySection(server_name="shop.example:80"))
