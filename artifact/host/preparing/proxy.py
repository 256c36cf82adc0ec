"""nginx in front of a site, on request."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import msgspec

from artifact import files
from artifact.configuration.site_toml import ProxySection
from artifact.errors import ArtifactError
from artifact.host.preparing import generated_files
from artifact.host.preparing.findings import Goal, Part, SetupFinding, SetupOptions
from artifact.host.preparing.generated_files import marked
from artifact.host.records.problem import Problem
from artifact.services.nginx import Nginx
from artifact.services.proxy import Certificate, Place, Proxy
from artifact.steps import Run, Step, Warned


def check_proxy(goal: Goal) -> Iterator[SetupFinding]:
    """Say whether the server block is there and read."""
    if not goal.options.nginx:
        return
    proxy = Nginx(goal.options.nginx_directory.absolute())
    place = proxy.place(goal.manifest.name)
    section = goal.target.settings.proxy
    host, certificate = section.server_name, None
    if section.certificate:
        certificate = Certificate(Path(section.certificate), Path(section.certificate_key))
        yield from _missing(certificate)
    content = marked(proxy.block(goal.site, goal.manifest, host, certificate))
    owner = generated_files.ownership(place.file, content)
    if owner == "ours" and not _is_decided(goal):
        yield Problem(
            f"{place.file} is there, and {goal.site.settings} does not say with which server name "
            "and certificate it was written",
            "repeat it with --server-name, and with --tls-certificate and --tls-key or --no-tls",
        )
    elif owner == "edited":
        yield generated_files.edited(place.file, "artifact setup --nginx")
    elif owner == "same" and _is_read(place):
        yield Part("nginx", f"{place.file} for {host}")
    else:
        yield _plan_block(proxy, place, content, host)


def settle(kept: ProxySection, options: SetupOptions) -> ProxySection:
    """Return what site.toml is to say of nginx; the options go before what it says already."""
    if not options.nginx:
        return kept
    name = options.server_name or kept.server_name or platform.node()
    if not options.tls:
        return ProxySection(server_name=name)
    if options.certificate is None:
        return msgspec.structs.replace(kept, server_name=name)
    chain, key = options.certificate.chain, options.certificate.key
    return ProxySection(server_name=name, certificate=str(chain), certificate_key=str(key))


def _is_decided(goal: Goal) -> bool:
    """Tell whether name and certificate are known; earlier versions had them in the block only."""
    options = goal.options
    tls_decided = options.certificate is not None or not options.tls
    return bool(goal.kept.proxy.server_name) or (bool(options.server_name) and tls_decided)


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


def _plan_block(proxy: Proxy, place: Place, content: str, host: str) -> Part | Problem:
    fault = generated_files.unwritable(place.file.parent) or _broken(proxy) or _in_the_way(place)
    if fault:
        return fault
    restore = generated_files.restorer(place.file, *([place.link] if place.link else []))

    def do(run: Run) -> str:
        place.file.parent.mkdir(exist_ok=True)
        generated_files.replace(place.file, content)
        if place.link:
            files.replace_link(place.link, f"../{place.file.parent.name}/{place.file.name}")
        proxy.test()
        why = proxy.reload()
        if why:
            run.tell(Warned(f"nginx was not reloaded: {why}", "start it: systemctl start nginx"))
        return "tested" if why else "tested and reloaded"

    def undo(run: Run) -> None:
        restore(run)
        proxy.reload()

    linked = f" and enable it with {place.link}" if place.link else ""
    summary = f"write {place.file} for {host}{linked}, test and reload nginx"
    return Part("nginx", summary, Step("nginx", summary, do, undo), str(place.file), content)


def _in_the_way(place: Place) -> Problem | None:
    if place.link is None or not place.link.exists() or place.link.is_symlink():
        return None
    return Problem(f"{place.link} is in the way: it is not a link", "move it away, then repeat")


def _broken(proxy: Proxy) -> Problem | None:
    """Return what is wrong with nginx before we touch it."""
    try:
        proxy.test()
    except ArtifactError as error:
        return Problem(error.message, error.hint)
    return None
