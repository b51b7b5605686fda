"""The outgoing side of a connection: any thread may send, at most one is ever inside the channel."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any, Final

from gateway.channels.base import Channel
from gateway.errors import LimitExceeded, LinkDown, ProtocolError
from gateway.limits import KIB, Limits
from gateway.protocol.framing import Message, recycle
from gateway.protocol.netref import IdPack
from gateway.protocol.peer import Peer

LARGE: Final = 64 * KIB
"""A message above this size is charged to the channel's account also while it is being sent."""
FEW: Final = 16
"""No more than so many releases leave in one go with the next message."""
_ENTRY: Final = 64
"""What a message that waits takes besides its bytes."""


class Outbox:
    """Messages on their way out, and releases noted by finalizers.

    A thread that finds another one sending leaves its message to that one: a peer that takes nothing holds up one
    thread, whichever number of answers it has coming. What was left is counted, and too much of it ends the connection.
    A finalizer only appends to `releases`; they leave with the next message, in front of it, so that they are in the
    order of the wire.
    """

    __slots__ = (
        "_channel",
        "_counting",
        "_left",
        "_limits",
        "_lost",
        "_peer",
        "_sending",
        "_waiting",
        "releases",
        "unanswered_releases",
    )

    def __init__(self, channel: Channel, peer: Peer, limits: Limits, lost: Callable[[BaseException], Any]) -> None:
        self._channel = channel
        self._peer = peer
        self._limits = limits
        self._lost = lost
        self._left: deque[Message] | tuple[()] = ()
        """A deque once it is needed: an empty one takes 760 bytes."""
        self._waiting = 0
        """Bytes of what was left."""
        self._counting = Lock()
        self._sending = Lock()
        self.releases: list[tuple[IdPack, int]] = []
        self.unanswered_releases = 0
        """Releases whose answers are still to come; nobody waits for them."""

    def send(self, message: Message) -> None:
        """Send now, or leave it to the thread that is sending.

        Raises LimitExceeded for a message that the peer could not take, or that is one too many of the large ones which
        wait for its host; LinkDown when the connection is gone.
        """
        size = len(message)
        if size > self._limits.frame:
            raise LimitExceeded("frame", actual=size, allowed=self._limits.frame)
        if self.releases and (self._left or size > LARGE or len(self.releases) > FEW):
            self._leave_releases()
        sending = self._sending
        if sending.acquire(False):
            try:
                if self._left:
                    self._leave_releases()
                    self._leave(message)
                    self._drain()
                elif size > LARGE:
                    self._send_large(message)
                else:
                    try:  # as `_transmit` does
                        if self.releases:
                            self._channel.send_many([*self._take_releases(), message])
                        else:
                            self._channel.send(message)
                    except BaseException as error:
                        self._failed(error)
                        raise
            finally:
                sending.release()
        else:
            self._leave_releases()
            self._leave(message)
        if self._left:
            self.flush()

    def hold(self, message: Message) -> None:
        """Have the message leave in front of the next one, in one go with it. Raises as `send`."""
        self._leave(message)

    def send_at_once(self, message: Message) -> bool:
        """Send a short message if neither the peer nor another thread has to be waited for; whether it left."""
        return not self.releases and self._send_at_once(message)

    def beat(self) -> None:
        """Send a heartbeat, unless something else is just leaving. Never waits; may overtake releases."""
        self._send_at_once(b"")

    def _send_at_once(self, message: Message) -> bool:
        if self._left or not self._sending.acquire(blocking=False):
            return False
        try:
            if self._left or not self._channel.takes_at_once():
                return False
            self._transmit(self._channel.send, message)
            return True
        finally:
            self._sending.release()
            self.flush()

    def send_last(self, message: Message) -> None:
        """Send, and return only when it has left, though another thread was sending: the channel may be closed then."""
        self.send(message)
        with self._sending:
            self._drain()

    def flush(self) -> None:
        """Send what was left, unless another thread is at it."""
        while self._left and self._sending.acquire(blocking=False):
            try:
                self._drain()
            finally:
                self._sending.release()

    def flush_releases(self) -> None:
        """Give back what finalizers noted while nothing else was sent."""
        if self.releases:
            self._leave_releases()
            self.flush()

    def _leave_releases(self) -> None:
        for message in self._take_releases():
            self._leave(message)

    def _take_releases(self) -> list[Message]:
        """The noted releases as DEL requests; their answers are awaited by nobody."""
        with self._counting:  # finalizers append meanwhile
            noted = self.releases[:]
            del self.releases[: len(noted)]
            self.unanswered_releases += 0 if self._peer.quiet else len(noted)
        return [self._peer.release(id_pack, times)[1] for id_pack, times in noted]

    def _leave(self, message: Message) -> None:
        size = len(message) + _ENTRY
        try:
            with self._counting:
                if self._waiting + size > self._limits.in_flight_per_host:
                    allowed = self._limits.in_flight_per_host
                    raise LimitExceeded("in_flight_per_host", actual=self._waiting + size, allowed=allowed)
                if self._channel.account is not None:
                    self._channel.account.take(size)
                self._waiting += size
                if isinstance(self._left, tuple):
                    self._left = deque()
                self._left.append(message)
        except LimitExceeded as error:
            if len(message) > LARGE:
                raise
            gone = LinkDown(f"the peer does not read: {error}")
            self._lost(gone)
            raise gone from None

    def _drain(self) -> None:
        """Send what was left; the caller has the sending."""
        while left := self._left:
            batch = [left.popleft()]
            size = len(batch[0])
            while left and size + len(left[0]) <= LARGE:
                batch.append(left.popleft())
                size += len(batch[-1])
            if len(batch) == 1:
                self._transmit(self._channel.send, batch[0])
            else:
                self._transmit(self._channel.send_many, batch)
            size += _ENTRY * len(batch)
            with self._counting:
                self._waiting -= size
                if self._channel.account is not None:
                    self._channel.account.give(size)

    def _send_large(self, message: Message) -> None:
        account = self._channel.account
        if account is None:
            self._transmit(self._channel.send, message)
            return
        size = len(message)  # of which nothing may be left when it has gone
        account.take(size)
        try:
            self._transmit(self._channel.send, message)
        finally:
            account.give(size)

    def _transmit(self, send: Callable[[Any], None], what: Message | list[Message]) -> None:
        try:
            send(what)
        except BaseException as error:
            self._failed(error)
            raise
        if type(what) is bytearray and self._channel.keeps_nothing:
            recycle(what)

    def _failed(self, error: BaseException) -> None:
        """Sending was broken off by `error`. Raises LinkDown where that was the channel's."""
        fault = isinstance(error, OSError | EOFError | ProtocolError)
        if fault or not self._channel.wrote_whole:
            # After an interrupt part of a frame may be out, so the stream can't be used any more.
            if self._left:
                self._left.clear()
            self._lost(error)
        if fault:
            raise LinkDown(str(error)) from error
