"""An artifact is a tarball: every tool takes it and gives the tree that our reader gives."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from artifact.archive import format as layout
from artifact.archive import opening, unpacking, writer
from tests.archive import independent_reader, samples

Tree = dict[str, tuple[str, int, bytes]]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with every awkward name and size, signed by nobody in particular."""
    work = tmp_path_factory.mktemp("plain")
    path = work / "accounting-1337.tgz"
    links = {"latest": "n" * 100, "up/to": "../" + "u" * 255, "ж": "日本語/файл"}
    packed = [
        samples.pack(
            samples.ENVIRONMENT, work / "venv", links=samples.ENVIRONMENT_LINKS, name="venv"
        ),
        samples.pack({"static/app.1234.js": b"1"}, work / "assets", name="assets"),
        samples.pack(samples.awkward() | samples.CODE, work / "code", links=links),
    ]
    writer.write(path, packed, samples.describe(), sign=lambda _: b"no signature\n")
    return path


@pytest.fixture(scope="module")
def expected(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The tree our own reader unpacks, which holds just what was packed."""
    out = tmp_path_factory.mktemp("ours") / "out"
    with opening.open_artifact(artifact) as opened:
        unpacking.extract(opened, ["venv", "assets", "code"], out)
    found = samples.tree(out)
    contents = samples.ENVIRONMENT | samples.awkward() | samples.CODE
    assert {path: found[path][2] for path in contents} == contents
    return found


def _tar(path: Path, out: Path) -> None:
    subprocess.run(["tar", "-xzf", path, "-C", out], check=True)


def _bsdtar(path: Path, out: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    subprocess.run(["bsdtar", "-xzf", path, "-C", out], check=True, env=env)


def _busybox(path: Path, out: Path) -> None:
    subprocess.run(["busybox", "tar", "-xzf", path, "-C", out], check=True)


def _tarfile(path: Path, out: Path) -> None:
    with tarfile.open(path) as archive:
        archive.extractall(out, filter="fully_trusted")


@pytest.mark.parametrize("extract", [_tar, _bsdtar, _busybox, _tarfile, independent_reader.extract])
def test_every_reader_gives_the_same_tree(
    extract: Callable[[Path, Path], None], artifact: Path, expected: Tree, tmp_path: Path
) -> None:
    extract(artifact, tmp_path)
    found = samples.tree(tmp_path)
    own = {path: found.pop(path) for path in list(found) if path.startswith(".artifact")}
    assert found == expected
    if extract is not independent_reader.extract:
        assert sorted(own) == [
            ".artifact",
            ".artifact/assets.toc",
            ".artifact/code.toc",
            ".artifact/manifest.json",
            ".artifact/manifest.sig",
            ".artifact/venv.toc",
        ]


@pytest.mark.parametrize("argv", [["tar", "-tzf"], ["bsdtar", "-tf"], ["busybox", "tar", "-tzf"]])
def test_tar_has_nothing_to_say_about_it(argv: list[str], artifact: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    child = subprocess.run([*argv, artifact], capture_output=True, check=True, env=env)
    assert child.stderr == b""


@pytest.mark.parametrize(
    "argv", [["gzip", "-t"], ["pigz", "-t"], ["busybox", "gunzip", "-t"], ["zcat"]]
)
def test_gzip_has_nothing_to_say_about_it(argv: list[str], artifact: Path) -> None:
    child = subprocess.run([*argv, artifact], capture_output=True, check=True)
    assert child.stderr == b""


def test_no_owner_and_no_clock_is_in_it(artifact: Path) -> None:
    with tarfile.open(artifact) as archive:
        for member in archive:
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert member.mtime in {layout.ENTRY_MTIME, samples.CREATED}
            assert member.mode in {0o644, 0o755, 0o777}
            long = max(map(len, (member.name.encode(), member.linkname.encode()))) > 99
            assert long or not member.pax_headers
