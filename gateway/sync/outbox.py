"""The outgoing side of a connection: any thread may send, at most one is ever inside the channel."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any

from gateway.channels.base import Channel
from gateway.errors import LimitExceeded, LinkDown, ProtocolError
from gateway.limits import Limits
from gateway.protocol.netref import IdPack
from gateway.protocol.peer import Peer


class Outbox:
    """Messages on their way out, and releases noted by finalizers.

    A thread that finds another one sending leaves its message to that one: a peer that takes nothing holds up one
    thread, whichever number of answers it has coming. A finalizer only appends to `releases`; they leave with the next
    message, in front of it, so that they are in the order of the wire.
    """

    __slots__ = ("_channel", "_limits", "_lost", "_messages", "_peer", "_sending", "releases", "unanswered_releases")

    def __init__(self, channel: Channel, peer: Peer, limits: Limits, lost: Callable[[BaseException], Any]) -> None:
        self._channel = channel
        self._peer = peer
        self._limits = limits
        self._lost = lost
        self._messages: deque[bytes] = deque()
        self._sending = Lock()
        self.releases: deque[tuple[IdPack, int]] = deque()
        self.unanswered_releases = 0
        """Releases whose answers are still to come; nobody waits for them."""

    def send(self, message: bytes) -> None:
        """Send now, or hand over to the thread that is sending.

        Raises LimitExceeded for a message the peer could not take, LinkDown when the connection is gone.
        """
        if len(message) > self._limits.frame:
            raise LimitExceeded("frame", actual=len(message), allowed=self._limits.frame)
        if self.releases:
            self._queue_releases()
        self._messages.append(message)
        self.flush()

    def flush(self) -> None:
        """Send what waits, unless another thread is at it."""
        queue = self._messages
        while queue:
            if not self._sending.acquire(blocking=False):
                if len(queue) > 1:
                    self._check_backlog()
                return
            try:
                self._drain()
            finally:
                self._sending.release()

    def flush_releases(self) -> None:
        """Give back what finalizers noted while nothing else was sent."""
        if self.releases:
            self._queue_releases()
            self.flush()

    def _drain(self) -> None:
        queue = self._messages
        try:
            message = queue.popleft()
            if not queue:
                self._channel.send(message)
                return
            batch = [message]
            while queue:
                batch.append(queue.popleft())
            self._channel.send_many(batch)
        except IndexError:
            pass  # another thread was here between our look and our lock
        except (OSError, EOFError, ProtocolError) as error:
            self._lost(error)
            raise LinkDown(str(error)) from error
        except BaseException as error:
            # An interrupt: part of a frame may be out, so the stream can't be used any more.
            self._lost(error)
            raise

    def _queue_releases(self) -> None:
        """Turn noted releases into DEL requests; their answers are awaited by nobody."""
        while True:
            try:
                id_pack, times = self.releases.popleft()
            except IndexError:
                return
            self.unanswered_releases += 1
            self._messages.append(self._peer.release(id_pack, times)[1])

    def _check_backlog(self) -> None:
        waiting = sum(len(message) for message in list(self._messages))
        if waiting > self._limits.in_flight_per_host:
            error = LinkDown(f"the peer does not read: {waiting} bytes wait for it")
            self._lost(error)
            raise error
