"""The reliable serial link, the end that serves: docs/reference/serial-link.md says what is on the line."""

import binascii

HELLO, DATA, ACK, CLOSE = 0x10, 0x20, 0x30, 0x40
LAST, END, NUMBERED, POLL = 1, 2, 4, 1
ESCAPED = (0x7D, 0x7E, 0x11, 0x13)
SILENT_MS = 4000
POLL_MS = 1000
RESEND_MS = 150
ACK_MS = 20
QUIET_MS = 20


def near(low, reference):
    """The number with these low bits that is nearest to `reference`."""
    return reference + (low - reference + 128) % 256 - 128


class Link:
    """Bytes in, messages out, and back. `now` is a clock in milliseconds that never goes back; `nonce()` gives a number
    that was not used before. `frame` 16 to 1024 bytes, `window` 1 to 4 of them, `message` bytes of the longest request.
    """

    def __init__(self, nonce, frame=128, window=4, message=1024, poll_ms=POLL_MS):
        self.nonce, self.frame, self.window, self.message, self.poll_ms = nonce, frame, window, message, poll_ms
        self.coming = bytearray()
        self.escaped = self.too_long = False
        self.out = bytearray()
        self.wrote_at = self.heard_at = None
        self.over = False
        self.inbox = []
        self.begin(0)
        self.over = False

    def begin(self, now):
        """Forget the session, and ask for another one."""
        self.over = True
        self.mine, self.theirs, self.open = self.nonce(), 0, False
        self.hello_at, self.pause = now, 100
        self.answers, self.slots, self.begun, self.inbox = [], {}, bytearray(), []

    def prepare(self, theirs):
        self.theirs = theirs
        nonces = theirs.to_bytes(4, "big") + self.mine.to_bytes(4, "big")
        self.key_out, self.key_in = binascii.crc32(b"r" + nonces), binascii.crc32(b"i" + nonces)
        self.expected = self.first = self.next = 0
        self.answers, self.slots, self.begun, self.inbox = [], {}, bytearray(), []
        self.ended = self.full = self.polls = False
        self.room, self.ack_at, self.fresh = 127, None, 0

    def enter(self, now):
        self.open, self.hello_at, self.heard_at, self.polled_at = True, None, now, now
        self.ack_at = now

    # -- bytes ------------------------------------------------------------------------------------------------------

    def receive(self, data, now):
        """Take bytes from the line. Messages that are whole are in `inbox`."""
        coming = self.coming
        for byte in data:
            if byte == 0x7E:
                if len(coming) > 4 and not self.too_long:
                    self.take(bytes(coming), now)
                coming = self.coming = bytearray()
                self.escaped = self.too_long = False
            elif byte == 0x7D:
                self.escaped = True
            elif len(coming) < max(self.frame, 32) + 4:
                coming.append(byte ^ 0x20 if self.escaped else byte)
                self.escaped = False
            else:
                self.too_long = True

    def write(self, content, key, now):
        out = self.out
        if self.wrote_at is None or now - self.wrote_at >= QUIET_MS:
            out.append(0x7E)
        for byte in content + binascii.crc32(content, key).to_bytes(4, "little"):
            if byte in ESCAPED:
                out.append(0x7D)
                byte ^= 0x20
            out.append(byte)
        out.append(0x7E)
        self.wrote_at = now

    def key(self, session, seq, ack):
        upper = (seq >> 8 & 0xFFFFFFFF).to_bytes(4, "big") + (ack >> 8 & 0xFFFFFFFF).to_bytes(4, "big")
        return binascii.crc32(upper, session)

    # -- frames -----------------------------------------------------------------------------------------------------

    def take(self, frame, now):
        content, crc = frame[:-4], int.from_bytes(frame[-4:], "little")
        kind, flags, size = content[0] & 0xF0, content[0] & 0x0F, len(content)
        if kind == HELLO:
            if size >= 20 and binascii.crc32(content) == crc:
                self.take_hello(content, now)
            return
        if not self.theirs or size > self.frame or (kind in (DATA, ACK) and size < 3):
            return
        seq = near(content[1], self.expected) if kind == DATA else 0
        ack = near(content[2 if kind == DATA else 1], self.first) if kind in (DATA, ACK) else 0
        if seq < 0 or ack < 0 or binascii.crc32(content, self.key(self.key_in, seq, ack)) != crc:
            return
        if not self.open and kind in (DATA, ACK):
            self.enter(now)
        self.heard_at = now
        if kind == CLOSE:
            if self.open:
                self.begin(now)
        elif kind == ACK:
            self.take_room(ack, content, now)
            if flags & POLL:
                self.ack_at = now
        elif kind == DATA:
            self.take_ack(ack)
            self.take_data(flags, seq, content, now)

    def take_hello(self, hello, now):
        theirs, seen = int.from_bytes(hello[3:7], "big"), int.from_bytes(hello[7:11], "big")
        frame, window, deflate = int.from_bytes(hello[11:13], "big"), hello[13], hello[19]
        if not hello[1] or hello[2] != 1 or not theirs or frame < 16 or not 1 <= window <= 127 or not hello[14]:
            return
        if not any(hello[15:19]) or not (deflate == 0 or 9 <= deflate <= 15):
            return
        if self.open and theirs == self.theirs and seen == self.mine:
            self.ack_at = now
            return
        if self.open and theirs != self.theirs and seen in (0, self.mine):
            self.begin(now)
        if self.open:
            if self.hello_at is None:
                self.hello_at = now + 100
            return
        if theirs != self.theirs:
            self.prepare(theirs)
        self.payload, self.peer_window = min(frame, self.frame) - 3, min(window, self.window)
        if seen == self.mine:
            self.enter(now)
        else:
            self.hello_at = now

    def take_ack(self, ack):
        if self.first < ack <= self.next:
            for number in range(self.first, ack):
                del self.slots[number]
            self.first = ack

    def take_room(self, ack, content, now):
        if ack < self.first or ack > self.next:
            return
        self.take_ack(ack)
        if any(content[3:]) and self.first in self.slots and self.slots[self.first][3] == 1:
            self.slots[self.first][2] = None
        if not self.room and content[2]:
            for slot in self.slots.values():
                slot[2] = None
        self.room = content[2]

    def take_data(self, flags, seq, content, now):
        header = 4 if flags & NUMBERED else 3
        if len(content) < header or (header == 4 and content[3]):
            self.begin(now)
        elif seq != self.expected or len(self.inbox) >= 2:
            self.ack_at = now
        else:
            self.begun.extend(content[header:])
            if len(self.begun) > self.message:
                self.begin(now)
                return
            self.expected += 1
            self.fresh += 1
            if flags & LAST:
                self.inbox.append(bytes(self.begun))
                self.begun = bytearray()
            if flags & END:
                self.begun, self.ended = bytearray(), True
            if min(self.peer_window, self.window) < 4 or self.fresh > 1:
                self.ack_at = now
            elif self.ack_at is None:
                self.ack_at = now + ACK_MS

    # -- time -------------------------------------------------------------------------------------------------------

    def send(self, message):
        """Send a message when its turn has come."""
        self.answers.append(message)

    def output(self, now):
        """The bytes to be written now."""
        if self.open and now - self.heard_at >= SILENT_MS:
            self.begin(now)
        if self.hello_at is not None and now >= self.hello_at:
            self.say_hello(now)
        if self.open:
            self.send_frames(now)
        out, self.out = self.out, bytearray()
        return out

    def say_hello(self, now):
        numbers = self.mine.to_bytes(4, "big") + self.theirs.to_bytes(4, "big") + self.frame.to_bytes(2, "big")
        tail = bytes((self.window, 1)) + self.message.to_bytes(4, "big") + b"\x00"
        self.write(b"\x10\x01\x00" + numbers + tail, 0, now)
        self.hello_at = None if self.open else now + self.pause
        self.pause = min(2 * self.pause, 1000)

    def fill(self):
        """Cut the answers into frames, as far as there is place for them."""
        while len(self.slots) < self.window and (self.answers or (self.ended and not self.inbox)):
            flags, fragment = 0, b""
            if self.answers:
                fragment, rest = self.answers[0][: self.payload], self.answers[0][self.payload :]
                if rest:
                    self.answers[0] = rest
                else:
                    del self.answers[0]
                    flags = LAST
            if self.ended and not self.answers and not self.inbox:
                flags |= END
                self.ended = False
            self.slots[self.first + len(self.slots)] = [flags, fragment, None, 0]

    def send_frames(self, now):
        self.fill()
        most = min(self.room, self.peer_window)
        for number in range(self.first, self.first + min(len(self.slots), most)):
            slot = self.slots[number]
            if slot[2] is not None and now - slot[2] < RESEND_MS:
                continue
            if slot[3] >= 40:
                self.begin(now)
                return
            slot[2] = now
            slot[3] += 1
            self.next = max(self.next, number + 1)
            head = bytes((DATA | slot[0], number & 255, self.expected & 255))
            self.write(head + slot[1], self.key(self.key_out, number, self.expected), now)
            if not self.full:
                self.ack_at, self.fresh = None, 0
        if now - max(self.heard_at, self.polled_at) >= self.poll_ms:
            self.polled_at, self.polls, self.ack_at = now, True, now
        if self.full and len(self.inbox) < 2:
            self.ack_at = now
        if self.ack_at is not None and now >= self.ack_at:
            self.full = len(self.inbox) >= 2
            content = bytes((ACK | (POLL if self.polls else 0), self.expected & 255, 0 if self.full else self.window))
            self.write(content, self.key(self.key_out, 0, self.expected), now)
            self.ack_at, self.polls, self.fresh = None, False, 0
