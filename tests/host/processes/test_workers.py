"""Workers change without losing a task: a real celery with a real broker."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifact.host.processes import servers
from artifact.manifest import Process
from surroundings.waiting import await_
from tests.host.machine import NAME, Environment, Machine, make_environment

TASKS = """
import os, sys, time
from pathlib import Path
from celery import Celery, signals

VERSION = "{version}"
{trouble}
done = Path(os.environ["DONE"])
sys.path.insert(0, os.getcwd())  # celery takes it out; its support of Django does the same
app = Celery("tasks", broker=os.environ["BROKER"])

@app.task(name="work")
def work(name):
    (done / (name + ".begun")).write_text(VERSION)
    while name == "slow" and not (done / "go.begun").exists():
        time.sleep(0.05)
    import lazy
    (done / name).write_text(VERSION + lazy.VERSION)
"""
SENDER = """
import sys, time
from pathlib import Path
from tasks import work
count = 0
while not Path(sys.argv[1]).exists():
    work.delay(f"quick-{count}")
    count += 1
    time.sleep(0.1)
print(count)
"""
DIES = """
@signals.worker_init.connect
def die(**_):
    print("this worker has no luck", flush=True)
    os._exit(3)
"""
COMMAND = "celery -A tasks worker --concurrency 1 --without-gossip --without-mingle"
WORKER = Process(command=COMMAND, server="celery", stop_timeout=60)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return make_environment(tmp_path_factory.mktemp("celery"), "celery[redis]==5.5.3")


@pytest.fixture
def machine(tmp_path: Path, environment: Environment) -> Iterator[Machine]:
    made = Machine(tmp_path, environment)
    (tmp_path / "done").mkdir()
    made.site.root.mkdir()
    text = "".join(f"{name}={value}\n" for name, value in variables(made).items())
    made.site.variables.write_text(text)
    try:
        yield made
    finally:
        made.stop_supervisord()


def variables(machine: Machine) -> dict[str, str]:
    done = str(machine.directory / "done")
    return {"BROKER": f"redis+socket://{machine.directory}/redis.sock", "DONE": done}


@pytest.fixture
def broker(machine: Machine) -> Iterator[None]:
    program = "redis-server"
    assert shutil.which(program), f"{program} is missing: apt-get install redis-server"
    options = ["--port", "0", "--unixsocket", "redis.sock", "--save", ""]
    with subprocess.Popen(
        [program, *options],
        cwd=machine.directory,
        stdout=subprocess.DEVNULL,
    ) as child:
        try:
            await_("redis", (machine.directory / "redis.sock").exists)
            yield
        finally:
            child.terminate()


def build(machine: Machine, version: str, trouble: str = "", worker: Process = WORKER) -> Path:
    tasks = TASKS.format(version=version, trouble=trouble)
    return machine.build(version, files={"tasks.py": tasks}, processes={"worker": worker})


def sender(machine: Machine) -> subprocess.Popen[str]:
    """Send a small task ten times a second until the file "enough" is there."""
    python = str(machine.environment.path / "bin" / "python")
    return subprocess.Popen(
        [python, "-c", SENDER, str(machine.directory / "enough")],
        cwd=machine.directory / "code-1",
        env=variables(machine),
        stdout=subprocess.PIPE,
        text=True,
    )


def send(machine: Machine, name: str) -> None:
    code = f"from tasks import work; work.delay({name!r})"
    subprocess.run(
        [str(machine.environment.path / "bin" / "python"), "-c", code],
        cwd=machine.directory / "code-1",
        env=variables(machine),
        check=True,
    )


def results(machine: Machine) -> dict[str, str]:
    return {
        path.name: path.read_text()
        for path in (machine.directory / "done").iterdir()
        if path.suffix != ".begun"
    }


def awake(machine: Machine) -> list[str]:
    """Return which of the worker's processes do not sleep."""
    found = []
    for name, member in machine.members().items():
        command = Path(f"/proc/{member.pid}/cmdline").read_bytes()
        if not command.startswith(b"sleep\0"):
            found.append(name)
    return sorted(found)


def test_a_task_ends_in_its_release_and_none_is_lost_while_workers_change(
    machine: Machine, broker: None
) -> None:
    machine.start_supervisord({"worker": WORKER})
    first = build(machine, "1")
    done = machine.install(first)
    assert done.returncode == 0, done.stderr
    await_("the other set's sleep", lambda: awake(machine) == [f"{NAME}-worker:turn_0"])
    send(machine, "slow")
    began = machine.directory / "done" / "slow.begun"
    await_("the slow task", began.exists)
    sending = sender(machine)
    try:
        child = machine.popen("install", str(build(machine, "2")), "--probation", "0s")
        # The new worker is at work while the old one has not ended.
        await_("a task of the new release", lambda: "22" in results(machine).values(), 60)
        assert "slow" not in results(machine)
        (machine.directory / "done" / "go.begun").touch()
        _, errors = child.communicate(timeout=90)
    finally:
        (machine.directory / "enough").touch()
        count = int(sending.communicate(timeout=30)[0])
    assert child.returncode == 0, errors
    assert f"{NAME}-worker:turn_0: finishing tasks, for 60 s at most" in errors
    # It was imported after the switch, and still from the release the task began in.
    assert results(machine)["slow"] == "11"
    await_("the other set's sleep", lambda: awake(machine) == [f"{NAME}-worker:turn_1"])
    wanted = {"slow", *(f"quick-{number}" for number in range(count))}
    await_("all tasks", lambda: wanted <= results(machine).keys(), 30)
    _failures_change_nothing(machine)


def _failures_change_nothing(machine: Machine) -> None:
    """In the same test, for the site is what costs."""
    broken = machine.install(build(machine, "3", trouble="import nothing_of_this_name"))
    assert broken.returncode == 5
    assert "worker of pages-3 does not load: ModuleNotFoundError" in broken.stderr
    dead = machine.install(build(machine, "4", trouble=DIES))
    assert dead.returncode == 7, dead.stderr
    assert "this worker has no luck" in dead.stderr
    assert "2 is live again" in dead.stderr
    await_("the other set's sleep", lambda: awake(machine) == [f"{NAME}-worker:turn_1"])
    send(machine, "after")
    await_("a task of the old release", lambda: results(machine).get("after") == "22")
    assert machine.run("status", str(machine.site.root)).returncode == 0


def test_a_worker_that_a_release_does_not_have_any_more_is_stopped_and_comes_back(
    machine: Machine,
) -> None:
    ticker = Process(command="python -c 'import time; time.sleep(600)'", server="other")
    extra = Process(command="sleep 600", server="other")
    machine.start_supervisord({"ticker": ticker, "extra": extra})
    both = {"ticker": ticker, "extra": extra}
    assert machine.install(machine.build("1", processes=both)).returncode == 0
    done = machine.install(machine.build("2", processes={"ticker": ticker}))
    assert done.returncode == 0, done.stderr
    states = {name: member.state for name, member in machine.members().items()}
    assert states == {
        f"{NAME}-ticker:{NAME}-ticker": "RUNNING",
        f"{NAME}-extra:{NAME}-extra": "STOPPED",
    }
    back = machine.run("rollback", str(machine.site.root), "--probation", "0s")
    assert back.returncode == 0, back.stderr
    assert {member.state for member in machine.members().values()} == {"RUNNING"}


def test_several_are_restarted_one_at_a_time(machine: Machine) -> None:
    """While one is restarted the others are at work."""
    busy = "sh -c 'trap \"sleep 0.5; exit\" TERM; while :; do sleep 0.1; done'"
    many = Process(command=busy, server="other", instances=2)
    machine.start_supervisord({"many": many})
    assert machine.install(machine.build("1", processes={"many": many})).returncode == 0
    child = machine.popen(
        "install", str(machine.build("2", processes={"many": many})), "--probation", "0s"
    )
    fewest = 2
    while child.poll() is None:
        up = sum(member.state == "RUNNING" for member in machine.members().values())
        starting = sum(member.state == "STARTING" for member in machine.members().values())
        fewest = min(fewest, up + starting)
        time.sleep(0.01)
    _, errors = child.communicate()
    assert child.returncode == 0, errors
    assert fewest == 1


@pytest.mark.parametrize(
    "command",
    [
        "celery -A a beat",
        "celery -A a worker -B",
        "celery -A a worker --beat",
        "celery -A a worker --pidfile=/run/x.pid",
        "celery -A a worker --statedb /var/x",
        "celery -A a flower",
    ],
)
def test_what_there_may_be_one_of_never_overlaps(command: str) -> None:
    assert not servers.overlaps(Process(command=command, server="celery"))
    assert servers.overlaps(WORKER)


def test_each_of_several_workers_gets_a_name_of_its_own() -> None:
    words = servers.with_worker_name(["celery", "worker"], WORKER, "worker", 3)
    assert words[-2:] == ["--hostname", "worker-3@%h"]
    own = ["celery", "worker", "-n", "mine@%h"]
    assert servers.with_worker_name(own, WORKER, "worker", 3) == own
