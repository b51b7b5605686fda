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

from gateway.errors import LimitExceeded, LinkDown, ProtocolError
from gateway.link import frames
from gateway.link.config import LinkConfig
from gateway.link.counters import Counters
from gateway.link.events import Cause, Down, Ended, Event, Opened, Received
from gateway.link.frames import Hello
from gateway.link.hdlc import CRC_SIZE, FLAG, FrameReader, encode, is_intact
from gateway.link.rtt import RoundTrip
from gateway.link.session import FrameKeys, Peer
from gateway.link.streams import Streams
from gateway.link.window import InFlight, ReceiveWindow, SendWindow

HELLO_S: Final = 0.1
HELLO_MAX_S: Final = 1.0
"""HELLO is repeated after the first time, then after twice as long each time, up to the second."""
ACK_DELAY_S: Final = 0.02
"""An acknowledgement waits so long for a DATA frame that carries it."""
ACK_EVERY: Final = 2
"""But no longer than for so many DATA frames, and for none where either end has a window of less than twice as many."""
AHEAD_FRAMES: Final = 2
AHEAD_S: Final = 0.02
"""On a line of known speed, frames are handed over so far ahead of the one that is leaving; the longer of the two."""
IDLE_S: Final = 0.02
"""After a silence a flag goes first: it ends what the line made up meanwhile."""
GOODPUT_S: Final = 1.0
FAREWELLS: Final = 2


class LinkState(StrEnum):
    OPENING = "opening"
    OPEN = "open"
    CLOSED = "closed"


class _Session:
    """All that begins anew with a session."""

    def __init__(self, peer: Peer, nonce: int, config: LinkConfig, first_timeout_s: float) -> None:
        nonces = (nonce, peer.nonce) if config.initiator else (peer.nonce, nonce)
        here, there = (b"i", b"r") if config.initiator else (b"r", b"i")
        self.peer = peer
        self.sending = FrameKeys(here, *nonces)
        self.receiving = FrameKeys(there, *nonces)
        self.tx = SendWindow(peer.window)
        self.rx = ReceiveWindow(config.window)
        self.rtt = RoundTrip(first_timeout_s)
        self.patient_until = -math.inf
        """No frame counts as late before."""
        self.streams = Streams(most=peer.streams, deflate=peer.deflate, limit=config.message)
        self.unacknowledged = 0
        # Whoever takes a frame at a time has room to send one at a time, most likely: it must not wait for us.
        self.ack_every = max(1, min(ACK_EVERY, config.window // 2, peer.window // 2))
        self.ack_at: float | None = None
        """When an ACK frame has to go at the latest; None: the peer knows all."""
        self.ack_tells_more = False
        """It has to be an ACK frame of its own: a DATA frame has no room for what it says."""
        self.polled_at = 0.0
        self.poll_due = False


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
        self._events: list[Event] = []
        self._byte_s = 0.0 if config.line_rate is None else 1 / config.line_rate
        self._ahead_s = max(AHEAD_S, AHEAD_FRAMES * config.frame * self._byte_s)
        self._first_timeout_s = 0.3 + 4 * config.frame * self._byte_s
        self._line_free_at = -math.inf
        self._heard_at = now
        self._period_at = now
        self._period_bytes = 0
        self._farewell = b""
        self._accepting = True
        self._session: _Session | None = None
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
        streams = self._opened().streams
        number = streams.free_number()
        if number is None:
            raise LimitExceeded("connections", actual=streams.most + 1, allowed=streams.most)
        streams.add(number)
        return number

    def send(self, stream: int, message: bytes) -> None:
        """Queue a message. Raises LinkDown where the stream is not open, LimitExceeded if the peer can't take it."""
        session = self._opened()
        found = session.streams.open.get(stream)
        if found is None or found.outgoing.ended:
            raise LinkDown(f"stream {stream} is closed")
        if len(message) > session.peer.message:
            raise LimitExceeded("frame", actual=len(message), allowed=session.peer.message)
        found.outgoing.put(message)
        session.streams.wake(stream)
        self.counters.messages_sent += 1
        self.counters.payload_sent += len(message)
        self._period_bytes += len(message)

    def end(self, stream: int) -> None:
        """Nothing more will be sent on this stream; what is queued still goes. Nothing to do where it is gone."""
        self._end(stream, clear=False)

    def abandon(self, stream: int) -> None:
        """The same, and what is queued, and whatever comes on it, is thrown away."""
        self._end(stream, clear=True)

    def backlog(self, stream: int) -> int:
        """Bytes of messages queued there that are not on their way; 0 for one that is gone."""
        found = self._session.streams.open.get(stream) if self._session is not None else None
        return 0 if found is None else found.outgoing.backlog

    @property
    def idle(self) -> bool:
        """Whether all that was to be sent has arrived; also without a session, which has nothing to send."""
        session = self._session
        return session is None or not (session.tx.in_flight or session.streams.want_to_send)

    @property
    def accepting(self) -> bool:
        """Whether this end takes DATA frames. Set it to False while there is no room for messages: the peer waits."""
        return self._accepting

    @accepting.setter
    def accepting(self, value: bool) -> None:
        if value != self._accepting:
            self._accepting = value
            if self._session is not None:
                self._acknowledge_now(self._session)

    def take_events(self) -> list[Event]:
        """What has happened since the last time."""
        events, self._events = self._events, []
        return events

    def restart(self, reason: str, now: float) -> None:
        """The port was lost or has come back: the session is over, and nothing that was begun counts."""
        self._reader.reset()
        self._line_free_at = -math.inf  # the peer may hold half of a frame: a flag goes first
        if self.state is LinkState.OPEN:
            self._go_down(Cause.PORT, reason, now)
        elif self.state is LinkState.OPENING:
            self._begin(now)

    def close(self) -> None:
        """Leave. The next `output` tells the peer; nothing else happens any more."""
        session = self._session
        if session is not None:
            # Nobody acknowledges it, so it goes twice; without any the peer finds out by the silence.
            # While OPENING too: the peer may have entered the session already.
            self._farewell = FAREWELLS * encode(frames.close(), session.sending.key())
        self.state = LinkState.CLOSED
        self._session = None

    def _opened(self) -> _Session:
        if self._session is None or self.state is not LinkState.OPEN:
            raise LinkDown("the link is closed" if self.state is LinkState.CLOSED else "no session with the peer")
        return self._session

    def _end(self, stream: int, *, clear: bool) -> None:
        session = self._session
        found = session.streams.open.get(stream) if session is not None else None
        if session is None or found is None:
            return
        if clear:
            found.outgoing.clear()
            found.incoming.deaf = True
        found.outgoing.ended = True
        if not found.sent_end:
            session.streams.wake(stream)

    # -- what comes in ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take what came from the line. Never raises: what is damaged is counted and skipped."""
        self.counters.bytes_received += len(data)
        for frame in self._reader.receive(data):
            handle = _TABLE.get((self.state, frame[0] & frames.KIND)) if len(frame) > CRC_SIZE else None
            if handle is not None:
                handle(self, frame, now)
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
            session.ack_at, session.ack_tells_more = now, True
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
            self._session = _Session(peer, self._nonce, self.config, self._first_timeout_s)

    def _enter(self, now: float) -> None:
        session = self._session
        assert session is not None
        self.state = LinkState.OPEN
        self._heard_at = session.polled_at = now
        self._hello_at = None
        session.ack_at, session.ack_tells_more = now, True
        self.counters.sessions += 1
        self._events.append(Opened(session.peer))

    def _first_of_session(self, frame: bytes, now: float) -> None:
        """A frame of the session that we prepared: the peer has entered it."""
        if self._session is not None and self._knows(frame, self._session):
            self._enter(now)
            _TABLE[LinkState.OPEN, frame[0] & frames.KIND](self, frame, now)
        else:
            self.counters.crc_errors += 1

    def _knows(self, frame: bytes, session: _Session) -> bool:
        return is_intact(frame, session.receiving.key(*self._numbers(frame, session)))

    def _numbers(self, frame: bytes, session: _Session) -> tuple[int, int]:
        """`(seq, ack)` of a frame counted without end, 0 where it has none."""
        kind = frame[0] & frames.KIND
        if kind == frames.DATA and len(frame) >= frames.DATA_HEADER + CRC_SIZE:
            return frames.near(frame[1], session.rx.expected), frames.near(frame[2], session.tx.base)
        if kind == frames.ACK and len(frame) > 2 + CRC_SIZE:
            return 0, frames.near(frame[1], session.tx.base)
        return 0, 0

    def _data(self, frame: bytes, now: float) -> None:
        session = self._opened()
        seq, ack = self._numbers(frame, session)
        if len(frame) < frames.DATA_HEADER + CRC_SIZE or not is_intact(frame, session.receiving.key(seq, ack)):
            self.counters.crc_errors += 1
            return
        self.counters.frames_received += 1
        self._heard_at = now
        self._acknowledged(session, ack, b"", now)
        rx = session.rx
        if not rx.is_new(seq):
            self.counters.duplicates += 1
            self._acknowledge_now(session)  # its acknowledgement was lost
        elif not self._accepting or not rx.fits(seq):
            self.counters.refused += 1
            self._acknowledge_now(session)
        else:
            had_gap = rx.has_gap
            for flags, stream, payload in rx.add(seq, frames.fragment_of(frame[:-CRC_SIZE])):
                if not self._deliver(session, flags, stream, payload, now):
                    return
            session.unacknowledged += 1
            if had_gap or rx.has_gap or session.unacknowledged >= session.ack_every:
                session.ack_at, session.ack_tells_more = now, had_gap or rx.has_gap
            elif session.ack_at is None:
                session.ack_at = now + ACK_DELAY_S

    def _deliver(self, session: _Session, flags: int, number: int, payload: bytes, now: float) -> bool:
        """Hand on a fragment that is in order; False if the session ended over it."""
        streams = session.streams
        stream = streams.open.get(number)
        if stream is None:
            if self.config.initiator:
                return True  # late, for a stream that this end gave up
            if number >= streams.most:
                self._go_down(Cause.PROTOCOL, f"the peer opened stream {number} of {streams.most}", now)
                return False
            stream = streams.add(number)
        if not stream.incoming.deaf and not stream.incoming.ended:
            try:
                message = stream.incoming.receive(flags, payload) if payload or flags & frames.LAST else None
            except (LimitExceeded, ProtocolError) as error:
                self._go_down(Cause.PROTOCOL, f"stream {number}: {error}", now)
                return False
            if message is not None:
                self.counters.messages_received += 1
                self.counters.payload_received += len(message)
                self._period_bytes += len(message)
                self._events.append(Received(number, message))
        if flags & frames.END and not stream.incoming.ended:
            stream.incoming.ended = True
            if not stream.incoming.deaf:
                self._events.append(Ended(number))
            streams.forget_if_over(number)
        return True

    def _ack(self, frame: bytes, now: float) -> None:
        session = self._opened()
        _, number = self._numbers(frame, session)
        if len(frame) < 3 + CRC_SIZE or not is_intact(frame, session.receiving.key(0, number)):
            self.counters.crc_errors += 1
            return
        self.counters.frames_received += 1
        self._heard_at = now
        tx = session.tx
        if number >= tx.base:
            had_room, tx.room = tx.room, frame[2]
            if tx.room and not had_room:
                tx.lose_all()
        self._acknowledged(session, number, frame[3:-CRC_SIZE], now)
        if frame[0] & frames.POLL:
            self._acknowledge_now(session)

    def _acknowledged(self, session: _Session, number: int, bitmap: bytes, now: float) -> None:
        newest = session.tx.acknowledge(number, bitmap)
        if newest is not None and newest.times == 1:
            session.rtt.sample(now - newest.leaves_at)
            self.counters.rtt_s = session.rtt.smoothed_s

    def _close(self, frame: bytes, now: float) -> None:
        if self._knows(frame, self._opened()):
            self.counters.frames_received += 1
            self._go_down(Cause.PEER_CLOSED, "the peer closed the link", now)
        else:
            self.counters.crc_errors += 1

    def _acknowledge_now(self, session: _Session) -> None:
        session.ack_at, session.ack_tells_more = -math.inf, True

    # -- what goes out ----------------------------------------------------------------------------------------------

    def output(self, now: float) -> bytes:
        """What has to be written now, in the order given. May end the session: see `take_events`."""
        if self.state is LinkState.CLOSED:
            farewell, self._farewell = self._farewell and FLAG + self._farewell, b""
            self.counters.bytes_sent += len(farewell)
            return farewell
        self._run_timers(now)
        self._measure(now)
        was_idle = now - self._line_free_at >= IDLE_S
        out: list[bytes] = []
        if self._hello_at is not None and now >= self._hello_at:
            self._append(out, self._hello(now), now)
        if self.state is LinkState.OPEN:
            self._fill(out, now)
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
            return self._line_free_at if self._farewell else None
        times = [self._hello_at] if self._hello_at is not None else []
        session = self._session
        if self.state is LinkState.OPEN and session is not None:
            tx = session.tx
            times += [self._heard_at + self.config.dead_s, self._poll_time(session)]
            if session.ack_at is not None:
                times.append(session.ack_at)
            if tx.room:
                if tx.has_lost or (tx.is_open and session.streams.want_to_send):
                    times.append(self._line_free_at - self._ahead_s)
                oldest = tx.oldest
                if oldest is not None:
                    times.append(self._timeout_at(session, oldest))
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

    def _run_timers(self, now: float) -> None:
        session = self._session
        if self.state is not LinkState.OPEN or session is None:
            return
        if now >= self._heard_at + self.config.dead_s:
            self._go_down(Cause.SILENT, f"the peer was silent for {self.config.dead_s:g} s", now)
            return
        oldest = session.tx.oldest if session.tx.room else None
        if oldest is not None and now >= self._timeout_at(session, oldest):
            session.patient_until = now + session.rtt.timeout_s
            session.tx.expire(oldest)
            session.rtt.back_off()
        if now >= self._poll_time(session):
            session.polled_at = now
            session.poll_due = True
            self._acknowledge_now(session)

    def _timeout_at(self, session: _Session, oldest: InFlight) -> float:
        """When the frame that was sent first counts as lost. After one timeout the others get as long again."""
        return max(oldest.leaves_at + session.rtt.timeout_s, session.patient_until)

    def _measure(self, now: float) -> None:
        elapsed_s = now - self._period_at
        if elapsed_s >= GOODPUT_S:
            self.counters.goodput = self._period_bytes / elapsed_s
            self._period_at, self._period_bytes = now, 0

    def _poll_time(self, session: _Session) -> float:
        """When to ask the peer for an answer: it was silent for long, or it told us to wait and may take more now."""
        quiet = max(self._heard_at, session.polled_at) + self.config.keepalive_s
        if session.tx.room or not (session.tx.in_flight or session.streams.want_to_send):
            return quiet
        return min(quiet, session.polled_at + session.rtt.timeout_s)

    def _hello(self, now: float) -> bytes:
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
        return encode(hello.encode(), 0)

    def _fill(self, out: list[bytes], now: float) -> None:
        session = self._opened()
        if session.ack_tells_more and session.ack_at is not None and now >= session.ack_at:
            self._append(out, self._ack_frame(session), now)
        tx, streams = session.tx, session.streams
        while tx.room and self._line_free_at - self._ahead_s <= now:
            frame = tx.take_lost()
            if frame is not None:
                self.counters.retransmissions += 1
                if frame.times > self.config.attempts:
                    what = f"a frame of {len(frame.payload)} bytes was sent {frame.times - 1} times without arriving"
                    self._go_down(Cause.STUCK, f"{what}; the line may be too noisy for frames of this size", now)
                    return
            elif tx.is_open and streams.want_to_send:
                frame = tx.add(*streams.fragment(session.peer.frame))
            else:
                break
            self._append(out, self._data_frame(session, frame), now)
            frame.leaves_at = self._line_free_at if self._byte_s else now
        if session.ack_at is not None and now >= session.ack_at:
            self._append(out, self._ack_frame(session), now)

    def _append(self, out: list[bytes], frame: bytes, now: float) -> None:
        out.append(frame)
        self.counters.frames_sent += 1
        self._line_free_at = max(now, self._line_free_at) + len(frame) * self._byte_s

    def _data_frame(self, session: _Session, frame: InFlight) -> bytes:
        expected = session.rx.expected
        content = frames.data(frame.flags, frame.seq, expected, frame.stream, frame.payload)
        session.ack_at, session.unacknowledged = None, 0
        return encode(content, session.sending.key(frame.seq, expected))

    def _ack_frame(self, session: _Session) -> bytes:
        flags, session.poll_due = (frames.POLL if session.poll_due else 0), False
        session.ack_at, session.ack_tells_more, session.unacknowledged = None, False, 0
        expected = session.rx.expected
        room = self.config.window if self._accepting else 0
        content = frames.ack(flags, expected, room, session.rx.bitmap())
        return encode(content, session.sending.key(0, expected))


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
