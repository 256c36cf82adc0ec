"""Signatures, made and checked by the real ssh-keygen."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import pytest

from artifact.archive import checking, opening, signature
from artifact.errors import ArtifactRejected, BuildFailed, UsageError
from tests.archive import samples

CONTENT = '{"name":"größe"}'.encode()


def make_key(path: Path, *options: str) -> Path:
    """Make a key without passphrase."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path), *options]
    subprocess.run(argv, check=True)
    return path


def allow(signers: Path, key: Path, who: str = "ci@example.com", purpose: str = "artifact") -> Path:
    """Write an allowed_signers file."""
    public = key.with_suffix(".pub").read_text()
    signers.write_text(f'{who} namespaces="{purpose}" {public}')
    return signers


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("keys") / "ci")


@pytest.fixture
def signers(key: Path, tmp_path: Path) -> Path:
    return allow(tmp_path / "allowed_signers", key)


def test_who_signed_is_found(key: Path, signers: Path) -> None:
    signed = signature.sign(CONTENT, key)
    assert signature.verify(CONTENT, signed, signers) == "ci@example.com"
    signature.check(CONTENT, signed)


def test_a_signature_is_of_one_manifest_only(key: Path, signers: Path) -> None:
    signed = signature.sign(CONTENT, key)
    for refuse in (partial(signature.verify, signers=signers), signature.check):
        with pytest.raises(ArtifactRejected, match="its signature is not valid"):
            refuse(CONTENT + b" ", signed)


def test_somebody_else_s_signature_is_refused(signers: Path, tmp_path: Path) -> None:
    signed = signature.sign(CONTENT, make_key(tmp_path / "other"))
    with pytest.raises(ArtifactRejected, match="its signer is not allowed to sign"):
        signature.verify(CONTENT, signed, signers)


def test_a_signature_for_another_purpose_is_refused(key: Path, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(CONTENT)
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(key), str(content)]
    subprocess.run(argv, check=True, capture_output=True)
    signed = (tmp_path / "content.sig").read_bytes()
    signers = tmp_path / "signers"
    signers.write_text(f"ci@example.com {key.with_suffix('.pub').read_text()}")
    with pytest.raises(ArtifactRejected, match="its signature is not valid"):
        signature.verify(CONTENT, signed, signers)


def test_a_signer_allowed_for_another_purpose_is_refused(key: Path, tmp_path: Path) -> None:
    signers = allow(tmp_path / "signers", key, purpose="git")
    with pytest.raises(ArtifactRejected, match="its sign"):
        signature.verify(CONTENT, signature.sign(CONTENT, key), signers)


def test_what_is_missing_is_named(key: Path, signers: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no key"):
        signature.sign(CONTENT, tmp_path / "absent")
    with pytest.raises(UsageError, match="there is no file of allowed signers"):
        signature.verify(CONTENT, signature.sign(CONTENT, key), tmp_path / "absent")
    with pytest.raises(ArtifactRejected, match="it is not signed"):
        signature.verify(CONTENT, None, signers)
    with pytest.raises(ArtifactRejected, match="its signature is not valid"):
        signature.check(CONTENT, b"hello")


def test_a_key_that_needs_a_passphrase_is_told(tmp_path: Path) -> None:
    locked = make_key(tmp_path / "locked", "-N", "secret-phrase")
    with pytest.raises(BuildFailed, match="cannot be signed with") as failed:
        signature.sign(CONTENT, locked)
    assert "ssh-agent" in failed.value.hint


def test_a_signed_artifact_carries_its_signature(key: Path, signers: Path, tmp_path: Path) -> None:
    path = tmp_path / "accounting-1337.tgz"
    digest = samples.build(path, sign=lambda content: signature.sign(content, key))
    with opening.open_artifact(path) as artifact:
        assert artifact.digest == digest
        assert signature.verify(artifact.content, artifact.signature, signers) == "ci@example.com"
        checking.verify(artifact)
    assert samples.build(tmp_path / "unsigned.tgz") == digest
