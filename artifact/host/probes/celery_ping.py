"""Wait until celery's workers of these names answer, or cannot be asked."""

from __future__ import annotations

import socket
import time
from typing import Any, Dict


def answer(request: Dict[str, Any]) -> Dict[str, Any]:
    """Ask until all have answered, or the time is over."""
    from celery.app.utils import find_app

    app = find_app(request["application"])
    with app.connection_for_read() as connection:
        possible = connection.supports_exchange_type("fanout")
    if not possible or not app.conf.worker_enable_remote_control:
        return {}
    silent = {f"{name}@{socket.gethostname()}" for name in request["names"]}
    deadline = time.monotonic() + request["seconds"]
    while silent and time.monotonic() < deadline:
        for answers in app.control.ping(destination=sorted(silent), timeout=1.0):
            silent -= set(answers)
    return {}
