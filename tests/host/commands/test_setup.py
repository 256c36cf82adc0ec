"""Setting a server up: what is written where, what stays, what is refused and taken back."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artifact.configuration.site_toml import ProxySection
from artifact.host.preparing import generated_files
from artifact.host.records import settings
from artifact.manifest import Install, Process
from artifact.services import supervisor_files
from artifact.services.supervisor import Supervisor
from surroundings import supervisord
from surroundings.waiting import await_, free_port
from tests.host import prepared
from tests.host.machine import ARTIFACT, NAME, Machine
from tests.host.prepared import bystander

ME = pwd.getpwuid(os.geteuid()).pw_name
ROOT = os.geteuid() == 0
DIRECTORIES = ("releases", "shared", "static", "virtualenv")


@pytest.fixture
def programs(machine: Machine) -> Iterator[Path]:
    with prepared.supervisord(machine) as directory:
        yield directory


def setup(
    machine: Machine, path: Path, *options: str, user: str = ME
) -> subprocess.CompletedProcess[str]:
    return machine.run("setup", str(path), "--user", user, *options)


def planned(machine: Machine, path: Path, *options: str) -> dict[str, Any]:
    answer = setup(machine, path, "--plan", "--json", *options)
    document: dict[str, Any] = json.loads(answer.stdout)
    return document


def tree(*roots: Path) -> dict[str, tuple[int, int, bytes | str]]:
    """Return everything in these trees with mode and time of change, but for locks and logs."""
    found: dict[str, tuple[int, int, bytes | str]] = {}
    for root in roots:
        for path in [root, *sorted(root.rglob("*"))]:
            info = path.lstat()
            content: bytes | str = ""
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = path.read_bytes()
            if path.name not in {"lock", ".artifact", "run"} and path.parent.name != "run":
                found[str(path)] = (info.st_mode, info.st_mtime_ns, content)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("which", supervisord.PROGRAMS)
def test_a_bare_server_is_prepared_in_one_step_and_serves_after_an_install(
    machine: Machine, which: str
) -> None:
    worker = Process(command="sleep 600", server="other", instances=2, stop_timeout=5)
    processes = {"web": machine.web(), "worker": worker}
    path = machine.build("1", processes=processes, install=Install(shared=("media/",)))
    with prepared.supervisord(machine, which) as programs:
        pid = bystander(machine)
        done = setup(machine, path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        for name in (*DIRECTORIES, "shared/media"):
            assert (machine.site.root / name).stat().st_mode & 0o777 == 0o755, name
        assert machine.site.private.stat().st_mode & 0o777 == 0o700
        assert machine.site.variables.stat().st_mode & 0o777 == 0o640
        assert settings.application_variables(machine.site) == {}
        assert settings.load(machine.site).user == ME
        assert machine.url in machine.site.settings.read_text()
        assert (programs / f"{NAME}.conf").is_file()
        for slot in ("pages-web:slot_0", "pages-web:slot_1"):
            await_(slot, lambda name=slot: machine.members()[name].state == "RUNNING")  # type: ignore[misc]
        assert machine.install(path).returncode == 0
        assert machine.get() == "1"
        assert machine.run("doctor", str(machine.site.root)).returncode == 0
        assert bystander(machine) == pid, "a program that is not ours was restarted"


def test_a_second_run_says_already_so_for_each_line_and_changes_nothing(
    machine: Machine, programs: Path
) -> None:
    path = machine.build("1")
    first = setup(machine, path, "--json")
    assert first.returncode == 0, first.stderr
    before = tree(machine.site.root, programs)
    pids = {name: member.pid for name, member in machine.members().items()}
    again = setup(machine, path)
    assert again.returncode == 0, again.stderr
    assert "nothing changed" in again.stderr
    assert tree(machine.site.root, programs) == before
    assert {name: member.pid for name, member in machine.members().items()} == pids
    document = planned(machine, path)
    assert document["steps"] == []
    assert len(document["already"]) >= 10
    for line in document["already"]:
        assert f"already so: {line}" in again.stderr


def test_the_plan_shows_every_file_as_it_is_written_and_changes_nothing(
    machine: Machine, programs: Path
) -> None:
    path = machine.build("1")
    document = planned(machine, path)
    assert not machine.site.root.exists()
    assert list(programs.iterdir()) == []
    files = {step["path"]: step["content"] for step in document["steps"] if step["path"]}
    assert setup(machine, path).returncode == 0
    wanted = {machine.site.settings, machine.site.variables, programs / f"{NAME}.conf"}
    assert set(files) == {str(path) for path in wanted}
    for written, content in files.items():
        assert Path(written).read_text() == content
    machine.site.variables.unlink()
    text = setup(machine, path, "--plan").stdout
    assert f"write {machine.site.variables} (0640)" in text
    assert "    # What the application's processes see" in text
    assert not machine.site.variables.exists()


def test_what_a_person_edited_is_never_overwritten(machine: Machine, programs: Path) -> None:
    path = machine.build("1")
    assert setup(machine, path).returncode == 0
    file = programs / f"{NAME}.conf"
    edited = {
        machine.site.settings: f"{machine.site.settings.read_text()}\n[install]\nkeep = 9\n",
        machine.site.variables: "SECRET_KEY=mine\n",
    }
    for name, content in edited.items():
        name.write_text(content)
    assert setup(machine, path).returncode == 0
    file.write_text(file.read_text().replace("autorestart = true", "autorestart = false"))
    refused = setup(machine, path)
    assert refused.returncode == 5
    assert f"{file} was edited" in refused.stderr
    assert "--plan" in refused.stderr
    assert "autorestart = false" in file.read_text()
    assert {name: name.read_text() for name in edited} == edited
    other = setup(machine, path, user="root" if ME != "root" else "daemon")
    assert other.returncode == 5
    assert f"{machine.site.settings} was edited and has user" in other.stderr


def test_a_file_that_is_still_ours_follows_a_later_artifact(
    machine: Machine, programs: Path
) -> None:
    web = machine.web()
    assert setup(machine, machine.build("1", processes={"web": web})).returncode == 0
    before = machine.members()["pages-web:slot_0"].pid
    worker = Process(command="sleep 600", server="celery", stop_timeout=100)
    slower = Process(command=web.command, listen=web.listen, server="gunicorn", stop_timeout=77)
    path = machine.build("2", processes={"web": slower, "worker": worker})
    done = setup(machine, path)
    assert done.returncode == 0, done.stderr
    assert "pages-web runs on as it was configured before" in done.stderr
    assert "pages-worker:pages-worker" in machine.members()
    assert machine.members()["pages-web:slot_0"].pid == before
    assert "stopwaitsecs = 92" in (programs / f"{NAME}.conf").read_text()


def test_programs_that_a_person_wrote_stay_where_they_are(machine: Machine, programs: Path) -> None:
    by_hand = programs / "by-hand.conf"
    by_hand.write_text("[program:pages-worker]\ncommand = sleep 600\n")
    Supervisor(machine.url).reread()
    Supervisor(machine.url).add("pages-worker")
    worker = Process(command="sleep 600", server="other")
    path = machine.build("1", processes={"web": machine.web(), "worker": worker})
    done = setup(machine, path)
    assert done.returncode == 0, done.stderr
    assert f"program pages-worker in {by_hand}: it stays as it is" in done.stderr
    assert "pages-worker" not in (programs / f"{NAME}.conf").read_text()


def test_the_live_release_of_a_name_tells_its_processes(machine: Machine, programs: Path) -> None:
    none = machine.run("setup", str(machine.site.root))
    assert none.returncode == 2
    assert "a new site is set up from an artifact" in none.stderr
    path = machine.build("1")
    assert setup(machine, path).returncode == 0
    assert machine.run("setup", str(machine.site.root)).returncode == 5
    assert machine.install(path).returncode == 0
    (programs / f"{NAME}.conf").unlink()
    done = machine.run("setup", str(machine.site.root))
    assert done.returncode == 0, done.stderr
    assert (programs / f"{NAME}.conf").is_file()


def test_gunicorn_18_gets_the_signal_on_which_it_is_graceful(
    machine: Machine, programs: Path
) -> None:
    from artifact import manifest

    old = manifest.Environment(key="e" * 32, packages={"gunicorn": "18.0"})
    assert setup(machine, machine.build("1", environment=old)).returncode == 0
    assert "stopsignal = QUIT" in (programs / f"{NAME}.conf").read_text()


def test_when_supervisor_says_no_everything_is_taken_back(machine: Machine, programs: Path) -> None:
    (programs / "broken.conf").write_text("[program:broken]\nstopsignal = NONSENSE\n")
    pid = bystander(machine)
    refused = setup(machine, machine.build("1"))
    assert refused.returncode == 5, refused.stderr
    assert "broken" in refused.stderr
    assert not (programs / f"{NAME}.conf").exists()
    assert not machine.site.settings.exists()
    assert not machine.site.releases.exists()
    assert bystander(machine) == pid


def test_a_directory_that_supervisor_does_not_read_is_refused_with_the_line_to_add(
    machine: Machine, programs: Path
) -> None:
    other = machine.directory / "elsewhere"
    refused = setup(machine, machine.build("1"), "--supervisor-dir", str(other))
    assert refused.returncode == 5
    assert f"[include] files = {other}/*.conf" in refused.stderr
    assert not machine.site.root.exists()
    main = programs.parent / "supervisord.conf"
    main.write_text(main.read_text().replace("[include]\nfiles = %(here)s/conf.d/*.conf", ""))
    none = setup(machine, machine.build("1"))
    assert none.returncode == 5
    assert f"{main} includes no directory" in none.stderr


def test_without_supervisor_the_file_waits_for_it(machine: Machine) -> None:
    directory = machine.directory / "conf.d"
    directory.mkdir()
    path = machine.build("1")
    done = setup(machine, path, "--supervisor-dir", str(directory))
    assert done.returncode == 0, done.stderr
    assert "it reads its programs when it starts" in done.stderr
    assert "[fcgi-program:pages-web]" in (directory / f"{NAME}.conf").read_text()
    again = planned(machine, path, "--supervisor-dir", str(directory))
    assert again["steps"] == []


def test_a_supervisor_that_runs_somewhere_is_found_by_its_process(
    machine: Machine, programs: Path
) -> None:
    main = programs.parent / "supervisord.conf"
    assert supervisor_files.main_of(Supervisor(machine.url).daemon_pid()) == main
    assert supervisor_files.address(main) == machine.url
    assert machine.url in supervisor_files.running()


def test_a_full_disk_is_said_and_everything_is_taken_back(machine: Machine, programs: Path) -> None:
    path = machine.build("1")
    # A file takes two syncs, its own and its directory's: the fifth is that of supervisor's.
    inject = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=ENOSPC:when=5+"]
    done = subprocess.run(
        ["strace", *inject, ARTIFACT, "setup", str(path), "--user", ME],
        env=machine.variables(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 5, done.stderr
    assert "No space left on device" in done.stderr
    assert list(programs.iterdir()) == []
    assert [path.name for path in machine.site.root.iterdir()] == [".artifact"]


@pytest.mark.parametrize("when", [1, 3, 5, 6])
def test_a_setup_that_was_killed_is_finished_by_the_next(
    machine: Machine, programs: Path, when: int
) -> None:
    path = machine.build("1")
    inject = ["-f", "-qq", "-o", "/dev/null", "-e", f"inject=fsync:signal=KILL:when={when}"]
    killed = subprocess.run(
        ["strace", *inject, ARTIFACT, "setup", str(path), "--user", ME],
        env=machine.variables(),
        check=False,
        capture_output=True,
    )
    assert killed.returncode != 0
    done = setup(machine, path)
    assert done.returncode == 0, done.stderr
    assert planned(machine, path)["steps"] == []
    assert list(machine.directory.glob("**/.*.new")) == []
    assert "pages-web:slot_0" in machine.members()


def test_two_setups_at_once_are_as_one_after_the_other(machine: Machine, programs: Path) -> None:
    path = str(machine.build("1"))
    both = [machine.popen("setup", path, "--user", ME) for _ in range(2)]
    for child in both:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
    assert planned(machine, Path(path))["steps"] == []
    assert set(machine.members()) == {
        "bystander:bystander", "pages-web:slot_0", "pages-web:slot_1",
    }  # fmt: skip


def test_several_things_in_the_way_are_told_at_once(machine: Machine, programs: Path) -> None:
    machine.site.root.mkdir()
    machine.site.releases.write_text("a file")
    (programs / f"{NAME}.conf").write_text("; mine\n")
    refused = setup(machine, machine.build("1"))
    assert refused.returncode == 5
    assert f"{machine.site.releases} is in the way" in refused.stderr
    assert f"{programs / f'{NAME}.conf'} was edited" in refused.stderr
    assert [path.name for path in machine.site.root.iterdir()] == ["releases"]


def test_what_is_open_to_others_is_closed_and_what_is_closed_stays(
    machine: Machine, programs: Path
) -> None:
    machine.site.shared.mkdir(parents=True)
    machine.site.shared.chmod(0o2770)
    machine.site.private.mkdir(mode=0o755)
    machine.site.variables.write_text("A=1\n")
    machine.site.variables.chmod(0o666)
    assert setup(machine, machine.build("1")).returncode == 0
    assert machine.site.private.stat().st_mode & 0o777 == 0o700
    assert machine.site.variables.stat().st_mode & 0o777 == 0o640
    assert machine.site.shared.stat().st_mode & 0o7777 == 0o2770


def test_a_user_who_is_missing_is_made_by_root_and_by_nobody_else(
    machine: Machine, programs: Path
) -> None:
    user = f"artifact-test-{os.getpid()}"
    path = machine.build("1", install=Install(shared=("media/",)))
    try:
        done = setup(machine, path, user=user)
        if not ROOT:
            assert done.returncode == 5
            assert "only root can make one" in done.stderr
            return
        assert done.returncode == 0, done.stderr
        account = pwd.getpwnam(user)
        assert account.pw_shell == "/usr/sbin/nologin"
        assert machine.site.variables.stat().st_gid == account.pw_gid
        assert (machine.site.shared / "media").stat().st_uid == account.pw_uid
        assert f"user {user}" in planned(machine, path, "--user", user)["already"]
    finally:
        subprocess.run(["userdel", user], check=False, capture_output=True)


# nginx


def on(nginx: prepared.Nginx, port: int) -> list[str]:
    return [
        "--nginx",
        "--nginx-dir",
        str(nginx.directory),
        "--server-name",
        f"pages.example:{port}",
    ]


def asked(port: int, path: str = "/") -> tuple[int, str, str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Host": "pages.example"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers.get("Cache-Control") or "", answer.read().decode()
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            return error.code, error.headers.get("Cache-Control") or "", ""


@pytest.mark.parametrize("debian", [True, False], ids=["sites-available", "conf.d"])
def test_nginx_passes_requests_on_and_serves_static_files_for_ever(
    machine: Machine, programs: Path, debian: bool
) -> None:
    path, port = machine.build("1"), free_port()
    with prepared.nginx(machine.directory, debian=debian) as nginx:
        options = on(nginx, port)
        done = setup(machine, path, *options)
        assert done.returncode == 0, done.stderr
        assert machine.install(path).returncode == 0
        (machine.site.static / "app.0123456789ab.css").write_text("hashed")
        (machine.site.static / "app.css").write_text("plain")
        await_("nginx with our block", lambda: answers(port))
        assert asked(port) == (200, "", "1")
        cached = "public, max-age=31536000, immutable"
        assert asked(port, "/static/app.0123456789ab.css") == (200, cached, "hashed")
        assert asked(port, "/static/app.css") == (200, "", "plain")
        # Not there: the application is asked, and its answer is not kept for ever.
        assert asked(port, "/static/gone.0123456789ab.css") == (200, "", "1")
        before = tree(nginx.directory / ("sites-available" if debian else "conf.d"))
        assert planned(machine, path, *options)["steps"] == []
        again = setup(machine, path, *options)
        assert "nothing changed" in again.stderr
        assert tree(nginx.directory / ("sites-available" if debian else "conf.d")) == before
        assert (
            machine.run(
                "doctor", str(machine.site.root), "--nginx-dir", str(nginx.directory)
            ).returncode
            == 0
        )


def answers(port: int) -> bool:
    try:
        return asked(port)[0] == 200
    except OSError:
        return False


def test_a_block_that_nginx_does_not_accept_is_taken_back(machine: Machine, programs: Path) -> None:
    with prepared.nginx(machine.directory) as nginx:
        # A second upstream of that name is an error, and only with ours it is the second.
        other = nginx.directory / "sites-enabled" / "other"
        other.write_text("upstream pages-web { server 127.0.0.1:9; }\n")
        options = on(nginx, free_port())
        refused = setup(machine, machine.build("1"), *options)
        assert refused.returncode == 5, refused.stderr
        assert "duplicate upstream" in refused.stderr
        assert list((nginx.directory / "sites-available").iterdir()) == []
        assert list((nginx.directory / "sites-enabled").iterdir()) == [other]
        assert not (programs / f"{NAME}.conf").exists()
        assert set(machine.members()) == {"bystander:bystander"}
        assert not machine.site.releases.exists()
        other.write_text("nonsense;\n")
        broken = setup(machine, machine.build("1"), *options)
        assert broken.returncode == 5
        assert "unknown directive" in broken.stderr
        assert asked(nginx.port)[0] == 418


def test_an_edited_server_block_is_refused(machine: Machine, programs: Path) -> None:
    path = machine.build("1")
    with prepared.nginx(machine.directory) as nginx:
        options = on(nginx, free_port())
        assert setup(machine, path, *options).returncode == 0
        file = nginx.directory / "sites-available" / NAME
        file.write_text(file.read_text().replace("20m", "200m"))
        refused = setup(machine, path, *options)
        assert refused.returncode == 5
        assert f"{file} was edited" in refused.stderr
        assert "200m" in file.read_text()


def certificate(directory: Path) -> list[str]:
    """Make a certificate and return the options that name it."""
    chain, key = directory / "chain.pem", directory / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=pages.example", "-keyout", str(key), "-out", str(chain)),
        ],
        check=True,
        capture_output=True,
    )
    return ["--tls-certificate", str(chain), "--tls-key", str(key)]


def test_a_repeated_setup_keeps_the_name_and_the_certificate_until_told_otherwise(
    machine: Machine, programs: Path
) -> None:
    path, port = machine.build("1"), free_port()
    with prepared.nginx(machine.directory) as nginx:
        nowhere = ["--nginx", "--nginx-dir", str(nginx.directory)]
        done = setup(machine, path, *on(nginx, port), *certificate(machine.directory))
        assert done.returncode == 0, done.stderr
        file = nginx.directory / "sites-available" / NAME
        before = file.read_text()
        assert f"listen {port} ssl;" in before
        proxy = settings.load(machine.site).proxy
        assert proxy.server_name == f"pages.example:{port}"
        assert proxy.certificate_key == str(machine.directory / "key.pem")
        again = setup(machine, path, *nowhere)
        assert again.returncode == 0, again.stderr
        assert "nothing changed" in again.stderr
        assert file.read_text() == before
        moved = free_port()
        renamed = setup(machine, path, *nowhere, "--server-name", f"other.example:{moved}")
        assert renamed.returncode == 0, renamed.stderr
        assert "server_name other.example;" in file.read_text()
        assert f"listen {moved} ssl;" in file.read_text()
        plain = setup(machine, path, *nowhere, "--no-tls")
        assert plain.returncode == 0, plain.stderr
        assert f"listen {moved};" in file.read_text()
        assert "ssl" not in file.read_text()
        assert setup(machine, path, "--no-tls").returncode == 2, "what for?"
        kept = ProxySection(server_name=f"other.example:{moved}")
        assert settings.load(machine.site).proxy == kept
        assert setup(machine, path).returncode == 0
        assert settings.load(machine.site).proxy == kept, "nobody spoke of nginx"


def test_a_block_of_an_earlier_version_is_replaced_only_by_one_that_is_wholly_described(
    machine: Machine, programs: Path
) -> None:
    path, port = machine.build("1"), free_port()
    with prepared.nginx(machine.directory) as nginx:
        tls = certificate(machine.directory)
        assert setup(machine, path, *on(nginx, port), *tls).returncode == 0
        # The version before kept name and certificate in the block only.
        machine.site.settings.write_text(yesterdays(ME, machine.url))
        file = nginx.directory / "sites-available" / NAME
        before = file.read_text()
        for options in (on(nginx, port), on(nginx, port)[:3]):
            refused = setup(machine, path, *options)
            assert refused.returncode == 5
            assert f"{file} is there, and {machine.site.settings} does not say" in refused.stderr
            assert "--tls-certificate" in refused.stderr
        assert file.read_text() == before
        assert setup(machine, path, *on(nginx, port), *tls).returncode == 0
        assert setup(machine, path, *on(nginx, port)[:3]).returncode == 0
        assert file.read_text() == before


def yesterdays(user: str, url: str) -> str:
    """Return the site.toml that an earlier version wrote."""
    return generated_files.marked(
        "# This server's own settings. [install] overrides what the artifact says, e.g. keep = 3.\n"
        f'user = "{user}"\n\n[supervisor]\nurl = "{url}"\n'
    )


def test_a_site_toml_of_an_earlier_version_becomes_the_commented_example(
    machine: Machine, programs: Path
) -> None:
    path = machine.build("1")
    assert setup(machine, path).returncode == 0
    today, loaded = machine.site.settings.read_text(), settings.load(machine.site)
    for key in ("#signers = ", "#keep = ", "#certificate-key = ", "#gates.production = "):
        assert f"\n{key}" in today
    machine.site.settings.write_text(yesterdays(ME, machine.url))
    assert settings.load(machine.site) == loaded
    assert setup(machine, path).returncode == 0
    assert machine.site.settings.read_text() == today


def test_an_edited_site_toml_is_told_what_nginx_was_set_up_with(
    machine: Machine, programs: Path
) -> None:
    path, port = machine.build("1"), free_port()
    with prepared.nginx(machine.directory) as nginx:
        assert setup(machine, path).returncode == 0
        with machine.site.settings.open("a") as stream:
            stream.write("# mine\n")
        edited = machine.site.settings.read_text()
        done = setup(machine, path, *on(nginx, port))
        assert done.returncode == 0, done.stderr
        assert f'write there: [proxy] server-name = "pages.example:{port}"' in done.stderr
        assert machine.site.settings.read_text() == edited
        said = edited.replace("#[proxy]", f'[proxy]\nserver-name = "pages.example:{port}"')
        machine.site.settings.write_text(said)
        again = setup(machine, path, *on(nginx, port)[:3])
        assert again.returncode == 0, again.stderr
        assert "write there" not in again.stderr


def test_nginx_that_does_not_run_is_set_up_with_a_warning(machine: Machine, programs: Path) -> None:
    nginx = prepared.Nginx(machine.directory / "nginx")
    nginx.write(debian=True)
    done = setup(machine, machine.build("1"), *on(nginx, free_port()))
    assert done.returncode == 0, done.stderr
    assert "nginx was not reloaded" in done.stderr
