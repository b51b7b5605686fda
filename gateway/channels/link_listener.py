"""LinkListener: the serving side of a line with framing=link; a channel for each stream that the peer opens."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from typing import Any

from gateway.channels.base import Channel
from gateway.channels.line_options import link_config, random_nonce
from gateway.channels.link_channel import LinkChannel
from gateway.channels.link_driver import OPEN_S, LinkDriver
from gateway.channels.link_trunk import line_name
from gateway.channels.listener import Listener
from gateway.channels.ports import OpenPort
from gateway.channels.url import ChannelUrl
from gateway.errors import LinkDown
from gateway.limits import Limits
from gateway.link import Counters


class LinkListener(Listener):
    """Keeps the port for ever: through resets of the peer, and through unplugging, after which it opens it again.

    Making one raises as `open_port` does. When it is closed the port is given back with the last channel.
    """

    def __init__(self, url: ChannelUrl[Any], open_port: OpenPort, limits: Limits, *, local_only: bool) -> None:
        self._url = url
        self._local_only = local_only
        config = link_config(url.options, limits, initiator=False, line_rate=url.options.line_rate)
        self._waiting: deque[LinkChannel] = deque()
        self._most_waiting = config.streams
        self._lock = threading.Lock()
        self._closed = False
        self._driver = LinkDriver(
            open_port,
            config,
            limits,
            line_name(url),
            nonces=random_nonce,
            port=open_port(OPEN_S),
            accept=self._arrived,
            on_left=self._give_back,
        )
        self._ready = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._driver.start()

    def _arrived(self, channel: LinkChannel) -> bool:
        with self._lock:
            if self._closed or len(self._waiting) >= self._most_waiting:
                return False
            self._waiting.append(channel)
            os.eventfd_write(self._ready, 1)
            return True

    def accept(self) -> Channel | None:
        with self._lock:
            if self._closed:
                return None
            channel = self._waiting.popleft() if self._waiting else None
            if not self._waiting:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._ready)
        if channel is None and self._driver.closed:
            raise LinkDown(f"{self._url} is not served any more: its thread ended")
        return channel

    def fileno(self) -> int:
        if self._closed:
            raise LinkDown(f"{self._url} does not listen any more")
        return self._ready

    @property
    def url(self) -> str:
        return self._url.shown

    @property
    def local_only(self) -> bool:
        return self._local_only

    def peer_host(self, channel: Channel) -> str:
        """Each stream counts for itself: how many there are is bounded by the link, and the cable has one other end."""
        number = channel.stream if isinstance(channel, LinkChannel) else 0
        return f"{line_name(self._url)} stream {number}"

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            refused = list(self._waiting)
            self._waiting.clear()
            os.close(self._ready)
        for channel in refused:
            channel.close()
        self._give_back()

    def _give_back(self) -> None:
        if self._closed and not self._driver.live:
            self._driver.close()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def counters(self) -> Counters:
        """What the line has carried so far, over all sessions."""
        return self._driver.counters
