"""Unpacking: what is there afterwards, and that a failure leaves nothing."""

from __future__ import annotations

import os
import random
import resource
import tempfile
from pathlib import Path

import pytest

from artifact import steps
from artifact.archive import format as layout
from artifact.archive import opening, toc, unpacking, writer
from artifact.errors import ArtifactRejected, Refused
from tests.archive import samples
from tests.archive.test_packing import no_file_larger_than


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small artifact with all components."""
    path = tmp_path_factory.mktemp("unpacking") / "accounting-1337.tgz"
    samples.build(path)
    return path


def _extract(path: Path, components: list[str], out: Path, **options: object) -> None:
    with opening.open_artifact(path) as opened:
        unpacking.extract(opened, components, out, **options)  # type: ignore[arg-type]


def test_the_environment_is_unpacked_without_its_prefix(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "0123456789"
    _extract(artifact, ["venv"], out, strip="virtualenv/")
    found = samples.tree(out)
    assert found["bin/activate"] == ("file", 0o755, b"# a script\n")
    assert found["bin/python"] == ("link", 0o777, samples.INTERPRETER.encode())
    assert found["lib64"] == ("link", 0o777, b"lib")
    assert not any(path.startswith("virtualenv") for path in found)


def test_code_and_assets_share_a_directory(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "1337"
    _extract(artifact, ["assets", "code"], out)
    found = samples.tree(out)
    assert found["manage.py"] == ("file", 0o755, samples.CODE["manage.py"])
    assert found["static/app.1234.js"] == ("file", 0o644, b"let x = 1;\n")
    assert "virtualenv" not in found
    assert ".artifact" not in found


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_tree_does_not_depend_on_threads(threads: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    samples.build(path, code=samples.awkward())
    out = tmp_path / "out"
    _extract(path, ["code"], out, threads=threads)
    found = samples.tree(out)
    assert {name: found[name][2] for name in samples.awkward()} == samples.awkward()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(umask: int, artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = os.umask(umask)
    try:
        _extract(artifact, ["assets", "code"], out)
    finally:
        os.umask(before)
    modes = {path: mode for path, (_, mode, _) in samples.tree(out).items()}
    assert modes["manage.py"] == 0o755
    assert modes["static/app.1234.js"] == 0o644
    assert modes["static"] == 0o755
    assert out.stat().st_mode & 0o7777 == 0o755


def test_a_read_only_tree_has_no_write_permission_but_at_its_top(
    artifact: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _extract(artifact, ["venv"], out, strip="virtualenv/", read_only=True)
    modes = {path: mode for path, (kind, mode, _) in samples.tree(out).items() if kind != "link"}
    assert modes["bin/activate"] == 0o555
    assert modes["bin"] == 0o555
    assert modes["lib/python3.11/site-packages/empty.py"] == 0o444
    assert out.stat().st_mode & 0o7777 == 0o755
    for directory in [path for path, mode in modes.items() if mode == 0o555]:
        (out / directory).chmod(0o755)  # so that pytest can remove it


def test_files_have_the_time_of_their_entries_or_the_one_asked_for(
    artifact: Path, tmp_path: Path
) -> None:
    _extract(artifact, ["venv"], tmp_path / "venv", strip="virtualenv/")
    _extract(artifact, ["assets", "code"], tmp_path / "release", time=samples.CREATED)
    activate, script = tmp_path / "venv/bin/activate", tmp_path / "release/static/app.1234.js"
    assert activate.stat().st_mtime == layout.ENTRY_MTIME
    assert script.stat().st_mtime == samples.CREATED


def test_nobody_else_can_enter_until_it_is_whole(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen: set[int] = set()

    def look(_event: steps.Event) -> None:
        seen.add(out.stat().st_mode & 0o7777)

    _extract(artifact, ["code"], out, tell=look)
    assert seen == {0o700}


def test_links_are_made_after_all_files(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    links: list[Path] = []

    def look(_event: steps.Event) -> None:
        links.extend(path for path in out.rglob("*") if path.is_symlink())

    _extract(artifact, ["venv", "code"], out, tell=look)
    assert links == []
    assert (out / "latest.py").is_symlink()


def test_progress_ends_at_the_total(artifact: Path, tmp_path: Path) -> None:
    told: list[steps.Event] = []
    _extract(artifact, ["venv", "assets", "code"], tmp_path / "out", tell=told.append)
    last = told[-1]
    assert isinstance(last, steps.Progress)
    assert 0 < last.done == last.total


def test_an_existing_destination_is_left_alone(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    with pytest.raises(Refused, match=r"cannot be unpacked .* File exists"):
        _extract(artifact, ["code"], tmp_path)
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_link_in_place_of_the_destination_is_not_followed(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to("elsewhere")
    with pytest.raises(Refused, match="File exists"):
        _extract(artifact, ["code"], tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_component_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    writer.write(path, [], samples.describe())
    with pytest.raises(ArtifactRejected, match=r"a\.tgz: has no component code"):
        _extract(path, ["code"], tmp_path / "out")


def test_a_prefix_that_is_not_there_is_a_mistake(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not begin with"):
        _extract(artifact, ["code"], tmp_path / "out", strip="virtualenv/")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    samples.build(path, code={"noise": random.Random(0).randbytes(3_000_000)})
    with (
        no_file_larger_than(1_000_000),
        pytest.raises(Refused, match=r"cannot be unpacked to .*out: File too large") as refused,
    ):
        _extract(path, ["code"], tmp_path / "out")
    assert "df -h" in refused.value.hint
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".removing*"))


def test_few_descriptors_are_enough_and_too_few_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    samples.build(path, code={f"{'d/' * (n % 50)}{n}/file": b"x" for n in range(400)})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 250, before[1]))
        _extract(path, ["code"], tmp_path / "out", threads=1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, before[1]))
        with pytest.raises(Refused, match="Too many open files"):
            _extract(path, ["code"], tmp_path / "again", threads=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("plant", ["link", "file"])
def test_what_somebody_planted_is_not_written_to(plant: str, tmp_path: Path) -> None:
    path, out, precious = tmp_path / "a.tgz", tmp_path / "out", tmp_path / "precious"
    samples.build(path, code={f"{number:03}": bytes(200_000) for number in range(150)})
    precious.write_text("precious")

    def meanwhile(_event: steps.Event) -> None:  # the first time the last is still to come
        last = out / "149"
        if not last.exists():
            last.symlink_to(precious) if plant == "link" else last.hardlink_to(precious)

    with pytest.raises(Refused, match="File exists"):
        _extract(path, ["code"], out, threads=1, tell=meanwhile)
    assert precious.read_text() == "precious"


def test_damage_found_late_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    samples.build(path, code=samples.awkward())
    with opening.open_artifact(path) as opened:
        last = opened.toc("code").groups[-1].members[-1]
    damaged = bytearray(path.read_bytes())
    damaged[last.offset + last.length // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArtifactRejected, match=r"a.tgz: it is damaged at byte"):
        _extract(path, ["code"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_here_already_is_linked_and_its_members_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "accounting-1337.tgz"
    noise = random.Random(5).randbytes
    contents = {f"{i}/noise": noise(200_000) for i in range(6)} | {"0/empty": b""}
    samples.build(path, code=contents)
    here = tmp_path / "here"
    here.write_bytes(contents["1/noise"])
    with opening.open_artifact(path) as opened:
        group = next(
            one
            for one in opened.toc("code").groups
            if "1/noise" in {record.path for record in one.records}
        )
    damaged = bytearray(path.read_bytes())
    damaged[group.members[0].offset + 100] ^= 1
    path.write_bytes(damaged)

    _extract(path, ["code"], tmp_path / "out", reused={"1/noise": str(here)})

    assert (tmp_path / "out" / "1/noise").samefile(here)
    assert (tmp_path / "out" / "0/empty").stat().st_size == 0
    assert (tmp_path / "out" / "5/noise").read_bytes() == contents["5/noise"]


def test_what_cannot_be_linked_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "accounting-1337.tgz"
    samples.build(path, code={"large": bytes(3000)})
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as elsewhere:
        elsewhere.write(bytes(3000))
        elsewhere.flush()
        _extract(path, ["code"], tmp_path / "out", reused={"large": elsewhere.name})
        if os.stat(elsewhere.name).st_dev != tmp_path.stat().st_dev:
            assert not (tmp_path / "out" / "large").samefile(elsewhere.name)
    assert (tmp_path / "out" / "large").read_bytes() == bytes(3000)


def test_contents_are_written_as_they_were_read(tmp_path: Path) -> None:
    path = tmp_path / "accounting-1337.tgz"
    samples.build(path, code=samples.awkward())
    with opening.open_artifact(path) as opened:
        for name in ("venv", "code"):
            component = opened.manifest.component(name)
            member = opened.read(component.toc.offset, component.toc.length)
            text = opening.toc_content(member, component)
            assert toc.encode(opened.toc(name).groups) == text
            (there := tmp_path / "there").write_bytes(text)
            (other := tmp_path / "other").write_bytes(text.replace(b"\t0644\t", b"\t0755\t"))
            for recalled in (there, other, tmp_path / "gone"):
                with opening.open_artifact(path) as again:
                    again.recall(name, recalled)
                    assert again.toc(name) == opened.toc(name)
