"""LinkStreams: the channels of one link. They send, receive, open and close; a thread of its own drives the link.

    callers ── send ──> Link <── LinkDriver's thread ──> port
                          └── messages ──> inbox of each LinkChannel ──> recv

A caller that sends queues its message and wakes the thread: an interrupt can then never cut the link's own work short.
All that touches the link holds `_lock`.
"""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections.abc import Callable
from time import monotonic
from typing import Final

from gateway.channels.link_channel import Carrier, LinkChannel
from gateway.errors import GatewayError, LimitExceeded, LinkDown, Unreachable
from gateway.limits import KIB, Limits
from gateway.link import Counters, Down, Ended, Link, LinkConfig, Opened, Received

_log: Final = logging.getLogger(__name__)

SENT_AHEAD: Final = 16 * KIB
"""A sender waits while more than this is queued on its stream."""
UNREAD: Final = 256 * KIB
"""The peer is told to wait while more than this lies in the inboxes."""
FREED_S: Final = 0.05
"""How often it is looked whether the peer has let go of a closed stream, of which it tells nobody."""


class LinkStreams(Carrier):
    """The link, its channels, and what has to be known of them by every thread."""

    def __init__(
        self,
        config: LinkConfig,
        limits: Limits,
        name: str,
        *,
        nonces: Callable[[], int],
        accept: Callable[[LinkChannel], bool] | None,
        on_left: Callable[[], None],
        single: bool,
    ) -> None:
        """See `LinkDriver`."""
        self.name = name
        self.limits = limits
        self.config = config
        self._accept = accept
        self._on_left = on_left
        self._single = single
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._link = Link(config, nonces=nonces, now=monotonic())
        self._channels: dict[int, LinkChannel] = {}
        self._unread_at = 0.0
        """Since when nobody takes what lies in the inboxes."""
        self._problem: GatewayError | None = None
        """Why there is no port."""
        self._closing = False

    @abstractmethod
    def _nudge(self) -> None:
        """Have the thread ask the link anew."""

    # -- for those who use channels ---------------------------------------------------------------------------------

    def open(self, timeout: float, on_close: Callable[[], None] = lambda: None) -> LinkChannel:
        """One more channel, as soon as there is a session.

        Raises Unreachable or ConfigError if there is none within `timeout` seconds, LinkDown once closed, LimitExceeded
        for one channel too many.
        """
        deadline = monotonic() + timeout
        with self._changed:
            while True:
                self._raise_if_closed()
                left = deadline - monotonic()
                if self._link.peer is not None:
                    stream = self._free_stream(left)
                    if stream is not None:
                        return self._add_channel(stream, on_close)
                elif left <= 0:
                    raise self._no_session(timeout)
                self._changed.wait(max(0.0, min(left, FREED_S)))

    def _free_stream(self, left: float) -> int | None:
        """None where a stream that was closed already will be free in a moment. Raises LimitExceeded."""
        try:
            return self._link.open()
        except LimitExceeded:
            if left <= 0 or self.live >= self.streams_at_most:
                raise
            return None

    def _no_session(self, timeout: float) -> GatewayError:
        if self._problem is not None:
            return type(self._problem)(str(self._problem))
        reason = self._link.problem or (
            f"no link answered within {round(timeout, 1):g} s; "
            "is the other end serving, at the same speed, with framing=link?"
        )
        return Unreachable(f"{self.name}: {reason}")

    def _add_channel(self, stream: int, on_close: Callable[[], None] = lambda: None) -> LinkChannel:
        try:
            channel = LinkChannel(self, stream, on_close=on_close)
        except OSError as error:
            self._link.abandon(stream)
            self._nudge()
            raise LinkDown(f"{self.name}: no channel can be opened: {error.strerror}") from None
        self._channels[stream] = channel
        return channel

    def send(self, channel: LinkChannel, messages: list[bytes]) -> None:
        with self._changed:
            for left, message in zip(range(len(messages) - 1, -1, -1), messages, strict=True):
                channel.raise_if_over()
                self._link.send(channel.stream, message)
                channel.wrote = not left
                self._nudge()
                if self._link.backlog(channel.stream) > SENT_AHEAD:
                    self._await_room(channel)

    def _await_room(self, channel: LinkChannel) -> None:
        least, patience_s = self._link.backlog(channel.stream), self._patience_s()
        deadline = monotonic() + patience_s
        while (backlog := self._link.backlog(channel.stream)) > SENT_AHEAD:
            if backlog < least:
                least, deadline = backlog, monotonic() + self._patience_s()
            elif monotonic() >= deadline:
                raise LinkDown(f"{self.name}: the peer took no data for {patience_s:g} s")
            self._changed.wait(max(0.0, deadline - monotonic()))
            channel.raise_if_over()
        channel.raise_if_over()

    def _patience_s(self) -> float:
        """How long one stream may stand still: each of the others may have its turn meanwhile."""
        rate = self.config.line_rate
        turns_s = 0.0 if rate is None else (len(self._channels) - 1) * self.config.frame / rate
        return round(self.limits.progress_s + turns_s, 1)

    def leave(self, channel: LinkChannel) -> None:
        with self._changed:
            if self._channels.get(channel.stream) is channel:
                # What is queued still goes, unless a sender waits for it to go.
                if self._link.backlog(channel.stream) > SENT_AHEAD:
                    self._abandon(channel.stream)
                else:
                    self._link.end(channel.stream)
                self._nudge()
            self._changed.notify_all()
        self._on_left()

    def took(self) -> None:
        if not self._link.accepting:
            with self._lock:
                self._unread_at = monotonic()
                self._accept_if_read()

    @property
    def counters(self) -> Counters:
        return self._link.counters

    @property
    def streams_at_most(self) -> int:
        """How many channels there can be at a time, as far as that is known."""
        peer = self._link.peer
        return self.config.streams if peer is None else peer.streams

    @property
    def live(self) -> int:
        """How many channels are open here."""
        return sum(not channel.closed for channel in list(self._channels.values()))

    @property
    def closed(self) -> bool:
        return self._closing

    def _raise_if_closed(self) -> None:
        if self._closing:
            raise LinkDown(f"{self.name} was closed by this side")

    # -- what the link tells; called with the lock held --------------------------------------------------------------

    def _handle_events(self) -> None:
        for event in self._link.take_events():
            match event:
                case Opened(peer):
                    _log.debug("%s: a session with %s", self.name, peer)
                    self._changed.notify_all()
                case Received(stream, message):
                    self._deliver(stream, message)
                case Ended(stream):
                    self._end_stream(stream)
                case Down(_, reason):
                    self._lose_session(reason)

    def _deliver(self, stream: int, message: bytes) -> None:
        channel = self._channels.get(stream)
        if channel is None:
            channel = self._new_channel(stream)
        if channel is None or not channel.deliver(message):
            self._abandon(stream)
            return
        if channel.held and self._link.accepting and self._unread > UNREAD:
            self._link.accepting = False
            self._unread_at = monotonic()
            self._accept_if_read()  # by now: who took it then could not know

    def _new_channel(self, stream: int) -> LinkChannel | None:
        """For a stream that the peer opened; None if it is not wanted."""
        if self._accept is None or self._closing:
            return None
        try:
            channel = self._add_channel(stream)
        except LinkDown as error:
            _log.warning("%s", error)
            return None
        if self._accept(channel):
            return channel
        channel.shut()
        return None

    def _abandon(self, stream: int) -> None:
        """Nothing of this stream is wanted any more, in either direction; the link tells nothing more of it."""
        self._link.abandon(stream)
        self._channels.pop(stream, None)

    def _end_stream(self, stream: int) -> None:
        channel = self._channels.pop(stream, None)
        self._link.end(stream)
        if channel is not None:
            channel.finish(LinkDown(f"the channel over {self.name} was closed by the peer"))
        self._changed.notify_all()

    @property
    def _unread(self) -> int:
        return sum(channel.held for channel in self._channels.values())

    def _accept_if_read(self) -> None:
        if not self._link.accepting and self._unread <= UNREAD:
            self._link.accepting = True
            self._nudge()

    def _drop_unread(self, now: float) -> None:
        """A channel that nobody reads must not hold up the others for long."""
        if self._link.accepting or now < self._unread_at + self.limits.progress_s or len(self._channels) < 2:
            return
        channel = max(self._channels.values(), key=lambda channel: channel.held)
        _log.warning("%s: stream %d ends, nobody reads it", self.name, channel.stream)
        channel.finish(LinkDown(f"{self.name}: this side read nothing for {self.limits.progress_s:g} s"))
        self._abandon(channel.stream)
        self._accept_if_read()

    def _lose_session(self, reason: str) -> None:
        lost, self._channels = self._channels, {}
        _log.debug("%s: the session is over with %d channels: %s; %s", self.name, len(lost), reason, self.counters)
        error = LinkDown(reason if reason.startswith(self.name) else f"{self.name}: {reason}")
        for channel in lost.values():
            channel.finish(error)
        self._link.accepting = True
        if self._single and lost:
            self._closing = True
        self._changed.notify_all()
