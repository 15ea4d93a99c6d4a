"""What did a harness find? One line."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import ClassVar

SKIPPED = 77
"""What a harness ends with that cannot run here; its last line says why."""


class SkippedError(Exception):
    """The harness cannot run here; the message says why."""


class FoundError(Exception):
    """Something is broken, as the message says, and no more is asked for."""


@dataclass(slots=True)
class Figures:
    """What one harness counted on one subject."""

    stop_at_first: ClassVar[bool] = False
    """Whether the first that is broken ends the search, by `FoundError`: of a bug that was planted
    nobody asks where else it shows."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def add(self, what: str, number: int = 1) -> None:
        """Count `number` more of `what`."""
        self.counts[what] = self.counts.get(what, 0) + number

    def expect(self, holds: bool, what: str) -> bool:
        """Note `what` as broken unless it holds."""
        if not holds:
            self.broken.append(what)
            if self.stop_at_first:
                raise FoundError(what)
        return holds

    def line(self) -> str:
        """The figures in one line."""
        counts = ", ".join(f"{number} {what}" for what, number in self.counts.items())
        seconds = time.perf_counter() - self.began
        return f"{self.name:24} {counts}; {len(self.broken)} broken; {seconds:.1f} s"
