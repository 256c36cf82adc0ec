"""Supervisor, spoken to for real."""

from __future__ import annotations

import configparser
import http.server
import os
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from artifact.errors import ConfigurationError
from artifact.manifest import Process
from artifact.services import supervisor
from artifact.site import Site
from tests.host.machine import await_
from tests.test_manifest import example

PROGRAMS = """
[program:steady]
command = sleep 600
[program:stubborn]
command = sh -c 'trap "" TERM; echo here; while :; do sleep 0.1; done'
stopwaitsecs = 1
[program:broken]
command = sh -c 'echo why it broke; exit 3'
startretries = 50
[program:twice]
command = sleep 600
process_name = slot_%(process_num)d
numprocs = 2
"""


@pytest.fixture(scope="module", params=["own", "debian"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Supervisor from PyPI, and Debian's."""
    directory = tmp_path_factory.mktemp("s")
    program = "/usr/bin/supervisord"
    if request.param == "own":
        import sys

        program = str(Path(sys.executable).with_name("supervisord"))
    assert shutil.which(program), f"{program} is missing: apt-get install supervisor"
    configuration = directory / "supervisord.conf"
    configuration.write_text(
        f"""[supervisord]
logfile = {directory}/log
pidfile = {directory}/pid
childlogdir = {directory}
nodaemon = true
[unix_http_server]
file = {directory}/socket
username = me
password = secret
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
{PROGRAMS}"""
    )
    child = subprocess.Popen(
        [program, "-c", str(configuration)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"unix://me:secret@{directory}/socket"

    def answers() -> bool:
        try:
            return bool(supervisor.members(address))
        except supervisor.Unreachable:
            return False

    try:
        await_("supervisord's answer", answers)
        yield address
    finally:
        child.terminate()
        child.wait(30)


def test_every_process_is_listed_with_its_program(url: str) -> None:
    names = {member.name for member in supervisor.members(url)}
    assert names == {
        "steady:steady", "stubborn:stubborn", "broken:broken", "twice:slot_0", "twice:slot_1",
    }  # fmt: skip


def test_a_process_is_stopped_and_started_and_twice_is_once(url: str) -> None:
    supervisor.start(url, "steady:steady")
    before = supervisor.member(url, "steady:steady")
    assert before.up
    assert before.pid
    supervisor.stop(url, "steady:steady", 5)
    supervisor.stop(url, "steady:steady", 5)
    assert supervisor.member(url, "steady:steady").state == "STOPPED"
    supervisor.start(url, "steady:steady")
    supervisor.start(url, "steady:steady")
    assert supervisor.member(url, "steady:steady").pid != before.pid


def test_stopping_waits_until_supervisor_has_killed(url: str) -> None:
    await_("the trap", lambda: "here" in supervisor.log_tail(url, "stubborn:stubborn"))
    pid = supervisor.member(url, "stubborn:stubborn").pid
    supervisor.stop(url, "stubborn:stubborn", 1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_a_broken_process_printed_is_at_hand(url: str) -> None:
    await_("a failure", lambda: supervisor.member(url, "broken:broken").state == "BACKOFF")
    assert not supervisor.member(url, "broken:broken").up
    assert "why it broke" in supervisor.log_tail(url, "broken:broken")


def test_a_program_nobody_configured_is_an_error_with_a_hint(url: str) -> None:
    with pytest.raises(supervisor.SupervisorError, match="BAD_NAME") as error:
        supervisor.member(url, "none:none")
    assert "supervisorctl update" in error.value.hint


def test_the_wrong_password_is_said_and_the_right_one_is_not(url: str) -> None:
    with pytest.raises(supervisor.SupervisorError, match="401") as error:
        supervisor.members(url.replace("secret", "wrong"))
    assert "user and password" in error.value.hint


def test_nobody_at_the_socket_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(supervisor.Unreachable, match="No such file") as error:
        supervisor.members(f"unix://{tmp_path}/none")
    assert "start supervisord" in error.value.hint


def test_a_url_of_another_kind_is_an_error_of_the_configuration() -> None:
    for url in ("unix:relative", "ftp://x", "/var/run/supervisor.sock"):
        with pytest.raises(ConfigurationError, match="neither unix"):
            supervisor.members(url)


def test_another_server_at_the_address_is_not_taken_for_supervisor() -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *arguments: object) -> None: ...

    with socketserver.TCPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(supervisor.SupervisorError, match="is not supervisor"):
                supervisor.members(f"http://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
            thread.join()


def rendered(listen: str = "127.0.0.1:8000", *, slots: bool = True, instances: int = 1) -> str:
    process = Process(command="x", listen=listen, stop_timeout=35, instances=instances)
    manifest = msgspec.structs.replace(example(), processes={"web": process})
    return supervisor.program(
        Site(Path("/srv/100% mine")), manifest, "web", command="/opt/a/artifact", slots=slots
    )


def test_a_program_with_slots_holds_the_socket_and_no_release() -> None:
    parsed = configparser.RawConfigParser()
    parsed.read_string(rendered())
    section = parsed["fcgi-program:accounting-web"]
    assert section["socket"] == "tcp://127.0.0.1:8000"
    assert section["numprocs"] == "2"
    assert section["command"] == (
        "/opt/a/artifact exec '/srv/100%% mine' --process web --slot %(process_num)d"
    )
    assert section["stopsignal"] == "TERM"
    assert int(section["stopwaitsecs"]) > 35
    assert "1337" not in rendered()


def test_a_unix_socket_and_any_address_are_written_as_supervisor_reads_them() -> None:
    assert "socket = unix:///run/accounting/web.sock" in rendered("unix:/run/accounting/web.sock")
    assert "socket = tcp://0.0.0.0:80\n" in rendered(":80")


def test_a_program_without_slots_has_as_many_processes_as_instances() -> None:
    text = rendered(slots=False, instances=3)
    assert text.startswith("[program:accounting-web]")
    assert "numprocs = 3" in text
    assert "socket" not in text
    assert "numprocs" not in rendered(slots=False)
