"""`ci/deploy` to other hosts: what it asks ssh to do, and what is left there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.ci import runner
from tests.integration.command import Ran, clean_environment, run

DIGEST = "sha256:" + "a" * 64

# Does here what the other host would do, and notes for whom.
SSH = """#!/bin/sh
for word; do last=$word; done
[ "$3" = -- ] && echo "$4" >>hosts || exit 99
exec sh -c "$last"
"""
ARTIFACT = """#!/bin/sh
echo "$@" >>installed
cmp "$2" dist/small-7.tgz && [ "$(head -n1 hosts)" != deploy@bad ] || exit 7
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """What the deploy job finds, with programs that stand in for another host's."""
    (tmp_path / "ci").mkdir()
    shutil.copy(runner.PROJECT / "ci/deploy", tmp_path / "ci")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/small-7.tgz").write_bytes(bytes(range(256)) * 999)
    lines = {"PATH": "dist/small-7.tgz", "DIGEST": DIGEST, "VERSION": "7"}
    text = "".join(f"ARTIFACT_{name}={value}\n" for name, value in lines.items())
    (tmp_path / "dist/artifact.env").write_text(text)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in (("ssh", SSH), ("sudo", '#!/bin/sh\nexec "$@"\n'), ("artifact", ARTIFACT)):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    (tmp_path / "scratch").mkdir()
    return tmp_path


def deploy(workspace: Path, target: str, status: int = 0) -> Ran:
    """Run the script."""
    env = clean_environment(TMPDIR=str(workspace / "scratch"), DEPLOY_TARGET=target)
    env["PATH"] = f"{workspace / 'programs'}:{env['PATH']}"
    return run([workspace / "ci/deploy"], cwd=workspace, env=env, status=status)


def test_every_host_gets_the_same_bytes_and_the_digest_they_must_have(workspace: Path) -> None:
    deploy(workspace, "deploy@web1 deploy@web2")
    assert (workspace / "hosts").read_text() == "deploy@web1\ndeploy@web2\n"
    asked = (workspace / "installed").read_text().splitlines()
    assert len(asked) == 2
    assert all(line.endswith(f"/small-7.tgz --digest {DIGEST}") for line in asked)
    assert not list((workspace / "scratch").iterdir()), "nothing is left on the host"


def test_the_first_host_that_fails_stops_it_with_its_exit_code(workspace: Path) -> None:
    deploy(workspace, "deploy@bad deploy@web2", status=7)
    assert (workspace / "hosts").read_text() == "deploy@bad\n"
    assert not list((workspace / "scratch").iterdir())


def test_without_a_target_it_says_what_is_missing(workspace: Path) -> None:
    assert "say where to" in deploy(workspace, "", status=1).stderr
