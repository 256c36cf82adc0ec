"""The version of a build: given, from the CI job or from git; it never comes from the clock."""

from __future__ import annotations

import msgspec

from artifact import __version__, manifest, redaction, variables
from artifact.building import git
from artifact.building.source import Snapshot
from artifact.errors import UsageError

RULE = (
    "letters, digits and . _ + -, beginning with a letter or digit, at most 64, without .., "
    f"and not {', '.join(sorted(manifest.RESERVED_VERSIONS))}"
)
_FROM_CI = ("BUILD_NUMBER", "CI_PIPELINE_IID")
_LARGEST_SEQUENCE = 2**63 - 1


class Version(msgspec.Struct, frozen=True):
    """What a build is called."""

    text: str
    """ "1337"."""
    sequence: int
    """Order among the versions of a name; 0 when unknown."""
    origin: str
    """Where it came from: "--version", "BUILD_NUMBER", "git"…"""


def choose(explicit: str, snapshot: Snapshot) -> Version:
    """Return the version: the one given, else the CI job's number, else git's description.

    Raises:
        UsageError: it cannot be one, or there is nothing to take it from.
    """
    if explicit:
        return _checked(explicit, "--version", snapshot)
    for name in _FROM_CI:
        if value := variables.get(name):
            return _checked(value, name, snapshot)
    for found in (git.describe(snapshot.root), git.short_revision(snapshot.root)):
        text = found + ("-dirty" if found and snapshot.source.dirty else "")
        # Tags like "release/7" cannot be versions; the revision always can.
        if manifest.is_version(text) and snapshot.source.revision:
            return Version(text, snapshot.commits, "git")
    raise UsageError(
        f"nothing says which version this is: there is no commit in {snapshot.root} "
        "and no BUILD_NUMBER or CI_PIPELINE_IID",
        hint="artifact build --version 1",
    )


def built_by() -> manifest.Built:
    """Return the tool's version and the CI job this runs in."""
    ci, job = _job()
    return manifest.Built(tool=__version__, ci=ci, job=redaction.strip_credentials(job))


def _job() -> tuple[str, str]:
    if variables.get("GITLAB_CI"):
        return "gitlab", variables.get("CI_JOB_URL")
    if variables.get("JENKINS_URL"):
        return "jenkins", variables.get("BUILD_URL")
    if variables.get("GITHUB_ACTIONS"):
        server, repository = variables.get("GITHUB_SERVER_URL"), variables.get("GITHUB_REPOSITORY")
        return "github", f"{server}/{repository}/actions/runs/{variables.get('GITHUB_RUN_ID')}"
    return ("other" if variables.get("CI") else ""), ""


def _checked(text: str, origin: str, snapshot: Snapshot) -> Version:
    if not manifest.is_version(text):
        raise UsageError(f"{origin}: {text!r} cannot be a version", hint=f"use {RULE}")
    return Version(text, _sequence(text, snapshot), origin)


def _sequence(text: str, snapshot: Snapshot) -> int:
    if text.isascii() and text.isdigit() and int(text) <= _LARGEST_SEQUENCE:
        return int(text)
    return snapshot.commits
