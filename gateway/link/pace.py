"""Pace: when the line takes the next frame, and when what it has taken has left it."""

from __future__ import annotations

import math
from typing import Final

AHEAD_FRAMES: Final = 2
AHEAD_S: Final = 0.02
"""On a line of known speed, frames are handed over so far ahead of the one that is leaving; the longer of the two."""
IDLE_S: Final = 0.02
"""After a silence of this end a flag goes first: it ends what the line made up meanwhile."""


class Pace:
    """The line as this end knows it. Without a `line_rate` (bytes per second) it takes everything at once.

    Frames that are written beyond that pile up in a driver's buffer, where nothing overtakes.
    """

    __slots__ = ("_ahead_s", "_byte_s", "_free_at", "frame_s")

    def __init__(self, line_rate: float | None, frame: int) -> None:
        """`frame`: bytes of a large frame."""
        self._byte_s = 0.0 if line_rate is None else 1 / line_rate
        self.frame_s = frame * self._byte_s
        """How long such a frame takes."""
        self._ahead_s = max(AHEAD_S, AHEAD_FRAMES * self.frame_s)
        self._free_at = -math.inf

    def send(self, size: int, now: float) -> float:
        """Hand over so many bytes; when the last of them has left."""
        self._free_at = max(now, self._free_at) + size * self._byte_s
        return self._free_at

    @property
    def ready_at(self) -> float:
        """When the next frame should be handed over; the past where it may be at once."""
        return self._free_at - self._ahead_s

    def is_idle(self, now: float) -> bool:
        """Whether this end has said nothing for a while."""
        return now - self._free_at >= IDLE_S

    def reset(self) -> None:
        """The port was opened anew: nothing is on its way, and the peer may hold half of a frame."""
        self._free_at = -math.inf
