"""An nginx that serves a directory, as people put one before their artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import surroundings.nginx
from surroundings.waiting import free_port


@contextmanager
def nginx(root: Path, own: Path, *, more: str = "") -> Iterator[str]:
    """Run nginx for the block; return the host and port it listens on.

    Args:
        own: a directory for its own files; it is made.
        more: what else stands in the server block.
    """
    port = free_port()
    main = surroundings.nginx.configure(own, surroundings.nginx.serving(root, port, more))
    with surroundings.nginx.running(main, port):
        yield f"127.0.0.1:{port}"
