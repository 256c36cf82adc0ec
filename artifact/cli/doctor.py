"""`artifact doctor`: what is wrong with this server, and how to put it right."""

from __future__ import annotations

from pathlib import Path

import click

from artifact.cli import terminal
from artifact.errors import Refused


@click.command()
@click.argument("site", required=False)
@click.option(
    "--nginx-dir",
    type=click.Path(path_type=Path),
    default=Path("/etc/nginx"),
    show_default=True,
    metavar="DIR",
    help="nginx's configuration.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document.")
def command(site: str | None, *, nginx_dir: Path, as_json: bool) -> None:
    """Check this server for a site; every finding comes with its fix.

    SITE is its name or path; it may be left out where the machine has one. Exits with 0 when
    nothing was found and with 5 otherwise.
    """
    from artifact.host.inspecting import doctor
    from artifact.host.records import find

    report = doctor.examine(find.find(site), nginx_directory=nginx_dir)
    if as_json:
        terminal.document(
            "doctor",
            {
                "site": str(report.site.root),
                "name": report.name,
                "live": report.live,
                "ok": not report.findings,
                "checks": list(report.checks),
                "findings": [
                    {"check": one.check, "text": one.text, "hint": one.hint}
                    for one in report.findings
                ],
            },
        )
    else:
        wrong = {one.check for one in report.findings}
        for name in report.checks:
            if name not in wrong:
                terminal.data(f"{name}: well")
        for one in report.findings:
            terminal.data(f"{one.check}: {one.text}; fix: {one.hint}")
    if report.findings:
        count = len(report.findings)
        raise Refused(
            f"{report.site.root}: {count} finding{'s' if count > 1 else ''}",
            hint=report.findings[0].hint,
        )
