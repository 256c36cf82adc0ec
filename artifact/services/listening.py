"""Who listens on a port of this machine."""

from __future__ import annotations

import contextlib


def port_holder(listen: str, daemon: int) -> str:
    """Return who listens on a port: "nginx (pid 80)"; empty for nobody, and for a daemon's own.

    A socket that we may not see counts as nobody's.

    Args:
        daemon: pid of the process manager, whose sockets and children do not count; 0 for none.
    """
    host, _, port = listen.rpartition(":")
    if not port.isdigit():
        return ""
    import psutil  # a third of the time that `status` takes to start, and it asks for no port

    def is_wanted(status: str, address: tuple[object, ...]) -> bool:
        if status != psutil.CONN_LISTEN or not address:
            return False
        return address[1] == int(port) and _meet(host.strip("[]"), str(address[0]))

    # Supervisor holds the sockets of slots itself, and its are few; all of a machine's take long.
    with contextlib.suppress(psutil.Error):
        own = psutil.Process(daemon).net_connections("tcp") if daemon else ()
        if any(is_wanted(one.status, one.laddr) for one in own):
            return ""
    for one in psutil.net_connections("tcp"):
        if one.pid is None or not is_wanted(one.status, one.laddr):
            continue
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(one.pid)
            if daemon not in {found.pid, *(parent.pid for parent in found.parents())}:
                return f"{found.name()} (pid {found.pid})"
    return ""


def _meet(one: str, other: str) -> bool:
    """Tell whether two hosts cannot both have a port."""
    everywhere = {"", "0.0.0.0", "::"}  # noqa: S104
    return one == other or one in everywhere or other in everywhere
