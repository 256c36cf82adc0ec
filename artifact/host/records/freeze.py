"""Keep a site as it is: while it is frozen, installs and rollbacks are refused."""

from __future__ import annotations

import time

import msgspec

from artifact import files
from artifact.errors import Refused
from artifact.site import Site


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    """Who froze a site, when and why."""

    who: str
    since: str
    """UTC, ISO 8601."""
    reason: str

    def describe(self) -> str:
        """Return "frozen by alice since 2026-11-20T17:00:00Z: inventory until Monday"."""
        return f"frozen by {self.who} since {self.since}: {self.reason}"


def freeze(site: Site, reason: str) -> Freeze:
    """Freeze a site at once; a run that is at work just now is not stopped.

    Raises:
        Refused: somebody else has done so, or for another reason.
    """
    before = freeze_of(site)
    wanted = Freeze(
        who=files.whoami(),
        since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        reason=reason,
    )
    if before is not None:
        if (before.who, before.reason) == (wanted.who, wanted.reason):
            return before
        raise Refused(
            f"{site.root} is {before.describe()}",
            hint="ask them; `artifact thaw` ends theirs, then freeze it for yours",
        )
    files.write(site.frozen, msgspec.json.encode(wanted) + b"\n")
    return wanted


def thaw(site: Site) -> Freeze | None:
    """End a freeze and return it; None when there was none."""
    before = freeze_of(site)
    site.frozen.unlink(missing_ok=True)
    files.sync_directory(site.private)
    return before


def freeze_of(site: Site) -> Freeze | None:
    """Return how a site is frozen; None when it is not.

    A file that cannot be read counts as a freeze: somebody wrote it for a reason.
    """
    path = site.frozen
    try:
        return msgspec.json.decode(path.read_bytes(), type=Freeze)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        return Freeze(who="somebody", since="nobody knows when", reason=f"{path}: {error}")


def refuse_frozen(site: Site, *, hint: str) -> None:
    """Refuse to go on where the site is frozen.

    Raises:
        Refused: who froze it, when and why.
    """
    found = freeze_of(site)
    if found is not None:
        raise Refused(f"{site.root} is {found.describe()}", hint=hint)
