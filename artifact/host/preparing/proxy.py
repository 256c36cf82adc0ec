"""nginx in front of a site, on request."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from artifact import files
from artifact.errors import ArtifactError
from artifact.host.preparing import placing
from artifact.host.preparing.lines import Aim, Found, Line
from artifact.host.records.generated import marked
from artifact.host.records.problem import Problem
from artifact.services import nginx
from artifact.services.nginx import Certificate, Place
from artifact.steps import Run, Step, Warned


def find(aim: Aim) -> Iterator[Found]:
    """Say whether the server block is there and read."""
    if not aim.wishes.nginx:
        return
    place = nginx.place(aim.wishes.nginx_directory.absolute(), aim.manifest.name)
    # Whoever repeats it without options means the block as it was set up.
    kept_host, kept = nginx.told(placing.own_body(place.file))
    host = aim.wishes.server_name or kept_host or platform.node()
    certificate = (aim.wishes.certificate or kept) if aim.wishes.tls else None
    if certificate is not None:
        yield from _missing(certificate)
    content = marked(nginx.block(aim.site, aim.manifest, host, certificate))
    whose = placing.whose(place.file, content)
    if whose == "edited":
        yield Problem(
            f"{place.file} was edited, and is not what it would be now",
            "`artifact setup --nginx --plan` shows what it would hold; change it by hand, "
            "or move it away",
        )
        return
    if whose == "same" and _is_read(place):
        yield Line("nginx", f"{place.file} for {host}")
        return
    yield _step(place, content, host)


def _missing(certificate: Certificate) -> Iterator[Problem]:
    for path in (certificate.chain, certificate.key):
        if not path.is_file():
            yield Problem(
                f"there is no {path} to serve TLS with",
                "put it there; `certbot certonly` makes one",
            )


def _is_read(place: Place) -> bool:
    return place.link is None or (
        place.link.is_symlink() and place.link.resolve() == place.file.resolve()
    )


def _step(place: Place, content: str, host: str) -> Line | Problem:
    fault = placing.unwritable(place.file.parent) or _broken(place) or _in_the_way(place)
    if fault:
        return fault
    restore = placing.restoring(place.file, *([place.link] if place.link else []))

    def do(run: Run) -> str:
        place.file.parent.mkdir(exist_ok=True)
        placing.put(place.file, content)
        if place.link:
            files.replace_link(place.link, f"../{place.file.parent.name}/{place.file.name}")
        nginx.test(place.main)
        why = nginx.reload(place.main)
        if why:
            run.tell(Warned(f"nginx was not reloaded: {why}", "start it: systemctl start nginx"))
        return "tested" if why else "tested and reloaded"

    def undo(run: Run) -> None:
        restore(run)
        nginx.reload(place.main)

    linked = f" and enable it with {place.link}" if place.link else ""
    summary = f"write {place.file} for {host}{linked}, test and reload nginx"
    return Line("nginx", summary, Step("nginx", summary, do, undo), str(place.file), content)


def _in_the_way(place: Place) -> Problem | None:
    if place.link is None or not place.link.exists() or place.link.is_symlink():
        return None
    return Problem(f"{place.link} is in the way: it is not a link", "move it away, then repeat")


def _broken(place: Place) -> Problem | None:
    """Return what is wrong with nginx before we touch it."""
    try:
        nginx.test(place.main)
    except ArtifactError as error:
        return Problem(error.message, error.hint)
    return None
