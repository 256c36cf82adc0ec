"""Which files belong to a build, and what is refused or told about them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from artifact.archive.format import Footer, encode_footer
from artifact.building import source
from artifact.building.source import Snapshot
from artifact.errors import BuildFailed, ConfigurationError
from artifact.steps import Event, Said, Warned, nobody
from surroundings.repository import commit, git


def written(top: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    return top


@pytest.fixture(autouse=True)
def own_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give git an identity and a time, and no settings of this machine."""
    settings = tmp_path / "gitconfig"
    settings.write_text('[init]\ndefaultBranch = main\n[protocol "file"]\nallow = always\n')
    for name in list(os.environ):
        if name.startswith(("GIT_", "CI", "BRANCH_NAME")):
            monkeypatch.delenv(name)
    for name, value in {
        "GIT_CONFIG_GLOBAL": str(settings),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.com",
        "GIT_AUTHOR_DATE": "1700000000 +0000",
        "GIT_COMMITTER_DATE": "1700000000 +0000",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    top = tmp_path / "shop"
    top.mkdir()
    git(top, "init", "--quiet")
    written(top, {"manage.py": "#!python\n", "shop/views.py": "x = 1\n", ".gitignore": "*.log\n"})
    (top / "manage.py").chmod(0o755)
    commit(top)
    return top


def read(project: Path, *exclude: str) -> tuple[Snapshot, list[Event]]:
    events: list[Event] = []
    return source.take_snapshot(project, exclude, events.append), events


def paths(snapshot: Snapshot) -> list[str]:
    return [file.path for file in snapshot.files]


def refused(project: Path) -> BuildFailed:
    with pytest.raises(BuildFailed) as caught:
        source.take_snapshot(project, (), nobody)
    assert caught.value.code == 3
    assert caught.value.hint
    return caught.value


def test_the_files_git_tracks_are_the_source(repository: Path) -> None:
    written(repository, {"debug.log": "ignored"})
    git(repository, "remote", "add", "origin", "https://ci:hun:t@er2@example.com/shop.git")
    snapshot, events = read(repository)
    assert paths(snapshot) == [".gitignore", "manage.py", "shop/views.py"]
    assert [oct(file.mode) for file in snapshot.files] == ["0o644", "0o755", "0o644"]
    assert snapshot.source.revision == git(repository, "rev-parse", "HEAD")
    assert snapshot.source.branch == "main"
    assert snapshot.source.remote == "https://example.com/shop.git"
    assert not snapshot.source.dirty
    assert (snapshot.created, snapshot.commits) == (1700000000, 1)
    assert events == []


def test_reading_leaves_the_checkout_as_it_is(repository: Path) -> None:
    # git would note the new time in the index.
    os.utime(repository / "shop/views.py", (1600000000, 1600000000))
    index = (repository / ".git/index").read_bytes()
    read(repository)
    assert (repository / ".git/index").read_bytes() == index


def test_uncommitted_changes_are_recorded_and_told(repository: Path) -> None:
    written(repository, {"shop/views.py": "x = 2\n", "shop/new.py": ""})
    (repository / "manage.py").unlink()
    snapshot, events = read(repository)
    assert snapshot.source.dirty
    assert paths(snapshot) == [".gitignore", "shop/views.py"]
    warning, said = events
    assert isinstance(warning, Warned)
    assert "2 uncommitted changes, of them 1 deleted: manage.py, shop/views.py" in warning.text
    assert isinstance(said, Said)
    assert "shop/new.py" in said.text
    # A changed file must not carry the time of the commit.
    assert snapshot.created == int((repository / "shop/views.py").stat().st_mtime)
    assert {file.path: bool(file.blob) for file in snapshot.files}["shop/views.py"] is False


def test_an_uncommitted_executable_bit_counts(repository: Path) -> None:
    (repository / "shop/views.py").chmod(0o755)
    snapshot, _ = read(repository)
    assert {file.path: file.mode for file in snapshot.files}["shop/views.py"] == 0o755


def test_a_project_may_stand_below_the_top_of_its_repository(tmp_path: Path) -> None:
    top = tmp_path / "all"
    written(top, {"services/shop/manage.py": "", "other/huge.bin": "x"})
    git(tmp_path, "init", "--quiet", str(top))
    commit(top)
    written(top, {"other/huge.bin": "changed", "services/shop/manage.py": "changed"})
    snapshot, events = read(top / "services/shop")
    assert paths(snapshot) == ["manage.py"]
    assert isinstance(events[0], Warned)
    assert events[0].text == "1 uncommitted change: manage.py"


def test_submodules_are_part_of_the_source(repository: Path, tmp_path: Path) -> None:
    for name in ("inner", "library"):
        written(tmp_path / name, {f"{name}.py": "y = 1\n"})
        git(tmp_path, "init", "--quiet", str(tmp_path / name))
        commit(tmp_path / name)
    git(tmp_path / "library", "submodule", "--quiet", "add", str(tmp_path / "inner"), "inner")
    commit(tmp_path / "library")
    git(repository, "submodule", "--quiet", "add", str(tmp_path / "library"), "vendor/library")
    git(repository, "submodule", "--quiet", "update", "--init", "--recursive")
    commit(repository)
    snapshot, events = read(repository)
    assert "vendor/library/library.py" in paths(snapshot)
    assert "vendor/library/inner/inner.py" in paths(snapshot)
    assert not snapshot.source.dirty
    assert events == []

    written(repository, {"vendor/library/library.py": "y = 2\n"})
    snapshot, events = read(repository)
    assert snapshot.source.dirty
    assert isinstance(events[0], Warned)
    assert "vendor/library/library.py" in events[0].text

    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(repository), str(clone))
    error = refused(clone)
    assert "vendor/library is not checked out" in error.message
    assert "git submodule update --init" in error.hint
    assert paths(read(clone, "vendor/")[0]) == [
        ".gitignore", ".gitmodules", "manage.py", "shop/views.py",
    ]  # fmt: skip


def test_without_git_all_but_the_usual_is_taken(tmp_path: Path) -> None:
    top = written(
        tmp_path / "shop",
        {
            "manage.py": "",
            "shop/__init__.py": "",
            "shop/__pycache__/x.pyc": "",
            "env/pyvenv.cfg": "",
            "env/lib/x.py": "",
            "node_modules/a/index.js": "",
            ".env": "SECRET=1",
            "db.sqlite3": "",
            "fixtures/books.tgz": "not ours",
            "docs/manual.txt": "",
        },
    )
    os.utime(top / "manage.py", (1600000000, 1600000000))
    written(top, {"dist/.artifact-build-7/venv": ""})
    (top / "dist/shop-7.tgz").write_bytes(b"..." + encode_footer(Footer(0, 3, b"0" * 32)))
    snapshot, events = read(top, "docs/")
    assert paths(snapshot) == ["fixtures/books.tgz", "manage.py", "shop/__init__.py"]
    assert isinstance(events[0], Said)
    assert snapshot.source.revision == ""
    assert snapshot.commits == 0
    assert snapshot.created == int((top / "shop/__init__.py").stat().st_mtime)


def test_a_directory_inside_a_foreign_repository_is_not_gits(repository: Path) -> None:
    written(repository, {"scratch/manage.py": ""})
    snapshot, _ = read(repository / "scratch")
    assert paths(snapshot) == ["manage.py"]
    assert snapshot.source.revision == ""


def test_a_repository_before_its_first_commit_can_be_read(tmp_path: Path) -> None:
    top = written(tmp_path / "new", {"manage.py": ""})
    git(tmp_path, "init", "--quiet", str(top))
    assert "git add" in refused(top).hint
    git(top, "add", ".")
    snapshot, _ = read(top)
    assert paths(snapshot) == ["manage.py"]
    assert snapshot.source.revision == ""
    assert snapshot.source.dirty


def test_an_ignore_file_takes_away_what_is_tracked(repository: Path) -> None:
    written(
        repository,
        {
            ".artifactignore": "# not for servers\n*.txt\n!keep.txt\n/docs/\n",
            "a.txt": "", "keep.txt": "", "docs/x.py": "", "shop/docs/y.py": "",
        },
    )  # fmt: skip
    commit(repository)
    assert paths(read(repository, "shop/views.py")[0]) == [
        ".artifactignore", ".gitignore", "keep.txt", "manage.py", "shop/docs/y.py",
    ]  # fmt: skip
    with pytest.raises(ConfigurationError, match="not a pattern"):
        read(repository, "!")


def test_a_committed_virtualenv_is_refused(repository: Path) -> None:
    written(repository, {"venv/pyvenv.cfg": "home = /usr/bin\n", "venv/bin/python": ""})
    commit(repository)
    error = refused(repository)
    assert "venv is a virtualenv among the project's files" in error.message
    assert "git rm -r --cached venv" in error.hint
    assert "venv/pyvenv.cfg" not in paths(read(repository, "/venv/")[0])


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "shop/../../x", ".."])
def test_a_symlink_that_leaves_the_project_is_refused(repository: Path, target: str) -> None:
    (repository / "link").symlink_to(target)
    commit(repository)
    error = refused(repository)
    assert f"the symlink 'link' points at {target!r}" in error.message


def test_a_symlink_inside_stays_one(repository: Path, tmp_path: Path) -> None:
    (repository / "shop/link").symlink_to("./../manage.py")
    (repository / "folder").symlink_to("shop/")
    commit(repository)
    snapshot, _ = read(repository)
    links = {file.path: file.target for file in snapshot.files if file.kind == "link"}
    assert links == {"shop/link": "../manage.py", "folder": "shop"}


def _newline(top: Path) -> None:
    written(top, {"a\nb.py": ""})


def _not_utf8(top: Path) -> None:
    with open(os.fsencode(top) + b"/caf\xe9.py", "wb"):
        pass


def _long(top: Path) -> None:
    directory = top.joinpath(*["d" * 120] * 9)
    written(top, {f"{directory.relative_to(top)}/x.py": ""})


def _reserved(top: Path) -> None:
    written(top, {"virtualenv/x.py": ""})


def _private(top: Path) -> None:
    written(top, {".artifact/x.py": ""})


@pytest.mark.parametrize("under_git", [True, False])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_newline, "cannot be packed: its name has a control character"),
        (_not_utf8, "cannot be packed: its name is not UTF-8"),
        (_long, "cannot be packed: its name is longer than 1024 bytes"),
        (_reserved, "'virtualenv' at the top of the project is a name that artifact needs"),
        (_private, "'.artifact' at the top of the project is a name that artifact needs"),
    ],
)
def test_a_name_that_cannot_be_packed_is_refused(
    tmp_path: Path, make: Callable[[Path], None], message: str, under_git: bool
) -> None:
    top = written(tmp_path / "shop", {"manage.py": ""})
    make(top)
    if under_git:
        git(tmp_path, "init", "--quiet", str(top))
        commit(top)
    assert message in refused(top).message


def test_a_named_pipe_is_refused(tmp_path: Path) -> None:
    top = written(tmp_path / "shop", {"manage.py": ""})
    os.mkfifo(top / "pipe")
    assert "'pipe' is neither a file" in refused(top).message


def test_a_merge_in_conflict_is_refused(repository: Path) -> None:
    git(repository, "switch", "--quiet", "-c", "other")
    written(repository, {"shop/views.py": "x = 2\n"})
    commit(repository)
    git(repository, "switch", "--quiet", "main")
    written(repository, {"shop/views.py": "x = 3\n"})
    commit(repository)
    subprocess.run(["git", "-C", str(repository), "merge", "-q", "other"], check=False)
    assert refused(repository).message == "shop/views.py has unresolved merge conflicts"


def test_a_directory_replaced_by_a_link_is_not_followed(repository: Path, tmp_path: Path) -> None:
    written(tmp_path / "elsewhere", {"views.py": "secret"})
    (repository / "shop/views.py").unlink()
    (repository / "shop").rmdir()
    (repository / "shop").symlink_to(tmp_path / "elsewhere")
    snapshot, _ = read(repository)
    assert "shop/views.py" not in paths(snapshot)
    assert snapshot.source.dirty


def test_pointers_of_git_lfs_are_told(repository: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"
    written(repository, {"logo.png": pointer, ".gitattributes": "*.png filter=lfs -text\n"})
    commit(repository)
    _, events = read(repository)
    assert isinstance(events[0], Warned)
    assert events[0].text == "git LFS has not fetched logo.png: the artifact will have its pointer"


def test_a_shallow_clone_does_not_pretend_to_know_its_history(
    repository: Path, tmp_path: Path
) -> None:
    commit(repository, "second")
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repository}", "shallow")
    assert read(tmp_path / "shallow")[0].commits == 0
    assert read(repository)[0].commits == 2


def test_a_checkout_of_another_user_can_be_built(repository: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a checkout to another user")
    for parent, directories, names in os.walk(repository):
        for name in (*directories, *names):
            os.lchown(os.path.join(parent, name), 12345, 12345)
    os.lchown(repository, 12345, 12345)
    plain = subprocess.run(["git", "-C", str(repository), "status"], check=False)
    assert plain.returncode != 0
    assert read(repository)[0].source.revision


def test_a_detached_commit_has_the_branch_of_the_job(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(repository, "checkout", "--quiet", "--detach")
    assert read(repository)[0].source.branch == ""
    monkeypatch.setenv("CI_COMMIT_REF_NAME", "release")
    assert read(repository)[0].source.branch == "release"


def test_a_broken_repository_is_told_with_gits_words(repository: Path) -> None:
    (repository / ".git/HEAD").write_text("nonsense")
    assert "git cannot read" in refused(repository).message


def test_a_checkout_without_git_on_path_says_so(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    error = refused(repository)
    assert "there is no git on PATH" in error.message
    assert error.hint.startswith("install git")


def test_a_copy_is_the_source_and_nothing_else(repository: Path, tmp_path: Path) -> None:
    (repository / "link").symlink_to("manage.py")
    written(repository, {"debug.log": "ignored"})
    commit(repository)
    to = tmp_path / "copy"
    to.mkdir()
    snapshot, _ = read(repository)
    source.copy(snapshot, to)
    assert source.take_snapshot(to, (), nobody).files == tuple(
        # The copy is no checkout: git's ids are not known there.
        source.SourceFile(file.path, file.kind, file.mode, file.target, file.size)
        for file in snapshot.files
    )


def test_two_thousand_files_are_read_in_a_blink(tmp_path: Path) -> None:
    top = tmp_path / "large"
    git(tmp_path, "init", "--quiet", str(top))
    written(top, {f"app{i % 40}/module{i}.py": f"x = {i}\n" for i in range(2000)})
    commit(top)
    read(top)
    fastest = min(_seconds(top) for _ in range(5))
    assert fastest < 0.25  # 0.03 s alone on two cores; the tests share them


def _seconds(top: Path) -> float:
    began = time.perf_counter()
    read(top)
    return time.perf_counter() - began


def test_nothing_is_said_of_what_earlier_builds_left(repository: Path) -> None:
    def own(path: str) -> bool:
        return path.startswith("dist/shop-") and path.endswith(".tgz")

    def told() -> list[str]:
        events: list[Event] = []
        source.take_snapshot(repository, ["/scratch/"], events.append, is_build_output=own)
        return [event.text for event in events if isinstance(event, Said)]

    written(repository, {"dist/shop-1.tgz": "", "dist/.artifact-build-7/x": "", "scratch/a": ""})
    assert told() == []
    written(repository, {"dist/notes.txt": "", "todo.txt": ""})
    assert told() == ["not tracked by git, so not in the artifact: dist/, todo.txt"]
