"""Become another program as the site's user; reads {"argv": …, "user": …} from stdin.

Python 3.8 is enough.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def become(user: Any) -> None:
    """Drop root's rights before anything of the application is run."""
    if user is None:
        return
    os.initgroups(user["name"], user["gid"])
    os.setgid(user["gid"])
    os.setuid(user["uid"])


def main() -> None:
    """Become it."""
    request = json.load(sys.stdin)
    become(request["user"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    try:
        os.execvp(request["argv"][0], request["argv"])  # noqa: S606 - a list, no shell
    except OSError as error:
        print(f"{request['argv'][0]} cannot be started: {error.strerror}", file=sys.stderr)
        os._exit(127)


if __name__ == "__main__":
    main()
