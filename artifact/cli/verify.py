"""`artifact verify`: check every byte of an artifact."""

from __future__ import annotations

import re
from pathlib import Path

import click

from artifact import steps
from artifact.archive import checking, opening, signature
from artifact.archive.opening import Artifact, naming
from artifact.cli import options, terminal
from artifact.cli.answers import Answer, Document
from artifact.errors import ArtifactRejected, UsageError


class Verified(Document, frozen=True, kw_only=True, tag="verify"):
    """An artifact that is intact."""

    digest: str
    signed: bool
    signer: str | None
    """Who signed it; known with `--signers` only."""
    entries: int
    raw: int
    """Bytes unpacked."""


@click.command()
@click.argument("file", type=options.PATH)
@click.option("--digest", help="Demand this identity, as `artifact build` printed it: sha256:…")
@click.option(
    "--signers",
    type=options.PATH,
    help="Demand a signature by one of these: an allowed_signers file, see ssh-keygen(1).",
)
@options.json
@options.verbosity
def command(
    *, file: Path, digest: str | None, signers: Path | None, answer: Answer, tell: steps.Listener
) -> None:
    """Check every byte of an artifact.

    Prints its digest when all is right. That it is the artifact you mean is known only with
    --digest or --signers.
    """
    if digest is not None and not re.fullmatch("sha256:[0-9a-f]{64}", digest):
        raise UsageError(
            f"--digest {digest!r} is no digest", hint="it is sha256: and 64 hexadecimal digits"
        )
    with opening.open_artifact(file) as artifact:
        if digest is not None and digest != artifact.digest:
            raise ArtifactRejected(
                f"{file.name}: its digest is {artifact.digest}, not {digest}",
                hint="this is another artifact than the one you mean",
            )
        signer = _check_signature(artifact, signers)
        checking.verify(artifact, tell)
        components = artifact.manifest.components
        document = Verified(
            digest=artifact.digest,
            signed=artifact.signature is not None,
            signer=signer,
            entries=sum(component.entries for component in components),
            raw=sum(component.raw for component in components),
        )
    signed = f", signed{f' by {signer}' if signer else ''}" if document.signed else ""
    size = terminal.size(document.raw)
    tell(steps.Said(f"{file.name} is intact: {document.entries:,} entries, {size}{signed}"))
    answer(document, [document.digest])


def _check_signature(artifact: Artifact, signers: Path | None) -> str | None:
    """Return who signed it, when that was asked; the signature itself is always checked."""
    with naming(artifact.name):
        if signers is not None:
            return signature.verify(artifact.content, artifact.signature, signers)
        if artifact.signature is not None:
            signature.check(artifact.content, artifact.signature)
    return None
