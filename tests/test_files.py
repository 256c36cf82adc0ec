"""The door to the disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from artifact import files, steps
from artifact.errors import Locked


def test_a_write_that_fails_leaves_the_old_content_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    files.write(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_written_file_has_the_mode_asked_for_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        files.write(tmp_path / "file", b"x", mode=0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_reader_never_sees_a_link_missing_while_it_is_switched(tmp_path: Path) -> None:
    link = tmp_path / "current"
    files.replace_link(link, "0")
    missing: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            try:
                os.readlink(link)
            except FileNotFoundError:
                missing.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(300):
        files.replace_link(link, str(number))
    done.set()
    watcher.join()
    assert missing == []
    assert os.readlink(link) == "299"


def test_a_read_only_tree_is_removed_whole(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_text("x")
    (tree / "link").symlink_to("/")
    files.make_read_only(tree)
    assert (tree / "sub").stat().st_mode & 0o222 == 0
    assert (tree / "sub" / "file").stat().st_mode & 0o222 == 0
    files.remove_tree(tree)
    files.remove_tree(tree)
    assert os.listdir(tmp_path) == []


def test_a_copied_range_is_the_bytes_asked_for(tmp_path: Path) -> None:
    source, sink = tmp_path / "source", tmp_path / "sink"
    source.write_bytes(bytes(range(256)) * 1000)
    with source.open("rb") as reader, sink.open("wb") as writer:
        files.copy_range(reader.fileno(), 1000, 200_000, writer.fileno())
    assert sink.read_bytes() == source.read_bytes()[1000:201_000]


def test_a_copied_range_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"short")
    with (
        source.open("rb") as reader,
        (tmp_path / "sink").open("wb") as writer,
        pytest.raises(OSError, match="shorter"),
    ):
        files.copy_range(reader.fileno(), 0, 100, writer.fileno())


HOLD = """
import sys, pathlib
from artifact import files
with files.locked(pathlib.Path(sys.argv[1]), doing="building accounting 1337"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_is_free_once_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(Locked, match=f"pid {holder.pid}.*building accounting 1337"),
            files.locked(path, doing="another"),
        ):
            pass
        holder.kill()
    with files.locked(path, doing="after the crash"):
        found = files.lock_holder(path)
    assert found is not None
    assert found.doing == "after the crash"


def test_a_lock_is_waited_for_and_that_is_told(tmp_path: Path) -> None:
    path, told = tmp_path / "lock", list[steps.Event]()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        threading.Timer(0.3, holder.stdin.close).start()
        with files.locked(path, doing="waiting", wait=30, tell=told.append):
            assert holder.wait(timeout=10) == 0
    first, last = [event.text for event in told if isinstance(event, steps.Said)]
    assert re.fullmatch(
        rf"waiting for .*pid {holder.pid}.*building accounting 1337, for 30 s at most", first
    )
    assert re.fullmatch(rf"waited [0-9.]+ s until {path} was free", last)


_DIES_IN_ONE = """
import sys, pathlib
from artifact import files
with files.scratch(pathlib.Path(sys.argv[1])) as path:
    (path / "half").mkdir()
    (path / "half" / "done").write_text("x")
    print("there", flush=True)
    sys.stdin.read()
"""


def test_scratch_of_a_killed_run_is_removed_by_the_next_and_that_of_a_live_one_is_not(
    tmp_path: Path,
) -> None:
    argv = [sys.executable, "-c", _DIES_IN_ONE, str(tmp_path)]
    runs = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == b"there\n"
    assert len(list(tmp_path.iterdir())) == 2
    runs[0].kill()
    runs[0].communicate()
    foreign = tmp_path / "artifact-of-somebody-else"
    foreign.mkdir()
    with files.scratch(tmp_path) as own:
        assert len(list(tmp_path.iterdir())) == 3, "the live one's, ours, and the foreign one"
        assert list(own.iterdir()) == []
    runs[1].communicate()
    assert runs[1].returncode == 0
    assert list(tmp_path.iterdir()) == [foreign]
