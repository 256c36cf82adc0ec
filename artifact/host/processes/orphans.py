"""What a supervisord that was killed has left behind: it still serves, and nobody minds it.

Such a process keeps the sockets it was given, so that the next supervisord cannot open them and
ends: "Could not create FastCGI socket … Address already in use". Debian's unit has
`KillMode=process`, so systemd leaves them as well.
"""

from __future__ import annotations

from artifact.host.records import state
from artifact.site import Site

_SECONDS = 1.0
"""A process has written its word after it began; clocks of files are that coarse."""


def pids(site: Site) -> tuple[int, ...]:
    """Return the processes of a site that run without a supervisord, by their own words."""
    import psutil  # see services/listening.py

    found = []
    for path in sorted(site.private.glob("run/*.json")):
        word = state.read_running(path)
        try:
            process = psutil.Process(word.pid if word else 0)
            # A pid is given again, after a reboot for one; that process began later than the word.
            if process.create_time() > path.stat().st_mtime + _SECONDS:
                continue
            parent = process.parent()
            if parent is None or "supervisord" not in "".join(parent.cmdline()):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return tuple(found)
