"""What a new environment is checked for, before anybody can use it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from artifact import steps
from artifact.building.environments import cleanup, dependency_check, elf, inspection
from artifact.building.environments.dependency_check import Package
from artifact.building.environments.inspection import InspectionResult
from artifact.building.interpreter import Interpreter
from tests.building.sites import Bench

MARKERS = {"python_version": "3.11", "sys_platform": "linux", "extra": ""}


def package(name: str, version: str, *requires: str) -> Package:
    return Package(canonicalize_name(name), version, tuple(map(Requirement, requires)))


def complaints(*packages: Package) -> list[str]:
    return dependency_check.problems(packages, MARKERS)


def test_what_is_missing_or_does_not_fit_is_named() -> None:
    assert complaints(package("a", "1", "B>=2", "c"), package("b", "1")) == [
        "a 1 requires B>=2, but b 1 is installed",
        "a 1 requires c, which is not installed",
    ]


def test_markers_that_do_not_apply_require_nothing() -> None:
    assert not complaints(
        package("a", "1", "b; sys_platform == 'win32'", "c; python_version < '3.9'")
    )


def test_extras_count_when_somebody_asks_for_them() -> None:
    b = package("b", "1", "c; extra == 'fast'", "d; extra == 'slow'")
    assert not complaints(package("a", "1", "b"), b)
    asked = package("a", "1", "b[Fast]")
    assert complaints(asked, b) == ["b 1 requires c, which is not installed"]
    assert not complaints(asked, b, package("c", "3"))


def test_extras_that_ask_for_extras_are_followed() -> None:
    b = package("b", "1", "b[fast]; extra == 'all'", "c; extra == 'fast'")
    assert complaints(package("a", "1", "b[all]"), b) == ["b 1 requires c, which is not installed"]


def test_a_locked_pre_release_is_meant() -> None:
    assert not complaints(package("a", "1", "b>=2"), package("b", "3.0rc1"))


def library(path: Path, *links: str, source: str = "int f(void) { return 1; }\n") -> Path:
    """Compile a shared library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = path.with_suffix(".c")
    code.write_text(source)
    argv = ["cc", "-shared", "-fPIC", "-o", str(path), str(code), "-Wl,--no-as-needed", *links]
    subprocess.run(argv, check=True)
    code.unlink()
    return path


def look(root: Path, interpreter: Interpreter, workspace: str = "/builds/app") -> InspectionResult:
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return inspection.inspect(root, paths, interpreter, Path(workspace), lambda: False)


def test_libraries_inside_are_found_by_their_rpath(bench: Bench) -> None:
    root = bench.base / "environment"
    inner = library(root / "pkg.libs" / "libinner.so.1", "-Wl,-soname,libinner.so.1")
    library(root / "pkg" / "ext.so", str(inner), "-Wl,-rpath,$ORIGIN/../pkg.libs")
    found = look(root, bench.interpreter)
    assert not found.missing
    assert not found.libraries
    ext = elf.read_binary(root, "pkg/ext.so", elf.platform_of(bench.interpreter.path))
    assert ext is not None
    assert elf.search_directories(ext) == ("pkg.libs",)
    assert "libinner.so.1" in ext.needed


def test_a_link_beside_is_enough(bench: Bench) -> None:
    root = bench.base / "environment"
    inner = library(root / "pkg.libs" / "libinner.so.1", "-Wl,-soname,libother.so.1")
    library(root / "pkg" / "ext.so", str(inner), "-Wl,-rpath,$ORIGIN/../pkg.libs")
    inner.rename(inner.with_name("anything.so"))
    (root / "pkg.libs" / "libother.so.1").symlink_to("anything.so")
    assert not look(root, bench.interpreter).missing


def test_what_comes_from_the_system_is_recorded_and_what_is_nowhere_is_named(
    bench: Bench,
) -> None:
    root = bench.base / "environment"
    gone = library(bench.base / "libgone.so.7", "-Wl,-soname,libgone.so.7")
    library(root / "pkg" / "ext.so", str(gone), "-lgcc_s", "-lm")
    found = look(root, bench.interpreter)
    assert found.missing == {"libgone.so.7": "pkg/ext.so"}
    assert found.libraries == ("libgcc_s.so.1",), "libm is glibc's own"


def test_the_highest_glibc_version_any_file_needs_is_found(bench: Bench) -> None:
    root = bench.base / "environment"
    source = (
        "#include <string.h>\n"
        '__asm__(".symver memcpy, memcpy@GLIBC_2.14");\n'
        "void *f(void *a, void *b, unsigned long n) { return memcpy(a, b, n); }\n"
    )
    library(root / "old.so", "-nostartfiles")
    library(root / "new.so", "-nostartfiles", "-fno-builtin", source=source)
    if bench.interpreter.markers["platform_machine"] != "x86_64":
        pytest.fail("write down the symbol version of memcpy on this machine")
    assert look(root, bench.interpreter).glibc == "2.14"
    assert elf.highest(["2.9", "2.14", "2.2.5"]) == "2.14"


def test_binaries_of_other_machines_and_damaged_ones_are_passed_over(bench: Bench) -> None:
    root = bench.base / "environment"
    whole = library(root / "whole.so", "-lgcc_s").read_bytes()
    other = bytearray(whole)
    other[18] ^= 0xFF
    (root / "other.so").write_bytes(other)
    (root / "cut.so").write_bytes(whole[:1000])
    (root / "short.so").write_bytes(whole[:10])
    (root / "whole.so").unlink()
    assert look(root, bench.interpreter) == InspectionResult()


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("'/builds/app/x.py'", True),
        ("/builds/app", True),
        ("file:///builds/app/x", True),
        ("/builds/application", False),
        ("/srv/builds/app", False),
        ("/builds/app-2/x", False),
    ],
)
def test_the_checkouts_path_is_found_as_a_path(bench: Bench, text: str, *, holds: bool) -> None:
    root = bench.base / "environment"
    root.mkdir()
    (root / "file.txt").write_text(text)
    assert look(root, bench.interpreter).holding == (("file.txt",) if holds else ())


def test_the_checkouts_path_is_found_across_the_border_of_what_is_read_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_READ_BYTES", 64)
    root = bench.base / "environment"
    root.mkdir()
    for before in range(50, 70):
        (root / f"{before}.txt").write_text(" " * before + "/builds/app/x" + " " * 300)
    assert len(look(root, bench.interpreter).holding) == 20


def records(root: Path, name: str) -> Sequence[str]:
    return (root / f"{name}.dist-info" / "RECORD").read_text().splitlines()


def test_what_says_how_it_was_installed_goes_from_the_record_too(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr\ncommand = /work/bin/virtualenv x\n")
    (tmp_path / "CACHEDIR.TAG").touch()
    info = tmp_path / "a-1.dist-info"
    info.mkdir()
    (info / "direct_url.json").write_text('{"url": "file:///home/me/wheels/a-1.whl"}')
    (info / "uv_cache.json").write_text("{}")
    (info / "RECORD").write_text(
        "b.py,sha256=x,1\na-1.dist-info/RECORD,,\na-1.dist-info/direct_url.json,,\n"
        'a-1.dist-info/uv_cache.json,,\n"a,b.py",sha256=y,1\n'
    )
    (tmp_path / "b.py").touch()
    (tmp_path / "a,b.py").touch()
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    (cache / "b.cpython-38.pyc").touch()
    assert cleanup.clean(tmp_path) == ["a,b.py", "a-1.dist-info/RECORD", "b.py", "pyvenv.cfg"]
    assert records(tmp_path, "a-1") == [
        '"a,b.py",sha256=y,1',
        "a-1.dist-info/RECORD,,",
        "b.py,sha256=x,1",
    ]
    assert (tmp_path / "pyvenv.cfg").read_text() == "home = /usr\n"


def test_where_a_package_of_a_repository_came_from_stays(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").touch()
    info = tmp_path / "a-1.dist-info"
    info.mkdir()
    (info / "direct_url.json").write_text('{"url": "https://example.com/a.git"}')
    assert "a-1.dist-info/direct_url.json" in cleanup.clean(tmp_path)


def test_a_hardlink_into_a_cache_is_replaced_by_a_copy(tmp_path: Path) -> None:
    cached, root = tmp_path / "cached.py", tmp_path / "environment"
    root.mkdir()
    (root / "pyvenv.cfg").touch()
    cached.write_text("x = 1\n")
    (root / "a.py").hardlink_to(cached)
    cleanup.clean(root)
    (root / "a.py").chmod(0o444)
    assert cached.stat().st_mode & 0o200
    assert cached.stat().st_nlink == 1


def test_a_missing_library_is_warned_about(bench: Bench) -> None:
    gone = library(bench.base / "libgone.so.7", "-Wl,-soname,libgone.so.7")
    content = library(bench.base / "ext.so", str(gone), "-lgcc_s").read_bytes()
    bench.require(bench.wheel("ledger", "1.0", {"ledger/__init__.py": "", "ledger/x.so": content}))
    made = bench.ensure()
    assert made.marker.python.libraries == ("libgcc_s.so.1",)
    (warned,) = [event for event in bench.events if isinstance(event, steps.Warned)]
    assert "ledger/x.so needs libgone.so.7" in warned.text
    assert warned.hint
