"""`artifact verify`"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from artifact import steps
from artifact.cli import terminal
from artifact.errors import ArtifactRejected, UsageError

if TYPE_CHECKING:
    from artifact.archive.opening import Artifact


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--digest", help="Demand this identity, as `artifact build` printed it: sha256:…")
@click.option(
    "--signers",
    type=click.Path(path_type=Path),
    help="Demand a signature by one of these: an allowed_signers file, see ssh-keygen(1).",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@terminal.talking
def command(
    file: Path,
    digest: str | None,
    signers: Path | None,
    as_json: bool,  # noqa: FBT001 - click
    tell: steps.Listener,
) -> None:
    """Check every byte of an artifact.

    Prints its digest when all is right. That it is the artifact you mean is known only with
    --digest or --signers.
    """
    from artifact.archive import checking, opening

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
        raw = sum(component.raw for component in components)
        entries = sum(component.entries for component in components)
        by = f" by {signer}" if signer else ""
        signed = f", signed{by}" if artifact.signature else ""
        tell(
            steps.Said(f"{file.name} is intact: {entries:,} entries, {terminal.size(raw)}{signed}")
        )
        if as_json:
            found = {"digest": artifact.digest, "signed": bool(artifact.signature)}
            totals = {"signer": signer, "entries": entries, "raw": raw}
            terminal.document("verify", found | totals)
        else:
            terminal.data(artifact.digest)


def _check_signature(artifact: Artifact, signers: Path | None) -> str | None:
    """Return who signed it, when that was asked; the signature itself is always checked."""
    from artifact.archive import signature
    from artifact.archive.opening import naming

    with naming(artifact.name):
        if signers is not None:
            return signature.verify(artifact.content, artifact.signature, signers)
        if artifact.signature is not None:
            signature.check(artifact.content, artifact.signature)
    return None
