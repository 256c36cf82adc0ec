"""Packing: equal bytes for equal trees, whole files or none, and a sentence for what cannot be."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifact import steps
from artifact.archive import checking, opening, unpacking, writer
from artifact.archive.grouping import Entry
from artifact.archive.packed import Packed, codec, load_packed
from artifact.errors import BuildFailed
from tests.archive import samples


def _pack(entries: list[Entry], sink: Path, threads: int | None = None) -> Packed:
    return writer.pack(entries, sink, name="code", threads=threads)


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- the same bytes --------------------------------------------------------------------------


def test_bytes_do_not_depend_on_threads_or_order(tmp_path: Path) -> None:
    entries = samples.entries_of(samples.awkward() | samples.CODE, {}, tmp_path / "sources")
    first = _pack(entries, tmp_path / "1", threads=1)
    for threads in (2, 5):
        random.Random(threads).shuffle(entries)
        again = _pack(entries, tmp_path / str(threads), threads=threads)
        assert again.path.read_bytes() == first.path.read_bytes()
        assert again.tree == first.tree


def test_only_the_tree_is_its_identity(tmp_path: Path) -> None:
    one = samples.pack(samples.CODE, tmp_path / "1", level=1)
    other = samples.pack(samples.CODE, tmp_path / "12", level=12)
    assert one.path.read_bytes() != other.path.read_bytes()
    assert one.tree == other.tree
    changed = samples.pack(samples.CODE | {"manage.py": b"changed"}, tmp_path / "changed")
    assert changed.tree != one.tree


@pytest.mark.parametrize("level", [1, 9, 12])
def test_every_level_can_be_read(level: int, tmp_path: Path) -> None:
    packed = samples.pack(samples.CODE, tmp_path / "code", level=level)
    writer.write(tmp_path / "a.tgz", [packed], samples.describe())
    with opening.open_artifact(tmp_path / "a.tgz") as artifact:
        checking.verify(artifact)


def test_modes_owners_and_times_of_the_sources_do_not_show(tmp_path: Path) -> None:
    source = _file(tmp_path / "source", b"content")
    one = _pack([Entry("a", "file", 0o600, source=source)], tmp_path / "1")
    os.utime(source, (1, 1))
    other = _pack([Entry("a", "file", 0o2664, source=source)], tmp_path / "2")
    assert one.path.read_bytes() == other.path.read_bytes()


def test_two_builds_of_the_same_are_equal_byte_for_byte(tmp_path: Path) -> None:
    digests = {samples.build(tmp_path / name) for name in ("one.tgz", "other.tgz")}
    assert len(digests) == 1
    assert (tmp_path / "one.tgz").read_bytes() == (tmp_path / "other.tgz").read_bytes()


def test_directories_above_the_entries_are_added(tmp_path: Path) -> None:
    source = _file(tmp_path / "source", b"")
    bare = [Entry("a/b/c", "file", source=source)]
    whole = [*bare, Entry("a", "directory", 0o700), Entry("a/b", "directory")]
    one, other = _pack(bare, tmp_path / "1"), _pack(whole, tmp_path / "2")
    assert one.entries == 3
    assert one.path.read_bytes() == other.path.read_bytes()


# --- packed once -----------------------------------------------------------------------------


def test_a_pack_written_earlier_gives_the_same_artifact(tmp_path: Path) -> None:
    packed = samples.pack(samples.CODE, tmp_path / "code")
    found = load_packed(tmp_path / "code", codec=codec(6))
    assert found == packed
    digest = writer.write(tmp_path / "a.tgz", [packed], samples.describe())
    assert writer.write(tmp_path / "b.tgz", [found], samples.describe()) == digest


def test_a_pack_of_another_codec_is_not_reused(tmp_path: Path) -> None:
    samples.pack(samples.CODE, tmp_path / "code", level=1)
    assert load_packed(tmp_path / "code", codec=codec(6)) is None
    assert load_packed(tmp_path / "code") is not None


def test_an_incomplete_pack_is_not_reused(tmp_path: Path) -> None:
    path = samples.pack(samples.CODE, tmp_path / "code").path
    whole = path.read_bytes()
    assert load_packed(tmp_path / "absent") is None
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert load_packed(path) is None
    for damaged in (whole + b"x", b"x" + whole, whole[1:], bytes(len(whole)), b"{}" * 50):
        path.write_bytes(damaged)
        assert load_packed(path) is None


# --- what cannot be packed -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "saying"),
    [
        (Entry("a\nb", "directory"), "its name has a control character"),
        (Entry("../a", "directory"), "its name is not relative"),
        (Entry("caf\udce9", "directory"), "its name is not UTF-8"),
        (Entry("n" * 256, "directory"), "its name has a part longer than 255 bytes"),
        (Entry("n/" * 512 + "x", "directory"), "its name is longer than 1024 bytes"),
        (Entry("virtualenv/bin/x", "directory"), "does not belong to the component code"),
        (Entry(".artifact", "directory"), "does not belong to the component code"),
        (Entry("a", "link", target="/etc/passwd"), "target '/etc/passwd' is absolute"),
        (Entry("a", "link", target="../outside"), "leaves the component code"),
        (Entry("a", "file", source="/dev/null"), "is not a regular file"),
        (Entry("a", "file", source="/nowhere/at/all"), "No such file or directory"),
        # A regular file whose content nobody can read, root included.
        (Entry("a", "file", source="/proc/self/mem"), "/proc/self/mem cannot be packed: Input"),
    ],
    ids=lambda value: ascii(value.path)[:40] if isinstance(value, Entry) else "",
)
def test_what_cannot_be_packed_is_named(entry: Entry, saying: str, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=saying):
        _pack([entry], tmp_path / "pack")
    assert list(tmp_path.iterdir()) == []


def test_one_name_for_two_things_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="'a' would be packed twice"):
        _pack([Entry("a", "directory"), Entry("a", "link", target="b")], tmp_path / "pack")
    with pytest.raises(BuildFailed, match=r"'a/b/c' cannot be packed below 'a', which is a link"):
        _pack([Entry("a/b/c", "directory"), Entry("a", "link", target="b")], tmp_path / "pack")


def test_a_time_that_tar_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="the time -1 cannot be packed"):
        samples.build(tmp_path / "accounting-1337.tgz", created=-1)


@pytest.mark.parametrize("size", [300_000, 9_000_000])
@pytest.mark.parametrize("change", ["grows", "shrinks", "vanishes"])
def test_a_file_that_changes_meanwhile_is_named(size: int, change: str, tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(300_000)
    sources = [_file(tmp_path / f"{number}", noise) for number in range(9)]
    last = _file(tmp_path / "last", bytes(size))

    def tell(_event: steps.Event) -> None:  # the first time there are still some to be read
        if change == "vanishes":
            last.unlink(missing_ok=True)
        else:
            os.truncate(last, size + (1 if change == "grows" else -1))

    entries = [Entry(path.name, "file", source=path) for path in [*sources, last]]
    with pytest.raises(BuildFailed, match=str(last)) as failed:
        writer.pack(entries, tmp_path / "pack", name="code", mtime=0, tell=tell, threads=1)
    assert failed.value.hint
    assert not list(tmp_path.glob("*pack*")) + list(tmp_path.glob(".*"))


# --- the disk --------------------------------------------------------------------------------


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let writing beyond `size` fail, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    noise = {"noise": random.Random(0).randbytes(3_000_000)}
    packed = samples.pack(noise, tmp_path / "packed")
    out = tmp_path / "out"
    out.mkdir()
    with no_file_larger_than(1_000_000):
        with pytest.raises(BuildFailed, match=f"{out}/pack cannot be written: File too large"):
            _pack([Entry("a", "file", source=tmp_path / "packed")], out / "pack")
        with pytest.raises(BuildFailed, match=f"{out}/a.tgz cannot be written") as failed:
            writer.write(out / "a.tgz", [packed], samples.describe())
    assert failed.value.hint.startswith(f"`df -h {out}`")
    assert list(out.iterdir()) == []


def test_a_full_disk_leaves_the_artifact_of_before(tmp_path: Path) -> None:
    path = tmp_path / "accounting-1337.tgz"
    digest = samples.build(path)
    large = samples.pack({"noise": random.Random(0).randbytes(3_000_000)}, tmp_path / "packed")
    with no_file_larger_than(1_000_000), pytest.raises(BuildFailed):
        writer.write(path, [large], samples.describe())
    with opening.open_artifact(path) as artifact:
        assert artifact.digest == digest


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="absent/pack cannot be written: No such file"):
        _pack([], tmp_path / "absent" / "pack")


def test_what_a_killed_run_left_is_removed_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    abandoned = _file(tmp_path / ".code.999999.new", b"half")
    living = _file(tmp_path / ".code.999998.new", b"half")
    another = _file(tmp_path / ".codex.999999.new", b"half")
    with living.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        _pack([], tmp_path / "code")
        assert not abandoned.exists()
        assert living.exists()
        assert another.exists()


def test_memory_stays_bounded_whatever_the_files(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.touch()
    os.truncate(large, 400_000_000)
    code = (
        "import re, sys; from pathlib import Path; from artifact.archive import grouping, writer\n"
        "entries = [grouping.Entry(f'{n}', 'file', source=sys.argv[1]) for n in range(2)]\n"
        "writer.pack(entries, Path(sys.argv[2]), name='code', mtime=0, level=1)\n"
        # Not getrusage's: that begins with what the process that started it had.
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    argv = [sys.executable, "-c", code, str(large), str(tmp_path / "pack")]
    kibibytes = int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    assert kibibytes < 150_000


# --- joining ---------------------------------------------------------------------------------


def test_components_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    code = samples.pack({"static/app.js": b"1"}, tmp_path / "code")
    assets = samples.pack({"static/app.js": b"2"}, tmp_path / "assets", name="assets")
    with pytest.raises(BuildFailed, match=r"'static/app\.js' is in assets and in code"):
        writer.write(tmp_path / "a.tgz", [assets, code], samples.describe())
    with pytest.raises(BuildFailed, match="are not in the order"):
        writer.write(tmp_path / "a.tgz", [code, assets], samples.describe())
    assert not (tmp_path / "a.tgz").exists()


def test_an_environment_of_another_interpreter_is_refused(tmp_path: Path) -> None:
    links = {"virtualenv/bin/python": "/opt/python/bin/python3.12"}
    venv = samples.pack({}, tmp_path / "venv", links=links, name="venv")
    with pytest.raises(BuildFailed, match=r"python3\.12', which is not the manifest's"):
        writer.write(tmp_path / "a.tgz", [venv], samples.describe())


def test_an_artifact_may_lack_components_or_hold_empty_ones(tmp_path: Path) -> None:
    empty = samples.pack({}, tmp_path / "assets", name="assets")
    code = samples.pack(samples.CODE, tmp_path / "code")
    for number, packed in enumerate(([], [empty], [code], [empty, code])):
        path = tmp_path / f"{number}.tgz"
        writer.write(path, packed, samples.describe())
        with opening.open_artifact(path) as artifact:
            checking.verify(artifact)
            names = [component.name for component in artifact.manifest.components]
            unpacking.extract(artifact, names, tmp_path / f"out-{number}")
