"""Answer one request in an application's interpreter, with modules that come through stdin.

The application's user may not be able to read where we are installed, and the application may have
modules of any name: so ours are in a package of their own that is in no directory. A module that
can be asked has a function `answer`, which takes and returns what JSON can hold; what is printed
meanwhile goes to stderr. Python 3.8 is enough.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from importlib.abc import InspectLoader
from importlib.util import spec_from_loader
from typing import Any, Dict, Mapping

_PACKAGE = "artifact_probes"
_PROGRAM = """
import sys
if not sys.path[0]:
    del sys.path[0]  # the current directory: what we import is Python's own
import types
texts = {texts!r}
answering = sys.modules["{package}.answering"] = types.ModuleType("{package}.answering")
exec(texts["answering"], vars(answering))
answering.respond(texts, {probe!r}, {request!r})
"""

texts: Dict[str, str] = {}
"""Our modules, where they are in no file."""


def program(texts: Mapping[str, str], probe: str, request: Mapping[str, Any]) -> str:
    """Return a Python program that has a probe answer on stdout, in JSON."""
    whole = {"texts": dict(texts), "probe": probe, "request": dict(request)}
    return _PROGRAM.format(package=_PACKAGE, **whole)


def respond(ours: Dict[str, str], probe: str, request: Dict[str, Any]) -> None:
    """Answer; whatever the probe raises, an exit too, is told as "broken"."""
    texts.update(ours)
    sys.meta_path.append(_Loader())
    # A text with a lone surrogate, as a name of a file may have it, is no JSON.
    with os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace") as channel:
        os.dup2(2, 1)
        try:
            module = importlib.import_module(f"{_PACKAGE}.{probe}")
            sys.path.insert(0, os.getcwd())
            found = module.answer(request)
        except BaseException as error:
            found = {"broken": broken(error)}
        json.dump(found, channel, ensure_ascii=False)


def broken(error: BaseException) -> str:
    """Print a traceback and return its last line."""
    traceback.print_exc()
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".rstrip(": ")


class _Loader(InspectLoader):
    """Imports our modules from their texts."""

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        package, _, module = name.rpartition(".")
        if name == _PACKAGE:
            return spec_from_loader(name, self, is_package=True)
        return spec_from_loader(name, self) if package == _PACKAGE and module in texts else None

    def get_source(self, fullname: str) -> str:
        return texts.get(fullname.rpartition(".")[2], "")
