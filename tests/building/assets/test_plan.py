"""Asset steps: run on copies, cached by what they read, and what happens when they misbehave."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from artifact.building import source
from artifact.building.assets import outputs
from artifact.building.assets.plan import AssetTree
from artifact.building.caches import Caches
from artifact.configuration.artifact_toml import AssetSection, Config
from artifact.errors import BuildFailed
from artifact.steps import Ended, Event, Output, Warned
from surroundings.repository import commit, git
from tests.building.assets.running import build, content_of


class Project:
    """A small project, and the events of its last build."""

    def __init__(self, directory: Path) -> None:
        self.top = directory / "shop"
        self.caches = Caches(str(directory / "site"), directory / "cache")
        self.environment = directory / "environment"
        self.ran = directory / "ran"
        (self.environment / "bin").mkdir(parents=True, exist_ok=True)
        self.write({"src/app.js": "1\n", "README": "hello\n"})
        self.events: list[Event] = []

    def write(self, content: dict[str, str]) -> None:
        for path, text in content.items():
            (self.top / path).parent.mkdir(parents=True, exist_ok=True)
            (self.top / path).write_text(text)

    def build(self, *steps: AssetSection, key: str = "k1") -> AssetTree:
        self.events = []
        config = Config(name="shop", root=self.caches.root, assets=steps)
        snapshot = source.take_snapshot(self.top, (), lambda _event: None)
        return build(snapshot, config, self.environment, key, self.caches, self.events.append)

    def step(
        self,
        run: str = "mkdir -p dist && tr 1 2 <src/app.js >dist/app.js",
        name: str = "npm",
        inputs: tuple[str, ...] = (),
        outputs: tuple[str, ...] = ("dist/**",),
        env: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> AssetSection:
        """Return a step that also notes in a file that it ran."""
        counted = f"echo {name} >>{self.ran}; {run}"
        return AssetSection(
            name=name, run=counted, inputs=inputs, outputs=outputs, env=env or {}, timeout=timeout
        )

    @property
    def runs(self) -> list[str]:
        """Names of the steps that ran so far."""
        return self.ran.read_text().split() if self.ran.exists() else []

    @property
    def notes(self) -> list[str]:
        return [event.note for event in self.events if isinstance(event, Ended)]

    def refused(self, *steps: AssetSection) -> BuildFailed:
        with pytest.raises(BuildFailed) as caught:
            self.build(*steps)
        assert caught.value.code == 3
        assert caught.value.hint
        assert not list(self.caches.assets.glob("work-*"))
        return caught.value


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def content(tree: AssetTree) -> dict[str, str]:
    return {file.path: content_of(file).read_text() for file in tree.files if file.kind == "file"}


def test_what_a_step_writes_is_an_asset_and_the_checkout_stays_clean(project: Project) -> None:
    before = sorted(project.top.rglob("*"))
    tree = project.build(project.step("mkdir dist; echo x >dist/x; echo junk >src/junk"))
    assert content(tree) == {"dist/x": "x\n"}
    assert [step.name for step in tree.steps] == ["npm"]
    assert sorted(project.top.rglob("*")) == before
    assert not list(project.caches.assets.glob("work-*"))
    assert project.notes == ["1 file"]


def test_unchanged_inputs_run_nothing(project: Project) -> None:
    first = project.build(project.step())
    again = project.build(project.step())
    assert project.runs == ["npm"]
    assert content(again) == content(first) == {"dist/app.js": "2\n"}
    assert again.steps == first.steps
    assert project.notes == ["1 file, inputs unchanged"]


def test_whatever_a_step_depends_on_makes_it_run_again(project: Project) -> None:
    changes: list[Callable[[], AssetTree]] = [
        lambda: project.build(project.step()),
        lambda: project.build(project.step(), key="k2"),
        lambda: project.build(project.step(env={"NODE_ENV": "production"})),
        lambda: project.build(project.step("mkdir dist; cp src/app.js dist/other.js")),
        lambda: project.build(project.step(outputs=("dist/*.js",))),
    ]
    for count, change in enumerate(changes, 1):
        change()
        assert len(project.runs) == count
    project.write({"src/app.js": "111\n"})
    assert content(project.build(project.step())) == {"dist/app.js": "222\n"}
    (project.top / "README").chmod(0o755)
    project.build(project.step())
    assert len(project.runs) == len(changes) + 2


def test_a_file_that_git_lfs_fetched_later_is_a_change(project: Project) -> None:
    # As LFS does: whatever lies in the checkout, git's content is the pointer.
    git(project.top, "init", "--quiet")
    git(project.top, "config", "filter.large.clean", "echo pointer")
    project.write({".gitattributes": "*.js filter=large\n"})
    commit(project.top)
    project.build(project.step())
    project.write({"src/app.js": "111\n"})
    git(project.top, "add", ".")
    assert not source.take_snapshot(project.top, (), lambda _event: None).source.dirty
    assert content(project.build(project.step())) == {"dist/app.js": "222\n"}


def test_only_its_inputs_make_a_step_run_again(project: Project) -> None:
    step = project.step(inputs=("src/**/*.js",))
    project.build(step)
    project.write({"README": "changed\n", "src/app.css": "", "other/src/app.js": ""})
    project.build(step)
    assert project.runs == ["npm"]
    project.write({"src/deep/er/more.js": ""})
    project.build(step)
    assert project.runs == ["npm", "npm"]


def test_a_step_reads_what_steps_before_it_wrote(project: Project) -> None:
    first = project.step(name="first", inputs=("src/**",))
    second = project.step(
        "mkdir packed; cat dist/app.js >packed/all.js",
        name="second",
        inputs=("dist/**",),
        outputs=("packed/",),
    )
    assert content(project.build(first, second))["packed/all.js"] == "2\n"
    project.write({"src/app.js": "11\n"})
    assert content(project.build(first, second))["packed/all.js"] == "22\n"
    assert project.runs == ["first", "second", "first", "second"]
    # The first step runs but writes what it wrote before: the second need not run.
    project.write({"src/unused.js": ""})
    project.build(first, second)
    assert project.runs[4:] == ["first"]


def test_a_cached_step_leaves_what_a_fresh_one_leaves(project: Project) -> None:
    first = project.step("mkdir dist node_modules; echo a >dist/a; echo b >node_modules/b", "first")
    second = project.step("ls >listing", name="second", outputs=("listing",))
    listing = content(project.build(first, second))["listing"]
    assert "node_modules" not in listing
    assert "dist" in listing


def test_an_output_wins_over_the_source(project: Project) -> None:
    project.write({"dist/app.js": "old\n", "dist/kept.js": "kept\n"})
    tree = project.build(project.step())
    assert content(tree) == {"dist/app.js": "2\n"}
    assert tree.paths == {"dist/app.js"}


def test_a_file_the_step_did_not_touch_stays_with_the_source(project: Project) -> None:
    project.write({"static/logo.svg": "1\n"})
    step = project.step("echo x >static/x.js", inputs=("src/**",), outputs=("static/**",))
    assert content(project.build(step)) == {"static/x.js": "x\n"}
    project.write({"static/logo.svg": "2\n"})
    # Had the cached outputs a copy of the logo, it would be the old one now.
    assert content(project.build(step)) == {"static/x.js": "x\n"}
    assert project.runs == ["npm"]


def test_a_failing_step_is_told_with_the_end_of_its_log(project: Project) -> None:
    step = project.step("echo building; echo 'no such module' >&2; exit 3")
    error = project.refused(step)
    assert error.message == "asset step npm exited with status 3"
    assert error.output == ("building", "no such module")
    log = Path(error.hint.rpartition(" ")[2])
    assert log.read_text() == "building\nno such module\n"
    project.refused(step)
    assert project.runs == ["npm", "npm"]


def test_the_first_half_of_a_command_may_not_fail_unseen(project: Project) -> None:
    assert "status 1" in project.refused(project.step("false; mkdir dist; echo x >dist/x")).message


def test_a_hanging_step_is_ended_with_all_it_started(project: Project, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    began = time.monotonic()
    error = project.refused(
        project.step(f"sleep 300 & echo $! >{pids}; echo waiting; wait", timeout=1)
    )
    assert time.monotonic() - began < 30
    assert error.message == "asset step npm took longer than 1 s"
    assert "`timeout` in [[assets]] npm" in error.hint
    assert error.output == ("waiting",)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text()), 0)


def test_a_step_that_writes_nothing_is_refused(project: Project) -> None:
    step = project.step("echo done; mkdir dist; echo >dist/x", outputs=("dist/**", "build/*.js"))
    error = project.refused(step)
    assert error.message == (
        "asset step npm ended well but wrote nothing that matches 'build/*.js'"
    )
    assert error.output == ("done",)


def test_outputs_that_were_there_already_are_warned_about(project: Project) -> None:
    project.write({"dist/app.js": "committed\n"})
    tree = project.build(project.step("true"))
    assert tree.files == ()
    warnings = [event for event in project.events if isinstance(event, Warned)]
    assert "left its outputs as they are in the source" in warnings[0].text


def test_secrets_of_a_step_are_not_printed(project: Project) -> None:
    step = project.step("echo $API_TOKEN; false", env={"API_TOKEN": "hunter2hunter2"})
    error = project.refused(step)
    log = Path(error.hint.rpartition(" ")[2])
    told = "".join(event.line for event in project.events if isinstance(event, Output))
    assert "hunter2" not in f"{error.message} {error.hint} {error.output} {told} {log.read_text()}"
    assert error.output


def test_the_environment_comes_first_on_path(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    tool = project.environment / "bin/tool"
    tool.write_text('#!/bin/sh\nmkdir dist; echo "$VIRTUAL_ENV $PYTHONPATH" >dist/out\n')
    tool.chmod(0o755)
    assert content(project.build(project.step("tool"))) == {"dist/out": f"{project.environment} \n"}


def test_bytecode_is_no_output(project: Project) -> None:
    run = "mkdir -p dist/__pycache__; touch dist/__pycache__/x.pyc dist/x.py"
    tree = project.build(project.step(f"{run}; echo $PYTHONDONTWRITEBYTECODE >dist/asked"))
    assert content(tree) == {"dist/asked": "1\n", "dist/x.py": ""}


def test_a_step_sees_the_time_of_the_source_and_not_of_the_copy(project: Project) -> None:
    # django-compressor and others make names from the times of files.
    for path in project.top.rglob("*"):
        os.utime(path, (1600000000, 1600000000))
    look = "cat src/app.js; stat -c %Y src/app.js dist/first; echo $SOURCE_DATE_EPOCH"
    first = project.step("mkdir dist; echo >dist/first", "first", outputs=("dist/**",))
    second = project.step(f"mkdir times; ({look}) >times/seen", "second", outputs=("times/**",))
    seen = content(project.build(first, second))["times/seen"]
    assert seen == "1\n1600000000\n1600000000\n1600000000\n"


def test_modes_links_and_hard_links_are_kept_apart(project: Project, tmp_path: Path) -> None:
    store = tmp_path / "store.js"
    store.write_text("shared\n")
    tree = project.build(
        project.step(
            "mkdir dist; echo x >dist/run; chmod 750 dist/run; ln -s run dist/link;"
            f"ln {store} dist/hard; echo p >dist/private; chmod 600 dist/private"
        )
    )
    modes = {file.path: (file.kind, oct(file.mode), file.target) for file in tree.files}
    assert modes == {
        "dist/hard": ("file", "0o644", ""),
        "dist/link": ("link", "0o777", "run"),
        "dist/private": ("file", "0o644", ""),
        "dist/run": ("file", "0o755", ""),
    }
    assert store.stat().st_mode & 0o222, "the store's file became read-only"
    cached = next(content_of(file) for file in tree.files if file.path == "dist/hard")
    assert cached.stat().st_ino != store.stat().st_ino
    assert not cached.stat().st_mode & 0o222


@pytest.mark.parametrize(
    ("run", "fault"),
    [
        ("ln -s /etc/passwd dist/x", "it points at '/etc/passwd', which is absolute"),
        ("mkfifo dist/x", "it is neither a file nor a symlink"),
        ("echo >\"dist/$(printf 'a\\tb')\"", "its name has a control character"),
    ],
)
def test_outputs_that_cannot_be_packed_are_refused(project: Project, run: str, fault: str) -> None:
    message = project.refused(project.step(f"mkdir dist; {run}")).message
    assert "was written by an asset step but cannot be packed" in message
    assert fault in message


@pytest.mark.parametrize("damage", ["delete", "truncate", "list"])
def test_damaged_outputs_are_made_again(project: Project, damage: str) -> None:
    cached = content_of(project.build(project.step()).files[0])
    if damage == "list":
        listing = cached.parents[2] / "outputs.json"
        listing.chmod(0o644)
        listing.write_text("[{")
    else:
        cached.parent.chmod(0o755)
        cached.chmod(0o644)
        cached.unlink() if damage == "delete" else cached.write_text("")
    assert content(project.build(project.step())) == {"dist/app.js": "2\n"}
    assert project.runs == ["npm", "npm"]


def _build(directory: Path, barrier: multiprocessing.synchronize.Barrier) -> None:
    project = Project(directory)
    barrier.wait()
    tree = project.build(project.step("sleep 0.3; mkdir dist; echo x >dist/x"))
    assert content(tree) == {"dist/x": "x\n"}


def test_two_jobs_at_once_run_a_step_once(project: Project, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    jobs = [context.Process(target=_build, args=(tmp_path, barrier)) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0, 0]
    assert project.runs == ["npm"]


KILLED = """
import sys
from pathlib import Path
from artifact.building import source
from artifact.building.caches import Caches
from artifact.configuration.artifact_toml import AssetSection, Config
from tests.building.assets.running import build
top = Path(sys.argv[1])
step = AssetSection(name="npm", run=sys.argv[2], outputs=("dist/**",))
build(source.take_snapshot(top / "shop", (), print), Config(name="shop", assets=(step,)),
             top / "environment", "k1", Caches("", top / "cache"), print)
"""


def test_a_killed_build_leaves_nothing_in_the_way(project: Project, tmp_path: Path) -> None:
    started = tmp_path / "started"
    run = f"mkdir dist; echo half >dist/x; echo $$ >{started}; sleep 300; echo whole >dist/x"
    argv = [sys.executable, "-c", KILLED, str(tmp_path), run]
    child = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.kill()
    child.wait()
    # The step has a session of its own, which outlives a killed build.
    os.killpg(int(started.read_text()), signal.SIGKILL)
    work = next(project.caches.assets.glob("work-*"))
    assert (work / "dist/x").read_text() == "half\n"

    (project.environment / "bin/sleep").symlink_to("/bin/true")
    tree = project.build(AssetSection(name="npm", run=run, outputs=("dist/**",)))
    assert content(tree) == {"dist/x": "whole\n"}
    assert not work.exists()


def test_a_cache_that_cannot_be_written_is_told_with_the_remedy(project: Project) -> None:
    project.caches.shared.write_text("a file")
    assert "ARTIFACT_CACHE" in project.refused(project.step()).hint


def test_what_no_build_uses_is_forgotten_after_a_month(project: Project) -> None:
    old = content_of(project.build(project.step()).files[0]).parents[2]
    new = content_of(project.build(project.step(), key="k2").files[0]).parents[2]
    left_over = project.caches.assets / "work-0123"
    left_over.mkdir()
    month_ago = time.time() - 31 * 86_400
    for path in (old, left_over):
        os.utime(path, (month_ago, month_ago))
    outputs.prune(project.caches)
    assert not old.exists()
    assert not left_over.exists()
    assert new.exists()
    os.utime(new, (month_ago, month_ago))
    project.build(project.step(), key="k2")
    outputs.prune(project.caches)
    assert new.exists(), "a build used it just now"
