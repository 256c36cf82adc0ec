"""`artifact setup`: prepare a server for a site in one step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from artifact import steps
from artifact.cli import options, plans
from artifact.cli.answers import Answer, Document
from artifact.cli.install import own_path
from artifact.errors import UsageError
from artifact.host.commands import setup
from artifact.host.commands.setup import Outcome
from artifact.host.preparing.findings import SetupOptions
from artifact.host.records.problem import Problem
from artifact.services.proxy import Certificate


class SetupStep(msgspec.Struct, frozen=True):
    """Something that is done, or would be."""

    name: str
    summary: str
    path: str
    """The file that is written."""
    content: str
    """All of that file."""


class SetUp(Document, frozen=True, kw_only=True, tag="setup"):
    """How a server was prepared for a site, or would be."""

    site: str
    name: str
    steps: tuple[SetupStep, ...]
    already: tuple[str, ...]
    """What is so already."""
    warnings: tuple[Problem, ...]
    """What a person has yet to do."""
    problems: tuple[Problem, ...]
    """Why nothing would be done."""


@click.command()
@click.argument("reference", metavar="FILE_OR_NAME")
@click.option("--user", default="", help="The user the processes run as; made if missing.")
@click.option("--nginx", is_flag=True, help="Also write a server block for nginx.")
@click.option(
    "--server-name", default="", metavar="HOST[:PORT]", help="The host that nginx serves."
)
@options.nginx_directory
@click.option(
    "--tls-certificate",
    type=options.PATH,
    metavar="FILE",
    help="Have nginx serve TLS with this chain of certificates.",
)
@click.option(
    "--tls-key", type=options.PATH, metavar="FILE", help="The private key of the certificate."
)
@click.option("--no-tls", is_flag=True, help="Have nginx serve plain HTTP again.")
@click.option(
    "--supervisor-dir",
    "supervisor_directory",
    type=options.PATH,
    metavar="DIR",
    help="Where supervisor's programs go; what its configuration includes if left out.",
)
@options.plan
@options.json
@options.verbosity
def command(
    *,
    reference: str,
    user: str,
    nginx: bool,
    server_name: str,
    nginx_directory: Path,
    tls_certificate: Path | None,
    tls_key: Path | None,
    no_tls: bool,
    supervisor_directory: Path | None,
    plan: bool,
    answer: Answer,
    tell: steps.Listener,
) -> None:
    """Prepare this server for an artifact's site: user, directories, supervisor, nginx.

    The processes are those of an artifact's file or, for a NAME, of the site's live release. What
    is so already stays as it is. A file that a person edited is never overwritten. Repeated without
    --server-name and --tls-certificate, nginx keeps those of site.toml.
    """
    for option, given in (
        ("--server-name", server_name),
        ("--no-tls", no_tls),
        ("--tls-certificate", tls_certificate or tls_key),
    ):
        if given and not nginx:
            raise UsageError(f"{option} is for nginx", hint="add --nginx")
    if no_tls and (tls_certificate or tls_key):
        raise UsageError("--no-tls and a certificate contradict each other", hint="leave one out")
    site, manifest = setup.find_subject(reference)
    wanted = SetupOptions(
        command=own_path(),
        user=user,
        nginx=nginx,
        server_name=server_name,
        nginx_directory=nginx_directory,
        certificate=_certificate(tls_certificate, tls_key),
        tls=not no_tls,
        supervisor_directory=supervisor_directory,
    )
    if plan:
        outcome = setup.plan(site, manifest, wanted)
        answer(_document(outcome), _lines(outcome))
        for warning in outcome.warnings:
            tell(warning)
        plans.refuse_plan("the setup", outcome.problems, tell)
        return
    outcome = setup.setup(site, manifest, wanted, tell)
    answer(_document(outcome))
    did = (
        "is set up; next: artifact install"
        if outcome.steps
        else "was set up already; nothing changed"
    )
    tell(steps.Said(f"{site.root} {did}"))


def _certificate(chain: Path | None, key: Path | None) -> Certificate | None:
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        raise UsageError("a certificate needs its key", hint="give --tls-certificate and --tls-key")
    return Certificate(chain.absolute(), key.absolute())


def _lines(outcome: Outcome) -> Iterator[str]:
    for part in outcome.parts:
        yield part.summary if part.step else f"already so: {part.summary}"
        if part.step:
            yield from (f"    {written}".rstrip() for written in part.content.splitlines())


def _document(outcome: Outcome) -> SetUp:
    return SetUp(
        site=str(outcome.site.root),
        name=outcome.name,
        steps=tuple(
            SetupStep(part.name, part.summary, part.path, part.content)
            for part in outcome.parts
            if part.step
        ),
        already=tuple(part.summary for part in outcome.parts if not part.step),
        warnings=tuple(Problem(one.text, one.hint) for one in outcome.warnings),
        problems=outcome.problems,
    )
