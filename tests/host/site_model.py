"""What a site must be after any commands, told without its journal."""

from __future__ import annotations

from dataclasses import dataclass, field

KEEP = 3
"""How many good releases the artifacts of the test ask to keep."""


@dataclass
class Model:
    """Which releases are there, in the order of their installs, which are good, which is live."""

    order: list[str] = field(default_factory=list)
    """All that are there, the newest install last."""
    good: set[str] = field(default_factory=set)
    live: str = ""
    previous: str = ""
    held: set[str] = field(default_factory=set)
    """Those a process lives of, or a slot is to run."""

    def older(self) -> list[str]:
        """Return the good ones that were installed before the live one, the newest first."""
        before = self.order[: self.order.index(self.live)] if self.live else self.order
        return [version for version in reversed(before) if version in self.good]

    def installed(self, version: str) -> None:
        """It was made live and found good."""
        if version == self.live and version in self.good:
            return
        self.arrived(version)
        self.good.add(version)
        if self.live and self.live != version:
            self.previous = self.live
        self.live = version
        self.pruned(KEEP)

    def arrived(self, version: str) -> None:
        """It is there, as the newest."""
        self.order = [*(other for other in self.order if other != version), version]

    def failed(self, version: str) -> None:
        """It was tried and is not good; a good one keeps its place, any other is the newest now."""
        if version not in self.good:
            self.arrived(version)
        self.good.discard(version)

    def rolled_back(self, target: str) -> None:
        """What was live was left for the target."""
        self.good.discard(self.live)
        self.good.add(target)
        self.live = target
        older = self.older()
        self.previous = older[0] if older else ""

    def pruned(self, keep: int) -> None:
        """Nothing is left but what is needed, and what failed less than a week ago."""
        newest = [version for version in reversed(self.order) if version in self.good][:keep]
        needed = {self.live, self.previous, *newest, *self.held}
        gone = {version for version in self.good if version not in needed}
        self.order = [version for version in self.order if version not in gone]
        self.good -= gone
