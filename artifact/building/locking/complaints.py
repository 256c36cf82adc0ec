"""Pick the one sentence out of what an installer printed when it failed."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from artifact import steps
from artifact.building.interpreter import Interpreter
from artifact.building.locking.context import BuildContext
from artifact.errors import BuildFailed
from artifact.process import TAIL_LINES, ChildFailed, ProgramMissing

_Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[str, str]]]


class OutputTail:
    """Listens to an installer, and keeps more of its output than an error shows.

    pip-compile ends with a traceback longer than the lines a process keeps.
    """

    def __init__(self, tell: steps.Listener) -> None:
        self._tell = tell
        self._lines: deque[str] = deque(maxlen=400)

    def __call__(self, event: steps.Event) -> None:
        """Keep a line of output and pass every event on; the signature of `steps.Listener`."""
        if isinstance(event, steps.Output):
            self._lines.append(event.line)
        self._tell(event)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines without tracebacks, but with the last line of each."""
        found: list[str] = []
        inside = False
        for line in self._lines:
            if line.startswith("Traceback "):
                inside = True
            elif not (inside and line.startswith(" ")):
                inside = False
                found.append(line)
        return tuple(found)


@contextmanager
def explained(doing: str, context: BuildContext) -> Iterator[steps.Listener]:
    """Run an installer in the block, with the listener yielded; say in one sentence why it failed.

    Args:
        doing: "resolving requirements.txt", "installing requirements.lock".

    Raises:
        BuildFailed: a child failed.
    """
    output = OutputTail(context.tell)
    try:
        yield output
    except ChildFailed as error:
        raise _failed(error, doing, context.interpreter, output.lines) from error


def _failed(
    error: ChildFailed, doing: str, interpreter: Interpreter, lines: tuple[str, ...]
) -> BuildFailed:
    if isinstance(error, ProgramMissing):
        return BuildFailed(
            f"{doing} failed: {error.command.split()[0]} {error.reason}",
            hint="install artifact anew: pip install --force-reinstall single-artifact",
        )
    told = _joined(lines)
    shown = tuple(line for line in lines if not _WORDS_OF_PIP.match(line))[-TAIL_LINES:]
    for pattern, explain in _RULES:
        if match := pattern.search(told):
            sentence, hint = explain(match)
            sentence = sentence.format(python=interpreter.version)
            return BuildFailed(f"{doing} failed: {sentence}", hint=hint, output=shown)
    return BuildFailed(
        f"{doing} failed: {_last_word(error, lines)}",
        hint="the lines above are the installer's own",
        output=shown,
    )


_WORDS_OF_PIP = re.compile(
    r"\s*$|pip\._|The above exception was|During handling of the above"
    r"|\s*WARNING: Location .* is ignored"
)
_REQUIREMENT = re.compile(r"Requirement\('(?P<what>[^']+)'\), parent=(?:None|\w+\('(?P<by>[^' ]+))")


_COMPLAINT = re.compile(
    r"\s*(?:error|cause)\s*:\s*(?!Exception:$)(.+)|((?:\w+\.)*\w*(?:Error|Exception): .+)",
    re.IGNORECASE,
)


def _conflict(match: re.Match[str]) -> tuple[str, str]:
    """Put pip's ResolutionImpossible into words: without --verbose it says no more."""
    phrases = []
    for found in _REQUIREMENT.finditer(match["list"]):
        file = (found["by"] or "").partition("#")[0].rpartition("/")[2]
        by = "-".join(file.split("-")[:2]).removesuffix(".tar.gz") if file else ""
        phrases.append(f"{by} needs {found['what']}" if by else f"you require {found['what']}")
    return _braces(", ".join(phrases)) + ", which cannot all be", "change one of them"


def _joined(tail: Sequence[str]) -> str:
    """Return the lines as one text; both tools break sentences anywhere."""
    return re.sub(r"[ \t]*\n[ \t│]*", " ", "\n".join(tail)).replace("  ", " ")


def _last_word(error: ChildFailed, lines: Sequence[str]) -> str:
    for line in reversed(lines):
        if match := _COMPLAINT.match(line):
            return (match[1] or match[2]).rstrip(".")
    return f"{error.command.split()[0].rpartition('/')[2]} {error.reason}"


def _braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _rule(pattern: str, sentence: str, hint: str) -> _Rule:
    def explain(match: re.Match[str]) -> tuple[str, str]:
        words = {
            name: _braces((value or "").strip(" .`'")) for name, value in match.groupdict().items()
        }
        filled = re.sub(r"<(\w+)>", lambda found: words.get(found[1], ""), sentence)
        return filled, re.sub(r"<(\w+)>", lambda found: words.get(found[1], ""), hint)

    return re.compile(pattern, re.IGNORECASE), explain


_INDEX = "look at `pip config list`: both toolchains use pip's indexes"
_NAME = f"correct the name, or check the credentials of the index it is on; {_INDEX}"
_NO_COMPILER = (
    "it needs the compiler <tool>, which this machine does not have",
    "install <tool> (build-essential on Debian has gcc), or require a version that has a wheel",
)
_COMPILERS = r"(?P<tool>(?:[\w-]*-)?(?:gcc|cc|[cg]\+\+|clang|gfortran|rustc|cargo)(?:-\d+)?)"

_RULES: tuple[_Rule, ...] = (
    # Building.
    _rule(rf"\b{_COMPILERS}['`]? failed: No such file", *_NO_COMPILER),
    _rule(rf"No such file or directory: ['`]{_COMPILERS}['`]", *_NO_COMPILER),
    _rule(rf"\b{_COMPILERS}['`]?: (?:command )?(?:not found|No such file)", *_NO_COMPILER),
    _rule(
        r"fatal error: (?P<header>[\w/.-]+\.h): No such file",
        "the C header <header> is missing on this machine",
        "install the -dev package that holds <header> (apt-file search <header>)",
    ),
    # Access.
    _rule(
        r"hash(?:es)? mismatch|do not match the hashes|hashes? (?:are|is) required|no hash",
        "a file does not have the hash that the lock says",
        "the file changed on the index, or the lock was edited: "
        "check where it comes from, then `artifact lock -P NAME`",
    ),
    _rule(
        r"\b(?P<status>401|403)\b[^.]{0,60}",
        "the index refuses access (status <status>)",
        "set the credentials where pip looks for them: PIP_INDEX_URL, ~/.netrc or a keyring",
    ),
    _rule(
        r"(?:dns error|name resolution|could not resolve host|connection refused|tcp connect error"
        r"|timed out|connection reset|failed to establish a new connection)",
        "an index cannot be reached",
        _INDEX,
    ),
    _rule(
        r"certificate verify failed|invalid peer certificate|unknownissuer",
        "the index shows a certificate that this machine does not trust",
        "name its authority's certificate: `pip config set global.cert FILE`",
    ),
    # Python.
    _rule(
        r"current Python version \(?[\d.]+\)? does not satisfy Python(?P<range>[<>=!~\d., ]+?) "
        r"and (?P<what>[\w.-]+==[^\s,]+)",
        "<what> needs Python <range>, but the interpreter is Python {python}",
        "require an older version of it, or name another in artifact.toml: [python] interpreter",
    ),
    _rule(
        r"require a different python version: .*?\b(?P<version>[\w.]+) Requires-Python "
        r"(?P<range>[^;]+?)(?:;.*)? ERROR: Could not .*"
        r"No matching distribution found for (?P<name>[\w.-]+)==(?P=version)\b",
        "<name>==<version> needs Python <range>, but the interpreter is Python {python}",
        "require an older version of it, or name another in artifact.toml: [python] interpreter",
    ),
    # Existence.
    _rule(
        r"Because (?P<what>[\w.-]+) was not found in the (?:package registry|provided package)",
        "there is no package <what> on the index",
        _NAME,
    ),
    _rule(
        r"Because there (?:is|are) no versions? of (?P<what>\S+(?:[<>=!~,\d.]+)?) and",
        "there is no version <what>",
        "`pip index versions NAME` lists what the index has",
    ),
    _rule(
        r"Could not find a version that satisfies the requirement (?P<what>[^\s(]+)[^)]*"
        r"\(from versions: none\)",
        "there is no package <what> on the index",
        _NAME,
    ),
    _rule(
        r"Could not find a version that satisfies the requirement (?P<what>[^\s(]+)",
        "there is no version <what>",
        "`pip index versions NAME` lists what the index has",
    ),
    # Conflicts.
    _rule(
        r"Because (?P<why>.+?), we can conclude that (?:your requirements|.+?are incompatible)",
        "<why>, which cannot all be",
        "change one of the two",
    ),
    (re.compile(r"ResolutionImpossible: \[(?P<list>.*?)\](?: |$)"), _conflict),
    _rule(r"No space left on device", "the disk is full", "`artifact cache prune` frees some"),
)
