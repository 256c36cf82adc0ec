"""What a command answers on stdout: lines for people, or one document with `--json`.

The structs of the documents are what is promised: the schemas in `docs/json` are generated from
them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from artifact.cli import terminal
from artifact.errors import ArtifactError, Stopped
from artifact.redaction import redact


class Error(msgspec.Struct, frozen=True):
    """Why a command failed. Secrets are masked."""

    code: int
    """The exit code."""
    kind: str
    """The situation: "Refused", "Locked", "Stopped"…; "Bug" for a bug in artifact."""
    message: str
    hint: str
    """The next thing to do."""
    output: tuple[str, ...] = ()
    """The last lines of a program that failed."""


class Document(msgspec.Struct, frozen=True, kw_only=True, tag_field="command"):
    """What every document has. The tag of a subclass is its command."""

    version: Literal[1] = 1
    ok: bool = True
    """The exit code is 0."""
    error: Error | UnsetType = UNSET
    """Why it is not."""


class Answer(msgspec.Struct):
    """Takes a command's answer. A document is printed at the end, when the exit code is known."""

    command: str
    as_json: bool
    document: Document | None = None

    def __call__(self, document: Document, lines: Iterable[str] = ()) -> None:
        """Answer with the document, or with the lines where `--json` is not given."""
        if self.as_json:
            self.document = document
            return
        for line in lines:
            terminal.data(line)

    def finish(self, error: Error | None) -> None:
        """Print the document. A command that failed before it had one answers with the error."""
        if not self.as_json or (error is None and self.document is None):
            return
        content = {"version": 1, "command": self.command}
        if self.document is not None:
            content |= msgspec.to_builtins(self.document)
        if error is not None:
            content |= {"ok": False, "error": msgspec.to_builtins(error)}
        terminal.document(content)


def explain(error: BaseException) -> Error:
    """Return what a document says of an exception."""
    if isinstance(error, ArtifactError):
        output = tuple(map(redact, error.output))
        kind = type(error).__name__
        return Error(error.code, kind, redact(error.message), redact(error.hint), output)
    if isinstance(error, Stopped):
        return Error(error.code, "Stopped", f"stopped by {error.name}", "")
    message = redact(f"{type(error).__name__}: {error}")
    return Error(1, "Bug", message, "please report it with the traceback on stderr")
