"""The directories of a site, and those its sockets lie in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from artifact.host.preparing import placing
from artifact.host.preparing.lines import Aim, Found
from artifact.host.trees.links import shared_paths
from artifact.steps import Warned


def find(aim: Aim) -> Iterator[Found]:
    """Say which are there, and with which modes."""
    site = aim.site
    for path in (site.root, site.releases, site.environments, site.shared, site.static):
        yield placing.directory(path, 0o755)
    yield placing.directory(site.private, 0o700)
    for relative, is_directory in shared_paths(aim.target.install.shared):
        if is_directory:
            yield placing.directory(site.shared / relative, 0o755, owner=aim.user)
    for process in aim.manifest.processes.values():
        if process.listen.startswith("unix:"):
            yield from _of_socket(Path(process.listen.removeprefix("unix:")).parent, aim.user)


def _of_socket(path: Path, user: str) -> Iterator[Found]:
    yield placing.directory(path, 0o755, owner=user)
    if {"/run", "/var/run"} & {str(one) for one in path.parents}:
        name = user or "root"
        yield Warned(
            f"{path} is gone after a reboot",
            f"echo 'd {path} 0755 {name} {name}' > /etc/tmpfiles.d/{path.name}.conf",
        )
