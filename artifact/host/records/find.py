"""Find the site a command is about, by name, by path, or because there is only one."""

from __future__ import annotations

from pathlib import Path

from artifact import variables
from artifact.errors import UsageError
from artifact.manifest import is_name
from artifact.site import Site

SITES = Path("/srv")
"""Where sites are looked for by name."""

_HINT = "name it, give its path, or set ARTIFACT_ROOT"


def find_site(name: str | None, *, sites: Path = SITES, maybe_later: bool = False) -> Site:
    """Return the site called `name`, or at that path; the machine's only one when left out.

    Args:
        maybe_later: a path need not be a site yet: supervisor may start before the first install.

    Raises:
        UsageError: there is none, or more than one to choose from.
    """
    if name and "/" in name and maybe_later:
        return Site(Path(name).absolute())
    if name and "/" in name:
        return _at(Path(name))
    if name and not is_name(name):
        raise UsageError(f"{name!r} can be neither a name nor a path", hint=_HINT)
    root = variables.get("ARTIFACT_ROOT")
    if root:
        return _at(Path(root))
    if name:
        return _at(sites / name) if _is_site(sites / name) else _here(name) or _missing(name, sites)
    return _here(None) or _only(sites)


def _at(path: Path) -> Site:
    root = path.absolute()
    if not _is_site(root):
        raise UsageError(
            f"there is no site at {root}", hint="`artifact install FILE` makes the artifact's site"
        )
    return Site(root)


def _is_site(root: Path) -> bool:
    return Site(root).private.is_dir()


def _here(name: str | None) -> Site | None:
    """Return the site that the working directory is in."""
    here = Path.cwd()
    for root in (here, *here.parents):
        if _is_site(root) and name in {None, root.name}:
            return Site(root)
    return None


def _missing(name: str, sites: Path) -> Site:
    raise UsageError(f"there is no site {sites / name}", hint=_HINT)


def _only(sites: Path) -> Site:
    candidates = [sites, *sorted(sites.glob("*"))] if sites.is_dir() else []
    found = [root for root in candidates if _is_site(root)]
    if len(found) == 1:
        return Site(found[0])
    if found:
        names = ", ".join(root.name for root in found)
        raise UsageError(f"this machine has several sites: {names}", hint=_HINT)
    raise UsageError(f"this machine has no site in {sites}", hint=_HINT)
