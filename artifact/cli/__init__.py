"""The command line: the only place that prints, exits and knows click.

Commands live in modules of this package and are imported when they are run, so that
`artifact --help` and `artifact status` cost what click costs.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from artifact import __version__, errors, signals
from artifact.cli import terminal

# Name -> (module, one line of help). The line stands here too, for --help imports no command; a
# test holds it equal to the command's own.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "Write a commented artifact.toml from what the project holds."),
    "lock": ("lock", "Pin and hash the requirements into requirements.lock."),
    "build": ("build", "Build the artifact of this checkout and print its path."),
    "inspect": ("inspect", "Show what an artifact says of itself, from its tail alone."),
    "verify": ("verify", "Check every byte of an artifact."),
    "diff": ("diff", "Show what changed between two artifacts."),
    "cache": ("cache", "List, explain, check and prune the environments on this machine."),
    "push": ("push", "Put an artifact into the store, unless it is there."),
    "pull": ("pull", "Fetch a whole artifact from the store, verify it and print its path."),
    "ls": ("ls", "List the artifacts and channels of an application in the store."),
    "promote": ("promote", "Point a channel at a version in the store, by its digest."),
    "ci": ("ci", "Help a CI job: report what a build made to the pipeline and its page."),
    "setup": (
        "setup",
        "Prepare this server for an artifact's site: user, directories, supervisor, nginx.",
    ),
    "install": ("install", "Install an artifact into its site and switch to it."),
    "status": ("status", "Show the live release of a site and how it fares."),
    "releases": ("releases", "List the releases of a site, the newest install first."),
    "rollback": (
        "rollback",
        "Go back to the newest good release before the live one, or to VERSION.",
    ),
    "prune": ("prune", "Delete the releases and environments of a site that nobody needs."),
    "migrations": ("migrations", "List the migrations that are pending, with their risk."),
    "migrate": ("migrate", "Run the pending migrations that are safe while the old code runs."),
    "freeze": ("freeze", "Refuse installs and rollbacks in a site for a REASON."),
    "thaw": ("thaw", "Allow installs and rollbacks in a site again."),
    "recover": ("recover", "Finish or take back a run that was interrupted."),
    "doctor": ("doctor", "Check this server for a site; every finding comes with its fix."),
    "exec": ("exec", "Run a process of the live release; supervisor calls this."),
}


class _Commands(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"artifact.cli.{COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise errors.UsageError(f"there is no command {args[0]!r}", hint=_suggestion(args[0]))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl(
                [(code, meaning.replace("**", "")) for code, meaning in errors.table()]
            )


def _suggestion(word: str) -> str:
    import difflib

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    return f"did you mean `artifact {near[0]}`?" if near else "`artifact --help` lists them"


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="artifact %(version)s")
def group() -> None:
    """Build a Python application, its virtualenv and its assets into one versioned file, and
    install that file on servers without losing a request."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every error becomes a sentence here."""
    try:
        try:
            group.main(args=list(arguments), prog_name="artifact", standalone_mode=False)
        except click.ClickException as error:
            raise _usage(error) from error
        except click.exceptions.Exit as request:
            return request.exit_code
        except click.Abort:
            return 130
    except errors.ArtifactError as error:
        terminal.fail(error)
        return error.code
    except errors.Stopped as stop:
        terminal.talk(f"stopped by {stop.name}")
        return stop.code
    except BrokenPipeError:
        # Whoever read our stdout has seen enough (`artifact inspect … | head`).
        terminal.discard_stdout()
        return 0
    except Exception:  # - the boundary: what is left is a bug
        import traceback  # 6 ms that only a bug costs

        terminal.bug(traceback.format_exc())
        return 1
    return 0


def _usage(error: click.ClickException) -> errors.UsageError:
    hint = "`artifact --help` lists the commands"
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"`{error.ctx.command_path} --help` shows how it is used"
    return errors.UsageError(error.format_message().rstrip("."), hint=hint)


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    # Nearly all that a command makes lives as long as it does: looking for garbage in it again and
    # again took a tenth of an install.
    gc.set_threshold(100_000)
    signals.raise_when_asked_to_stop()
    code = run(sys.argv[1:])
    # Nor while it ends, when Python looks several times more: 30 ms after a code-only install.
    gc.freeze()
    sys.exit(code)
