"""Signs manifests with SSH keys and checks their signatures, by OpenSSH's own `ssh-keygen -Y`.

The signature covers manifest.json, which covers every byte of the artifact. Keys may be files, or
held by an agent; who may sign is an `allowed_signers` file as in ssh-keygen(1).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifact import process
from artifact.errors import ArtifactRejected, BuildFailed, UsageError

NAMESPACE = "artifact"
"""What the signature is for; one made for git or for mail is not accepted."""
_SECONDS = 120.0  # an agent may ask a person to touch a key
_INSTALL = "install OpenSSH's client: apt-get install openssh-client"


def sign(content: bytes, key: Path) -> bytes:
    """Return the signature of a manifest.

    Args:
        key: a private key without passphrase, or a public key whose private half an agent holds.

    Raises:
        UsageError: there is no such key.
        BuildFailed: it cannot be signed with that key.
    """
    if not key.is_file():
        raise UsageError(
            f"there is no key {key} to sign with", hint="`ssh-keygen -t ed25519 -f KEY` makes one"
        )
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
    try:
        signed = process.run(argv, stdin=content.decode(), capture=True, timeout=_SECONDS)
    except process.ProgramMissing as error:
        raise BuildFailed(
            "the artifact cannot be signed without ssh-keygen", hint=_INSTALL
        ) from error
    except process.ChildFailed as error:
        raise BuildFailed(
            f"the artifact cannot be signed with {key}: ssh-keygen {error.reason}",
            hint="give a private key without passphrase, or the public key of one in ssh-agent",
            output=error.tail,
        ) from error
    return signed.stdout.encode()


def verify(content: bytes, signature: bytes | None, signers: Path) -> str:
    """Check the signature of a manifest and return who made it, as the signers' file names them.

    Raises:
        UsageError: there is no such file of signers.
        ArtifactRejected: it is not signed, or nobody in the file made the signature.
    """
    if not signers.is_file():
        raise UsageError(
            f"there is no file of allowed signers {signers}",
            hint='each of its lines is `NAME namespaces="artifact" ssh-ed25519 AAAA…`',
        )
    if signature is None:
        raise ArtifactRejected("it is not signed", hint="sign it where it is built")
    with _file_of(signature) as path:
        allowed = ["-f", str(signers), "-s", str(path)]
        found = _ssh_keygen(["find-principals", *allowed], "", "its signer is not allowed to sign")
        signer = found.splitlines()[0] if found else ""
        check = ["verify", "-n", NAMESPACE, "-I", signer, *allowed]
        _ssh_keygen(check, content.decode(), "its signature is not valid")
    return signer


def check(content: bytes, signature: bytes) -> None:
    """Check that somebody signed just this manifest, whoever it was.

    Raises:
        ArtifactRejected: the signature is of something else, or is none.
    """
    with _file_of(signature) as path:
        argv = ["check-novalidate", "-n", NAMESPACE, "-s", str(path)]
        _ssh_keygen(argv, content.decode(), "its signature is not valid")


def _ssh_keygen(arguments: list[str], stdin: str, failure: str) -> str:
    try:
        argv = ["ssh-keygen", "-Y", *arguments]
        return process.run(argv, stdin=stdin, capture=True, timeout=_SECONDS).stdout
    except process.ProgramMissing as error:
        raise UsageError(
            "the signature cannot be checked without ssh-keygen", hint=_INSTALL
        ) from error
    except process.ChildFailed as error:
        raise ArtifactRejected(
            failure,
            hint="install what your CI signed, or add its key to the allowed signers",
            output=error.tail,
        ) from error


@contextmanager
def _file_of(signature: bytes) -> Iterator[Path]:
    """Hold the signature in a file, for ssh-keygen reads the content from its standard input."""
    with tempfile.NamedTemporaryFile(prefix="artifact-", suffix=".sig") as stream:
        stream.write(signature)
        stream.flush()
        yield Path(stream.name)
