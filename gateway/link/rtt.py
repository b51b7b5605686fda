"""How long an acknowledgement may take: RFC 6298, with bounds that fit a serial line."""

from __future__ import annotations

from typing import Final

MIN_TIMEOUT_S: Final = 0.05
"""Above the latency timers of USB adapters, 16 ms at each end, and the peer's own delay of acknowledgements."""
MAX_TIMEOUT_S: Final = 2.0


class RoundTrip:
    """Estimates the round-trip time from samples, and the timeout from the estimate."""

    __slots__ = ("_backoff", "_first_timeout_s", "_variation", "smoothed_s")

    def __init__(self, first_timeout_s: float) -> None:
        """`first_timeout_s` is used until there is a sample."""
        self._first_timeout_s = first_timeout_s
        self.smoothed_s = 0.0
        self._variation = 0.0
        self._backoff = 1

    def sample(self, seconds: float) -> None:
        """A frame that was sent once was acknowledged after `seconds` (Karn: only such a one tells the time)."""
        seconds = max(0.0, seconds)
        if not self.smoothed_s:
            self.smoothed_s, self._variation = max(seconds, 1e-6), seconds / 2
        else:
            self._variation += (abs(seconds - self.smoothed_s) - self._variation) / 4
            self.smoothed_s += (seconds - self.smoothed_s) / 8
        self._backoff = 1

    def back_off(self) -> None:
        """The time was too short: wait twice as long for the next."""
        self._backoff = min(2 * self._backoff, 64)

    @property
    def timeout_s(self) -> float:
        """Wait so long before a frame counts as lost."""
        measured = self.smoothed_s + max(4 * self._variation, MIN_TIMEOUT_S / 2)
        base = max(measured, MIN_TIMEOUT_S) if self.smoothed_s else self._first_timeout_s
        return min(base * self._backoff, max(MAX_TIMEOUT_S, base))
