"""Channels: messages over TCP, Unix sockets, pipes, ssh, serial lines and memory, each by a URL of its own scheme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.channels.base import Channel
from gateway.channels.listener import Listener
from gateway.channels.memory import memory_pair
from gateway.channels.trunk import Trunk, UrlTrunk
from gateway.channels.url import (
    DEFAULT_PORT,
    ChannelUrl,
    is_url,
    parse_url,
    redacted,
    scheme_module,
    tcp_url,
    url_to_connect,
    url_to_listen,
)
from gateway.limits import DEFAULT_LIMITS, Limits

__all__ = [
    "DEFAULT_PORT",
    "Channel",
    "ChannelUrl",
    "Listener",
    "Trunk",
    "is_url",
    "listen",
    "memory_pair",
    "open_channel",
    "open_trunk",
    "parse_url",
    "redacted",
    "stdio_channel",
    "tcp_url",
    "url_to_connect",
    "url_to_listen",
]

DEFAULT_TIMEOUT_S = 10.0


def open_channel(
    url: str | ChannelUrl[Any], *, limits: Limits | None = None, timeout: float = DEFAULT_TIMEOUT_S
) -> Channel:
    """A channel to what listens at `url`, within `timeout` seconds.

    Raises ConfigError for a wrong URL, NotFound for an unknown host, Unreachable (a LinkDown) if nobody answers there.
    """
    parsed = url_to_connect(url)
    return scheme_module(parsed.scheme).connect(parsed, limits or DEFAULT_LIMITS, timeout)


def open_trunk(url: str | ChannelUrl[Any], *, limits: Limits | None = None) -> Trunk:
    """A trunk to what listens at `url`; whether that is there shows when a channel is opened.

    Raises ConfigError for a wrong URL. A scheme whose channels share a carrier has a `trunk(url, limits)` of its own.
    """
    parsed = url_to_connect(url)
    make: Callable[[ChannelUrl[Any], Limits], Trunk] = getattr(scheme_module(parsed.scheme), "trunk", UrlTrunk)
    return make(parsed, limits or DEFAULT_LIMITS)


def listen(url: str | ChannelUrl[Any], *, limits: Limits | None = None) -> Listener:
    """Listen at `url`; `Listener.url` then has the real port.

    Raises ConfigError for a URL that is wrong or can't be listened at.
    """
    parsed = url_to_listen(url)
    return scheme_module(parsed.scheme).listen(parsed, limits or DEFAULT_LIMITS)


def stdio_channel(limits: Limits | None = None) -> Channel:
    """See `gateway.channels.pipe.stdio_channel`."""
    from gateway.channels.pipe import stdio_channel as take_over

    return take_over(limits)
