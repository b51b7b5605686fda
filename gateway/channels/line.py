"""How the port of a serial line becomes a channel, a listener or a trunk.

    framing=link    the reliable link of `gateway.link`: several channels side by side, each with an end
    framing=raw     plain RPyC frames, for a stock peer: one channel, and no end of file

A scheme gives the function that opens its port; all the rest is here.
"""

from __future__ import annotations

import os
from typing import Any, Final

from gateway.channels.base import Channel
from gateway.channels.link_listener import LinkListener
from gateway.channels.link_trunk import LinkTrunk, connect_link
from gateway.channels.listener import Listener
from gateway.channels.ports import OpenPort, discard_input, port_lost
from gateway.channels.serial_listener import SerialListener
from gateway.channels.serial_stream import SerialStream
from gateway.channels.stream import StreamChannel
from gateway.channels.trunk import Trunk, UrlTrunk
from gateway.channels.url import ChannelUrl
from gateway.limits import Limits

STALE_S: Final = 1.0
"""At opening, raw input is thrown away until the line was quiet for a moment, or for at most so long."""


def connect_line(url: ChannelUrl[Any], open_port: OpenPort, limits: Limits, timeout: float) -> Channel:
    """Open the port for this process alone, and a channel over it. Raises as `open_port` does; with framing=link also
    Unreachable if no link answers within `timeout`.
    """
    if url.options.framing == "link":
        return connect_link(url, open_port, limits, timeout)
    port = open_port(timeout)
    try:
        discard_input(port, min(STALE_S, timeout))
        stream = SerialStream(port, os.dup(port.fileno()), owns=True)
    except OSError as error:
        port.close()
        raise port_lost(port.name, error) from None
    return StreamChannel(stream, limits, compress=url.options.deflates)


def listen_line(url: ChannelUrl[Any], open_port: OpenPort, limits: Limits, *, local_only: bool) -> Listener:
    """Serve at the port. Raises as `open_port` does."""
    if url.options.framing == "link":
        return LinkListener(url, open_port, limits, local_only=local_only)
    return SerialListener(url, open_port, limits, local_only=local_only)


def line_trunk(url: ChannelUrl[Any], open_port: OpenPort, limits: Limits) -> Trunk:
    """Several channels over one port, which need not be there yet; with framing=raw it is one at a time."""
    if url.options.framing == "link":
        return LinkTrunk(url, open_port, limits)
    return RawTrunk(url, limits)


class RawTrunk(UrlTrunk):
    """A line that carries one channel at a time."""

    @property
    def channels_at_most(self) -> int:
        return 1
