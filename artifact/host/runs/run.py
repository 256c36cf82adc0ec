"""What a run is that changes a site: what its steps are handed."""

from __future__ import annotations

from artifact import steps
from artifact.host.processes.activate import Switch
from artifact.host.records.journal import Journal


class SiteRun(steps.Run, kw_only=True):
    """A run under the site's lock, in the site's journal."""

    record: Journal
    lock: int
    """Descriptor of the site's lock. What runs migrations holds it as well: the next run must not
    begin while a child of one that was killed still migrates."""


class SwitchingRun(SiteRun, kw_only=True):
    """A run that makes another release live."""

    switch: Switch
    linked: tuple[str, ...] = ()
    """What it has added below the site's `static/`."""
