"""Environments: reused while nothing changed, compiled anew for every reason there is."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifact import files, steps
from artifact.building.environments import environment, marker
from artifact.building.environments.environment import Environment
from artifact.configuration.artifact_toml import RequirementsSection
from artifact.errors import BuildFailed, Locked
from tests.building.conftest import Machine
from tests.building.sites import Bench

ROOT = Path(__file__).parents[3]
BUILDER = "-m tests.building.build_in_child"


def python_of(made: Environment) -> str:
    return str(made.path / "bin" / "python")


def site_packages(made: Environment) -> Path:
    return next((made.path / "lib").glob("python*/site-packages"))


def unlocked(path: Path) -> Path:
    """Take the protection from a file and its directory, as somebody who meddles would."""
    path.parent.chmod(0o755)
    if path.exists():
        path.chmod(0o644)
    return path


def test_an_unchanged_lock_reuses_the_environment(bench: Bench) -> None:
    made = bench.ensure()
    assert not made.reused
    assert made.reasons == (environment.FIRST,)
    assert made.marker.packages == {"ledger": "1.0"}
    again = bench.ensure()
    assert again.reused
    assert again == environment.Environment(made.path, made.marker)
    run = subprocess.run(
        [python_of(made), "-c", "import ledger; print(ledger.version)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "1.0\n"


def test_a_changed_pin_compiles_another_one_beside_and_says_which(bench: Bench) -> None:
    first = bench.ensure()
    bench.require(bench.wheel("ledger", "1.1"))
    second = bench.ensure()
    assert second.reasons == ("ledger 1.0 → 1.1",)
    assert "the environment is compiled: ledger 1.0 → 1.1" in bench.said
    why = environment.last_miss(bench.caches)
    assert why is not None
    assert (why.reasons, why.key, why.compared) == (second.reasons, second.key, first.key)
    bench.require(bench.wheel("ledger", "1.0"))
    assert bench.ensure().reused, "going back costs nothing"


def test_reasons_compare_with_what_the_same_application_used(bench: Bench) -> None:
    bench.ensure()
    bench.name = "invoices"
    bench.require(bench.wheel("invoicing", "7.0"))
    bench.ensure()
    bench.name = "accounting"
    bench.require(bench.wheel("ledger", "1.1"))
    assert bench.ensure().reasons == ("ledger 1.0 → 1.1",)


def test_nothing_in_a_finished_environment_can_be_written(bench: Bench) -> None:
    made = bench.ensure()
    for parent, directories, names in os.walk(made.path):
        for name in (*directories, *names):
            mode = os.lstat(os.path.join(parent, name)).st_mode
            assert stat.S_ISLNK(mode) or not mode & 0o222, os.path.join(parent, name)
    assert not made.path.stat().st_mode & 0o222


def test_nothing_tells_how_and_where_it_was_made(bench: Bench) -> None:
    made = bench.ensure()
    # The tool itself may live in the workspace, as may its wheels.
    caches = (sys.prefix, str(bench.caches.shared), str(bench.wheels), "pip-cache", "uv-cache")
    for path in made.path.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            for place in caches:
                assert place.encode() not in content, path
    for noise in (".lock", ".gitignore", "CACHEDIR.TAG"):
        assert not (made.path / noise).exists()
    assert not list(site_packages(made).rglob("setuptools*")), "no pip, setuptools or wheel"


@pytest.mark.parametrize("tools", ["uv", "pip"])
def test_two_compiles_of_one_lock_give_equal_trees(
    bench: Bench, machine: Machine, tools: str
) -> None:
    bench.section = RequirementsSection(tools=tools)  # type: ignore[arg-type]
    bench.caches.shared.mkdir(exist_ok=True)
    (bench.caches.shared / "helpers").symlink_to(machine.helpers)
    modules = {f"ledger/part{n}.py": f"name = 'value {n}'\ndata = {{'a', 'b'}}\n" for n in range(9)}
    bench.require(
        bench.wheel("ledger", "1.0", {"ledger/__init__.py": "", **modules}),
        bench.wheel("other", "1.0", {"other.py": "name = 'value 1'\n"}),
    )
    first = bench.pack(bench.ensure())
    bytes_of_first = first.path.read_bytes()
    path = bench.ensure().path
    unlocked(path / marker.NAME).unlink()
    second = bench.pack(bench.ensure())
    assert second.tree == first.tree
    assert second.path.read_bytes() == bytes_of_first


def test_a_pack_is_written_once_and_has_the_bytes_of_a_new_one(bench: Bench) -> None:
    made = bench.ensure()
    first = bench.pack(made)
    written = first.path.stat()
    content = first.path.read_bytes()
    assert bench.pack(bench.ensure()) == first
    assert first.path.stat().st_mtime_ns == written.st_mtime_ns
    first.path.unlink()
    assert bench.pack(bench.ensure()).path.read_bytes() == content


def test_bytecode_is_valid_whatever_the_times_of_the_files(bench: Bench) -> None:
    made = bench.ensure()
    pyc = next((site_packages(made) / "__pycache__").glob("ledger.*.pyc"))
    assert pyc.read_bytes()[4:8] == b"\x01\0\0\0", "unchecked hash"
    source = unlocked(site_packages(made) / "ledger.py")
    os.utime(source, (1, 1))
    code = "import ledger, sys; print(ledger.__cached__, ledger.__file__)"
    argv = [python_of(made), "-v", "-c", code]
    run = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert f"code object from '{pyc}'" in run.stderr


@contextmanager
def held(path: Path) -> Iterator[None]:
    with files.locked(path, doing="building the environment of a test"):
        yield


def test_a_second_build_of_a_key_says_for_whom_it_waits_and_gives_up(bench: Bench) -> None:
    key = bench.specify().key
    bench.caches.beside.mkdir(parents=True)
    with held(bench.caches.lock(key)), pytest.raises(Locked, match=f"pid {os.getpid()}") as caught:
        bench.ensure(lock_timeout=0.3)
    assert "building the environment of a test" in str(caught.value)
    assert any("waiting up to 0.3 s" in line for line in bench.said)
    assert not bench.caches.environment(key).exists()


def test_two_builds_at_once_make_one_environment(bench: Bench) -> None:
    other = Bench(bench.base, bench.interpreter)
    made: list[Environment] = []

    def build(one: Bench) -> None:
        made.append(one.ensure(lock_timeout=60))

    threads = [threading.Thread(target=build, args=(one,)) for one in (bench, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.reused for one in made) == [False, True]
    assert marker.observe(bench.caches, made[0].key).fresh


def variables() -> dict[str, str]:
    """Return what the child is given, the changes of fixtures included."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}


def in_child(bench: Bench) -> subprocess.Popen[bytes]:
    argv = [sys.executable, *BUILDER.split(), str(bench.base)]
    return subprocess.Popen(argv, cwd=ROOT, env=variables(), start_new_session=True)


def appears(root: Path, pattern: str, child: subprocess.Popen[bytes]) -> None:
    """Wait until a path exists below a root."""
    deadline = time.monotonic() + 60
    while not any(root.glob(pattern)):
        assert child.poll() is None, f"it ended before {pattern} appeared"
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize(
    "moment",
    [
        "virtualenv/*/pyvenv.cfg",
        "virtualenv/*/lib/*/site-packages/ledger",
        "virtualenv/*/lib/*/site-packages/ledger-1.0.dist-info/RECORD",
        "virtualenv/*/lib/*/site-packages/ledger/__pycache__/*.pyc",
    ],
)
def test_a_build_killed_at_any_moment_is_repeated_from_empty(bench: Bench, moment: str) -> None:
    modules = {f"ledger/part{n}.py": f"def f{n}(): return {n}\n" * 40 for n in range(600)}
    bench.require(bench.wheel("ledger", "1.0", {"ledger/__init__.py": "", **modules}))
    child = in_child(bench)
    appears(Path(bench.caches.root), moment, child)
    child.kill()
    child.wait()
    root = bench.specify().root
    assert not (root / marker.NAME).exists()
    (root / "left-behind").touch()
    made = bench.ensure(lock_timeout=60)
    assert made.reasons == ("an earlier build of it was interrupted",)
    assert not (made.path / "left-behind").exists()
    assert len(list(made.path.rglob("part*.pyc"))) == 600
    assert marker.observe(bench.caches, made.key).fresh
    assert not list(bench.caches.environments.glob(".removing-*"))


def test_what_a_killed_build_started_keeps_the_lock_until_it_ended(bench: Bench) -> None:
    # A wheel so large that its installation is still under way when we look.
    modules = {f"ledger/part{n}.py": f"def f{n}(): return {n}\n" * 200 for n in range(900)}
    bench.require(bench.wheel("ledger", "1.0", {"ledger/__init__.py": "", **modules}))
    child = in_child(bench)
    appears(Path(bench.caches.root), "virtualenv/*/lib/*/site-packages/ledger/__pycache__/*", child)
    child.kill()
    child.wait()
    lock = bench.caches.lock(bench.specify().key)
    with pytest.raises(Locked), held(lock):
        pass
    with files.locked(lock, doing="waiting for the rest", wait=60):
        count = len(list(bench.specify().root.rglob("*.pyc")))
    time.sleep(0.2)
    assert len(list(bench.specify().root.rglob("*.pyc"))) == count, "nobody writes any more"


def change(path: Path) -> None:
    status = path.stat()
    content = path.read_text()
    path.write_text(content.replace("1.0", "6.6"))
    assert path.stat().st_size == status.st_size


@pytest.mark.parametrize(
    ("meddle", "said"),
    [
        (change, "ledger.py was changed"),
        (Path.unlink, "ledger.py was removed"),
        (lambda path: (path.parent / "new.py").touch(), "new.py was added"),
        (lambda path: path.chmod(0o755), "ledger.py was changed"),
    ],
)
def test_a_modified_environment_is_found_and_compiled_anew(
    bench: Bench, meddle: Callable[[Path], None], said: str
) -> None:
    made = bench.ensure()
    bench.pack(made)
    meddle(unlocked(site_packages(made) / "ledger.py"))
    again = bench.ensure()
    assert not again.reused
    assert again.reasons[0].startswith("the cached environment was modified: ")
    assert again.reasons[0].endswith(said)
    assert "version = '1.0'" in (site_packages(again) / "ledger.py").read_text()
    assert bench.ensure().reused


def test_a_change_that_hides_its_time_is_found_by_digest(bench: Bench) -> None:
    made = bench.ensure()
    bench.pack(made)
    path = unlocked(site_packages(made) / "ledger.py")
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert bench.ensure().reused, "sizes and times are equal"
    again = bench.ensure(verify=True)
    assert again.reasons == (
        f"the cached environment was modified: {path.relative_to(made.path)} was changed",
    )


def test_an_environment_changed_during_the_build_is_not_packed(bench: Bench) -> None:
    made = bench.ensure()
    change(unlocked(site_packages(made) / "ledger.py"))
    with pytest.raises(BuildFailed, match=r"changed during the build: .*ledger.py was changed"):
        bench.pack(made)
    assert not bench.caches.pack(made.key).exists()


@pytest.mark.parametrize(
    ("delete", "reason"),
    [
        (lambda made: unlocked(made.path / marker.NAME).unlink(), "is half-deleted"),
        (lambda made: files.remove_tree(made.path), "was deleted"),
        (lambda made: files.remove_tree(made.path / "lib"), "was modified: lib was removed"),
    ],
)
def test_a_half_deleted_environment_is_compiled_anew(
    bench: Bench, delete: Callable[[Environment], None], reason: str
) -> None:
    made = bench.ensure()
    made.path.chmod(0o755)
    delete(made)
    again = bench.ensure()
    assert not again.reused
    assert reason in again.reasons[0]
    assert marker.observe(bench.caches, made.key).fresh


def test_what_an_installed_release_runs_from_is_not_compiled_anew_under_it(bench: Bench) -> None:
    made = bench.ensure()
    release = Path(bench.caches.root) / "releases" / "1337"
    release.mkdir(parents=True)
    (release / "virtualenv").symlink_to(f"../../virtualenv/{made.key}")
    change(unlocked(site_packages(made) / "ledger.py"))
    with pytest.raises(BuildFailed, match="release 1337 runs from"):
        bench.ensure()
    assert (site_packages(made) / "ledger.py").exists()


def test_a_path_that_cannot_be_written_is_one_error_with_both_remedies(bench: Bench) -> None:
    # A file where the directory should be: the tests may run as root, whom no mode stops.
    Path(bench.caches.root).write_text("")
    with pytest.raises(BuildFailed, match="cannot be written") as caught:
        bench.ensure()
    assert f"sudo install -d -o $USER {bench.caches.environments}" in caught.value.hint
    assert "ARTIFACT_ROOT" in caught.value.hint


@pytest.mark.parametrize("megabytes", [1, 3, 6])
def test_a_full_disk_is_said_and_leaves_nothing(bench: Bench, megabytes: int) -> None:
    modules = {f"ledger/part{n}.py": f"def f{n}(): return {n}\n" * 200 for n in range(500)}
    bench.require(bench.wheel("ledger", "1.0", {"ledger/__init__.py": "", **modules}))
    root = Path(bench.caches.root)
    root.mkdir()
    script = (
        f"mount -t tmpfs -o size={megabytes}m tmpfs {root} && "
        f"{sys.executable} {BUILDER} {bench.base}; status=$?; ls -A {root}/virtualenv; exit $status"
    )
    run = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=ROOT,
        env=variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 3, run.stderr
    assert "the disk is full" in run.stdout
    assert "artifact cache prune" in run.stdout
    assert run.stdout.splitlines()[-1] == ".build", "nothing is left of the environment"


def test_packages_that_do_not_fit_together_are_refused_and_named(bench: Bench) -> None:
    bench.require(
        bench.wheel("ledger", "1.0", requires=["other>=2", "absent; python_version >= '3'"]),
        bench.wheel("other", "1.0"),
    )
    with pytest.raises(BuildFailed) as caught:
        bench.ensure()
    assert "ledger 1.0 requires absent, which is not installed" in str(caught.value)
    assert "ledger 1.0 requires other>=2, but other 1.0 is installed" in str(caught.value)
    assert not bench.specify().root.exists(), "nothing is left of it"


def test_a_file_that_holds_the_checkouts_path_is_refused(bench: Bench) -> None:
    text = f"where = '{bench.checkout}/src'\n"
    bench.require(bench.wheel("ledger", "1.0", {"ledger.py": text}))
    with pytest.raises(BuildFailed, match=r"hold the path of the checkout.*ledger\.py"):
        bench.ensure()
    # A longer name that begins with it is another directory.
    bench.require(bench.wheel("ledger", "1.0", {"ledger.py": f"where = '{bench.checkout}2/src'\n"}))
    assert bench.ensure().marker.packages == {"ledger": "1.0"}


def test_a_site_inside_the_checkout_may_name_itself(bench: Bench) -> None:
    made = bench.ensure(workspace=bench.base)
    assert str(bench.base).encode() in (made.path / "bin" / "activate").read_bytes()


def test_the_users_own_virtualenv_settings_decide_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = bench.base / "config" / "virtualenv" / "virtualenv.ini"
    settings.parent.mkdir(parents=True)
    settings.write_text("[virtualenv]\nsystem_site_packages = true\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(bench.base / "config"))
    monkeypatch.setenv("VIRTUALENV_COPIES", "1")
    made = bench.ensure()
    assert "include-system-site-packages = false" in (made.path / "pyvenv.cfg").read_text()
    assert os.readlink(python_of(made)) == str(bench.interpreter.path)


def test_nobody_removes_an_environment_that_is_in_use(bench: Bench) -> None:
    made = bench.ensure()
    with environment.in_use(made, bench.caches):
        change(unlocked(site_packages(made) / "ledger.py"))
        with pytest.raises(Locked):
            bench.ensure()
        assert (site_packages(made) / "ledger.py").exists()
    assert not bench.ensure().reused


def test_an_environment_that_vanished_before_use_is_said(bench: Bench) -> None:
    made = bench.ensure()
    files.remove_tree(made.path)
    with (
        pytest.raises(BuildFailed, match="was removed while"),
        environment.in_use(made, bench.caches),
    ):
        pass


def test_a_stop_while_compiling_leaves_nothing(bench: Bench) -> None:
    def stop(event: steps.Event) -> None:
        if isinstance(event, steps.Progress):
            raise KeyboardInterrupt

    modules = {f"ledger/part{n}.py": "x = 1\n" for n in range(100)}
    bench.require(bench.wheel("ledger", "1.0", {"ledger/__init__.py": "", **modules}))
    bench.also = stop
    with pytest.raises(KeyboardInterrupt):
        bench.ensure()
    assert not bench.specify().root.exists()


def test_bytecode_of_a_package_is_the_same_under_every_key(bench: Bench) -> None:
    shared = (
        "def where():\n    return where.__code__.co_filename\n" + "NAMES = {'a', 'b', 'c'}\n" * 9
    )
    ledger = bench.wheel("ledger", "1.0", {"ledger.py": shared, "books/__init__.py": shared})
    bench.require(ledger, bench.wheel("other", "1.0"))
    first = bench.ensure()
    bench.require(ledger, bench.wheel("other", "2.0", {"aaa.py": shared, "other.py": "x = 2\n"}))
    second = bench.ensure()

    assert first.key != second.key
    for name in ("__pycache__/ledger.cpython-*.pyc", "books/__pycache__/__init__.cpython-*.pyc"):
        one, two = (next(site_packages(made).glob(name)) for made in (first, second))
        assert one.read_bytes() == two.read_bytes()
    asked = [python_of(second), "-c", "import ledger; print(ledger.where())"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert said.stdout == f"{site_packages(second)}/ledger.py\n"
