"""Finding requirements, and reading pyproject.toml, pylock.toml and uv.lock."""

from __future__ import annotations

import subprocess

import pytest
import uv

from artifact.building.locking import project_requirements
from artifact.errors import ArtifactError, BuildFailed, UsageError
from surroundings.index import Index, sha256
from tests.building.conftest import Project

HASH = f"sha256:{'a' * 64}"


def names(project: Project) -> list[str]:
    found = project_requirements.read_requirements(
        project.path,
        project.section,
        project.interpreter,
        project_requirements.find(project.path, project.section),
    )
    return [f"{entry.name}{entry.specifier}" for entry in found.entries]


def test_the_first_of_the_known_files_is_taken(project: Project) -> None:
    weakest_first = {
        "pyproject.toml": '[project]\nname = "x"\ndependencies = ["in-pyproject"]\n',
        "requirements.in": "in-in\n",
        "requirements.txt": "in-txt\n",
        "pylock.toml": f'lock-version = "1.0"\ncreated-by = "t"\n{package("in-pylock", "1")}',
        "requirements.lock": f"in-lock==1 --hash={HASH}\n",
    }
    found = []
    for name, text in weakest_first.items():
        project.write(name, text)
        found += names(project)
    assert found == ["in-pyproject", "in-in", "in-txt", "in-pylock==1", "in-lock==1"]
    project.use(files=("requirements.txt", "pyproject.toml"))
    assert names(project) == ["in-txt", "in-pyproject"]


def test_a_project_without_requirements_is_told_what_to_write(project: Project) -> None:
    project.write("pyproject.toml", '[tool.artifact]\nname = "x"\n')
    with pytest.raises(UsageError, match="has no requirements file") as caught:
        project.lock()
    assert "requirements.txt" in caught.value.hint
    project.use(files=("nothere.txt",))
    with pytest.raises(UsageError, match=r"requirements\.files: there is no file nothere\.txt"):
        project.lock()


def test_an_empty_file_is_an_empty_lock(project: Project, index: Index) -> None:
    project.write("requirements.txt", "# nothing yet\n")
    locked = project.lock()
    assert (locked.pins, locked.text) == ((), "")
    assert project.install(locked) == {}
    assert project.install(locked, "pip") == {}


PYPROJECT = """
[project]
name = "Accounting"
requires-python = ">=3.8"
dependencies = ["django>=5"]
[project.optional-dependencies]
postgres = ["psycopg"]
all = ["accounting[postgres]", "celery"]
[dependency-groups]
docs = ["sphinx", { include-group = "lint" }]
lint = ["ruff"]
"""


def test_pyproject_gives_dependencies_extras_and_groups(project: Project) -> None:
    project.write("pyproject.toml", PYPROJECT)
    assert names(project) == ["django>=5"]
    project.use(extras=("all",), groups=("docs",))
    assert sorted(names(project)) == ["celery", "django>=5", "psycopg", "ruff", "sphinx"]


def test_require_hashes_takes_a_file_of_links_alone(project: Project) -> None:
    link = f"https://h/six-1.16.0-py2.py3-none-any.whl --hash={HASH}"
    project.write("requirements.txt", f"--require-hashes\n{link}\n")
    assert names(project) == ["six"]
    project.write("requirements.txt", f"--require-hashes\n{link}\ndjango==5.2\n")
    with pytest.raises(UsageError, match=r"requirements\.txt:3: django is not pinned with hashes"):
        names(project)


@pytest.mark.parametrize(
    ("text", "changes", "sentence", "code"),
    [
        (PYPROJECT, {"extras": ("nope",)}, "there is no extra 'nope'", 2),
        (PYPROJECT, {"groups": ("nope",)}, "dependency-groups", 2),
        ('[project]\ndynamic = ["dependencies"]\n', {}, "is dynamic", 2),
        ('[tool.poetry.dependencies]\ndjango = "5"\n', {}, "Poetry's own table", 2),
        ('[project]\ndependencies = ["a ="]\n', {}, "pyproject.toml: 'a =' is not a", 2),
        ('[project]\ndependencies = ["a @ https://h/a.zip"]\n', {}, "has no hash", 2),
        ("[project\n", {}, "is not TOML", 2),
        ('[project]\nrequires-python = ">=3.99"\ndependencies = []\n', {}, "requires Python", 3),
    ],
)
def test_a_pyproject_that_cannot_be_used_says_why(
    project: Project, text: str, changes: dict[str, object], sentence: str, code: int
) -> None:
    project.write("pyproject.toml", text)
    project.use(**changes)
    with pytest.raises(ArtifactError) as caught:
        project.lock()
    assert sentence in caught.value.message
    assert caught.value.code == code


def package(name: str, version: str, *, marker: str = "", sdist: bool = False) -> str:
    """Return a package of a pylock.toml."""
    wheel = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    lines = ["[[packages]]", f'name = "{name}"', f'version = "{version}"']
    lines += [f'marker = "{marker}"'] if marker else []
    of_sdist, of_wheel = ('hashes = { sha256 = "' + digit * 64 + '" } }' for digit in ("b", "a"))
    lines += [f'sdist = {{ url = "https://h/{name}-{version}.tar.gz", {of_sdist}'] if sdist else []
    lines += [f'wheels = [{{ url = "https://h/{wheel}", {of_wheel}]']
    return "\n".join(lines) + "\n"


PYLOCK = f"""
lock-version = "1.0"
requires-python = ">=3.8"
extras = ["postgres"]
dependency-groups = ["dev", "main"]
default-groups = ["main"]
created-by = "tests"
{package("django", "5.2", sdist=True)}
{package("psycopg", "3.2", marker="'postgres' in extras")}
{package("ruff", "0.1", marker="'dev' in dependency_groups")}
{package("pywin32", "1", marker="sys_platform == 'win32'")}
"""


def test_pylock_gives_what_applies_with_its_hashes(project: Project) -> None:
    project.write("pylock.toml", PYLOCK)
    (pin,) = project.lock().pins
    assert (pin.name, pin.version) == ("django", "5.2")
    assert pin.hashes == (HASH, f"sha256:{'b' * 64}")
    project.use(extras=("postgres",), groups=("dev",))
    assert sorted(names(project)) == ["django==5.2", "psycopg==3.2", "ruff==0.1"]


def test_pylock_for_another_python_is_refused(project: Project) -> None:
    project.write("pylock.toml", PYLOCK.replace(">=3.8", ">=3.99"))
    with pytest.raises(BuildFailed, match=r"requires Python >=3\.99"):
        project.lock()
    project.write("pylock.toml", 'lock-version = "1.0"\n')
    with pytest.raises(UsageError, match=r"pylock\.toml is not a lock"):
        project.lock()


def test_uv_lock_is_exported_once_and_installs(project: Project, index: Index) -> None:
    wheel = index.wheel("ledger", "1.0", requires=["money"])
    index.wheel("money", "1.0")
    index.wheel("linter", "1.0")
    project.write(
        "pyproject.toml",
        '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.8"\n'
        'dependencies = ["ledger"]\n[dependency-groups]\ndev = ["linter"]\n',
    )
    argv = [uv.find_uv_bin(), "lock", "--quiet", "--default-index", index.url]
    subprocess.run(argv, cwd=project.path, check=True)
    locked = project.lock()
    assert locked.origin == "uv.lock"
    assert [pin.name for pin in locked.pins] == ["ledger", "money"]
    assert locked.pins[0].hashes == (sha256(wheel),)
    assert not locked.resolved
    asked = project.said.count("reading uv.lock")
    project.lock()
    assert project.said.count("reading uv.lock") == asked
    assert project.install(locked) == {"ledger": "1.0", "money": "1.0"}
    project.use(groups=("dev",))
    assert [pin.name for pin in project.lock().pins] == ["ledger", "linter", "money"]
    project.use(groups=("nope",))
    with pytest.raises(UsageError, match=r"reading uv\.lock failed"):
        project.lock()
