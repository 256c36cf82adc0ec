"""Bring a release from a store into a site, with the functions of an install: fetch.py REF SITE.

Everything `artifact install` does before it switches, but for the preflight checks of this server.
Prints how many bytes and requests it took.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path


def main(reference: str, root: Path) -> None:
    """Unpack what the site has not, and verify it."""
    from artifact import steps
    from artifact.archive.format import ENVIRONMENT_COMPONENT
    from artifact.host.records import settings
    from artifact.host.trees import reuse, unpack
    from artifact.site import Site
    from artifact.transfer import references, remote

    site = Site(root)
    for path in (site.private, site.releases, site.environments):
        path.mkdir(parents=True, exist_ok=True)
    source = references.find(reference, settings.load_store)
    with references.open_artifact(source, keep=lambda _: site.downloads) as artifact:
        reuse.recall(artifact, site)
        there, marked = unpack.environment_there(artifact, site)
        names = unpack.of_release(artifact)
        # For the plan, and to see whether the disk has room.
        reuse.to_fetch(artifact, site, names if there == "" else (ENVIRONMENT_COMPONENT, *names))
        if there is None:
            unpack.unpack_environment(artifact, site, steps.nobody)
        else:
            assert there == "", there
            unpack.reuse_environment(artifact, site, marked=marked)
        unpack.unpack_release(artifact, site, (), (os.geteuid(), os.getegid()), steps.nobody)
        download = remote.download_of(artifact)
        assert download is not None
        counted = download.counted
    print(json.dumps({"requests": counted.requests, "bytes": counted.fetched}))


if __name__ == "__main__":
    gc.set_threshold(100_000)  # as the command does, before it imports any of that
    main(sys.argv[1], Path(sys.argv[2]))
    gc.freeze()  # as the command does at its end
