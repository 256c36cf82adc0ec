"""A disk that is full and stays so: what serves goes on, and there is a way out."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

from artifact.host.records import releases
from artifact.manifest import Install
from surroundings.waiting import await_
from tests.host.machine import Machine, load
from tests.host.prepared import small_disk

KEEP = Install(keep=9)


def fill(path: Path) -> None:
    """Write until the disk has not a byte left."""
    with path.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"x" * 65536)
    assert free_bytes(path) == 0


def free_bytes(path: Path) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def test_on_a_full_disk_a_site_serves_goes_back_and_prunes(machine: Machine) -> None:
    root, big = str(machine.site.root), {"big.bin": os.urandom(1_000_000).hex()}
    paths = [machine.build(str(n), install=KEEP, files=big) for n in range(5)]
    with small_disk(machine, "size=64m"):
        machine.start_supervisord()
        try:
            for path in paths[:4]:
                done = machine.install(path)
                assert done.returncode == 0, done.stderr
            with load(machine, threads=2, pause=0.05) as seen:
                fill(machine.site.root / "log")
                refused = machine.install(paths[4])
                assert refused.returncode == 5, refused.stderr
                assert "MiB are missing" in refused.stderr
                assert "hint: " in refused.stderr
                assert machine.run("status", root).returncode == 0
                told = json.loads(machine.run("doctor", root, "--json").stdout)
                assert "disk" in {one["check"] for one in told["findings"]}
                back = machine.run("rollback", root, "--probation", "0s")
                assert back.returncode == 0, back.stderr
                assert releases.live_version(machine.site) == machine.get() == "2"
                restart_what_serves(machine)
                before = free_bytes(machine.site.root)
                pruned = machine.run("prune", root, "--keep", "1")
                assert pruned.returncode == 0, pruned.stderr
                assert free_bytes(machine.site.root) > before + 1_000_000
                (machine.site.root / "log").unlink()
                done = machine.install(paths[4])
                assert done.returncode == 0, done.stderr
            assert seen.failures == []
            assert machine.get() == "4"
            assert machine.leftovers() == []
        finally:
            machine.stop_supervisord()


def restart_what_serves(machine: Machine) -> None:
    """Have it die on a disk that has not a byte left: supervisor is to start it again."""
    fill(machine.site.root / "log")
    name, old = next(
        (member.name, member.pid)
        for member in machine.members().values()
        if b"gunicorn" in Path(f"/proc/{member.pid}/cmdline").read_bytes()
    )
    os.kill(old, signal.SIGKILL)

    def is_back() -> bool:
        member = machine.members()[name]
        return member.state == "RUNNING" and member.pid != old

    await_("another process in its place", is_back)
