"""The smallest peer that keeps to docs/reference/serial-link.md, written from that page alone, as firmware would be.

One frame at a time each way, 64-byte frames, no deflate, one stream; it serves, so it opens nothing. `on_message` gets
each message and returns the answer, or None for none. Memory: one frame to send, one to read, one message each way.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

FRAME, MESSAGE = 64, 4096
HELLO, DATA, ACK, CLOSE = 0x10, 0x20, 0x30, 0x40
LAST, END, NUMBERED, POLL = 1, 2, 4, 1
HELLO_EVERY_S, DEAD_S, POLL_S, RESEND_S = 0.5, 4.0, 1.0, 0.3
ESCAPED = (0x7D, 0x7E, 0x11, 0x13)


class SmallPeer:
    """Call `receive` for what comes and `output` often: it gives the bytes to write."""

    def __init__(self, nonce: Callable[[], int], on_message: Callable[[bytes], bytes | None]) -> None:
        self.nonce, self.on_message = nonce, on_message
        self.line: bytearray | None = bytearray()  # the frame that is coming, None while one too long is skipped
        self.escaped = False
        self.out = bytearray(b"\x7e")
        self.sessions = 0
        self.begin()

    def begin(self) -> None:
        """Forget the session, and ask for another one."""
        self.mine, self.theirs, self.open = self.nonce(), 0, False
        self.hello_at: float | None = 0.0

    def meet(self, theirs: int, their_frame: int) -> None:
        if theirs != self.theirs:
            self.theirs, self.size = theirs, min(their_frame, FRAME) - 3
            nonces = theirs.to_bytes(4, "big") + self.mine.to_bytes(4, "big")  # the initiator's is first
            self.key_out, self.key_in = zlib.crc32(b"r" + nonces), zlib.crc32(b"i" + nonces)
            self.seq = self.expected = 0
            self.flying: tuple[int, bytes] | None = None
            self.answers: list[bytes] = []
            self.begun, self.ended, self.room = b"", False, True

    def enter(self, now: float) -> None:
        self.open, self.hello_at, self.heard_at, self.polled_at = True, None, now, now
        self.sessions += 1
        self.write_ack()

    # -- bytes ------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        for byte in data:
            if byte == 0x7E:
                if self.line:
                    self.take(bytes(self.line), now)
                self.line, self.escaped = bytearray(), False
            elif self.line is not None and byte == 0x7D:
                self.escaped = True
            elif self.line is not None:
                self.line.append(byte ^ 0x20 if self.escaped else byte)
                self.escaped = False
                if len(self.line) > FRAME + 4:
                    self.line = None

    def write(self, content: bytes, key: int) -> None:
        for byte in content + zlib.crc32(content, key).to_bytes(4, "little"):
            self.out += bytes((0x7D, byte ^ 0x20)) if byte in ESCAPED else bytes((byte,))
        self.out.append(0x7E)

    @staticmethod
    def key(session: int, seq: int, ack: int) -> int:
        upper = [(number >> 8 & 0xFFFFFFFF).to_bytes(4, "big") for number in (seq, ack)]
        return zlib.crc32(upper[0] + upper[1], session)

    @staticmethod
    def near(low: int, reference: int) -> int:
        return reference + (low - reference + 128) % 256 - 128

    # -- frames -----------------------------------------------------------------------------------------------------

    def take(self, frame: bytes, now: float) -> None:
        content, crc = frame[:-4], int.from_bytes(frame[-4:], "little")
        if not content:
            return
        kind, flags = content[0] & 0xF0, content[0] & 0x0F
        if kind == HELLO and len(content) >= 20 and zlib.crc32(content) == crc:
            self.take_hello(content, now)
            return
        if not self.theirs:
            return
        seq = self.near(content[1], self.expected) if kind == DATA and len(content) > 2 else 0
        ack = self.near(content[2 if kind == DATA else 1], self.seq) if kind in (DATA, ACK) and len(content) > 2 else 0
        if zlib.crc32(content, self.key(self.key_in, seq, ack)) != crc:
            return
        if not self.open and kind in (DATA, ACK):
            self.enter(now)
        self.heard_at = now
        if kind == CLOSE:
            self.begin()
        elif kind == ACK and len(content) > 2:
            self.take_ack(ack)
            self.room = content[2] > 0
            if flags & POLL:
                self.write_ack()
        elif kind == DATA and len(content) > 2:
            self.take_ack(ack)
            if seq == self.expected:
                self.expected += 1
                self.take_fragment(flags, content[4:] if flags & NUMBERED else content[3:])
            self.write_ack()

    def take_hello(self, content: bytes, now: float) -> None:
        role, theirs, seen = content[2], int.from_bytes(content[3:7], "big"), int.from_bytes(content[7:11], "big")
        if role != 1 or not theirs:
            return
        if self.open and theirs == self.theirs and seen == self.mine:
            self.write_ack()
            return
        if self.open and theirs != self.theirs and seen in (0, self.mine):
            self.begin()
        if not self.open:
            self.meet(theirs, int.from_bytes(content[11:13], "big"))
            if seen == self.mine:
                self.enter(now)
                return
            self.hello_at = now
        elif self.hello_at is None:
            self.hello_at = now + 0.1

    def take_ack(self, ack: int) -> None:
        if self.flying and ack == self.seq + 1:
            self.seq, self.flying = ack, None

    def take_fragment(self, flags: int, payload: bytes) -> None:
        self.begun = (self.begun + payload)[: MESSAGE + 1]
        if flags & LAST:
            message, self.begun = self.begun, b""
            answer = self.on_message(message)
            if answer is not None:
                self.answers.append(answer)
        if flags & END:
            self.begun, self.ended = b"", True

    def write_ack(self, flags: int = 0) -> None:
        content = bytes((ACK | flags, self.expected & 0xFF, 1))
        self.write(content, self.key(self.key_out, 0, self.expected))

    # -- time -------------------------------------------------------------------------------------------------------

    def output(self, now: float) -> bytes:
        if self.open and now >= self.heard_at + DEAD_S:
            self.begin()
        if self.hello_at is not None and now >= self.hello_at:
            self.hello_at = None if self.open else now + HELLO_EVERY_S
            numbers = self.mine.to_bytes(4, "big") + self.theirs.to_bytes(4, "big") + FRAME.to_bytes(2, "big")
            self.write(b"\x10\x01\x00" + numbers + b"\x01\x01" + MESSAGE.to_bytes(4, "big") + b"\x00", 0)
        if self.open:
            if now >= max(self.heard_at, self.polled_at) + POLL_S:
                self.polled_at = now
                self.write_ack(POLL)
            self.send(now)
        out, self.out = bytes(self.out), bytearray()
        return out

    def send(self, now: float) -> None:
        if self.flying is None and self.answers and self.room:
            fragment, rest = self.answers[0][: self.size], self.answers[0][self.size :]
            self.answers[:1] = [rest] if rest else []
            last = 0 if rest else LAST
            if self.ended and not self.answers:
                last, self.ended = LAST | END, False
            self.flying, self.resend_at = (last, fragment), now
        elif self.flying is None and self.ended and not self.answers:
            self.flying, self.ended, self.resend_at = (END, b""), False, now
        if self.flying and now >= self.resend_at:
            self.resend_at = now + RESEND_S
            flags, payload = self.flying
            content = bytes((DATA | flags, self.seq & 0xFF, self.expected & 0xFF)) + payload
            self.write(content, self.key(self.key_out, self.seq, self.expected))
