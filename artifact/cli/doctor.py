"""`artifact doctor`: what is wrong with this server, and how to put it right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from artifact.cli import options
from artifact.cli.answers import Answer, Document
from artifact.errors import Refused
from artifact.host.inspecting import doctor
from artifact.host.inspecting.doctor import Finding
from artifact.site import Site


class Diagnosis(Document, frozen=True, kw_only=True, tag="doctor"):
    """What `artifact doctor` found."""

    site: str
    name: str
    live: str
    """The version; empty where nothing is live."""
    checks: tuple[str, ...]
    """All that were made."""
    findings: tuple[Finding, ...]


@click.command()
@options.site
@options.nginx_directory
@options.json
def command(*, site: Site, nginx_directory: Path, answer: Answer) -> None:
    """Check this server for a site; every finding comes with its fix.

    Exits with 0 when nothing was found and with 5 otherwise.
    """
    report = doctor.examine(site, nginx_directory=nginx_directory)
    diagnosis = Diagnosis(
        site=str(site.root),
        name=report.name,
        live=report.live,
        checks=report.checks,
        findings=report.findings,
    )
    answer(diagnosis, _lines(diagnosis))
    if report.findings:
        count = len(report.findings)
        raise Refused(
            f"{site.root}: {count} finding{'s' if count > 1 else ''}", hint=report.findings[0].hint
        )


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    wrong = {finding.check for finding in diagnosis.findings}
    for name in diagnosis.checks:
        if name not in wrong:
            yield f"{name}: well"
    for finding in diagnosis.findings:
        yield f"{finding.check}: {finding.text}; fix: {finding.hint}"
