"""Run uvicorn so that a restart loses no request; started inside the release's own interpreter.

    python draining.py uvicorn app:asgi --fd 3

Told to end, uvicorn closes at once every connection on which it has not read a request. Where one
has just arrived, the kernel then answers with a reset: of a fresh connection that was accepted but
not read yet, or of a kept-alive one that is used again that very moment. A proxy cannot repeat a
POST, so somebody loses it. (asyncio adds its own share: a connection accepted in the tick in which
the listener is closed is dropped.) Here it first stops accepting, answers what is asked on open
connections with `Connection: close`, and closes those that nobody uses.

Nothing but the standard library: there is no `artifact` in that interpreter, and it may be old.
Worker processes that uvicorn spawns import this file again, as their main module.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import runpy
import select
import signal
import sys
from typing import Any

_CLOSE = (b"connection", b"close")
_SETTLE_SECONDS = 0.05
_POLL_SECONDS = 0.02
_LONGEST_IDLE_SECONDS = 5.0
"""How long an unused connection stays open at most; uvicorn's own keep-alive may be shorter."""


def patch() -> None:
    """Have uvicorn's servers drain before they shut down."""
    server: Any = importlib.import_module("uvicorn.server").Server
    stock = server.shutdown

    async def shutdown(self: Any, sockets: Any = None) -> None:
        await drain(self)
        await stock(self, sockets=sockets)

    stock_startup = server.startup

    async def startup(self: Any, sockets: Any = None) -> None:
        await stock_startup(self, sockets=sockets)
        if self.started:
            _say_ready()

    server.shutdown = shutdown
    server.startup = startup


def _say_ready() -> None:
    """Say to the install that waits for it that connections are accepted now."""
    path = os.environ.get("ARTIFACT_READY")  # noqa: TID251 - there is no artifact.variables here
    if path:
        with contextlib.suppress(OSError), open(path, "ab") as stream:
            stream.write(b"ready\n")


async def drain(server: Any) -> None:
    """Stop accepting, and wait until nobody is left who may be sending a request."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await _stop_accepting(server)
    _announce(server)
    config = server.config
    patience = getattr(config, "timeout_graceful_shutdown", None)
    idle = min(config.timeout_keep_alive, _LONGEST_IDLE_SECONDS)
    while not server.force_exit:
        spent = loop.time() - began
        if _is_over(server, idle_is_over=spent >= idle):
            break
        if patience is not None and spent >= patience:
            break
        await asyncio.sleep(_POLL_SECONDS)
    if patience is not None:
        # What follows waits as well, and may not make it twice as long.
        config.timeout_graceful_shutdown = max(1, int(patience - (loop.time() - began)))


async def _stop_accepting(server: Any) -> None:
    loop = asyncio.get_running_loop()
    for listening in server.servers:
        for sock in listening.sockets or ():
            # uvloop watches its listeners in another way, and accepts in one go.
            with contextlib.suppress(NotImplementedError, OSError, RuntimeError, ValueError):
                loop.remove_reader(sock.fileno())
    # asyncio needs some ticks to make a connection of what it accepted, and a listener for that.
    await asyncio.sleep(_SETTLE_SECONDS)
    for listening in server.servers:
        listening.close()


def _announce(server: Any) -> None:
    """Have every answer that begins from now on say that it is the connection's last."""
    headers = [*server.server_state.default_headers, _CLOSE]
    server.server_state.default_headers = headers
    for connection in server.server_state.connections:
        if hasattr(connection, "default_headers"):
            connection.default_headers = headers
        cycle = getattr(connection, "cycle", None)
        if cycle is not None and not cycle.response_started:
            cycle.default_headers = headers


def _is_over(server: Any, *, idle_is_over: bool) -> bool:
    # Those without cycles are websockets, which would never end; uvicorn says goodbye to them.
    visitors = [one for one in server.server_state.connections if hasattr(one, "cycle")]
    if not visitors or not idle_is_over:
        return not visitors
    return all(_is_idle(one) for one in visitors)


def _is_idle(connection: Any) -> bool:
    """Tell whether nothing is being answered, and nothing has arrived that was not read yet."""
    if connection.cycle is not None and not connection.cycle.response_complete:
        return False
    sock = connection.transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return True
    watch = select.poll()
    watch.register(sock.fileno(), select.POLLIN)
    return not watch.poll(0)


def end_with_master() -> None:
    """Have a worker drain when its master is killed; it would serve the old release for ever."""
    import ctypes  # only in a worker, when it has been forked

    # prctl(2): PR_SET_PDEATHSIG.
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.environ.get("ARTIFACT_MASTER") != str(os.getppid()):  # noqa: TID251 - see _say_ready
        raise SystemExit("the master was killed while this worker booted")


def main() -> None:
    """Become the server that the first argument names."""
    name = sys.argv.pop(1)
    sys.argv[0] = name
    os.environ["ARTIFACT_MASTER"] = str(os.getpid())  # noqa: TID251 - see _say_ready
    runpy.run_module(name, run_name="__main__")


# `python FILE` puts the file's own directory first: an application's `import state` must not find
# ours. `python -m uvicorn` has the working directory there.
if not getattr(sys.flags, "safe_path", False) and sys.path[:1] == [os.path.dirname(__file__)]:
    sys.path[0] = os.getcwd()
patch()
if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    end_with_master()
