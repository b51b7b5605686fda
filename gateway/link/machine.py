"""Link: one end of the reliable serial link, as a machine without a clock, a thread or a port.

    link = Link(LinkConfig(initiator=True), nonces=lambda: secrets.randbits(32), now=monotonic())
    port.write(link.output(now))        whatever has to go out now; runs the timers
    link.receive(port.read(), now)      whatever came, cut anywhere
    link.take_events()                  Opened, Received, Ended, Down
    link.deadline()                     when to ask for output again, though nothing comes

                  HELLO that answers ours, or a frame of the new session
       OPENING ──────────────────────────────────────────────────────────> OPEN
          ^                                                                  │
          └───── CLOSE, another HELLO, silence, a frame that won't pass ─────┘        close() ──> CLOSED, from either

A session delivers each message once, in order and whole, or it ends with one `Down`; the link then opens the next one
by itself, in which nothing of the last one counts. Frames are sent again as often as it takes; calls are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from gateway.errors import LinkDown
from gateway.link import frames
from gateway.link.config import LinkConfig
from gateway.link.counters import Counters
from gateway.link.events import Cause, Down, Event, Opened
from gateway.link.exchange import Exchange, SessionOver
from gateway.link.frames import Hello
from gateway.link.hdlc import CRC_SIZE, FLAG, FrameReader, encode, is_intact
from gateway.link.pace import Pace
from gateway.link.session import Peer

HELLO_S: Final = 0.1
HELLO_MAX_S: Final = 1.0
"""HELLO is repeated after the first time, then after twice as long each time, up to the second."""
GOODPUT_S: Final = 1.0
FAREWELLS: Final = 2


class LinkState(StrEnum):
    OPENING = "opening"
    OPEN = "open"
    CLOSED = "closed"


class Link:
    """One end of a link. Says HELLO from the beginning; `now` is any clock in seconds that never goes back.

    `nonces` gives random numbers of 32 bits. No method blocks; none may be called from two threads at once.
    """

    def __init__(self, config: LinkConfig, *, nonces: Callable[[], int], now: float) -> None:
        self.config = config
        self.counters = Counters()
        self.state = LinkState.OPENING
        self.problem = ""
        """While there is no session: why the peer that answers can't be used; empty if nobody answers."""
        self._nonces = nonces
        self._reader = FrameReader(2 * (config.frame + frames.HELLO_SIZE + CRC_SIZE))
        self._pace = Pace(config.line_rate, config.frame)
        self._events: list[Event] = []
        self._period_at = now
        self._period_from = 0
        self._farewell = b""
        self._accepting = True
        self._session: Exchange | None = None
        """The one that is open, or that is prepared for the peer that was heard."""
        self._nonce = 0
        self._hello_at: float | None = now
        self._hello_pause_s = HELLO_S
        self._begin(now)

    # -- for whoever uses the streams -------------------------------------------------------------------------------

    @property
    def peer(self) -> Peer | None:
        """The other end, while the session is open."""
        return self._session.peer if self._session is not None and self.state is LinkState.OPEN else None

    def open(self) -> int:
        """A free stream. Raises LinkDown without a session, LimitExceeded if as many are open as both ends can have."""
        if not self.config.initiator:
            raise LinkDown("this end of the line opens no streams; the other one does")
        return self._opened().open()

    def send(self, stream: int, message: bytes) -> None:
        """Queue a message. Raises LinkDown where the stream is not open, LimitExceeded if the peer can't take it."""
        self._opened().send(stream, message)
        self.counters.messages_sent += 1
        self.counters.payload_sent += len(message)

    def end(self, stream: int) -> None:
        """Nothing more will be sent on this stream; what is queued still goes. Nothing to do where it is gone."""
        if self._session is not None:
            self._session.end(stream, clear=False)

    def abandon(self, stream: int) -> None:
        """The same, and what is queued, and whatever comes on it, is thrown away."""
        if self._session is not None:
            self._session.end(stream, clear=True)

    def backlog(self, stream: int) -> int:
        """Bytes of messages queued there that are not on their way; 0 for one that is gone."""
        found = self._session.streams.open.get(stream) if self._session is not None else None
        return 0 if found is None else found.outgoing.backlog

    @property
    def idle(self) -> bool:
        """Whether all that was to be sent has arrived; also without a session, which has nothing to send."""
        return self._session is None or self._session.is_idle

    @property
    def accepting(self) -> bool:
        """Whether this end takes DATA frames. Set it to False while there is no room for messages: the peer waits."""
        return self._accepting

    @accepting.setter
    def accepting(self, value: bool) -> None:
        if value != self._accepting:
            self._accepting = value
            if self._session is not None:
                self._session.answer(-math.inf)

    def take_events(self) -> list[Event]:
        """What has happened since the last time."""
        events = self._events[:]
        self._events.clear()
        return events

    def restart(self, reason: str, now: float) -> None:
        """The port was lost or has come back: the session is over, and nothing that was begun counts."""
        self._reader.reset()
        self._pace.reset()
        if self.state is LinkState.OPEN:
            self._go_down(Cause.PORT, reason, now)
        elif self.state is LinkState.OPENING:
            self._begin(now)

    def close(self) -> None:
        """Leave. The next `output` tells the peer; nothing else happens any more."""
        if self._session is not None:
            # Nobody acknowledges it, so it goes twice; without any the peer finds out by the silence.
            # While OPENING too: the peer may have entered the session already.
            self._farewell = FAREWELLS * self._session.close_frame()
        self.state = LinkState.CLOSED
        self._session = None

    def _opened(self) -> Exchange:
        if self._session is None or self.state is not LinkState.OPEN:
            raise LinkDown("the link is closed" if self.state is LinkState.CLOSED else "no session with the peer")
        return self._session

    # -- what comes in ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take what came from the line. Never raises: what is damaged is counted and skipped."""
        self.counters.bytes_received += len(data)
        for frame in self._reader.receive(data):
            handle = _TABLE.get((self.state, frame[0] & frames.KIND)) if len(frame) > CRC_SIZE else None
            if handle is not None:
                try:
                    handle(self, frame, now)
                except SessionOver as over:
                    self._go_down(over.cause, str(over), now)
            elif self.state is not LinkState.CLOSED:
                self.counters.crc_errors += 1
        self.counters.overruns = self._reader.overruns

    def _hello_while_opening(self, frame: bytes, now: float) -> None:
        hello = self._read_hello(frame)
        if hello is None or not self._may_meet(hello):
            return
        self._meet(hello)
        if hello.seen == self._nonce:
            self._enter(now)
        else:
            self._hello_at = now

    def _hello_while_open(self, frame: bytes, now: float) -> None:
        hello = self._read_hello(frame)
        session = self._opened()
        if hello is None or not self._may_meet(hello):
            return
        if hello.nonce == session.peer.nonce and hello.seen == self._nonce:
            # It does not know yet that we know. It is not heard for that: it may be unable to hear us at all.
            session.answer(now)
        elif hello.nonce != session.peer.nonce and hello.seen in (0, self._nonce):
            self._go_down(Cause.PEER_RESET, "the peer began anew: it was restarted, or its port was opened again", now)
            self._meet(hello)
        else:
            # Late, from before this session; or of a peer that began anew and holds one that was late. It learns of us,
            # not at once: two ends that were both told of peers that are not there would answer each other for seconds.
            self._hello_at = now + HELLO_S if self._hello_at is None else self._hello_at

    def _read_hello(self, frame: bytes) -> Hello | None:
        hello = Hello.decode(frame[:-CRC_SIZE]) if is_intact(frame, 0) else None
        if hello is None:
            self.counters.crc_errors += 1
        else:
            self.counters.frames_received += 1
        return hello

    def _may_meet(self, hello: Hello) -> bool:
        if hello.initiator == self.config.initiator:
            if hello.nonce == self._nonce:
                self.counters.echoes += 1
                self.problem = "the line sends back what is sent on it: is a loopback plug in it, or echo switched on?"
                return False
            self.problem = (
                "both ends of the line want to open streams: one of them has to serve"
                if hello.initiator
                else "both ends of the line serve: one of them has to connect"
            )
            return False
        self.problem = ""
        return True

    def _meet(self, hello: Hello) -> None:
        """Prepare the session with the end that said so, unless it is prepared."""
        if self._session is None or self._session.peer.nonce != hello.nonce:
            peer = Peer.of(hello, self.config)
            self._session = Exchange(peer, self._nonce, self.config, self._pace, self.counters, self._events)

    def _enter(self, now: float) -> None:
        session = self._session
        assert session is not None
        self.state = LinkState.OPEN
        self._hello_at = None
        session.begin(now)
        self.counters.sessions += 1
        self._events.append(Opened(session.peer))

    def _first_of_session(self, frame: bytes, now: float) -> None:
        """A frame of the session that we prepared: the peer has entered it."""
        if self._session is not None and self._session.knows(frame):
            self._enter(now)
            _TABLE[LinkState.OPEN, frame[0] & frames.KIND](self, frame, now)
        else:
            self.counters.crc_errors += 1

    def _data(self, frame: bytes, now: float) -> None:
        self._opened().data(frame, now, accepting=self._accepting)

    def _ack(self, frame: bytes, now: float) -> None:
        self._opened().ack(frame, now)

    def _close(self, frame: bytes, now: float) -> None:
        if self._opened().knows(frame):
            self.counters.frames_received += 1
            self._go_down(Cause.PEER_CLOSED, "the peer closed the link", now)
        else:
            self.counters.crc_errors += 1

    # -- what goes out ----------------------------------------------------------------------------------------------

    def output(self, now: float) -> bytes:
        """What has to be written now, in the order given. May end the session: see `take_events`."""
        if self.state is LinkState.CLOSED:
            farewell, self._farewell = self._farewell and FLAG + self._farewell, b""
            self.counters.bytes_sent += len(farewell)
            return farewell
        self._measure(now)
        was_idle = self._pace.is_idle(now)
        out: list[bytes] = []
        try:
            if self.state is LinkState.OPEN:
                self._opened().run_timers(now)
            if self._hello_at is not None and now >= self._hello_at:
                self._say_hello(out, now)
            if self.state is LinkState.OPEN:
                self._opened().fill(out, now, accepting=self._accepting)
        except SessionOver as over:
            self._go_down(over.cause, str(over), now)
            self._say_hello(out, now)
        if not out:
            return b""
        if was_idle:
            out.insert(0, FLAG)
        data = b"".join(out)
        self.counters.bytes_sent += len(data)
        return data

    def deadline(self) -> float | None:
        """When `output` has to be called though nothing comes; a time that has passed: at once. None: never."""
        if self.state is LinkState.CLOSED:
            return -math.inf if self._farewell else None
        times = [self._hello_at] if self._hello_at is not None else []
        if self.state is LinkState.OPEN:
            times += self._opened().deadlines()
        return min(times) if times else None

    def wait(self, now: float) -> float | None:
        """The seconds from `now` to `deadline`, at least 0.0; None: for ever."""
        deadline = self.deadline()
        return None if deadline is None else max(0.0, deadline - now)

    def _begin(self, now: float) -> None:
        """Another session, of another number: nothing of an earlier one can be taken for its own."""
        self.state = LinkState.OPENING
        self._session = None
        self._nonce = 0
        while not self._nonce:
            self._nonce = self._nonces() & 0xFFFFFFFF
        self._hello_at = now
        self._hello_pause_s = HELLO_S

    def _go_down(self, cause: Cause, reason: str, now: float) -> None:
        if cause is not Cause.PEER_CLOSED:
            self.counters.resets += 1
        self._events.append(Down(cause, reason))
        self._begin(now)

    def _measure(self, now: float) -> None:
        elapsed_s = now - self._period_at
        if elapsed_s >= GOODPUT_S:
            total = self.counters.payload_sent + self.counters.payload_received
            self.counters.goodput = (total - self._period_from) / elapsed_s
            self._period_at, self._period_from = now, total

    def _say_hello(self, out: list[bytes], now: float) -> None:
        config, session = self.config, self._session
        self._hello_at = None
        if self.state is LinkState.OPENING:
            self._hello_at = now + self._hello_pause_s
            self._hello_pause_s = min(2 * self._hello_pause_s, HELLO_MAX_S)
        hello = Hello(
            version=frames.VERSION,
            initiator=config.initiator,
            nonce=self._nonce,
            seen=0 if session is None else session.peer.nonce,
            frame=config.frame,
            window=config.window,
            streams=config.streams,
            message=config.message,
            deflate=config.deflate,
        )
        out.append(encode(hello.encode(), 0))
        self.counters.frames_sent += 1
        self._pace.send(len(out[-1]), now)


_TABLE: Final[dict[tuple[LinkState, int], Callable[[Link, bytes, float], None]]] = {
    (LinkState.OPENING, frames.HELLO): Link._hello_while_opening,
    (LinkState.OPENING, frames.DATA): Link._first_of_session,
    (LinkState.OPENING, frames.ACK): Link._first_of_session,
    (LinkState.OPEN, frames.HELLO): Link._hello_while_open,
    (LinkState.OPEN, frames.DATA): Link._data,
    (LinkState.OPEN, frames.ACK): Link._ack,
    (LinkState.OPEN, frames.CLOSE): Link._close,
}
"""What each kind of frame does in each state. What is not here is damaged, or not meant for this end any more."""
