"""Supervisor, spoken to for real."""

from __future__ import annotations

import configparser
import os
import signal
import socket
import threading
import time
import traceback
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from artifact.errors import ConfigurationError
from artifact.manifest import Process
from artifact.services.process_manager import ManagerUnreachable, ProcessManagerError
from artifact.services.supervisor import Supervisor, parse_url
from artifact.site import Site
from surroundings import supervisord
from surroundings.waiting import await_
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
[program:colourful]
command = sh -c 'printf "\\033[31mred \\000 end\\n"; sleep 600'
[program:twice]
command = sleep 600
process_name = slot_%(process_num)d
numprocs = 2
stopasgroup = true
"""


@pytest.fixture(scope="module", params=supervisord.PROGRAMS)
def supervisor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Supervisor]:
    """Supervisor from PyPI, and Debian's."""
    home, credentials = tmp_path_factory.mktemp("s"), ("me", "secret")
    with supervisord.running(
        home, PROGRAMS, which=request.param, credentials=credentials
    ) as started:
        yield Supervisor(started.url)


def test_every_process_is_listed_with_its_program(supervisor: Supervisor) -> None:
    names = {member.name for member in supervisor.members()}
    assert names == {
        "steady:steady", "stubborn:stubborn", "broken:broken", "colourful:colourful",
        "twice:slot_0", "twice:slot_1",
    }  # fmt: skip


def test_a_process_is_stopped_and_started_and_twice_is_once(supervisor: Supervisor) -> None:
    supervisor.start("steady:steady")
    before = supervisor.member("steady:steady")
    assert before.up
    assert before.pid
    supervisor.stop("steady:steady", 5)
    supervisor.stop("steady:steady", 5)
    assert supervisor.member("steady:steady").state == "STOPPED"
    supervisor.start("steady:steady")
    supervisor.start("steady:steady")
    assert supervisor.member("steady:steady").pid != before.pid


def test_stopping_waits_until_supervisor_has_killed(supervisor: Supervisor) -> None:
    await_("the trap", lambda: "here" in supervisor.log_tail("stubborn:stubborn"))
    pid = supervisor.member("stubborn:stubborn").pid
    supervisor.stop("stubborn:stubborn", 1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_a_broken_process_printed_is_at_hand(supervisor: Supervisor) -> None:
    await_("a failure", lambda: supervisor.member("broken:broken").state == "BACKOFF")
    assert not supervisor.member("broken:broken").up
    assert "why it broke" in supervisor.log_tail("broken:broken")


def test_bytes_in_a_log_that_xml_cannot_hold_do_not_hide_the_log(supervisor: Supervisor) -> None:
    def read() -> str:
        return "".join(supervisor.log_tail("colourful:colourful"))

    await_("the log", lambda: "end" in read())
    assert read() == "?[31mred ? end"


def test_each_process_is_listed_with_how_it_is_stopped(supervisor: Supervisor) -> None:
    configs = {one.process: one for one in supervisor.program_configs()}
    assert configs["stubborn"].stop_seconds == 1
    assert configs["slot_1"].program == "twice"
    assert configs["slot_1"].stop_signal == signal.SIGTERM
    assert configs["slot_1"].command == "sleep 600"
    assert supervisor.stopped_as_group() == {"twice"}
    assert {one.process for one in supervisor.members("twice")} == {"slot_0", "slot_1"}


def test_a_port_is_held_by_others_or_by_supervisor_itself(supervisor: Supervisor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = f"127.0.0.1:{listener.getsockname()[1]}"
        assert f"(pid {os.getpid()})" in supervisor.port_holder(held)
    assert supervisor.port_holder(held) == ""
    assert supervisor.port_holder("unix:/run/web.sock") == ""


def test_a_program_nobody_configured_is_an_error_with_a_hint(supervisor: Supervisor) -> None:
    with pytest.raises(ProcessManagerError, match="BAD_NAME") as error:
        supervisor.member("none:none")
    assert "supervisorctl update" in error.value.hint


def test_the_wrong_password_is_said_and_the_right_one_is_not(supervisor: Supervisor) -> None:
    with pytest.raises(ProcessManagerError, match="401") as error:
        Supervisor(supervisor.url.replace("secret", "guessed")).members()
    assert "user and password" in error.value.hint
    shown = "".join(traceback.format_exception(error.value))
    assert "guessed" not in shown.replace('"guessed"', "")


def test_nobody_at_the_socket_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(ManagerUnreachable, match="No such file") as error:
        Supervisor(f"unix://{tmp_path}/none").members()
    assert "start supervisord" in error.value.hint


def test_a_url_of_another_kind_is_an_error_of_the_configuration() -> None:
    for url in ("unix:relative", "ftp://x", "/var/run/supervisor.sock"):
        with pytest.raises(ConfigurationError, match="neither unix"):
            Supervisor(url).members()


@contextmanager
def answering(
    *blocks: bytes, hang: bool = False, timeout: float = 30.0
) -> Iterator[tuple[Supervisor, list[bytes]]]:
    """Read every connection's request, send these bytes, with a pause after each block."""
    done = threading.Event()
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    break
                with connection, suppress(ConnectionError):
                    heard.append(connection.recv(65536))
                    for block in blocks:
                        connection.sendall(block)
                        done.wait(0.01 if len(blocks) > 1 else 0)
                    if hang:
                        done.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            port = listener.getsockname()[1]
            yield Supervisor(f"http://me:pa%40ss@127.0.0.1:{port}", timeout), heard
        finally:
            done.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def wrapped(document: str | bytes, status: str = "200 OK") -> bytes:
    body = document.encode() if isinstance(document, str) else document
    return f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def response(value: str) -> str:
    return (
        "<?xml version='1.0'?><methodResponse><params><param>"
        f"{value}</param></params></methodResponse>"
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "its answer is empty"),
        (b"\x00\x01\x02" * 99, "is not HTTP"),
        (b"220 mail.example ESMTP\r\n", "is not HTTP"),
        (wrapped(response("<value><int>7</int></value>"))[:-9], "half way"),
        (wrapped("hello"), "is not XML-RPC"),
        (wrapped(""), "is not XML-RPC"),
        (wrapped("<html><p>It works!</p></html>"), "is not XML-RPC"),
        (wrapped(response("<value><int>seven</int></value>")), "is not XML-RPC"),
        (wrapped(response("<value><struct><member><name>a</name></member></struct></value>")),
         "is not XML-RPC"),
        (wrapped(response("<value><array><data>" * 999)), "is not XML-RPC"),
        (wrapped('<!DOCTYPE x [<!ENTITY a "b">]>' + response("<value>&a;</value>")), "entities"),
        (wrapped(response("<value>x</value>").replace("params", "fault")), "is not XML-RPC"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b" " * (33 << 20), "more than 32 MiB"),
    ],
    ids=["empty", "binary", "mail", "half", "text", "nothing", "html", "number", "struct", "nested",
         "entities", "fault", "endless"],
)  # fmt: skip
def test_another_server_at_the_address_is_not_taken_for_supervisor(
    answer: bytes, message: str
) -> None:
    with (
        answering(answer) as (supervisor, _),
        pytest.raises(ProcessManagerError, match=f"is not supervisor: .*{message}") as error,
    ):
        supervisor.daemon_pid()
    assert "pa" not in str(error.value).partition("is not")[0]


def test_a_value_of_another_kind_makes_no_sense() -> None:
    answer = wrapped(response("<value>seven</value>"))
    with (
        answering(answer) as (supervisor, _),
        pytest.raises(ProcessManagerError, match="no sense: Expected `int`"),
    ):
        supervisor.daemon_pid()


def test_what_a_log_holds_does_not_make_the_answer_unreadable() -> None:
    log = b"\x1b[31mred\x1b[0m \x00 \xff end"
    value = "<value><string>HERE</string></value><value><int>9</int></value>"
    whole = f"<value><array><data>{value}<value><boolean>0</boolean></value></data></array></value>"
    with answering(wrapped(response(whole).encode().replace(b"HERE", log))) as (supervisor, _):
        assert supervisor.log_tail("x:x") == ("?[31mred?[0m ? \ufffd end" * 2,)


def test_the_end_that_was_announced_is_the_end_though_the_connection_stays_open() -> None:
    answer = wrapped(response("<value><int>7</int></value>"))
    with answering(answer, hang=True) as (supervisor, heard):
        assert supervisor.daemon_pid() == 7
    assert b"Authorization: Basic bWU6cGFAc3M=\r\n" in heard[0]
    assert f"Host: {supervisor.url.rpartition('@')[2]}\r\n".encode() in heard[0]


@pytest.mark.parametrize(
    "blocks",
    [[], [b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\n<"], [b"H", *(b"T" for _ in range(999))]],
    ids=["silent", "half", "drips"],
)
def test_a_timeout_is_one_for_the_whole_exchange(blocks: list[bytes]) -> None:
    began = time.monotonic()
    with (
        answering(*blocks, hang=True, timeout=0.2) as (supervisor, _),
        pytest.raises(ManagerUnreachable, match="does not answer at http://127"),
    ):
        supervisor.members()
    assert time.monotonic() - began < 5


def test_another_status_is_told_with_its_words() -> None:
    with (
        answering(wrapped("", "503 Busy")) as (supervisor, _),
        pytest.raises(ProcessManagerError, match="answered 503 Busy") as error,
    ):
        supervisor.members()
    assert error.value.hint == ""


def test_a_fault_is_told_with_its_words() -> None:
    fault = xmlrpc.client.dumps(xmlrpc.client.Fault(6, "SHUTDOWN_STATE <&>"))
    with (
        answering(wrapped(fault)) as (supervisor, _),
        pytest.raises(ProcessManagerError, match="supervisor says SHUTDOWN_STATE <&>"),
    ):
        supervisor.start("x:x")


def test_a_fault_that_means_that_it_is_done_is_none() -> None:
    fault = xmlrpc.client.dumps(xmlrpc.client.Fault(60, "ALREADY_STARTED: x:x"))
    with answering(wrapped(fault)) as (supervisor, heard):
        supervisor.start("x:<x>")
    assert b"<string>x:&lt;x&gt;</string>" in heard[0]


def test_urls_are_read_with_their_credentials() -> None:
    assert parse_url("unix://me:p%40ss@/run/s@1.sock") == (
        "unix:/run/s@1.sock", "http://me:p%40ss@localhost"
    )  # fmt: skip
    assert parse_url("unix://me:p#/?ss@/run/s")[1] == "http://me:p%23%2F%3Fss@localhost"
    assert parse_url("unix:///run/s@1.sock") == ("unix:/run/s@1.sock", "http://localhost")
    assert parse_url("http://me:p%40ss@[::1]:9001/RPC2/")[0] == "::1:9001"


def test_a_socket_with_a_path_longer_than_the_kernel_takes_is_reached(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    (deep / "socket").symlink_to(parse_url(supervisor.url)[0].removeprefix("unix:"))
    assert Supervisor(f"unix://me:secret@{deep}/socket").members()


def rendered(listen: str = "127.0.0.1:8000", *, slots: bool = True, instances: int = 1) -> str:
    process = Process(command="x", listen=listen, stop_timeout=35, instances=instances)
    manifest = msgspec.structs.replace(example(), processes={"web": process})
    return Supervisor("").render_program(
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
