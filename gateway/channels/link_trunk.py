"""LinkTrunk: the channels of one serial line, side by side; and a channel that has a line for itself."""

from __future__ import annotations

from time import monotonic
from typing import Any

from gateway.channels.base import Channel
from gateway.channels.line_options import link_config, random_nonce
from gateway.channels.link_channel import LinkChannel
from gateway.channels.link_driver import LinkDriver
from gateway.channels.port_reset import reset_board
from gateway.channels.ports import OpenPort
from gateway.channels.trunk import Trunk
from gateway.channels.url import ChannelUrl
from gateway.limits import Limits
from gateway.link import Counters


class LinkTrunk(Trunk):
    """Owns a serial port: opens it, and opens it again and shakes hands anew whenever it was lost.

    A lost session ends all channels at once. `open` gives new ones as soon as there is the next session.
    """

    def __init__(self, url: ChannelUrl[Any], open_port: OpenPort, limits: Limits) -> None:
        self._driver = driver_for(url, open_port, limits)
        self._driver.start()

    def open(self, timeout: float) -> LinkChannel:
        return self._driver.open(timeout)

    def close(self) -> None:
        self._driver.close()

    def reset(self, how: str, timeout: float) -> None:
        reset_board(self._driver.port(timeout), how)

    @property
    def channels_at_most(self) -> int:
        return self._driver.streams_at_most

    @property
    def counters(self) -> Counters:
        """What the line has carried so far, over all sessions."""
        return self._driver.counters


def driver_for(url: ChannelUrl[Any], open_port: OpenPort, limits: Limits, **more: Any) -> LinkDriver:
    """The driver of the end that opens streams, not started yet."""
    config = link_config(url.options, limits, initiator=True, line_rate=url.options.line_rate)
    return LinkDriver(open_port, config, limits, line_name(url), nonces=random_nonce, **more)


def line_name(url: ChannelUrl[Any]) -> str:
    """How errors call the line: it may have another name each time it is opened."""
    if url.host:
        return url.shown.partition("?")[0]
    return url.path or f"the port with {url.options.wanted}"


def connect_link(url: ChannelUrl[Any], open_port: OpenPort, limits: Limits, timeout: float) -> Channel:
    """A channel that has the line for itself: closing it, or its loss, gives the port back.

    Raises as `open_port` does, and Unreachable if no link answers within `timeout` seconds.
    """
    deadline = monotonic() + timeout
    driver = driver_for(url, open_port, limits, port=open_port(timeout), single=True)
    driver.start()
    try:
        return driver.open(max(0.0, deadline - monotonic()), on_close=driver.close)
    except BaseException:
        driver.close()
        raise
