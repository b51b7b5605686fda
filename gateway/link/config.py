"""LinkConfig: what one end of a link can take, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.limits import MIB

MIN_FRAME = 16
MAX_FRAME = 4096
MAX_WINDOW = 127
MAX_STREAMS = 128
MIN_DEFLATE = 9
MAX_DEFLATE = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """One end's side of the handshake. Raises ValueError, naming the field, for what is out of bounds.

    A microcontroller may say `frame=64, window=1, streams=1, deflate=0` and misses nothing but speed.
    """

    initiator: bool
    """This end opens streams, the other one serves them. A line has one of each."""
    frame: int = 512
    """Bytes of a DATA frame that this end takes, header included, escapes and CRC not: 16 to 4096."""
    window: int = 16
    """Frames that this end takes without having acknowledged any: 1 to 127."""
    streams: int = 64
    """Streams at a time: 1 to 128."""
    message: int = 16 * MIB
    """Bytes of a message that this end takes."""
    begun: int = 64 * MIB
    """Bytes of messages that have begun to come, over all streams: more end the session."""
    deflate: int = MAX_DEFLATE
    """Base two logarithm of the window that this end can inflate with, 9 to 15; 0: it can't inflate."""
    line_rate: float | None = None
    """Bytes per second the line carries, where that is known: frames are then handed over no faster than they can
    leave, and a small message finds no queue before it. None: as fast as the window allows."""
    keepalive_s: float = 1.0
    """After so long a silence of the peer it is asked whether it is there."""
    dead_s: float = 4.0
    """After so long a silence the session is over; on a slow line after as long as eight frames take."""
    attempts: int = 40
    """A frame that was sent so often without arriving ends the session: the line does not carry it."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("frame", MIN_FRAME, MAX_FRAME),
            ("window", 1, MAX_WINDOW),
            ("streams", 1, MAX_STREAMS),
            ("message", 1, 2**32 - 1),
            ("begun", 1, 2**40),
            ("attempts", 1, 1000),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"LinkConfig.{name} must be a whole number from {low} to {high}, not {value!r}")
        if type(self.deflate) is not int or self.deflate not in (0, *range(MIN_DEFLATE, MAX_DEFLATE + 1)):
            raise ValueError(f"LinkConfig.deflate must be 0 or {MIN_DEFLATE} to {MAX_DEFLATE}, not {self.deflate!r}")
        if self.line_rate is not None and not self.line_rate > 0:
            raise ValueError(f"LinkConfig.line_rate must be above 0 bytes per second, not {self.line_rate!r}")
        if not 0.01 <= self.keepalive_s <= 600:
            raise ValueError(f"LinkConfig.keepalive_s must be from 0.01 to 600 s, not {self.keepalive_s!r}")
        if not self.dead_s > self.keepalive_s:
            raise ValueError(f"LinkConfig.dead_s must be above keepalive_s, not {self.dead_s!r}")
