"""Hashed static files of older releases stay reachable for as long as the releases are kept."""

from __future__ import annotations

import contextlib
import os
import pwd
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from artifact import manifest
from artifact.errors import ArtifactRejected
from artifact.host.trees import static
from artifact.site import Site
from surroundings.waiting import await_, free_port
from tests.host import prepared
from tests.host.machine import ARTIFACT, Machine
from tests.test_manifest import example

ME = pwd.getpwuid(os.geteuid()).pw_name
OLD, NEW, BOTH = "app.111111111111.css", "app.222222222222.css", "logo.abcdefabcdef.svg"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path / "site")
    made.static.mkdir(parents=True)
    return made


def release(site: Site, version: str, files: Mapping[str, str]) -> manifest.Manifest:
    """Write as much of a release as its static files need."""
    described = msgspec.structs.replace(example(), version=version, static="staticfiles")
    directory = site.release(version)
    (directory / ".artifact").mkdir(parents=True)
    (directory / ".artifact" / "manifest.json").write_bytes(manifest.encode(described))
    (directory / "virtualenv").symlink_to(directory)
    for name, content in files.items():
        path = directory / "staticfiles" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return described


def remove(site: Site, version: str) -> None:
    subprocess.run(["rm", "-r", str(site.release(version))], check=True)


def served(site: Site) -> dict[str, str]:
    return {
        str(path.relative_to(site.static)): path.read_text()
        for path in sorted(site.static.rglob("*"))
        if path.is_file()
    }


def test_only_hashed_names_are_linked_and_cost_no_space(site: Site) -> None:
    first = release(site, "1", {f"css/{OLD}": "one", "css/app.css": "plain", "a.20261121.css": "x"})
    linked = static.link(site, first)
    assert linked.added == (f"css/{OLD}",)
    assert served(site) == {f"css/{OLD}": "one"}
    assert (site.static / "css" / OLD).samefile(site.release("1") / "staticfiles" / "css" / OLD)
    assert static.link(site, first) == static.Linked((), 1, ())


def test_what_two_releases_have_goes_with_the_last_of_them(site: Site) -> None:
    static.link(site, release(site, "1", {f"css/{OLD}": "one", BOTH: "logo"}))
    static.link(site, release(site, "2", {NEW: "two", BOTH: "logo"}))
    (site.static / "robots.txt").write_text("a person's")
    (site.static / f".{NEW}.123.new").write_text("left by one that was killed")
    assert static.sweep(site) == 0
    remove(site, "1")
    assert static.sweep(site) == 1
    assert served(site) == {NEW: "two", BOTH: "logo", "robots.txt": "a person's"}
    assert not (site.static / "css").exists()
    # Linked anew, not left behind as a copy.
    assert (site.static / BOTH).samefile(site.release("2") / "staticfiles" / BOTH)
    remove(site, "2")
    assert static.sweep(site) == 2
    assert served(site) == {"robots.txt": "a person's"}


def test_taking_a_step_back_leaves_what_was_there_before(site: Site) -> None:
    static.link(site, release(site, "1", {BOTH: "logo"}))
    second = release(site, "2", {f"css/deep/{NEW}": "two", BOTH: "logo"})
    linked = static.link(site, second)
    assert (len(linked.added), linked.there) == (1, 1)
    static.unlink(site, linked.added)
    assert served(site) == {BOTH: "logo"}
    assert not (site.static / "css").exists()


def test_a_name_with_another_content_is_not_replaced_and_said(site: Site) -> None:
    static.link(site, release(site, "1", {OLD: "one"}))
    assert static.link(site, release(site, "2", {OLD: "two"})).taken == (OLD,)
    assert served(site) == {OLD: "one"}


def test_files_of_a_copied_site_whose_links_were_cut_are_known_by_their_names(site: Site) -> None:
    static.link(site, release(site, "1", {OLD: "one"}))
    content = (site.static / OLD).read_text()
    (site.static / OLD).unlink()
    (site.static / OLD).write_text(content)
    assert static.sweep(site) == 0
    assert served(site) == {OLD: "one"}


@pytest.mark.parametrize("path", ["../secrets", "/etc", "a//b", ".git", "a b", "a;b", "a/../b"])
def test_a_directory_outside_the_release_is_rejected(path: str) -> None:
    described = msgspec.structs.replace(example(), static=path)
    with pytest.raises(ArtifactRejected, match="not allowed"):
        manifest.decode(manifest.encode(described))


# with nginx


def certificate(directory: Path) -> tuple[Path, Path]:
    chain, key = directory / "chain.pem", directory / "key.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-keyout", str(key), "-out", str(chain), "-subj", "/CN=pages.example"]
    subprocess.run(argv, check=True, capture_output=True)
    return chain, key


def asked(port: int, path: str) -> tuple[int, str, str]:
    """Ask nginx by TLS; return the status, Cache-Control and the body."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(
        f"https://127.0.0.1:{port}{path}", headers={"Host": "pages.example"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10, context=trusting) as answer:
            return answer.status, answer.headers.get("Cache-Control") or "", answer.read().decode()
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            return error.code, error.headers.get("Cache-Control") or "", ""


def answers(port: int) -> bool:
    try:
        return asked(port, "/")[0] == 200
    except OSError:
        return False


def build(machine: Machine, version: str, hashed: str) -> Path:
    plain = f"plain {version}"
    files = {f"staticfiles/css/{hashed}": version, "staticfiles/css/app.css": plain}
    return machine.build(version, files=files, static="staticfiles")


def test_tls_without_a_key_is_refused(machine: Machine) -> None:
    chain, _ = certificate(machine.directory)
    path = str(build(machine, "1", OLD))
    with prepared.supervisord(machine), prepared.nginx(machine.directory) as nginx:
        where = ["--user", ME, "--nginx", "--nginx-dir", str(nginx.directory)]
        where += ["--server-name", f"pages.example:{free_port()}", "--tls-certificate", str(chain)]
        missing = machine.run("setup", path, *where, "--tls-key", "/nonexistent/key.pem")
        assert missing.returncode == 5
        assert "there is no /nonexistent/key.pem to serve TLS with" in missing.stderr
        alone = machine.run("setup", path, *where)
        assert alone.returncode == 2


def test_an_old_pages_files_answer_after_the_switch_until_its_release_is_pruned(
    machine: Machine,
) -> None:
    first, port, kept = build(machine, "1", OLD), free_port(), "public, max-age=31536000, immutable"
    chain, key = certificate(machine.directory)
    with prepared.supervisord(machine), prepared.nginx(machine.directory) as nginx:
        where = ["--user", ME, "--nginx", "--nginx-dir", str(nginx.directory)]
        where += ["--server-name", f"pages.example:{port}"]
        tls = ["--tls-certificate", str(chain), "--tls-key", str(key)]
        done = machine.run("setup", str(first), *where, *tls)
        assert done.returncode == 0, done.stderr
        assert machine.install(first).returncode == 0
        await_("nginx with our block", lambda: answers(port))
        assert asked(port, f"/static/css/{OLD}") == (200, kept, "1")
        assert asked(port, "/static/css/app.css") == (200, "", "plain 1")
        done = machine.install(build(machine, "2", NEW))
        assert done.returncode == 0, done.stderr
        assert asked(port, f"/static/css/{OLD}") == (200, kept, "1")
        assert asked(port, f"/static/css/{NEW}") == (200, kept, "2")
        assert asked(port, "/static/css/app.css") == (200, "", "plain 2")
        # Not there: the application is asked, and its answer is not kept for ever.
        assert asked(port, "/static/css/gone.333333333333.css") == (200, "", "2")
        # `previous` needs its release; a third sends the first away.
        assert machine.install(build(machine, "3", NEW)).returncode == 0
        pruned = subprocess.run(
            [ARTIFACT, "prune", str(machine.site.root), "--keep", "1"],
            env=machine.variables(),
            capture_output=True,
            text=True,
        )
        assert pruned.returncode == 0, pruned.stderr
        assert sorted(served(machine.site)) == [f"css/{NEW}"]
        assert asked(port, f"/static/css/{OLD}") == (200, "", "3")
        assert asked(port, f"/static/css/{NEW}") == (200, kept, "2")
