"""Message exchange (IEEE 488.2, chapter 6) with one instrument over a line: one message out, its answer in.

When an answer does not come, is damaged or too long, the two ends may be out of step: what comes next may be the late
answer and must not be taken for the next one. So the next exchange first asks `*IDN?` and drops all that comes before
the answer that is known since `open`: an instrument answers in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from devices import scpi
from devices.instrument_line import InstrumentLine
from gateway.errors import CallTimeout, DeviceError

MAX_TEXT: Final = 64 * 1024
"""Bytes of one answer in text, unless the caller expects more."""
MAX_QUEUE: Final = 32
"""Entries read from an error queue before it is cleared."""
MAX_LATE_LINES: Final = 32
"""Lines dropped while looking for the answer to `*IDN?`."""
IDENTITY_ATTEMPTS: Final = 3
QUIET_S: Final = 0.05
"""Silence for so long ends an indefinite block, and shows that no answer to somebody before us is due."""
IDENTIFY: Final = b"*IDN?"

T = TypeVar("T")
R = TypeVar("R")


class MessageExchange:
    """Tells and asks. The errors of the line pass through; texts that are not SCPI raise DeviceError."""

    def __init__(self, line: InstrumentLine, *, terminator: bytes, timeout_s: float) -> None:
        self._line = line
        self._terminator = terminator
        self._timeout_s = timeout_s
        self._identity = b""
        self._in_step = False
        self._identities_due = 0

    def open(self) -> str:
        """Open the line and return what the instrument says it is."""
        self._line.open()
        self._in_step = False
        self._identity = self._learn_identity()
        self._in_step, self._identities_due = True, 0
        return self._identity.decode("ascii")

    def close(self) -> None:
        self._line.close()

    def tell(self, *messages: bytes) -> None:
        """Send messages that have no answer, one after the other."""
        self.get_in_step(self._timeout_s)
        self._in_step = False
        self._send(*messages)
        self._in_step = True

    def tell_at_once(self, *messages: bytes) -> None:
        """As `tell`, but before anything else: for what must not wait until both ends are in step."""
        # The empty message ends what a write that broke off may have left in the instrument's parser.
        self._send(b"", *messages)

    def ask(self, message: bytes, receive: Callable[[], T]) -> T:
        """Send a query and return what `receive` makes of its answer."""
        self.get_in_step(self._timeout_s)
        self._in_step = False
        self._identities_due = int(message == IDENTIFY)
        self._send(message)
        answer = receive()
        self._in_step, self._identities_due = True, 0
        return answer

    def ask_text(self, message: bytes) -> str:
        """Send a query whose answer is a line of text."""
        return self.ask(message, lambda: self.read_text(self._timeout_s, MAX_TEXT))

    def read_text(self, timeout_s: float, max_bytes: int) -> str:
        """One line of ASCII text without its end."""
        return self._text(self._line.read_line(timeout_s=timeout_s, max_bytes=max_bytes).rstrip(b"\r\n"))

    def read_block(self, timeout_s: float, max_bytes: int) -> bytes:
        """The data of one block of either kind.

        An indefinite block on a serial line has no other end than its terminator and the silence after it.
        """
        digits = self._parse(scpi.block_digits, self._line.read_exactly(2, timeout_s=timeout_s))
        if digits == 0:
            return self._line.read_until_quiet(timeout_s=timeout_s, quiet_s=QUIET_S, max_bytes=max_bytes)
        length = self._parse(scpi.block_length, self._line.read_exactly(digits, timeout_s=self._timeout_s))
        if length > max_bytes:
            raise DeviceError(
                f"{self._line.port}: a block of {length} bytes was announced where at most {max_bytes} were due",
                number=None,
                text=f"#{digits}{length}",
            )
        allowed_s = self._timeout_s + 2 * self._line.transfer_s(length)
        data = self._line.read_exactly(length, timeout_s=allowed_s)
        rest = self._line.read_line(timeout_s=self._timeout_s, max_bytes=1)
        if rest.strip(b"\r"):
            raise DeviceError(f"{self._line.port}: {rest!r} follows a block instead of its end", number=None, text="")
        return data

    def read_queue(self) -> list[scpi.QueueEntry]:
        """Empty the error queue. After `MAX_QUEUE` entries the rest is cleared unread."""
        entries: list[scpi.QueueEntry] = []
        while len(entries) < MAX_QUEUE:
            answer = self.ask_text(b"SYST:ERR?")
            entry = self._parse(scpi.parse_queue_entry, answer)
            if entry.number == 0:
                return entries
            entries.append(entry)
        self._send(b"*CLS")
        return entries

    def get_in_step(self, timeout_s: float) -> None:
        """See that the next thing that comes in will be the next answer. Raises CallTimeout when that can't be had."""
        if self._in_step:
            return
        self._line.discard_input()
        self._send(b"", IDENTIFY)
        # An earlier *IDN? may still be answered too: only the last answer is ours.
        self._identities_due = min(self._identities_due + 1, MAX_LATE_LINES)
        answered = False
        for _ in range(MAX_LATE_LINES):
            try:
                line = self._line.read_line(timeout_s=timeout_s, max_bytes=MAX_TEXT)
            except CallTimeout:
                if not answered:
                    raise
                self._identities_due = 0
            else:
                if line.rstrip(b"\r\n").endswith(self._identity):
                    answered = True
                    self._identities_due -= 1
            if self._identities_due == 0:
                self._in_step = True
                return
        raise DeviceError(f"{self._line.port}: it talks on without an answer to *IDN?", number=None, text="")

    def _learn_identity(self) -> bytes:
        # What comes first may be for somebody before us: of all that comes until it is silent, the last line is the
        # answer. To be sure it must say the same once more.
        for _ in range(IDENTITY_ATTEMPTS):
            self._send(b"", IDENTIFY)
            said = self._line.read_until_quiet(timeout_s=self._timeout_s, quiet_s=QUIET_S, max_bytes=MAX_TEXT)
            identity = said.rpartition(self._terminator)[2].rstrip(b"\r\n")
            self._send(IDENTIFY)
            if self._line.read_line(timeout_s=self._timeout_s, max_bytes=MAX_TEXT).rstrip(b"\r\n") == identity:
                self._parse(scpi.parse_identity, self._text(identity))
                return identity
        shown = identity[:80].decode("ascii", "backslashreplace")
        raise DeviceError(
            f"{self._line.port}: each answer to *IDN? is different, the last was {shown!r}", number=None, text=shown
        )

    def _text(self, line: bytes) -> str:
        if not line.isascii():
            shown = line[:40].decode("ascii", "backslashreplace")
            raise DeviceError(f"{self._line.port}: {shown!r} is not ASCII; check `baudrate`", number=None, text=shown)
        return line.decode("ascii")

    def _send(self, *messages: bytes) -> None:
        self._line.write(b"".join(message + self._terminator for message in messages))

    def _parse(self, parse: Callable[[T], R], answer: T) -> R:
        try:
            return parse(answer)
        except ValueError as wrong:
            self._in_step = False
            raise DeviceError(f"{self._line.port}: {wrong}", number=None, text=str(answer)[:80]) from wrong
