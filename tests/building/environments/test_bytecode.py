"""Bytecode: valid whatever the times of files, equal whatever was compiled before."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from artifact import steps
from artifact.building import interpreter
from artifact.building.caches import Caches
from artifact.building.environments import bytecode
from artifact.building.environments.bytecode import Bytecode
from artifact.building.interpreter import Interpreter
from artifact.errors import ConfigurationError
from artifact.process import ChildFailed
from tests.building.test_interpreter import every_other

SHOWN = "/srv/accounting/releases/current"
# Strings and tuples that modules share are what marshal's reference flags stumble over.
MODULE = """\
import os
names = ('alpha', 'beta', {n})
kinds = {{'alpha', 'beta', 'gamma'}}
def path(alpha, beta=os.path):
    return beta.join(alpha, 'path', 'alpha', 'part{n}')
"""


@pytest.fixture
def caches(tmp_path: Path) -> Caches:
    return Caches(str(tmp_path / "site"), tmp_path / "cache")


@pytest.fixture
def python(caches: Caches) -> Interpreter:
    return interpreter.find(sys.executable, caches)


def write(root: Path, count: int) -> list[str]:
    """Write modules, and return their paths."""
    paths = [f"app/part{n}.py" for n in range(count)]
    (root / "app").mkdir(parents=True, exist_ok=True)
    for n, path in enumerate(paths):
        (root / path).write_text(MODULE.format(n=n))
    return paths


def compiled(found: tuple[Bytecode, ...]) -> dict[str, bytes]:
    return {one.path: Path(one.source).read_bytes() for one in found}


def test_code_is_checked_by_its_source_and_shows_the_path_of_the_live_release(
    tmp_path: Path, caches: Caches, python: Interpreter
) -> None:
    root = tmp_path / "checkout"
    paths = write(root, 1)
    (one,) = bytecode.compile_sources(root, paths, SHOWN, python, caches, steps.nobody)
    assert one.path == f"app/__pycache__/part0.{python.cache_tag}.pyc"
    content = Path(one.source).read_bytes()
    assert content[:4] == importlib.util.MAGIC_NUMBER
    assert content[4:8] == b"\x03\0\0\0", "checked hash"
    assert content[8:16] == importlib.util.source_hash((root / paths[0]).read_bytes())
    assert marshal.loads(content[16:]).co_filename == f"{SHOWN}/app/part0.py"


def test_a_hot_fix_takes_effect(tmp_path: Path, caches: Caches, python: Interpreter) -> None:
    root = tmp_path / "release"
    root.mkdir()
    (root / "view.py").write_text("answer = 1\n")
    (one,) = bytecode.compile_sources(root, ["view.py"], SHOWN, python, caches, steps.nobody)
    target = root / one.path
    target.parent.mkdir()
    target.write_bytes(Path(one.source).read_bytes())

    def ask() -> str:
        argv = [str(python.path), "-B", "-c", "import view; print(view.answer)"]
        return subprocess.run(argv, cwd=root, capture_output=True, text=True, check=True).stdout

    assert ask() == "1\n"
    (root / "view.py").write_text("answer = 2\n")
    assert ask() == "2\n"


@pytest.mark.parametrize("path", every_other())
def test_bytes_do_not_depend_on_what_else_is_compiled(path: str, tmp_path: Path) -> None:
    """The first file makes the compiler import `unicodedata`, whose names then live in it; up to
    Python 3.10 that changed the reference flags in the bytecode of the second, and of no other.
    """
    caches = [Caches("/srv/accounting", tmp_path / f"cache{n}") for n in range(3)]
    try:
        python = interpreter.find(path, caches[0])
    except ConfigurationError:
        return  # too old, which test_interpreter.py is about
    root = tmp_path / "checkout"
    paths = [*write(root, 20), "accents.py", "decimals.py"]
    (root / "accents.py").write_text("é = 1\n")
    (root / "decimals.py").write_text("from decimal import Decimal\nFORM = 'NFKC'\n")

    def compile_(which: list[str], caches: Caches) -> dict[str, bytes]:
        return compiled(bytecode.compile_sources(root, which, SHOWN, python, caches, steps.nobody))

    among = compile_(paths, caches[0])
    for one in paths[-3:]:
        compile_([one], caches[1])
    assert compile_(paths, caches[1]) == among
    compile_(paths[-1:], caches[2])
    assert compile_(paths, caches[2]) == among


def test_an_environment_compiled_twice_has_equal_bytes(tmp_path: Path, python: Interpreter) -> None:
    root = tmp_path / "environment"
    paths = write(root, 200)

    def digests() -> dict[str, str]:
        assert bytecode.compile_environment(root, paths, python, steps.nobody) == 0
        found = sorted((root / "app" / "__pycache__").iterdir())
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    first = digests()
    assert len(first) == 200
    assert digests() == first


def test_the_tests_of_packages_stay_sources(tmp_path: Path, python: Interpreter) -> None:
    root = tmp_path / "environment"
    paths = ["pandas/tests/test_frame.py", "pandas/testing.py", "tests/at_the_top.py"]
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("found = True\n")
    bytecode.compile_environment(root, paths, python, steps.nobody)
    made = {path.relative_to(root).parent.as_posix() for path in root.rglob("*.pyc")}
    assert made == {"pandas/__pycache__", "tests/__pycache__"}


def test_hash_seeds_do_not_reach_the_bytes(
    tmp_path: Path, python: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "environment"
    paths = write(root, 1)
    target = root / "app" / "__pycache__" / f"part0.{python.cache_tag}.pyc"
    seen = set()
    for seed in ("1", "2", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        monkeypatch.setenv("PYTHONOPTIMIZE", seed)
        bytecode.compile_environment(root, paths, python, steps.nobody)
        seen.add(target.read_bytes())
    assert len(seen) == 1


def test_unchanged_sources_cost_no_process_and_little_time(
    tmp_path: Path, caches: Caches, python: Interpreter
) -> None:
    root = tmp_path / "checkout"
    paths = write(root, 1000)
    bytecode.compile_sources(root, paths, SHOWN, python, caches, steps.nobody)
    events: list[steps.Event] = []
    began = time.process_time()
    found = bytecode.compile_sources(root, paths, SHOWN, python, caches, events.append)
    assert time.process_time() - began < 0.1
    assert len(found) == 1000
    assert not events, "nothing was compiled"
    (root / paths[7]).write_text("changed = True\n")
    bytecode.compile_sources(root, paths, SHOWN, python, caches, events.append)
    ran, compiled = events
    assert isinstance(ran, steps.Ran), "the compiler was run once"
    assert compiled == steps.Progress("compiling", 1, 1, "files")


def test_a_template_of_code_is_warned_about_each_time_and_not_compiled(
    tmp_path: Path, caches: Caches, python: Interpreter
) -> None:
    root = tmp_path / "checkout"
    paths = write(root, 1)
    (root / "template.py").write_text("import {{ cookiecutter.name }}\n")
    for _ in range(2):
        events: list[steps.Event] = []
        found = bytecode.compile_sources(
            root, [*paths, "template.py", "README.md"], SHOWN, python, caches, events.append
        )
        assert [one.path for one in found] == [f"app/__pycache__/part0.{python.cache_tag}.pyc"]
        (warned,) = [event for event in events if isinstance(event, steps.Warned)]
        assert warned.text.startswith("template.py cannot be compiled")


@pytest.mark.parametrize("content", [b"", b"\0" * 10])
def test_a_kept_file_that_a_power_cut_left_short_is_made_again(
    tmp_path: Path, caches: Caches, python: Interpreter, content: bytes
) -> None:
    root = tmp_path / "checkout"
    paths = write(root, 1)
    (one,) = bytecode.compile_sources(root, paths, SHOWN, python, caches, steps.nobody)
    whole = Path(one.source).read_bytes()
    Path(one.source).write_bytes(content)
    (again,) = bytecode.compile_sources(root, paths, SHOWN, python, caches, steps.nobody)
    assert Path(again.source).read_bytes() == whole


def test_what_nobody_used_for_days_is_listed_and_use_is_noted(
    tmp_path: Path, caches: Caches, python: Interpreter
) -> None:
    root = tmp_path / "checkout"
    found = bytecode.compile_sources(root, write(root, 2), SHOWN, python, caches, steps.nobody)
    for one in found:
        os.utime(one.source, (1, 1))
    bytecode.compile_sources(root, ["app/part1.py"], SHOWN, python, caches, steps.nobody)
    since = time.time() - 60
    assert [str(path) for path, _ in bytecode.unused(caches, since=since)] == [found[0].source]


def test_a_file_that_cannot_be_written_stops_it(tmp_path: Path, python: Interpreter) -> None:
    root = tmp_path / "environment"
    paths = write(root, 1)
    (root / "app" / "__pycache__").write_text("in the way")
    with pytest.raises(ChildFailed):
        bytecode.compile_environment(root, paths, python, steps.nobody)
