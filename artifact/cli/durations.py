"""Durations on the command line: "30s", "15m", "1h"."""

from __future__ import annotations

import re

import click

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Return the seconds of an option's value; the callback of `click.option`."""
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value)
    if matched is None:
        raise click.BadParameter(f"expected a duration such as 30s, 15m or 1h, got {value!r}")
    return float(matched[1]) * _UNITS[matched[2]]
