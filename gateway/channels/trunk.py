"""Trunk: a way to one place over which several channels run side by side.

A connection per device lets a small call overtake another device's bulk transfer. Over TCP each channel is a connection
of its own; over the serial link each is a stream on the one line. Where a place takes one channel only, whoever uses
the trunk shares that one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import Lock
from typing import Any, Final

from gateway.channels.base import Channel
from gateway.channels.url import ChannelUrl, scheme_module
from gateway.errors import ConfigError, LimitExceeded, LinkDown
from gateway.limits import Limits

ONE_CHANNEL: Final = frozenset({"pipe", "ssh", "usb"})
"""Schemes that give one channel at a time: another one would start another program, or end the session of the first."""


class Trunk(ABC):
    """Opens channels to one place. Any thread may call any method."""

    @abstractmethod
    def open(self, timeout: float) -> Channel:
        """One more channel, within `timeout` seconds.

        Raises Unreachable or LinkDown where the place does not answer, ConfigError for a URL that can't be used,
        LimitExceeded for one channel more than `channels_at_most`.
        """

    @abstractmethod
    def close(self) -> None:
        """Release everything; all its channels end. Idempotent."""

    def reset(self, how: str, timeout: float) -> None:
        """Reset what is at the other end by the control lines of the port: see `gateway.channels.port_reset`.

        Raises ConfigError where there are no such lines, Unreachable or LinkDown where the port is not open within
        `timeout` seconds.
        """
        raise ConfigError(f"{how!r:.40} resets what is at the other end of a serial port, with framing=link only")

    @property
    @abstractmethod
    def channels_at_most(self) -> int | None:
        """How many channels can be open at the same time; None: as many as one likes."""


class UrlTrunk(Trunk):
    """Opens the URL anew for each channel."""

    def __init__(self, url: ChannelUrl[Any], limits: Limits) -> None:
        self._url = url
        self._limits = limits
        self._lock = Lock()
        self._opening = 0
        self._channels: list[Channel] = []
        self._closed = False

    def open(self, timeout: float) -> Channel:
        most = self.channels_at_most
        with self._lock:
            self._raise_if_closed()
            self._channels = [channel for channel in self._channels if not channel.closed]
            there = len(self._channels) + self._opening
            if most is not None and there >= most:
                raise LimitExceeded("channels of a trunk", actual=there + 1, allowed=most)
            self._opening += 1
        try:
            channel = scheme_module(self._url.scheme).connect(self._url, self._limits, timeout)
        except BaseException:
            with self._lock:
                self._opening -= 1
            raise
        with self._lock:
            self._opening -= 1
            self._channels.append(channel)
            if self._closed:  # meanwhile
                channel.close()
            self._raise_if_closed()
        return channel

    def close(self) -> None:
        with self._lock:
            self._closed = True
            channels, self._channels = self._channels, []
        for channel in channels:
            channel.close()

    @property
    def channels_at_most(self) -> int | None:
        return 1 if self._url.scheme in ONE_CHANNEL else None

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise LinkDown(f"the trunk to {self._url} was closed by this side")
