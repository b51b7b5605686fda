"""LinkChannel: one stream of a link as a channel. The link's thread hands messages over; who receives waits here."""

from __future__ import annotations

import os
import select
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.channels.base import Channel
from gateway.channels.stream import LARGE_MESSAGE
from gateway.errors import GatewayError, LimitExceeded, LinkDown
from gateway.limits import Limits
from gateway.link import Counters
from gateway.protocol.framing import Message


class Carrier(ABC):
    """What a channel is carried by. Its methods may be called from any thread."""

    name: str
    limits: Limits

    @abstractmethod
    def send(self, channel: LinkChannel, messages: list[bytes]) -> None:
        """Queue messages, and wait while too much is queued. Raises LinkDown, LimitExceeded."""

    @abstractmethod
    def leave(self, channel: LinkChannel) -> None:
        """The channel was closed by this side."""

    @abstractmethod
    def took(self) -> None:
        """A message was taken out of an inbox, or all of them were thrown away."""

    @property
    @abstractmethod
    def counters(self) -> Counters: ...


class LinkChannel(Channel):
    """A channel over a reliable link. Its descriptor tells only that something is here: it carries no bytes."""

    thrifty = True

    def __init__(self, carrier: Carrier, stream: int, *, on_close: Callable[[], None] = lambda: None) -> None:
        """`on_close` runs once, after the channel was closed by this side. Raises OSError without descriptors left."""
        self.stream = stream
        self.held = 0
        """Bytes of messages that nobody has taken yet."""
        self.wrote = True
        """Whether all that was to be sent is queued."""
        self._carrier = carrier
        self._on_close = on_close
        self._inbox: deque[bytes] = deque()
        self._over: GatewayError | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._ready = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Not zero while the inbox has something, or nothing more will come."""
        self._waiting = 0

    # -- for the link's thread --------------------------------------------------------------------------------------

    def deliver(self, message: bytes) -> bool:
        """Put a message into the inbox; False if it is not wanted any more."""
        with self._lock:
            if self._closed or self._over is not None:
                return False
            if not message:
                return True  # a heartbeat
            if self.account is not None and len(message) >= LARGE_MESSAGE:
                try:
                    self.account.take(len(message))
                except LimitExceeded as error:
                    self._finish(error)
                    return False
            if not self._inbox:
                os.eventfd_write(self._ready, 1)
            self._inbox.append(message)
            self.held += len(message)
            return True

    def finish(self, reason: GatewayError) -> None:
        """Nothing more will come; what is in the inbox can still be taken."""
        with self._lock:
            if not self._closed and self._over is None:
                self._finish(reason)

    def _finish(self, reason: GatewayError) -> None:
        self._over = reason
        os.eventfd_write(self._ready, 1)

    # -- receiving --------------------------------------------------------------------------------------------------

    def recv(self) -> bytes:
        while True:
            message = self.recv_within(None)
            if message is not None:
                return message

    def recv_within(self, timeout: float | None) -> bytes | None:
        message = self._take()
        if message is None and timeout != 0 and self._wait(timeout):
            message = self._take()
        return message

    def _take(self) -> bytes | None:
        with self._lock:
            self._raise_if_closed()
            if not self._inbox:
                if self._over is not None:
                    raise _again(self._over)
                return None
            message = self._inbox.popleft()
            self.held -= len(message)
            if not self._inbox and self._over is None:
                os.eventfd_read(self._ready)
            if self.account is not None and len(message) >= LARGE_MESSAGE:
                self.account.give(len(message))
        self._carrier.took()
        return message

    def poll(self, timeout: float | None) -> bool:
        with self._lock:
            self._raise_if_closed()
            if self._inbox or self._over is not None:
                return True
        return timeout != 0 and self._wait(timeout)

    def _wait(self, timeout: float | None) -> bool:
        """Wait until `_take` has something to give or to raise. Raises LinkDown once closed by this side."""
        with self._lock:
            self._raise_if_closed()
            self._waiting += 1
        try:
            poller = select.poll()
            poller.register(self._ready, select.POLLIN)
            return bool(poller.poll(None if timeout is None else timeout * 1000))
        finally:
            with self._lock:
                self._waiting -= 1
                self._release_if_unused()

    @property
    def buffered(self) -> bool:
        return bool(self._inbox)

    def fileno(self) -> int:
        self._raise_if_closed()
        return self._ready

    # -- sending ----------------------------------------------------------------------------------------------------

    def send(self, data: Message) -> None:
        self.send_many([data])

    def send_many(self, messages: Sequence[Message]) -> None:
        most = self._carrier.limits.frame
        for message in messages:
            if len(message) > most:
                raise LimitExceeded("frame", actual=len(message), allowed=most)
        self.raise_if_over()
        self.wrote = False
        self._carrier.send(self, [bytes(message) for message in messages])

    def raise_if_over(self) -> None:
        """Raise why nothing can be sent, if so."""
        self._raise_if_closed()
        if self._over is not None:
            raise _again(self._over)

    @property
    def wrote_whole(self) -> bool:
        return self.wrote

    # -- the end ----------------------------------------------------------------------------------------------------

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise LinkDown(f"the channel over {self._carrier.name} was closed by this side")

    def close(self) -> None:
        if self.shut():
            self._carrier.took()
            self._carrier.leave(self)
            self._on_close()

    def shut(self) -> bool:
        """Close, without a word to the carrier; False if it was closed already."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            unread, self._inbox, self.held = self._inbox, deque(), 0
            if self.account is not None:
                self.account.give(sum(len(message) for message in unread if len(message) >= LARGE_MESSAGE))
            os.eventfd_write(self._ready, 1)
            self._release_if_unused()
            return True

    def _release_if_unused(self) -> None:
        if self._closed and not self._waiting:
            os.close(self._ready)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def counters(self) -> Counters:
        """What the link has carried so far, all its channels together."""
        return replace(self._carrier.counters)


def _again(error: GatewayError) -> GatewayError:
    """The same error, to be raised once more: a raised one keeps the stack of the first time."""
    if isinstance(error, LimitExceeded):
        return LimitExceeded(**error.facts)
    return type(error)(str(error), **error.facts)
