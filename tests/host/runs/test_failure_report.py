"""What is kept of a failure for the person who comes later."""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path

from artifact.manifest import Install
from tests.host.machine import Machine


def report_of(said: str) -> dict[str, str]:
    """Return the files of the failure report that an error names, without the run's number."""
    found = re.search(r"how things stood is in (\S+\.tgz)", said)
    assert found is not None, said
    assert Path(found[1]).stat().st_mode & 0o777 == 0o600
    with tarfile.open(found[1]) as archive:
        contents = {}
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None
            contents[member.name.partition("/")[2]] = stream.read().decode()
        return contents


def test_a_release_that_breaks_when_live_leaves_all_there_is_to_know(machine: Machine) -> None:
    code = (
        "import os\n"
        "print('the key is', os.environ['API_KEY'], flush=True)\n"
        "def application(environ, start_response):\n"
        "    good = 'SUPERVISOR_ENABLED' not in os.environ\n"
        "    start_response('200 OK' if good else '500 Oops', [])\n"
        "    return [b'new']\n"
    )
    machine.site.root.mkdir()
    machine.site.variables.write_text("API_KEY=hunter2hunter2\n")
    machine.site.settings.write_text('pass-env = ["SUPERVISOR_ENABLED"]\n')
    machine.start_supervisord()
    assert machine.install(machine.build("1")).returncode == 0
    failed = machine.install(machine.build("2", files={"app.py": code}))
    assert failed.returncode == 7, failed.stderr
    kept = report_of(failed.stderr)
    assert "500 Oops" in kept["error.txt"]
    assert "step switch" in kept["error.txt"]
    # It was written before anything was taken back.
    assert '"2"' in kept["state.json"]
    assert re.search("pages-web:slot_1 (STARTING|RUNNING) pid", kept["supervisor.txt"])
    assert f"{machine.site.current} -> 1" in kept["links.txt"]
    assert "web-1.sock: 500 Oops" in kept["health.txt"]
    # Both slots hold the public socket at that moment: either may have answered.
    assert re.search(rf"127.0.0.1:{machine.port}: (200 OK|500 Oops)", kept["health.txt"])
    assert '"event":"failed"' in kept["journal.jsonl"]
    assert "the key is" in kept["log-pages-web-slot_1.txt"]
    assert "hunter2" not in "".join(kept.values())
    assert machine.leftovers() == []


def test_one_that_does_not_even_boot_leaves_what_it_printed(machine: Machine) -> None:
    machine.start_supervisord()
    broken = machine.build("1", files={"app.py": "raise ImportError('no such thing')\n"})
    failed = machine.install(broken)
    assert failed.returncode == 5
    kept = report_of(failed.stderr)
    assert "no such thing" in kept["tried-1-web.log"]
    assert "links.txt" in kept


def test_a_refusal_or_a_signal_leaves_no_report(machine: Machine) -> None:
    none = Install(restart="none", shared=(".env",))
    refused = machine.install(machine.build("1", install=none))
    assert refused.returncode == 5
    assert "how things stood" not in refused.stderr
    assert not list(machine.site.private.glob("failures/*"))


def test_what_cannot_be_written_does_not_keep_from_going_back(machine: Machine) -> None:
    machine.start_supervisord()
    assert machine.install(machine.build("1")).returncode == 0
    if machine.site.failures.exists():
        machine.site.failures.rmdir()
    broken = {"app.py": "raise ImportError('no such thing')\n"}
    # The path of the failure report is taken by a directory.
    for run in range(1, 200):
        (machine.site.failures / f"{run:06d}.tgz").mkdir(parents=True)
    failed = machine.install(machine.build("2", files=broken))
    assert failed.returncode == 5, failed.stderr
    assert "how things stood" not in failed.stderr
    assert os.readlink(machine.site.current) == "1"
