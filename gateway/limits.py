"""Limits: every bound that is put on what comes from outside, in one frozen place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a peer may make us hold, build or wait for. Sizes in bytes, times in seconds.

    None can be switched off by leaving it out: each has a default, and a value is always a number. Hold a changed copy
    with `dataclasses.replace(Limits(), frame=...)`.
    """

    frame: int = 16 * MIB
    """One frame's data as sent."""
    inflated: int = 16 * MIB
    """One frame's data after decompression, counted while inflating."""
    in_flight_per_host: int = 64 * MIB
    in_flight: int = 256 * MIB
    """Bytes received but not yet handled plus bytes waiting to be sent, over all connections."""
    progress_s: float = 10.0
    """A begun frame, in or out, must make progress within this time."""
    nesting: int = 64
    """Depth of tuples in one message."""
    items: int = 300_000
    """Values in one message."""
    unordered_items: int = 1024
    """Members of a frozenset, and keyword arguments of a call."""
    int_digits: int = 4300
    name: int = 200
    """Characters of an attribute name."""
    references: int = 10_000
    """Objects the peer holds of us, and proxies we hold of the peer, per connection."""
    remote_classes: int = 1024
    """Classes of the peer whose method tables are kept, per connection."""
    methods: int = 2048
    """Entries of one INSPECT answer."""
    buffiter_items: int = 10_000
    buffiter_bytes: int = MIB
    pending_calls: int = 64
    """Calls of one connection, or for one device, that wait or run; the next one is refused with `Busy`."""
    callback_depth: int = 32
    pending_callbacks: int = 64
    callback_s: float = 10.0
    connections_per_host: int = 16
    connections: int = 128
    exception_name: int = 256
    exception_text: int = 64 * KIB
    handshake_bytes: int = 4 * KIB
    """What a peer may send before it has proved who it is."""
    handshake_s: float = 10.0
    """Within this time it has to."""
    handshakes_per_host: int = 64
    handshakes: int = 256
    """Peers that have not proved yet who they are; one more takes the place of the one that has been there longest."""
    liveness_s: float = 60.0
    """TCP keepalive finds a vanished peer within about this time."""

    def __post_init__(self) -> None:
        for field in self.__dataclass_fields__:
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"Limits.{field} must be a number above 0, not {value!r}")


DEFAULT_LIMITS: Final = Limits()
"""What is used where nothing else is said."""
