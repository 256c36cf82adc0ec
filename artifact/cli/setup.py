"""`artifact setup`: prepare a server for a site in one step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artifact import steps
from artifact.cli import terminal

if TYPE_CHECKING:
    from artifact.host.commands.setup import Outcome
    from artifact.services.nginx import Certificate


@click.command()
@click.argument("reference", metavar="FILE_OR_NAME")
@click.option("--user", default="", help="Who the processes run as; made if missing.")
@click.option("--nginx", is_flag=True, help="Also a server block for nginx.")
@click.option("--server-name", default="", metavar="HOST[:PORT]", help="For nginx.")
@click.option(
    "--nginx-dir",
    type=click.Path(path_type=Path),
    default=Path("/etc/nginx"),
    show_default=True,
    metavar="DIR",
    help="nginx's configuration.",
)
@click.option(
    "--tls-certificate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Have nginx serve TLS with this chain of certificates.",
)
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="Its key.")
@click.option("--no-tls", is_flag=True, help="Have nginx serve plain HTTP again.")
@click.option(
    "--supervisor-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where supervisor's programs go; what its configuration includes if left out.",
)
@click.option("--plan", "plan_only", is_flag=True, help="Say what would be done, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document.")
@terminal.talking
def command(
    *,
    reference: str,
    user: str,
    nginx: bool,
    server_name: str,
    nginx_dir: Path,
    tls_certificate: Path | None,
    tls_key: Path | None,
    no_tls: bool,
    supervisor_dir: Path | None,
    plan_only: bool,
    as_json: bool,
    tell: steps.Listener,
) -> None:
    """Prepare this server for an artifact's site: user, directories, supervisor, nginx.

    The processes are those of an artifact's file or, for a NAME, of the site's live release. What
    is so already stays as it is, and what a person edited is never overwritten. Repeated without
    --server-name and --tls-certificate, nginx keeps those it was set up with.
    """
    from artifact.cli.install import own_path
    from artifact.errors import UsageError
    from artifact.host.commands import setup

    if server_name and not nginx:
        raise UsageError("--server-name is for nginx", hint="add --nginx")
    if no_tls and not nginx:
        raise UsageError("--no-tls is for nginx", hint="add --nginx")
    if no_tls and (tls_certificate or tls_key):
        raise UsageError("--no-tls and a certificate contradict each other", hint="leave one out")
    site, manifest = setup.subject(reference)
    wishes = setup.Wishes(
        command=own_path(),
        user=user,
        nginx=nginx,
        server_name=server_name,
        nginx_directory=nginx_dir,
        certificate=_certificate(tls_certificate, tls_key, nginx=nginx),
        tls=not no_tls,
        supervisor_directory=supervisor_dir,
    )
    if plan_only:
        _show_plan(setup.plan(site, manifest, wishes, steps.nobody), tell, as_json=as_json)
        return
    outcome = setup.setup(site, manifest, wishes, tell)
    if as_json:
        terminal.document("setup", _document(outcome))
    else:
        tell(steps.Said(_end(outcome)))


def _certificate(chain: Path | None, key: Path | None, *, nginx: bool) -> Certificate | None:
    from artifact.errors import UsageError
    from artifact.services.nginx import Certificate

    if chain is None and key is None:
        return None
    if not nginx:
        raise UsageError("--tls-certificate is for nginx", hint="add --nginx")
    if chain is None or key is None:
        raise UsageError("a certificate needs its key", hint="give --tls-certificate and --tls-key")
    return Certificate(chain.absolute(), key.absolute())


def _end(outcome: Outcome) -> str:
    if not outcome.steps:
        return f"{outcome.site.root} was set up already; nothing changed"
    return f"{outcome.site.root} is set up; next: artifact install"


def _show_plan(outcome: Outcome, tell: steps.Listener, *, as_json: bool) -> None:
    if as_json:
        terminal.document("setup", _document(outcome))
    else:
        for line in outcome.lines:
            terminal.data(line.summary if line.step else f"already so: {line.summary}")
            if line.step:
                for written in line.content.splitlines():
                    terminal.data(f"    {written}".rstrip())
    problems = [steps.Warned(one.text, one.hint) for one in outcome.problems]
    for warning in (*outcome.warnings, *problems):
        tell(warning)
    if outcome.problems:
        from artifact.errors import Refused

        raise Refused(
            f"the setup would be refused: {outcome.problems[0].text}",
            hint="what to do about it stands above",
        )


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "site": str(outcome.site.root),
        "name": outcome.name,
        "steps": [
            {
                "name": line.name,
                "summary": line.summary,
                "path": line.path,
                "content": line.content,
            }
            for line in outcome.lines
            if line.step
        ],
        "already": [line.summary for line in outcome.lines if not line.step],
        "warnings": [{"text": one.text, "hint": one.hint} for one in outcome.warnings],
        "problems": [{"text": one.text, "hint": one.hint} for one in outcome.problems],
    }
