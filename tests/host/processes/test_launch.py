"""`artifact exec`: what supervisor's child becomes."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import artifact
from artifact.host.processes import servers
from artifact.host.records import state
from artifact.host.records.state import State
from artifact.manifest import Install, Process
from surroundings.waiting import await_
from tests.host.machine import ARTIFACT, Environment, Machine


@contextmanager
def executed(
    machine: Machine, *arguments: str, path: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Run exec as supervisor does: a listening socket as descriptor 0, hardly any variables."""
    with socket.create_server(("127.0.0.1", machine.port)) as listener:
        child = subprocess.Popen(
            [ARTIFACT, "exec", str(machine.site.root), "--process", "web", *arguments],
            stdin=listener.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONHOME": "",
                "PYTHONPATH": path,
                "SUPERVISOR_PROCESS_NAME": "web",
            },
            cwd="/",
        )
        try:
            yield child
        finally:
            child.terminate()
            child.communicate(timeout=30)


def command_of(child: subprocess.Popen[bytes]) -> bytes:
    return Path(f"/proc/{child.pid}/cmdline").read_bytes()


def is_asleep(child: subprocess.Popen[bytes]) -> bool:
    return command_of(child).startswith(b"sleep\0")


def installed(machine: Machine, *versions: str) -> None:
    # Workers look after their master every half of the timeout.
    processes = {"web": machine.web("python -m gunicorn app:application --timeout 2")}
    for version in versions:
        install = Install(restart="none")
        done = machine.install(machine.build(version, processes=processes, install=install))
        assert done.returncode == 0, done.stderr


def test_before_the_first_install_a_slot_sleeps_and_holds_the_socket(machine: Machine) -> None:
    with executed(machine, "--slot", "0") as child:
        await_("sleep", lambda: is_asleep(child))
        assert os.readlink(f"/proc/{child.pid}/fd/0").startswith("socket:")
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == -signal.SIGTERM


def test_an_idle_slot_sleeps_and_a_live_one_serves(machine: Machine) -> None:
    installed(machine, "1")
    state.write(machine.site.state, State(slots={"web": ("1", "")}))
    with executed(machine, "--slot", "1") as child:
        await_("sleep", lambda: is_asleep(child))
    with executed(machine, "--slot", "0") as child:
        await_("a server", lambda: b"gunicorn" in command_of(child))
        assert machine.get() == "1"
        answer = subprocess.run(
            ["curl", "-sS", "--unix-socket", f"/proc/self/cwd/{'web-0.sock'}", "http://x/healthz"],
            capture_output=True,
            text=True,
            cwd=machine.site.health_socket("web", 0).parent,
        )
        assert answer.stdout == "1", answer.stderr


def test_a_mistake_elsewhere_in_site_toml_keeps_no_crashed_server_from_starting(
    machine: Machine,
) -> None:
    installed(machine, "1")
    state.write(machine.site.state, State(slots={"web": ("1", "")}))
    machine.site.settings.write_text('[store]\nurl = "nonsense"\n[install]\nkep = 3\n')
    assert machine.run("status", str(machine.site.root)).returncode == 2
    with executed(machine, "--slot", "0") as child:
        await_("a server", lambda: b"gunicorn" in command_of(child))
        assert machine.get() == "1"


def test_a_server_stays_in_its_release_whatever_current_says_later(machine: Machine) -> None:
    installed(machine, "1")
    state.write(machine.site.state, State(slots={"web": ("1", "")}))
    with executed(machine, "--slot", "0") as child:
        await_("a server", lambda: b"gunicorn" in command_of(child))
        assert machine.get() == "1"
        installed(machine, "2")
        assert machine.get("/lazy") == "1"
        assert os.readlink(f"/proc/{child.pid}/cwd") == str(machine.site.release("1"))


def test_a_release_is_leased_as_long_as_anything_of_it_lives(machine: Machine) -> None:
    installed(machine, "1")
    state.write(machine.site.state, State(slots={"web": ("1", "")}))

    def leased() -> bool:
        with machine.site.lease("1").open() as lease:
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    with executed(machine, "--slot", "0") as child:
        await_("a server", lambda: b"gunicorn" in command_of(child))
        assert machine.get() == "1"
        assert leased()
        workers = subprocess.run(
            ["pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        child.kill()
        child.wait()
        # The master is gone; its workers notice in a while, and until then hold the lease.
        assert leased() or not any(Path(f"/proc/{pid}").exists() for pid in workers)
        await_("the end of the lease", lambda: not leased())


def test_a_worker_runs_in_the_release_that_is_current(machine: Machine) -> None:
    where = "python -c 'import os; print(os.getcwd(), os.environ[\"VIRTUAL_ENV\"])'"
    processes = {"web": Process(command=where)}
    install = Install(restart="none")
    done = machine.install(machine.build("1", processes=processes, install=install))
    assert done.returncode == 0, done.stderr
    with executed(machine) as child:
        output, _ = child.communicate(timeout=20)
    environment = machine.site.environment("e" * 32)
    assert output.decode().strip() == f"{machine.site.release('1')} {environment}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--process", "cron"), "has no process 'cron'"),
        (("--process", "web", "--slot", "0"), "descriptor 0 is not a socket"),
        (("--process", "web", "--slot", "2"), "2 is not in the range"),
    ],
)
def test_what_cannot_be_run_is_said(
    machine: Machine, arguments: tuple[str, ...], message: str
) -> None:
    installed(machine, "1")
    state.write(machine.site.state, State(slots={"web": ("1", "")}))
    child = subprocess.run(
        [ARTIFACT, "exec", str(machine.site.root), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 2
    assert message in child.stderr


def test_a_line_of_the_env_file_that_is_none_is_named_but_not_shown(machine: Machine) -> None:
    installed(machine, "1")
    machine.site.variables.write_text("A=1\nexport SECRET_KEY=hunter2hunter2\n")
    state.write(machine.site.state, State(slots={"web": ("1", "")}))
    with executed(machine, "--slot", "0") as child:
        output, _ = child.communicate(timeout=20)
    assert child.returncode == 2
    assert f"{machine.site.variables}:2: expected KEY=value" in output.decode()
    assert "hunter2" not in output.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_becomes_the_sites_user(tmp_path: Path, open_environment: Environment) -> None:
    machine = Machine(tmp_path, open_environment)
    for parent in machine.directory, *machine.directory.parents[:-2]:
        parent.chmod(0o755)
    machine.site.root.mkdir()
    machine.site.settings.write_text('user = "nobody"\n[install]\nrestart = "none"\n')
    who = """sh -c 'echo $(id -u) $(id -G) $HOME'"""
    done = machine.install(machine.build("1", processes={"web": Process(command=who)}))
    assert done.returncode == 0, done.stderr
    with executed(machine) as child:
        output, _ = child.communicate(timeout=20)
    import pwd

    nobody = pwd.getpwnam("nobody")
    assert output.decode().strip() == f"{nobody.pw_uid} {nobody.pw_gid} {nobody.pw_dir}"
    machine.site.settings.write_text('user = "nosuchuser"\n')
    with executed(machine) as child:
        output, _ = child.communicate(timeout=20)
    assert "there is no user 'nosuchuser' on this machine" in output.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_sites_user_need_not_reach_where_we_are_installed(
    tmp_path: Path, open_environment: Environment
) -> None:
    """Its server reads one of our files, and root may have installed us in /root."""
    machine = Machine(tmp_path, open_environment)
    for parent in machine.directory, *machine.directory.parents[:-2]:
        parent.chmod(0o755)
    hidden = machine.directory / "root"
    shutil.copytree(Path(artifact.__file__).parent, hidden / "artifact")
    hidden.chmod(0o700)
    machine.site.root.mkdir()
    machine.site.settings.write_text('user = "nobody"\n[install]\nrestart = "none"\n')
    # A shell plays uvicorn's part.
    web = machine.web("sh -c 'id -un; cat \"$0\"' -m uvicorn")
    # It is no server, so the release is refused; it stays, for a person to look into it.
    refused = machine.install(machine.build("1", processes={"web": web}))
    assert "web of pages-1 exited with status 0 when it was tried" in refused.stderr
    state.write(machine.site.state, State(slots={"web": ("1", "")}))
    with executed(machine, "--slot", "0", path=str(hidden)) as child:
        output, _ = child.communicate(timeout=20)
    assert output == b"nobody\n" + servers.DRAINING.read_bytes()


def test_what_the_caller_left_open_does_not_reach_the_application(machine: Machine) -> None:
    install = Install(restart="none")
    processes = {"web": Process(command="ls -l /proc/self/fd")}
    done = machine.install(machine.build("1", processes=processes, install=install))
    assert done.returncode == 0, done.stderr
    with Path("/etc/passwd").open() as left:
        child = subprocess.run(
            [ARTIFACT, "exec", str(machine.site.root), "--process", "web"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(left.fileno(),),
            text=True,
        )
    assert child.returncode == 0, child.stderr
    assert str(machine.site.lease("1")) in child.stdout
    assert "/etc/passwd" not in child.stdout


def test_exec_works_with_no_environment_at_all(machine: Machine) -> None:
    installed(machine, "1")
    child = subprocess.run(
        [ARTIFACT, "exec", str(machine.site.root), "--process", "nosuch"],
        env={},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 2, child.stderr
    assert sys.executable not in child.stderr
