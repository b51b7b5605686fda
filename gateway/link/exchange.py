"""Exchange: the DATA and ACK frames of one session, from the handshake to its end."""

from __future__ import annotations

import math
from typing import Final

from gateway.errors import LimitExceeded, LinkDown, ProtocolError
from gateway.link import frames
from gateway.link.config import LinkConfig
from gateway.link.counters import Counters
from gateway.link.events import Cause, Ended, Event, Received
from gateway.link.hdlc import CRC_SIZE, encode, is_intact
from gateway.link.pace import Pace
from gateway.link.rtt import RoundTrip
from gateway.link.session import FrameKeys, Peer
from gateway.link.streams import Stream, Streams
from gateway.link.window import InFlight, ReceiveWindow, SendWindow

ACK_DELAY_S: Final = 0.02
"""An acknowledgement waits so long for a DATA frame that carries it."""
ACK_EVERY: Final = 2
"""But no longer than for so many DATA frames, and for none where either end has a window of less than twice as many."""
FIRST_TIMEOUT_S: Final = 0.3
FIRST_TIMEOUT_FRAMES: Final = 4
"""Before anything is known of the peer, an acknowledgement may take the sum of the two."""
SILENT_FRAMES: Final = 8
"""A peer on a slow line is not silent while it may still be sending one frame and have to answer another."""


class SessionOver(Exception):
    """The session can't go on."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause


class Exchange:
    """What begins anew with each session: numbers, keys, windows, streams and timers.

    `events` and `counters` are the link's. What raises SessionOver must not be called again.
    """

    def __init__(
        self, peer: Peer, nonce: int, config: LinkConfig, pace: Pace, counters: Counters, events: list[Event]
    ) -> None:
        nonces = (nonce, peer.nonce) if config.initiator else (peer.nonce, nonce)
        here, there = (b"i", b"r") if config.initiator else (b"r", b"i")
        self.peer = peer
        self._config = config
        self._pace = pace
        self._counters = counters
        self._events = events
        self._sending = FrameKeys(here, *nonces)
        self._receiving = FrameKeys(there, *nonces)
        self._tx = SendWindow(peer.window)
        self._rx = ReceiveWindow(config.window)
        self._rtt = RoundTrip(FIRST_TIMEOUT_S + FIRST_TIMEOUT_FRAMES * pace.frame_s)
        self._patient_until = -math.inf
        """No frame counts as late before."""
        self.streams = Streams(most=peer.streams, deflate=peer.deflate, limit=config.message, begun=config.begun)
        self._unacknowledged = 0
        # Whoever takes a frame at a time has room to send one at a time, most likely: it must not wait for us.
        self._ack_every = max(1, min(ACK_EVERY, config.window // 2, peer.window // 2))
        self._ack_at: float | None = None
        """When an ACK frame has to go at the latest; None: the peer knows all."""
        self._ack_tells_more = False
        """It has to be an ACK frame of its own: a DATA frame has no room for what it says."""
        self._dead_s = max(config.dead_s, SILENT_FRAMES * pace.frame_s)
        self._heard_at = self._polled_at = -math.inf
        self._poll_due = False

    # -- streams ----------------------------------------------------------------------------------------------------

    def open(self) -> int:
        """A free stream. Raises LimitExceeded."""
        number = self.streams.free_number()
        if number is None:
            raise LimitExceeded("connections", actual=self.streams.most + 1, allowed=self.streams.most)
        self.streams.add(number)
        return number

    def send(self, stream: int, message: bytes) -> None:
        """Queue a message. Raises LinkDown where the stream is not open, LimitExceeded if the peer can't take it."""
        found = self.streams.open.get(stream)
        if found is None or found.outgoing.ended:
            raise LinkDown(f"stream {stream} is closed")
        if len(message) > self.peer.message:
            raise LimitExceeded("frame", actual=len(message), allowed=self.peer.message)
        found.outgoing.put(message)
        self.streams.wake(stream)

    def end(self, stream: int, *, clear: bool) -> None:
        """Nothing more goes out on it; with `clear` nothing that is queued either, and what comes is thrown away."""
        found = self.streams.open.get(stream)
        if found is None:
            return
        if clear:
            found.outgoing.clear()
            self.streams.stop_listening(found)
        found.outgoing.ended = True
        if not found.sent_end:
            self.streams.wake(stream)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is queued, and all that was sent has arrived."""
        return not (self.streams.want_to_send or self._tx.in_flight)

    # -- what comes in ----------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """The peer has shown that it is in this session; it is told that we are too."""
        self._heard_at = self._polled_at = now
        self.answer(now)

    def answer(self, now: float) -> None:
        """Send an ACK frame at once."""
        self._ack_at, self._ack_tells_more = now, True

    def knows(self, frame: bytes) -> bool:
        """Whether this frame is intact and of this session."""
        return is_intact(frame, self._receiving.key(*self._numbers(frame)))

    def _numbers(self, frame: bytes) -> tuple[int, int]:
        """`(seq, ack)` of a frame counted without end, 0 where it has none."""
        kind = frame[0] & frames.KIND
        if kind == frames.DATA and len(frame) >= frames.DATA_HEADER + CRC_SIZE:
            return frames.near(frame[1], self._rx.expected), frames.near(frame[2], self._tx.base)
        if kind == frames.ACK and len(frame) > 2 + CRC_SIZE:
            return 0, frames.near(frame[1], self._tx.base)
        return 0, 0

    def data(self, frame: bytes, now: float, *, accepting: bool) -> None:
        """Take a DATA frame. Raises SessionOver for what no peer sends."""
        seq, ack = self._numbers(frame)
        if len(frame) < frames.DATA_HEADER + CRC_SIZE or not is_intact(frame, self._receiving.key(seq, ack)):
            self._counters.crc_errors += 1
            return
        self._heard(now)
        self._acknowledged(ack, b"", now)
        rx = self._rx
        if not rx.is_new(seq):
            self._counters.duplicates += 1
            self.answer(now)  # its acknowledgement was lost
        elif not accepting or not rx.fits(seq):
            self._counters.refused += 1
            self.answer(now)
        else:
            had_gap = rx.has_gap
            for flags, stream, payload in rx.add(seq, frames.fragment_of(frame[:-CRC_SIZE])):
                self._deliver(flags, stream, payload)
            self._unacknowledged += 1
            if had_gap or rx.has_gap or self._unacknowledged >= self._ack_every:
                self._ack_at, self._ack_tells_more = now, had_gap or rx.has_gap
            elif self._ack_at is None:
                self._ack_at = now + ACK_DELAY_S

    def _deliver(self, flags: int, number: int, payload: bytes) -> None:
        """Hand on a fragment that is in order."""
        stream = self._stream(number)
        if stream is None or stream.incoming.ended:
            return
        if not stream.incoming.deaf and (payload or flags & frames.LAST):
            try:
                message = self.streams.receive(stream, flags, payload)
            except (LimitExceeded, ProtocolError) as error:
                raise SessionOver(Cause.PROTOCOL, f"stream {number}: {error}") from None
            if message is not None:
                self._counters.messages_received += 1
                self._counters.payload_received += len(message)
                self._events.append(Received(number, message))
        if flags & frames.END:
            stream.incoming.ended = True
            if not stream.incoming.deaf:
                self._events.append(Ended(number))
                self.streams.stop_listening(stream)
            self.streams.forget_if_over(number)

    def _stream(self, number: int) -> Stream | None:
        """The stream, opened where the peer may do that; None for one that this end gave up."""
        stream = self.streams.open.get(number)
        if stream is not None or self._config.initiator:
            return stream
        if number >= self.streams.most:
            raise SessionOver(Cause.PROTOCOL, f"the peer opened stream {number} of {self.streams.most}")
        return self.streams.add(number)

    def ack(self, frame: bytes, now: float) -> None:
        """Take an ACK frame."""
        _, number = self._numbers(frame)
        if len(frame) < 3 + CRC_SIZE or not is_intact(frame, self._receiving.key(0, number)):
            self._counters.crc_errors += 1
            return
        self._heard(now)
        tx = self._tx
        if number >= tx.base:
            had_room, tx.room = tx.room, frame[2]
            if tx.room and not had_room:
                tx.lose_all()
        self._acknowledged(number, frame[3:-CRC_SIZE], now)
        if frame[0] & frames.POLL:
            self.answer(now)

    def _heard(self, now: float) -> None:
        self._counters.frames_received += 1
        self._heard_at = now

    def _acknowledged(self, number: int, bitmap: bytes, now: float) -> None:
        newest = self._tx.acknowledge(number, bitmap)
        if newest is not None and newest.times == 1:
            self._rtt.sample(now - newest.leaves_at)
            self._counters.rtt_s = self._rtt.smoothed_s

    # -- what goes out ----------------------------------------------------------------------------------------------

    def fill(self, out: list[bytes], now: float, *, accepting: bool) -> None:
        """Add the frames that have to go now. Raises SessionOver where one does not get through."""
        if self._ack_tells_more and self._ack_at is not None and now >= self._ack_at:
            self._append(out, self._ack_frame(accepting=accepting), now)
        tx, streams = self._tx, self.streams
        while tx.room and self._pace.ready_at <= now:
            frame = tx.take_lost()
            if frame is not None:
                self._counters.retransmissions += 1
                self._give_up_if_stuck(frame)
            elif tx.is_open and streams.want_to_send:
                frame = tx.add(*streams.fragment(self.peer.frame))
            else:
                break
            frame.leaves_at = self._append(out, self._data_frame(frame), now)
        if self._ack_at is not None and now >= self._ack_at:
            self._append(out, self._ack_frame(accepting=accepting), now)

    def _give_up_if_stuck(self, frame: InFlight) -> None:
        if frame.times > self._config.attempts:
            raise SessionOver(
                Cause.STUCK,
                f"a frame of {len(frame.payload)} bytes was sent {frame.times - 1} times without arriving;"
                " the line may be too noisy for frames of this size",
            )

    def _append(self, out: list[bytes], frame: bytes, now: float) -> float:
        out.append(frame)
        self._counters.frames_sent += 1
        return self._pace.send(len(frame), now)

    def _data_frame(self, frame: InFlight) -> bytes:
        expected = self._rx.expected
        content = frames.data(frame.flags, frame.seq, expected, frame.stream, frame.payload)
        self._ack_at, self._unacknowledged = None, 0
        return encode(content, self._sending.key(frame.seq, expected))

    def _ack_frame(self, *, accepting: bool) -> bytes:
        flags, self._poll_due = (frames.POLL if self._poll_due else 0), False
        self._ack_at, self._ack_tells_more, self._unacknowledged = None, False, 0
        expected = self._rx.expected
        content = frames.ack(flags, expected, self._config.window if accepting else 0, self._rx.bitmap())
        return encode(content, self._sending.key(0, expected))

    def close_frame(self) -> bytes:
        """The CLOSE frame of this session."""
        return encode(frames.close(), self._sending.key())

    # -- timers -----------------------------------------------------------------------------------------------------

    def run_timers(self, now: float) -> None:
        """Do what is due. Raises SessionOver where the peer was silent for too long."""
        if now >= self._heard_at + self._dead_s:
            raise SessionOver(Cause.SILENT, f"the peer was silent for {self._dead_s:g} s")
        oldest = self._tx.oldest if self._tx.room else None
        if oldest is not None and now >= self._timeout_at(oldest):
            self._patient_until = now + self._rtt.timeout_s
            self._tx.expire(oldest)
            self._rtt.back_off()
        if now >= self._poll_time:
            self._polled_at = now
            self._poll_due = True
            self.answer(now)

    def deadlines(self) -> list[float]:
        """When something is due."""
        tx = self._tx
        times = [self._heard_at + self._dead_s, self._poll_time]
        if self._ack_at is not None:
            times.append(self._ack_at)
        if tx.room:
            if tx.has_lost or (tx.is_open and self.streams.want_to_send):
                times.append(self._pace.ready_at)
            oldest = tx.oldest
            if oldest is not None:
                times.append(self._timeout_at(oldest))
        return times

    def _timeout_at(self, oldest: InFlight) -> float:
        """When the frame that was sent first counts as lost. After one timeout the others get as long again."""
        return max(oldest.leaves_at + self._rtt.timeout_s, self._patient_until)

    @property
    def _poll_time(self) -> float:
        """When to ask the peer for an answer: it was silent for long, or it told us to wait and may take more now."""
        quiet = max(self._heard_at, self._polled_at) + self._config.keepalive_s
        if self._tx.room or self.is_idle:
            return quiet
        return min(quiet, self._polled_at + self._rtt.timeout_s)
