"""`artifact recover`: finish or take back what a run that died left half done."""

from __future__ import annotations

import click

from artifact import steps
from artifact.cli import durations, terminal


@click.command()
@click.argument("site", required=False)
@click.option(
    "--wait", callback=durations.seconds, default="15m", show_default=True, help="For another run."
)
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document.")
@terminal.talking
def command(*, site: str | None, wait: float, as_json: bool, tell: steps.Listener) -> None:
    """Finish or take back a run that was interrupted.

    SITE is its name or path; it may be left out where the machine has one. Every command that
    changes a site does so first by itself.
    """
    from artifact import files
    from artifact.host.commands import recover
    from artifact.host.records import find, releases

    found = find.find(site)
    with files.locked(found.lock, doing=f"recovering {found.root}", wait=wait, tell=tell):
        done = recover.recover(found, tell)
        live = releases.live_version(found)
    if as_json:
        document: dict[str, object] = {"site": str(found.root), "live": live, "recovered": None}
        if done is not None:
            began = done.run.began
            document["recovered"] = {
                "run": began.run,
                "command": began.command,
                "release": began.version,
                "how": done.how,
            }
        terminal.document("recover", document)
    else:
        terminal.data(done.summary if done else "the last run had ended; nothing to recover")
        terminal.data(f"{live or 'nothing'} is live in {found.root}")
