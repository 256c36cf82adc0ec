"""Answer one request: JSON from stdin, JSON on stdout, and all else that is printed on stderr.

Python 3.8 is enough.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, Callable, Dict

if TYPE_CHECKING:
    from artifact.host.probes import becoming
else:
    import becoming


def respond(answer: Callable[[Dict[str, Any]], Dict[str, Any]]) -> None:
    """Answer as the site's user; whatever `answer` raises, an exit too, is told as "broken"."""
    # The application may have modules of the names of those beside the script.
    beside = sys.path.pop(0)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if os.path.dirname(file) == beside and name != "__main__":
            del sys.modules[name]
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        request = json.load(sys.stdin)
        try:
            becoming.become(request["user"])
            found = answer(request)
        except BaseException as error:
            traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            found = {"broken": f"{type(error).__name__}: {lines[0]}".rstrip(": ")}
        json.dump(found, channel)
