"""What goes wrong on a build machine: exit code, sentence, hint, and nothing left behind."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from artifact import files
from surroundings import wheels as wheelmaker
from surroundings.index import Index
from tests.integration import projects
from tests.integration.command import PROGRAM, Ran, run
from tests.integration.projects import Checkout

NOTHING_RUNS_LONGER_SECONDS = 60.0
PASSWORD = "open-sesame-of-the-index"


def environments(checkout: Checkout) -> list[Path]:
    """Return the environments that are finished: the marker is written last."""
    return [path.parent for path in checkout.root.glob("virtualenv/*/.artifact-env.json")]


def leftovers(checkout: Checkout) -> list[str]:
    """Return what lies in the output directory and beside the environments but is no result."""
    outside = [path.name for path in checkout.output.glob("*") if path.suffix != ".tgz"]
    finished = {path.name for path in environments(checkout)}
    beside = [
        path.name
        for path in checkout.root.glob("virtualenv/*")
        if path.name not in finished and path.name != ".build"
    ]
    return outside + beside


def says(ran: Ran, *words: str) -> None:
    """Hold that the command failed with one sentence and a hint, and printed no data."""
    assert ran.stdout == ""
    lines = ran.stderr.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 1, ran.stderr
    assert any(line.startswith("hint: ") for line in lines), ran.stderr
    assert "Traceback" not in ran.stderr
    for word in words:
        assert word in ran.stderr, f"{word!r} is not in\n{ran.stderr}"


def step(run_line: str, *, outputs: str = '["dist/**"]', more: str = "") -> str:
    """Return an artifact.toml with one asset step."""
    return (
        f'name = "small"\n[[assets]]\nname = "frontend"\nrun = {run_line!r}\n'
        f"outputs = {outputs}\n{more}\n"
    )


def test_a_failing_asset_step_shows_the_end_of_what_it_said(small: Checkout) -> None:
    small.write({"artifact.toml": step("echo no such stylesheet >&2; exit 4")})
    says(small.build("--version", "1", status=3), "frontend", "status 4", "no such stylesheet")
    assert leftovers(small) == []


def test_a_hanging_asset_step_is_ended_with_all_it_started(small: Checkout, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    line = f"sh -c 'echo $$ > {pid}; sleep 1000' & wait"
    small.write({"artifact.toml": step("x", more="timeout = 1.0").replace("'x'", f'"""{line}"""')})
    says(small.build("--version", "1", status=3), "frontend", "longer than 1 s", "timeout")
    assert not Path(f"/proc/{int(pid.read_text())}").exists()
    assert leftovers(small) == []


def test_an_asset_step_that_writes_nothing_is_an_error(small: Checkout) -> None:
    small.write({"artifact.toml": step("echo I did my best")})
    says(small.build("--version", "1", status=3), "frontend", "dist/**", "I did my best")
    assert leftovers(small) == []


def test_a_root_that_cannot_be_written_names_both_remedies(small: Checkout) -> None:
    blocked = small.root.with_name("a-file")
    blocked.write_text("")
    ran = small.build("--version", "1", status=None, ARTIFACT_ROOT=str(blocked / "site"))
    assert ran.status in {2, 3}
    says(ran, str(blocked), "install -d", "root")


def test_a_requirement_that_does_not_exist_is_named(small: Checkout) -> None:
    small.write({"requirements.txt": "ledgerlib==1.0\nno-such-thing==3\n"})
    says(small.build("--version", "1", status=3), "no-such-thing")
    assert leftovers(small) == []


def test_requirements_that_exclude_each_other_are_named(small: Checkout) -> None:
    small.write({"requirements.txt": "ledgerlib==1.0\nledgerlib==1.1\n"})
    says(small.build("--version", "1", status=3), "ledgerlib")
    assert leftovers(small) == []


def test_no_requirements_at_all_is_said(small: Checkout) -> None:
    small.git("rm", "--quiet", "requirements.txt")
    small.commit()
    ran = small.build("--version", "1", status=None)
    assert ran.status in {2, 3}
    says(ran, "requirements")


def test_an_interpreter_that_is_missing_is_named(small: Checkout) -> None:
    config = 'name = "small"\n[python]\ninterpreter = "python3.99"\n'
    small.write({"artifact.toml": config})
    ran = small.build("--version", "1", status=None)
    assert ran.status in {2, 3}
    says(ran, "python3.99")


def test_an_environment_compiled_twice_from_wheels_is_the_same_tree(
    small: Checkout, wheels: Path, tmp_path: Path
) -> None:
    first = small.build("--version", "1", "--reproducible").stdout.strip()
    again = projects.Checkout(
        tmp_path / "another-checkout",
        small.root,
        tmp_path / "another-cache",
        tmp_path / "another-output",
        small.variables,
    )
    small.git("clone", "--quiet", str(small.path), str(again.path))
    # As on another machine: the same path, and nothing there yet.
    small.root.rename(small.root.with_name("the-first"))
    second = again.build("--version", "1", "--reproducible").stdout.strip()
    assert Path(first).read_bytes() == Path(second).read_bytes()


@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.2, 1.6, 2.0])
def test_a_build_killed_at_any_moment_is_repeated_without_a_trace(
    seconds: float, small: Checkout
) -> None:
    child = start(small, "--version", "1")
    time.sleep(seconds)  # a moment, not a wait: whatever it was doing then
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert [path.name for path in small.output.glob("*.tgz")] in ([], ["small-1.tgz"])
    path = Path(small.build("--version", "1").stdout.strip())
    run([PROGRAM, "verify", path], cwd=small.path)
    assert leftovers(small) == []
    assert len(environments(small)) == 1


def test_a_build_that_is_asked_to_stop_stops_and_leaves_nothing(small: Checkout) -> None:
    small.write({"artifact.toml": step("touch started; sleep 1000")})
    child = start(small, "--version", "1")
    wait_for(lambda: environments(small) != [])
    child.send_signal(signal.SIGTERM)
    _, stderr = child.communicate(timeout=NOTHING_RUNS_LONGER_SECONDS)
    assert child.returncode == 143, stderr
    assert leftovers(small) == []


def test_two_builds_of_one_key_at_once_compile_it_once(
    small: Checkout, wheels: Path, tmp_path: Path
) -> None:
    children = [start(small, "--version", version) for version in ("1", "2")]
    said = [child.communicate(timeout=NOTHING_RUNS_LONGER_SECONDS) for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    assert sum("reused" in stderr for _, stderr in said) == 1, said
    assert len(environments(small)) == 1
    assert leftovers(small) == []


def test_a_build_that_waits_too_long_says_for_whom(small: Checkout) -> None:
    small.build("--version", "1")
    (environment,) = environments(small)
    files.remove_tree(environment)
    lock = small.root / "virtualenv" / ".build" / f"{environment.name}.lock"
    with files.locked(lock, doing="building small 7"):
        ran = small.build("--version", "2", "--lock-timeout", "0", status=6)
    says(ran, f"pid {os.getpid()}", "building small 7")


@pytest.mark.parametrize(
    ("place", "megabytes", "sentence", "finished"),
    [
        ("site", 3, "the environment .* does not fit", 0),
        ("site", 12, r"\.pack cannot be written: No space left", 1),
        ("artifacts", 3, r"small-1\.tgz.* cannot be written: No space left", 1),
    ],
    ids=["compiling", "packing", "writing"],
)
def test_a_full_disk_leaves_nothing_half_done(
    place: str, megabytes: int, sentence: str, finished: int, small: Checkout, tmp_path: Path
) -> None:
    """The environment has 7 MB, and so has its pack; the tmpfs is seen by the build alone."""
    big = tmp_path / "big-wheels"
    wheelmaker.write(big, "ledgerlib", "1.0", {"ledgerlib.bin": os.urandom(7_000_000)})
    directory = tmp_path / "small" / place
    directory.mkdir()
    script = (
        f"mount -t tmpfs -o size={megabytes}m tmpfs '{directory}' || exit 99;"
        f" '{PROGRAM}' build --version 1 --output '{small.output}'; status=$?;"
        f" find '{small.root}' '{small.output}'; exit $status"
    )
    ran = run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=small.path,
        env={**small.environment_variables, "PIP_FIND_LINKS": str(big)},
        status=3,
    )
    left = ran.stdout.splitlines()
    says(Ran(ran.status, "", ran.stderr))
    assert re.search(sentence, ran.stderr), ran.stderr
    made = [path for path in left if re.search(r"virtualenv/[0-9a-f]{32}$", path)]
    marked = [path for path in left if path.endswith("/.artifact-env.json")]
    assert (len(made), len(marked)) == (finished, finished), "a whole environment or none"
    halves = [path for path in left if re.search(r"\.(new|part|tmp)$|\.tgz|\.removing", path)]
    assert halves == []
    assert any(path.endswith(".pack") for path in left) == (place == "artifacts")


@pytest.fixture
def private_index(wheels: Path, tmp_path: Path) -> Iterator[str]:
    """An index of the wheels that asks for a password; its address, with that in it."""
    index = Index(tmp_path / "index")
    index.password = PASSWORD
    for wheel in wheels.iterdir():
        index.add(wheel)
    with index.running():
        yield index.url


def built_from(index: str, checkout: Checkout, *options: str, status: int = 0) -> Ran:
    """Build with the packages of this index alone."""
    only = {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": index}
    chosen = replace(checkout, variables={**checkout.variables, **only})
    return chosen.build("--version", "1", *options, status=status)


def test_the_password_of_an_index_appears_nowhere(small: Checkout, private_index: str) -> None:
    ran = built_from(private_index, small, "--verbose")
    holds_no(PASSWORD, small, ran)


def test_an_index_that_refuses_the_password_ends_the_build_without_showing_it(
    small: Checkout, private_index: str
) -> None:
    wrong = private_index.replace(PASSWORD, f"{PASSWORD}-mistyped")
    ran = built_from(wrong, small, status=3)
    says(ran, "ledgerlib")
    holds_no(PASSWORD, small, ran)


def start(checkout: Checkout, *arguments: str) -> subprocess.Popen[str]:
    """Start a build in a session of its own."""
    return subprocess.Popen(
        [PROGRAM, "build", "--output", checkout.output, *arguments],
        cwd=checkout.path,
        env=checkout.environment_variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + NOTHING_RUNS_LONGER_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def holds_no(secret: str, checkout: Checkout, ran: Ran) -> None:
    """Hold that a secret is in nothing the build said, kept or made."""
    assert secret not in ran.stdout + ran.stderr
    for directory in (checkout.root, checkout.cache, checkout.output):
        for path in directory.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                assert secret.encode() not in data, path
                if path.suffix == ".tgz":
                    assert secret.encode() not in gzip.decompress(data), path
