"""Locking: what is pinned is used, the rest is resolved once, both toolchains agree."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from artifact import steps
from artifact.building.locking import wheelhouse
from artifact.configuration.artifact_toml import Tools
from artifact.errors import BuildFailed, UsageError
from surroundings import repository
from surroundings.index import Index, sha256
from tests.building.conftest import Project

both_tools = pytest.mark.parametrize("tools", ["uv", "pip"])


def versions(locked: object) -> dict[str, str]:
    return {pin.name: pin.version for pin in locked.pins}  # type: ignore[attr-defined]


def test_a_file_pinned_with_hashes_is_the_lock_and_no_index_is_asked(
    project: Project, index: Index
) -> None:
    wheel = index.wheel("ledger", "1.0")
    project.write("requirements.txt", f"ledger==1.0 --hash={sha256(wheel)}  # pinned\n")
    locked = project.lock()
    assert locked.text == f"ledger==1.0 \\\n    --hash={sha256(wheel)}\n"
    assert not locked.resolved
    assert index.requests == []


@both_tools
def test_unpinned_requirements_are_resolved_once_however_new_the_index(
    project: Project, index: Index, tools: Tools
) -> None:
    project.use(tools=tools)
    index.wheel("ledger", "1.0", requires=["money"])
    index.wheel("money", "2.0")
    project.write("requirements.txt", "ledger\n")
    first = project.lock()
    assert versions(first) == {"ledger": "1.0", "money": "2.0"}
    assert first.resolved
    assert "artifact lock" in project.said
    index.wheel("ledger", "1.1", requires=["money"])
    asked = len(index.requests)
    assert project.lock().text == first.text
    assert len(index.requests) == asked
    assert versions(project.lock(upgrade=True)) == {"ledger": "1.1", "money": "2.0"}
    assert versions(project.lock()) == {"ledger": "1.1", "money": "2.0"}, "the upgrade stays"


def test_comments_and_order_do_not_resolve_again_but_what_counts_does(
    project: Project, index: Index
) -> None:
    for name in ("ledger", "money", "tax"):
        index.wheel(name, "1.0")
    project.write("requirements.txt", "-r base.txt\n-c constraints.txt\nledger\nmoney\n")
    project.write("base.txt", "tax\n")
    project.write("constraints.txt", "tax<2\n")
    project.lock()

    def resolves_again() -> bool:
        before = project.said.count("resolving requirements.txt")
        project.lock()
        return project.said.count("resolving requirements.txt") > before

    text = "# ours\nmoney # why\n\n-r base.txt\n-c constraints.txt\nledger\n"
    project.write("requirements.txt", text)
    assert not resolves_again(), "comments, order"
    project.write("requirements.txt", f"{text}other==9 ; sys_platform == 'win32'\n")
    assert not resolves_again(), "a requirement that does not apply"
    project.write("base.txt", "tax<3\n")
    assert resolves_again(), "an include"
    project.write("constraints.txt", "tax<1.5\n")
    assert resolves_again(), "a constraint"
    project.use(tools="pip")
    assert resolves_again(), "the toolchain"
    project.use(tools="uv")
    assert not resolves_again()


def test_another_patch_release_of_python_resolves_again(project: Project, index: Index) -> None:
    index.wheel("ledger", "1.0")
    project.write("requirements.txt", "ledger\n")
    project.lock()
    count = project.said.count("resolving requirements.txt")
    project.lock(version="3.11.99")
    assert project.said.count("resolving requirements.txt") == count + 1


def test_constraints_are_held_and_require_nothing(project: Project, index: Index) -> None:
    index.wheel("ledger", "1.0")
    index.wheel("ledger", "2.0")
    index.wheel("unwanted", "1.0")
    project.write("requirements.txt", "ledger\n-c constraints.txt\n")
    project.write("constraints.txt", "ledger<2\nunwanted\n")
    assert versions(project.lock()) == {"ledger": "1.0"}


def test_two_builds_at_once_resolve_once(project: Project, index: Index) -> None:
    index.wheel("ledger", "1.0")
    project.write("requirements.txt", "ledger\n")
    threads = [threading.Thread(target=project.lock) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert project.said.count("resolving requirements.txt") == 1


def test_both_toolchains_write_one_lock_and_install_each_other_s(
    project: Project, index: Index
) -> None:
    index.wheel("Ledger", "1.0", requires=["money[eur]>=1", "tax; python_version < '3'"])
    index.wheel("money", "1.0", requires=["euro; extra == 'eur'"])
    index.wheel("money", "1.1", requires=["euro; extra == 'eur'"])
    index.wheel("euro", "3.0")
    index.sdist("rates", "0.5", requires=["euro"])
    project.write("requirements.txt", 'ledger ; python_version > "3"\nrates\nmoney<1.1\n')
    texts, environments = [], []
    for tools in ("uv", "pip"):
        project.use(tools=tools)
        locked = project.lock()
        texts.append(locked.text)
        environments += [project.install(locked, by) for by in ("uv", "pip")]
    assert texts[0] == texts[1]
    want = {"Ledger": "1.0", "money": "1.0", "euro": "3.0", "rates": "0.5"}
    assert environments == [want] * 4
    assert len(index.builds) == 1, "the wheelhouse serves both"


@both_tools
def test_a_changed_pin_builds_nothing_else_again(
    project: Project, index: Index, tools: Tools
) -> None:
    sdist = index.sdist("rates", "0.5")
    old, new = index.wheel("ledger", "1.0"), index.wheel("ledger", "1.1")
    pin = f"rates==0.5 --hash={sha256(sdist)}\n"
    project.write("requirements.lock", f"{pin}ledger==1.0 --hash={sha256(old)}\n")
    assert project.install(project.lock(), tools) == {"rates": "0.5", "ledger": "1.0"}
    project.write("requirements.lock", f"{pin}ledger==1.1 --hash={sha256(new)}\n")
    # Neither installer's own cache is there to help.
    shutil.rmtree(project.path.parent / "uv-cache", ignore_errors=True)
    shutil.rmtree(project.path.parent / "pip-cache", ignore_errors=True)
    assert project.install(project.lock(), tools) == {"rates": "0.5", "ledger": "1.1"}
    assert len(index.builds) == 1


@both_tools
def test_a_build_sees_the_declared_variables_and_no_others(
    project: Project, index: Index, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFLAGS", "-O1")
    monkeypatch.setenv("DEPLOY_TOKEN", "only-for-the-deployment")
    sdist = index.sdist("rates", "0.5")
    project.write("requirements.lock", f"rates==0.5 --hash={sha256(sdist)}\n")
    project.install(project.lock(), tools, {"CFLAGS": "-O1"})
    seen = index.builds[0]["variables"]
    assert isinstance(seen, dict)
    assert seen["CFLAGS"] == "-O1"
    assert seen["SOURCE_DATE_EPOCH"] == "315532800"
    assert "DEPLOY_TOKEN" not in seen
    project.install(project.lock(), tools, {"CFLAGS": "-O2"})
    assert len(index.builds) == 2, "another value is another wheel"


@both_tools
def test_a_file_that_changed_on_the_index_is_not_installed(
    project: Project, index: Index, tools: Tools
) -> None:
    wheel = index.wheel("ledger", "1.0")
    project.write("requirements.lock", f"ledger==1.0 --hash={sha256(wheel)}\n")
    locked = project.lock()
    index.wheel("ledger", "1.0", requires=["evil"])
    with pytest.raises(BuildFailed, match="hash") as caught:
        project.install(locked, tools)
    assert caught.value.output, "the installer's own words come with it"


@both_tools
def test_no_binary_builds_although_there_is_a_wheel(
    project: Project, index: Index, tools: Tools
) -> None:
    index.wheel("rates", "0.5")
    index.sdist("rates", "0.5")
    project.use(tools=tools)
    project.write("requirements.txt", "rates --config-settings=fast=1\n--no-binary rates\n")
    locked = project.lock()
    assert project.install(locked, tools) == {"rates": "0.5"}
    assert index.builds[0]["settings"] == {"fast": "1"}
    assert locked.flags == ("no-binary=rates",)
    assert "fast=1" in locked.identities[0]


class TestLinks:
    """Commits, local paths and URLs are built to wheels first."""

    def test_a_local_path_is_built_to_a_wheel_and_the_checkout_stays_clean(
        self, project: Project, index: Index
    ) -> None:
        index.wheel("money", "1.0")
        index.source(project.path / "libs/ledger", "ledger", "1.0", ["money"])
        before = sorted(project.path.rglob("*"))
        project.write("requirements.txt", "./libs/ledger\n")
        locked = project.lock()
        assert versions(locked) == {"ledger": "1.0", "money": "1.0"}
        assert project.install(locked) == {"ledger": "1.0", "money": "1.0"}
        assert project.install(locked, "pip") == {"ledger": "1.0", "money": "1.0"}
        assert len(index.builds) == 1
        after = sorted(path for path in project.path.rglob("*") if path.suffix != ".txt")
        assert after == before
        assert locked.pins[0].source.startswith("./libs/ledger sha256:")

    def test_a_changed_local_path_is_another_package_an_equal_one_is_not(
        self, project: Project, index: Index
    ) -> None:
        tree = index.source(project.path / "libs/ledger", "ledger", "1.0")
        project.write("requirements.txt", "./libs/ledger\n")
        first = project.lock()
        # The wheels of this backend are never equal; what they are built from decides.
        shutil.rmtree(project.caches.wheelhouse)
        again = project.lock()
        assert again.pins[0].hashes != first.pins[0].hashes
        assert again.identities == first.identities
        (tree / "more.py").write_text("more = 1\n")
        assert project.lock().identities != first.identities

    @both_tools
    def test_a_commit_is_built_once_and_its_hash_is_in_the_lock(
        self, project: Project, index: Index, tools: Tools
    ) -> None:
        project.use(tools=tools)
        tree = project.path.parent / "repository"
        index.source(tree, "ledger", "1.0")
        repository.create(tree)
        link = f"git+file://{tree}@{repository.git(tree, 'rev-parse', 'HEAD')}"
        project.write("requirements.txt", f"ledger @ {link}\n")
        locked = project.lock()
        assert locked.pins[0].source == link
        assert locked.pins[0].hashes[0] in locked.text
        project.lock()
        assert project.install(locked, tools) == {"ledger": "1.0"}
        assert len(index.builds) == 1

    def test_a_url_with_a_hash_is_taken_and_another_content_is_not(
        self, project: Project, index: Index
    ) -> None:
        wheel = index.wheel("ledger", "1.0")
        link = f"ledger @ {index.url_of(wheel)}"
        project.write("requirements.txt", f"{link}#sha256={sha256(wheel)[7:]}\n")
        assert project.install(project.lock()) == {"ledger": "1.0"}
        project.write("requirements.txt", f"{link} --hash=sha256:{'0' * 64}\n")
        with pytest.raises(BuildFailed, match="does not have the hash"):
            project.lock()

    def test_a_missing_compiler_is_named(
        self, project: Project, index: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(project.path))
        index.source(project.path / "ledger", "ledger", "1.0", compiler="gcc")
        project.write("requirements.txt", "./ledger\n")
        with pytest.raises(BuildFailed) as caught:
            project.lock()
        assert "building ./ledger failed: it needs the compiler gcc" in caught.value.message
        assert "install gcc" in caught.value.hint
        assert not list(project.caches.wheelhouse.glob("*/wheel.json"))


@both_tools
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ledger\nnosuchthing\n", "there is no package nosuchthing on the index"),
        ("ledger==9\n", "there is no version ledger==9"),
        ("ledger==2.0\n", "ledger==2.0 needs Python >=3.99, but the interpreter is Python"),
        ("ledger==1.0\nmoney==2.0\n", "which cannot all be"),
    ],
)
def test_what_cannot_be_resolved_is_told_in_one_sentence(
    project: Project, index: Index, tools: Tools, text: str, sentence: str
) -> None:
    index.wheel("ledger", "1.0", requires=["money<2"])
    index.wheel("ledger", "2.0", requires_python=">=3.99")
    index.wheel("money", "1.0")
    index.wheel("money", "2.0")
    project.use(tools=tools)
    project.write("requirements.txt", text)
    with pytest.raises(BuildFailed) as caught:
        project.lock()
    assert caught.value.message.startswith("resolving requirements.txt failed: ")
    assert sentence in caught.value.message
    assert caught.value.hint
    assert caught.value.output
    assert not list(project.caches.beside.glob("*.requirements.lock"))


def test_a_package_pinned_twice_is_refused(project: Project) -> None:
    hash_ = f"--hash=sha256:{'0' * 64}"
    project.write("requirements.lock", f"ledger==1.0 {hash_}\nledger==1.1 {hash_}\n")
    with pytest.raises(BuildFailed, match=r"pins ledger twice: 1\.0 and 1\.1"):
        project.lock()


def test_a_lock_older_than_its_source_is_warned_of(project: Project) -> None:
    project.write("requirements.lock", f"ledger==1.0 --hash=sha256:{'0' * 64}\n")
    project.write("requirements.in", "ledger>=2\n")
    project.lock()
    warnings = [event for event in project.events if isinstance(event, steps.Warned)]
    assert "requirements.in:1 asks for ledger>=2" in warnings[0].text
    assert "artifact lock" in warnings[0].hint
    project.write("requirements.in", "-e .\n")
    assert versions(project.lock()) == {"ledger": "1.0"}, "what is not used does no harm"


def test_a_site_root_that_cannot_be_written_is_told_with_both_remedies(project: Project) -> None:
    Path(project.caches.root).write_text("a file")
    project.write("requirements.txt", "ledger\n")
    with pytest.raises(BuildFailed, match="cannot be written") as caught:
        project.lock()
    assert "install -d" in caught.value.hint
    assert "artifact.toml: root" in caught.value.hint


def test_a_wheelhouse_is_installed_without_an_index(
    project: Project, index: Index, tmp_path: Path
) -> None:
    index.wheel("ledger", "1.0")
    index.sdist("rates", "0.5")
    index.source(project.path / "libs/money", "money", "3.0")
    project.write("requirements.txt", "ledger\nrates\n./libs/money\n")
    locked = project.lock()
    there = tmp_path / "out" / "wheelhouse"
    for _ in range(2):  # the second replaces the first
        count = wheelhouse.write_wheelhouse(locked, project.context(locked), there)
        assert count == 3
    assert not any(path.is_symlink() for path in there.iterdir())
    assert [path.name for path in there.parent.iterdir()] == ["wheelhouse"]
    shutil.rmtree(project.caches.wheelhouse)
    target = tmp_path / "target"
    argv = [str(next(project.caches.shared.glob("helpers/pip-[!t]*/bin/python"))), "-m", "pip"]
    argv += ["--isolated", "install", "--no-index", "--find-links", str(there), "--target"]
    subprocess.run([*argv, str(target), "-r", str(there / "requirements.lock")], check=True)
    installed = {path.stem for path in target.glob("*.py")}
    assert installed == {"ledger", "rates", "money"}


def test_a_wheelhouse_does_not_replace_a_directory_of_something_else(
    project: Project, tmp_path: Path
) -> None:
    project.write("requirements.txt", "")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").write_text("1")
    locked = project.lock()
    with pytest.raises(UsageError, match="not a wheelhouse"):
        wheelhouse.write_wheelhouse(locked, project.context(locked), tmp_path / "precious")
    assert (tmp_path / "precious" / "data").read_text() == "1"
