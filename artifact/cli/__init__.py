"""The command line: the only place that prints, exits and knows click.

Commands live in modules of this package and are imported when they are run, so that
`artifact --help` and `artifact status` cost what click costs.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from artifact import __version__, errors, signals
from artifact.cli import answers, terminal
from artifact.cli.answers import Answer, Error

# The line of help stands here too, for --help imports no command; a test holds it equal to the
# command's own.
GROUPS: dict[str, dict[str, str]] = {
    "Build": {
        "init": "Write a commented artifact.toml from what the project holds.",
        "lock": "Pin and hash the requirements into requirements.lock.",
        "build": "Build the artifact of this checkout and print its path.",
        "cache": "List, explain, check and prune the environments on this machine.",
        "ci": "Help a CI job: report what a build made to the pipeline and its page.",
    },
    "Look into artifacts": {
        "inspect": "Show what an artifact says of itself, from its tail alone.",
        "verify": "Check every byte of an artifact.",
        "diff": "Show what changed between two artifacts.",
    },
    "Keep artifacts in a store": {
        "push": "Put an artifact into the store, unless it is there.",
        "pull": "Fetch a whole artifact from the store, verify it and print its path.",
        "ls": "List the artifacts and channels of an application in the store.",
        "promote": "Point a channel at a version in the store, by its digest.",
    },
    "Install on a server": {
        "setup": (
            "Prepare this server for an artifact's site: user, directories, supervisor, nginx."
        ),
        "install": "Install an artifact into its site and switch to it.",
        "switch": "Switch to the release that was staged last, or to VERSION.",
        "rollback": "Go back to the newest good release before the live one, or to VERSION.",
        "migrations": "List the migrations that are pending, with their risk.",
        "migrate": "Run the pending migrations that are safe while the old code runs.",
    },
    "Operate a site": {
        "status": "Show the live release of a site and how it fares.",
        "releases": "List the releases of a site, the newest install first.",
        "doctor": "Check this server for a site; every finding comes with its fix.",
        "freeze": "Refuse installs and rollbacks in a site for a REASON.",
        "thaw": "Allow installs and rollbacks in a site again.",
        "recover": "Finish or take back a run that was interrupted.",
        "prune": "Delete the releases and environments of a site that nobody needs.",
        "exec": "Run a process of the live release; supervisor calls this.",
    },
}
COMMANDS = {name: text for commands in GROUPS.values() for name, text in commands.items()}
_WITH_SUBCOMMANDS = ("cache", "ci")


class _Commands(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"artifact.cli.{cmd_name}")
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
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl(
                [(code, meaning.replace("**", "")) for code, meaning in errors.table()]
            )


def _suggestion(word: str) -> str:
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    return f"did you mean `artifact {near[0]}`?" if near else "`artifact --help` lists them"


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="artifact %(version)s")
def group() -> None:
    """Build a Python application, its virtualenv and its assets into one versioned file, and
    install that file on servers without losing a request."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every error becomes a sentence here."""
    answer = Answer(_called(arguments), as_json="--json" in arguments)
    error = None
    try:
        error = _attempt(arguments, answer)
        answer.finish(error)
    except BrokenPipeError:
        # Whoever read our stdout has seen enough (`artifact inspect … | head`).
        terminal.discard_stdout()
    return error.code if error else 0


def _called(arguments: Sequence[str]) -> str:
    """Return the command's name as documents have it: "install", "cache ls"."""
    with_subcommands = bool(arguments) and arguments[0] in _WITH_SUBCOMMANDS
    return " ".join(arguments[: 2 if with_subcommands else 1])


def _attempt(arguments: Sequence[str], answer: Answer) -> Error | None:
    """Run a command line and return what went wrong, after it was said on stderr."""
    try:
        _invoke(arguments, answer)
    except errors.ArtifactError as error:
        terminal.show_error(error)
        return answers.explain(error)
    except errors.Stopped as stop:
        terminal.talk(f"stopped by {stop.name}")
        return answers.explain(stop)
    except BrokenPipeError:
        raise
    except Exception as error:  # - the boundary: what is left is a bug
        terminal.show_bug(traceback.format_exc())
        return answers.explain(error)
    return None


def _invoke(arguments: Sequence[str], answer: Answer) -> None:
    try:
        group.main(list(arguments), prog_name="artifact", standalone_mode=False, obj=answer)
    except click.Abort as abort:
        raise errors.Stopped(signal.SIGINT) from abort
    except click.ClickException as error:
        raise _usage(error) from error


def _usage(error: click.ClickException) -> errors.UsageError:
    hint = "`artifact --help` lists the commands"
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"`{error.ctx.command_path} --help` shows how it is used"
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and error.ctx is not None:
        return errors.UsageError(f"{error.ctx.command_path} needs a command", hint=hint)
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
