"""The command lines of servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifact.errors import ConfigurationError
from artifact.host.processes import servers
from artifact.manifest import Environment, Manifest, Process
from tests.test_manifest import example

ENVIRONMENT = Path("/site/virtualenv/key")


def described(command: str, *, server: str = "gunicorn", version: str = "25.1.0") -> Manifest:
    process = Process(command=command, listen="127.0.0.1:8000", server=server, stop_timeout=20)
    return example(
        processes={"web": process}, environment=Environment(key="k", packages={server: version})
    )


def argv(manifest: Manifest, sockets: int = 2) -> list[str]:
    return servers.argv(manifest, "web", ENVIRONMENT, sockets=sockets)


def test_gunicorn_gets_what_slots_need() -> None:
    assert argv(described("gunicorn app:x --workers 4"))[1:] == [
        "app:x", "--workers", "4", "--graceful-timeout", "20", "--keep-alive", "0",
        "--no-control-socket",
    ]  # fmt: skip


def test_the_commands_own_options_win() -> None:
    words = argv(described("gunicorn --keep-alive=5 --graceful-timeout 3 app:x"))
    assert words[1:] == [
        "--keep-alive=5",
        "--graceful-timeout",
        "3",
        "app:x",
        "--no-control-socket",
    ]


@pytest.mark.parametrize("version", ["19.9.0", "25.0.3", "", "not-a-version"])
def test_an_option_is_only_passed_to_a_version_that_knows_it(version: str) -> None:
    assert "--no-control-socket" not in argv(described("gunicorn app:x", version=version))


def test_what_two_slots_cannot_both_have_is_dropped() -> None:
    words = argv(described("gunicorn -p /run/x.pid --daemon --pid=/y app:x"))
    assert words[1] == "app:x"
    assert not {"-p", "/run/x.pid", "--daemon", "--pid=/y"} & set(words)


def test_without_inherited_sockets_it_listens_by_itself() -> None:
    assert "--bind" in argv(described("gunicorn app:x"), sockets=0)
    assert argv(described("gunicorn -b :1 app:x"), sockets=0).count("--bind") == 0


@pytest.mark.parametrize(
    ("command", "begin"),
    [
        ("uvicorn app:x", ["E/bin/python", "DRAINING", "uvicorn", "app:x"]),
        ("python3 -X dev -m uvicorn app:x", ["python3", "-X", "dev", "DRAINING", "uvicorn"]),
        ("newrelic-admin run-program uvicorn app:x",
         ["newrelic-admin", "run-program", "E/bin/python", "DRAINING", "uvicorn"]),
        ("gunicorn -k uvicorn.workers.UvicornWorker app:x",
         ["E/bin/python", "DRAINING", "gunicorn", "-k", "uvicorn.workers.UvicornWorker"]),
        # Nobody knows which interpreter runs these.
        ("/opt/other/bin/uvicorn app:x", ["/opt/other/bin/uvicorn", "app:x"]),
        ("sh -c 'exec uvicorn app:x'", ["sh", "-c", "exec uvicorn app:x"]),
        ("gunicorn app:x", ["E/bin/gunicorn", "app:x"]),
    ],
)  # fmt: skip
def test_uvicorn_is_started_so_that_it_drains(
    tmp_path: Path, command: str, begin: list[str]
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("uvicorn", "gunicorn"):
        (tmp_path / "bin" / name).touch()
    server = "gunicorn" if "gunicorn" in command else "uvicorn"
    words = servers.argv(described(command, server=server), "web", tmp_path, sockets=1)
    known = {"E": str(tmp_path), "DRAINING": str(servers.DRAINING)}
    expected = [known.get(word, word.replace("E/", f"{tmp_path}/", 1)) for word in begin]
    assert words[: len(begin)] == expected


def test_to_uvicorns_workers_no_keep_alive_would_mean_another_thing() -> None:
    assert "--keep-alive" not in argv(described("gunicorn -k uvicorn.workers.UvicornWorker a:x"))


def test_an_old_uvicorn_is_not_told_what_it_does_not_know() -> None:
    old = argv(described("uvicorn app:x", server="uvicorn", version="0.21.1"), sockets=0)
    assert "--timeout-graceful-shutdown" not in old


def test_uvicorn_takes_the_descriptor_and_nothing_else() -> None:
    words = argv(described("uvicorn app:x --host 0.0.0.0 --port 80 --reload", server="uvicorn"))
    assert words[1:] == ["app:x", "--fd", "3", "--timeout-graceful-shutdown", "20"]


def test_a_program_of_the_environment_is_taken_from_there(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "celery").touch()
    manifest = described("celery -A x worker", server="celery")
    assert servers.argv(manifest, "web", tmp_path, sockets=0) == [
        str(tmp_path / "bin/celery"), "-A", "x", "worker",
    ]  # fmt: skip
    other = described("/usr/bin/env true", server="other")
    assert servers.argv(other, "web", tmp_path, sockets=0)[0] == "/usr/bin/env"


@pytest.mark.parametrize("command", ["gunicorn 'app", "  "])
def test_a_command_that_cannot_be_read_is_an_error_of_the_configuration(command: str) -> None:
    with pytest.raises(ConfigurationError, match=r"processes\.web\.command"):
        argv(described(command))
