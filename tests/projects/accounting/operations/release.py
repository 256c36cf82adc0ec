"""Which release this process runs."""

import json
from functools import cache

from django.conf import settings


@cache
def version():
    """Return the version this process was started from, or "development".

    It is read once: the process keeps running the release it was started from, whatever the
    links of the site point to by now.
    """
    directory = settings.BASE_DIR
    try:
        manifest = json.loads((directory / ".artifact" / "manifest.json").read_bytes())
    except FileNotFoundError:
        return directory.name if directory.parent.name == "releases" else "development"
    return manifest["version"]


def context(request):
    """Let every template show {{ release }}."""
    return {"release": version()}
