"""Finding the interpreter: behind links, virtualenvs and shims, asked once, never mistaken."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from pathlib import Path

import pytest

from artifact.building import interpreter
from artifact.building.caches import Caches
from artifact.errors import ConfigurationError

BASE = os.path.realpath(sys.executable)


@pytest.fixture
def caches(tmp_path: Path) -> Caches:
    return Caches(str(tmp_path / "site"), tmp_path / "cache")


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def counting(path: Path, python: str = BASE) -> Path:
    """Write a program that is a Python and counts how often it is started."""
    count = path.parent / "count"
    return script(path, f'#!/bin/sh\necho x >>"{count}"\nexec "{python}" "$@"\n')


def starts(path: Path) -> int:
    count = path.parent / "count"
    return len(count.read_text().splitlines()) if count.exists() else 0


def test_it_is_what_python_says_of_itself(caches: Caches) -> None:
    found = interpreter.find(sys.executable, caches)
    assert str(found.path) == BASE
    assert found.version == sys.version.split()[0]
    assert found.base_prefix == sys.base_prefix
    assert found.cache_tag == sys.implementation.cache_tag
    assert found.markers["python_full_version"] == found.version
    assert found.markers["platform_release"] == os.uname().release


@pytest.mark.parametrize("how", ["--symlinks", "--copies"])
def test_a_virtualenvs_python_is_the_one_it_was_made_from(
    tmp_path: Path, caches: Caches, how: str
) -> None:
    target = tmp_path / "venv"
    argv = [sys.executable, "-m", "virtualenv", "--no-download", "--no-seed", "--quiet", how]
    subprocess.run([*argv, str(target)], check=True)
    assert interpreter.find(str(target / "bin" / "python"), caches).path == Path(BASE)


def test_the_second_time_starts_no_process(tmp_path: Path, caches: Caches) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(BASE)
    first = interpreter.find(str(python), caches)
    # Whatever stands there now, its size and time being equal, nobody asks it.
    kept = next(caches.interpreters.iterdir())
    kept.write_text(kept.read_text().replace(f'"version":"{first.version}"', '"version":"3.99.1"'))
    assert interpreter.find(str(python), caches).version == "3.99.1"


def test_another_file_under_the_same_path_is_asked_again(tmp_path: Path, caches: Caches) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(BASE)
    interpreter.find(str(python), caches)
    python.unlink()
    python.symlink_to("/bin/true")
    with pytest.raises(ConfigurationError, match="is not a Python interpreter"):
        interpreter.find(str(python), caches)


def test_a_script_is_asked_each_time(tmp_path: Path, caches: Caches) -> None:
    python = counting(tmp_path / "bin" / "python3")
    assert interpreter.find(str(python), caches).path == Path(BASE)
    interpreter.find(str(python), caches)
    assert starts(python) == 2


def shim(root: Path) -> Path:
    (root / "versions" / "3.11.7").mkdir(parents=True)
    return counting(root / "shims" / "python3")


def test_a_pyenv_shim_is_asked_once_for_each_choice(
    tmp_path: Path, caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYENV_VERSION", "PYENV_DIR"):
        monkeypatch.delenv(name, raising=False)
    root, project = tmp_path / "pyenv", tmp_path / "work" / "project"
    project.mkdir(parents=True)
    python = shim(root)
    count = 0

    def asks() -> bool:
        nonlocal count
        interpreter.find(str(python), caches, project=project)
        before, count = count, starts(python)
        return count > before

    assert asks()
    assert not asks()
    (project.parent / ".python-version").write_text("3.12.1\n")
    assert asks(), "a file above the project"
    assert not asks()
    (root / "version").write_text("3.11\n")
    assert asks(), "the global choice"
    (root / "versions" / "3.11.9").mkdir()
    assert asks(), "3.11 may mean another one now"
    monkeypatch.setenv("PYENV_VERSION", "3.10")
    assert asks(), "the variable"
    assert not asks()


def test_a_missing_interpreter_names_those_that_are_there(
    tmp_path: Path, caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("python3.9", "python3.11", "python3.10", "python3-config", "pythonw"):
        script(tmp_path / "bin" / name, "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(
        ConfigurationError, match=r"no 'python3\.99' on this machine's PATH"
    ) as caught:
        interpreter.find("python3.99", caches)
    assert caught.value.hint.endswith("on PATH here: python3.9, python3.10, python3.11")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho broken library >&2\nexit 127\n", "does not work: it exited with status"),
        ("#!/bin/sh\necho hello\n", "is not a Python interpreter"),
        ('#!/bin/sh\necho \'{"too_old": "2.7.18"}\'\n', "is Python 2.7.18; the oldest"),
        ("#!/nonexistent/interpreter\n", "does not work: it cannot be started"),
    ],
)
def test_a_program_that_is_no_python_of_use_is_said(
    tmp_path: Path, caches: Caches, text: str, said: str
) -> None:
    python = script(tmp_path / "bin" / "python3", text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        interpreter.find(str(python), caches)
    assert caught.value.hint


def test_a_project_cannot_shadow_what_the_probe_imports(tmp_path: Path, caches: Caches) -> None:
    for name in ("platform.py", "json.py", "sysconfig.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')\n")
    python = counting(tmp_path / "bin" / "python3")
    assert interpreter.find(str(python), caches, project=tmp_path).path == Path(BASE)


def every_other() -> list[str]:
    """Return the other Pythons of this machine, those of pyenv included."""
    home = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    found = glob.glob(f"{home}/versions/3.*/bin/python3") + glob.glob("/usr/bin/python3")
    return sorted({os.path.realpath(path) for path in (*found, sys.executable)})


@pytest.mark.parametrize("path", every_other())
def test_the_probes_run_in_every_python_of_this_machine(path: str, caches: Caches) -> None:
    version = subprocess.run([path, "-V"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, version.split()[1].split(".")[:2])) < interpreter.OLDEST:
        with pytest.raises(ConfigurationError, match=r"the oldest supported is 3\.8"):
            interpreter.find(path, caches)
        return
    found = interpreter.find(path, caches)
    assert str(found.path) == path
    assert found.version == version.split()[1]
