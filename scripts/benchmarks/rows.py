"""What a benchmark module offers: named rows, each of which measures and yields figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.figures import Figure
from benchmarks.workshop import Workshop


@dataclass(frozen=True, slots=True)
class Row:
    """Something that can be measured by itself, with `--only`."""

    name: str
    summary: str
    measure: Callable[[Workshop], Iterator[Figure]]
