"""What the URLs of serial lines take after the `?`, and what follows from it for the port and for the link."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.channels.ports import PARITIES, PortSettings
from gateway.channels.url import READ, ChannelUrl, Options, flag, one_of, whole
from gateway.errors import ConfigError
from gateway.limits import Limits
from gateway.link.config import (
    MAX_DEFLATE,
    MAX_FRAME,
    MAX_STREAMS,
    MAX_WINDOW,
    MIN_DEFLATE,
    MIN_FRAME,
    LinkConfig,
)

BITS_PER_BYTE: Final = 10
"""A start bit, eight bits, a stop bit."""
SLOW_BAUD: Final = 1_000_000
"""Up to this speed deflating a frame takes less time than sending what it saves."""
MIN_KEEPALIVE_S: Final = 0.1
MAX_KEEPALIVE_S: Final = 600.0
FRAME_S: Final = 0.05
SMALL_FRAME: Final = 64
LARGE_FRAME: Final = 512
"""A frame takes about `FRAME_S` on the line, where the URL does not say otherwise, but has at least and at most these
bytes."""
DEAD_KEEPALIVES: Final = 4
"""A peer that was silent for so many times `keepalive` is gone."""


def level(text: str) -> bool | None:
    """Of a line of the port: raised, lowered, or (None) left as it is."""
    if text.lower() == "keep":
        return None
    try:
        return flag(text)
    except ValueError:
        raise ValueError("on or off or keep") from None


def deflate_bits(text: str) -> int:
    """Base two logarithm of the window that deflates; 0 for off."""
    if text.isascii() and text.isdecimal() and text not in ("0", "1"):
        return whole(MIN_DEFLATE, MAX_DEFLATE)(text)
    try:
        return MAX_DEFLATE if flag(text) else 0
    except ValueError:
        raise ValueError(f"on or off or a whole number from {MIN_DEFLATE} to {MAX_DEFLATE}") from None


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A number of seconds from `low` to `high`, with or without a decimal point."""

    def read(text: str) -> float:
        digits = text.replace(".", "", 1)
        if not (digits.isascii() and digits.isdecimal() and len(text) <= 10 and low <= float(text) <= high):
            raise ValueError(f"a number of seconds from {low:g} to {high:g}")
        return float(text)

    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class LineOptions(Options):
    """What every URL of a serial line takes."""

    framing: str = field(default="link", metadata={READ: one_of("link", "raw")})
    baudrate: int | None = field(default=None, metadata={READ: whole(50, 12_000_000)})
    frame: int | None = field(default=None, metadata={READ: whole(MIN_FRAME, MAX_FRAME)})
    """Bytes of a frame that this end takes (framing=link)."""
    window: int | None = field(default=None, metadata={READ: whole(1, MAX_WINDOW)})
    """Frames that this end takes before it acknowledges (framing=link)."""
    streams: int | None = field(default=None, metadata={READ: whole(1, MAX_STREAMS)})
    """Channels side by side (framing=link)."""
    deflate: int | None = field(default=None, metadata={READ: deflate_bits})
    """The window for deflating, as a power of two; 0: off (framing=link)."""
    keepalive: float | None = field(default=None, metadata={READ: seconds(MIN_KEEPALIVE_S, MAX_KEEPALIVE_S)})
    """After so many seconds of silence the peer is asked whether it is there (framing=link)."""

    @property
    def line_rate(self) -> float | None:
        """Bytes per second that the line carries; None where that is not known."""
        return None if self.baudrate is None else self.baudrate / BITS_PER_BYTE

    @property
    def deflates(self) -> bool:
        """Whether frames are deflated with framing=raw."""
        return (self.baudrate or 0) <= SLOW_BAUD if self.compress is None else self.compress


@dataclass(frozen=True, slots=True, kw_only=True)
class PortOptions(LineOptions):
    """What a URL takes where the port itself can be set."""

    baudrate: int | None = field(default=115200, metadata={READ: whole(50, 12_000_000)})
    bytesize: int = field(default=8, metadata={READ: whole(5, 8)})
    parity: str = field(default="none", metadata={READ: one_of(*PARITIES)})
    stopbits: int = field(default=1, metadata={READ: whole(1, 2)})
    rtscts: bool = field(default=False, metadata={READ: flag})
    xonxoff: bool = field(default=False, metadata={READ: flag})
    dtr: bool | None = field(default=True, metadata={READ: level})
    """Level of DTR while open; None: as the driver sets it. Many boards reset when it changes."""
    rts: bool | None = field(default=True, metadata={READ: level})
    dtr_at_close: bool | None = field(default=False, metadata={READ: level})
    """Level of DTR after closing; None: as it is then."""
    rts_at_close: bool | None = field(default=False, metadata={READ: level})

    @property
    def line_rate(self) -> float:
        return self.settings.line_rate

    @property
    def settings(self) -> PortSettings:
        assert self.baudrate is not None
        return PortSettings(
            baudrate=self.baudrate,
            parity=self.parity,
            stopbits=self.stopbits,
            rtscts=self.rtscts,
            xonxoff=self.xonxoff,
            dtr=self.dtr,
            rts=self.rts,
            dtr_at_close=self.dtr_at_close,
            rts_at_close=self.rts_at_close,
        )


_LINK_ONLY: Final = ("frame", "window", "streams", "deflate", "keepalive")


def check_framing(url: ChannelUrl[Any]) -> None:
    """Raise ConfigError for options that do not go with the framing."""
    options: LineOptions = url.options
    if options.framing == "raw":
        given = [name for name in _LINK_ONLY if getattr(options, name) is not None]
        if given:
            raise ConfigError(f"{url.shown!r}: {', '.join(given)} belong to framing=link, not to framing=raw")
    elif options.compress is not None:
        raise ConfigError(f"{url.shown!r}: compress belongs to framing=raw; the link has deflate=on or off")


def check_port_options(url: ChannelUrl[Any]) -> None:
    """Raise ConfigError for settings of the port with which frames can't pass."""
    options: PortOptions = url.options
    check_framing(url)
    if options.bytesize != 8:
        raise ConfigError(f"{url.shown!r}: RPyC frames need bytesize=8")
    if options.xonxoff and options.framing == "raw":
        raise ConfigError(f"{url.shown!r}: raw frames contain the bytes XON and XOFF; use rtscts for flow control")
    if options.xonxoff and options.rtscts:
        raise ConfigError(f"{url.shown!r}: one flow control is enough: xonxoff or rtscts")


def link_config(options: LineOptions, limits: Limits, *, initiator: bool, line_rate: float | None) -> LinkConfig:
    """This end of a link as the URL wants it, for a port of that speed."""
    wanted: dict[str, Any] = {
        name: value
        for name in ("frame", "window", "streams", "deflate")
        if (value := getattr(options, name)) is not None
    }
    if options.keepalive is not None:
        wanted |= {"keepalive_s": options.keepalive, "dead_s": DEAD_KEEPALIVES * options.keepalive}
    if line_rate is not None and "frame" not in wanted:
        wanted["frame"] = min(max(SMALL_FRAME, int(line_rate * FRAME_S)), LARGE_FRAME)
    return LinkConfig(
        initiator=initiator,
        message=limits.frame,
        begun=max(limits.frame, limits.in_flight_per_host),
        line_rate=line_rate,
        **wanted,
    )


def random_nonce() -> int:
    """A number that no earlier session had."""
    return secrets.randbits(32)
