"""Finding the site, and its own settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from artifact.errors import ConfigurationError, UsageError
from artifact.host.records import settings
from artifact.host.records.find import find_site
from artifact.manifest import Install
from artifact.site import Site


def make(root: Path) -> Path:
    (root / ".artifact").mkdir(parents=True)
    return root


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARTIFACT_ROOT", raising=False)
    monkeypatch.delenv("ARTIFACT_SUPERVISOR_URL", raising=False)


def test_a_site_is_found_by_name_path_variable_and_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    srv = tmp_path / "srv"
    one, other = make(srv / "one"), make(tmp_path / "other")
    assert find_site("one", sites=srv).root == one
    assert find_site(str(other), sites=srv).root == other
    assert find_site("./other", sites=srv).root == other
    assert find_site(None, sites=srv).root == one
    inside = other / "releases" / "1"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert find_site(None, sites=srv).root == other
    assert find_site("other", sites=srv).root == other
    monkeypatch.setenv("ARTIFACT_ROOT", str(one))
    assert find_site(None, sites=srv).root == one


def test_the_classic_layout_with_the_site_at_the_top_is_found(tmp_path: Path) -> None:
    srv = make(tmp_path / "srv")
    assert find_site(None, sites=srv).root == srv


def test_a_server_without_a_site_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no site in"):
        find_site(None, sites=tmp_path / "srv")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (None, "several sites: one, two"),
        ("three", r"there is no site .*/three"),
        ("No Name", "neither a name nor a path"),
        ("/nowhere", "there is no site at /nowhere"),
    ],
)
def test_what_is_none_of_several_is_told_so(tmp_path: Path, named: str | None, said: str) -> None:
    srv = tmp_path / "srv"
    make(srv / "one")
    make(srv / "two")
    with pytest.raises(UsageError, match=said):
        find_site(named, sites=srv)


def test_a_site_may_be_made_later(tmp_path: Path) -> None:
    assert find_site("/nowhere", sites=tmp_path, maybe_later=True).root == Path("/nowhere")


def test_the_servers_settings_lie_on_top_of_the_manifests(tmp_path: Path) -> None:
    site = Site(tmp_path)
    assert settings.load(site).merged(Install(keep=7)) == Install(keep=7)
    site.settings.write_text('[install]\nrestart = "none"\n[supervisor]\nurl = "unix:///x"\n')
    loaded = settings.load(site)
    assert loaded.supervisor.url == "unix:///x"
    assert loaded.merged(Install(keep=7)) == Install(keep=7, restart="none")


def test_the_environment_overrides_where_supervisor_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTIFACT_SUPERVISOR_URL", "unix:///other")
    assert settings.load(Site(tmp_path)).supervisor.url == "unix:///other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[install]\nrestart = "sometimes"\n',
            'install.restart: expected "slots", "graceful" or "none", got "sometimes"',
        ),
        ("[instal]\n", 'instal: unknown key, did you mean "install"?'),
        ("user = 5\n", "user: expected a string, got 5"),
        ('signers = "here"\n', 'signers: expected an absolute path, got "here"'),
        ('[store]\nurll = "/x"\n', 'store.urll: unknown key, did you mean "url"?'),
        (
            'pass-env = ["A", "B-C"]\n',
            'pass-env[1]: cannot be the name of an environment variable, got "B-C"',
        ),
        (
            '[proxy]\ncertificate = "/chain.pem"\n',
            "proxy: certificate and certificate-key belong together",
        ),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    site = Site(tmp_path)
    site.settings.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        settings.load(site)
    assert caught.value.message == f"{site.settings}: {message}"


def test_every_wrong_setting_has_its_line(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.settings.write_text("usr = 1\npinned = 2\n[install]\nkeep = 0\n")
    with pytest.raises(ConfigurationError) as caught:
        settings.load(site)
    assert caught.value.message.splitlines() == [
        f'{site.settings}: usr: unknown key, did you mean "user"?',
        f"{site.settings}: pinned: expected a list of strings, got 2",
        f"{site.settings}: install.keep: expected a number from 1, got 0",
    ]
    site.settings.write_text("user = \n")
    with pytest.raises(ConfigurationError, match="is not TOML"):
        settings.load(site)


def test_the_variables_of_the_store_go_before_the_sites_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path)
    site.settings.write_text('[store]\nurl = "/a"\nregion = "b"\n')
    assert settings.load_store("x", str(tmp_path)).url == "/a"
    monkeypatch.setenv("ARTIFACT_STORE_URL", "/c")
    store = settings.load_store("x", str(tmp_path))
    assert (store.url, store.region) == ("/c", "b")
    assert settings.load_store("").region == ""
    # A wrong variable of the store is no reason to refuse what needs no store.
    monkeypatch.setenv("ARTIFACT_STORE_CHECKSUMS", "never")
    with pytest.raises(ConfigurationError, match=r"^ARTIFACT_STORE_CHECKSUMS: expected"):
        settings.load_store("x", str(tmp_path))
    assert settings.load(site).store.url == "/a"


def test_the_env_file_is_lines_and_not_shell(tmp_path: Path) -> None:
    site = Site(tmp_path)
    assert settings.application_variables(site) == {}
    site.variables.write_text('# c\n\nA=1\n B = two words \nC="$A" # no comment\nD=x=y\n')
    assert settings.application_variables(site) == {
        "A": "1",
        "B": "two words",
        "C": '"$A" # no comment',
        "D": "x=y",
    }


def test_a_nul_byte_in_the_env_file_is_named_by_its_line(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.variables.write_text("A=1\nSECRET=hunter\0two\n")
    with pytest.raises(ConfigurationError, match=r"env:2: a variable cannot hold a NUL byte$"):
        settings.application_variables(site)


def test_the_examples_in_the_documentation_are_settings(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert examples
    site = Site(tmp_path)
    for example in examples:
        site.settings.write_text(example)
        settings.load(site)
