"""A SCPI instrument on a serial line or by USBTMC: what all drivers of such instruments share.

After everything that was sent, the instrument's error queue is read back, and what it holds is raised as `DeviceError`
with the first entry as `number` and `text`, and all of them as `entries`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Final, Literal, TypeVar

from msgspec import Meta

from devices import scpi
from devices.base import Device
from devices.instrument_line import InstrumentLine
from devices.line import LineOptions, SerialLine
from devices.message_exchange import MAX_QUEUE, MAX_TEXT, MessageExchange
from gateway.errors import CallTimeout, DeviceError, DeviceUnavailable, GatewayError, OutcomeUnknown
from gateway.service.exposure import exposed

RESOURCE: Final = r"usbtmc://[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}(/[!-~]{1,126})?"
DIAGNOSIS_S: Final = 1.0
"""How long an instrument that did not answer is asked for the reason, at most."""

T = TypeVar("T")


class ScpiOptions(LineOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of every SCPI instrument: on a serial `port`, or a USBTMC `resource`."""

    port: Annotated[str, Meta(max_length=4096)] = ""
    """Path of the serial port. Prefer a name under /dev/serial/by-id: it survives replugging."""
    resource: Annotated[str, Meta(max_length=200)] | None = None
    """Of an instrument on USB, instead of a port: `usbtmc://VID:PID/SERIAL`; the serial number may be left out."""
    terminator: Literal["\n", "\r\n", "\r"] = "\n"
    """What ends a message, in both directions."""
    check_errors: bool = True
    """Read `SYST:ERR?` back after each message. Off only for an instrument that does not know it."""

    def __post_init__(self) -> None:
        if self.port and self.resource is not None:
            raise ValueError("'port' and 'resource' both say where the device is; keep one of them")
        if not self.port and self.resource is None:
            raise ValueError("missing key 'port', or 'resource' for an instrument on USB")
        if self.resource is not None and not re.fullmatch(RESOURCE, self.resource):
            raise ValueError(f"'resource' must be such as usbtmc://0957:0588/MY53001234, not {self.resource!r:.80}")


class ScpiInstrument(Device):
    """Base of the drivers of SCPI instruments.

    No method that takes a message is exposed: a client has the driver's own members only, and so can't get round their
    limits. Messages are built by the driver from fixed words and checked numbers.
    """

    Options = ScpiOptions
    options: ScpiOptions

    def __init__(self, name: str, options: ScpiOptions) -> None:
        super().__init__(name, options)
        terminator = options.terminator.encode("ascii")
        self._line: InstrumentLine
        if options.resource is None:
            self._line = SerialLine(options, terminator=terminator)
        else:
            from devices.usbtmc import UsbTmcLine  # and with it libusb, which few need

            self._line = UsbTmcLine(options.resource, options.timeout_s, terminator=terminator)
        self._exchange = MessageExchange(self._line, terminator=terminator, timeout_s=options.timeout_s)
        # The gateway calls one at a time; a script that uses a driver without a gateway may have threads of its own.
        self._lock = threading.RLock()
        self._known_identity: str | None = None

    def interrupt(self, error: Exception) -> None:
        self._line.interrupt(error)

    def resume(self) -> None:
        self._line.resume()

    @exposed(access="read")
    def identify(self) -> str:
        """The instrument's answer to `*IDN?`: manufacturer, model, serial number and firmware between commas."""
        return self.query("*IDN?")

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._known_identity = None

    def command(self, *messages: str) -> None:
        """Send messages that have no answer, in order, then read the error queue.

        Raises DeviceError with what the instrument reports; DeviceUnavailable when the port is gone and nothing was
        sent; OutcomeUnknown when it vanished afterwards, so that the instrument may have obeyed or not.
        """
        self._command("; ".join(messages), *(_encode(message) for message in messages))

    def command_block(self, header: str, data: bytes) -> None:
        """Send `header`, a space and `data` as a definite-length block. Raises as `command`."""
        self._command(header, _encode(header) + b" " + scpi.encode_block(data))

    def query(self, message: str, *, timeout_s: float | None = None, max_bytes: int = MAX_TEXT) -> str:
        """Send `message` and return its answer; nothing comes between the two. Then read the error queue.

        `timeout_s` is the device's option when it is None. Raises DeviceError with what the instrument reports, or when
        the answer is not a text; CallTimeout when none came; DeviceUnavailable when the port is gone.
        """
        return self._query(message, lambda: self._exchange.read_text(self._timeout(timeout_s), max_bytes))

    def query_number(self, message: str) -> float:
        """As `query`, for an answer that is one number; `inf` on overload."""
        return self.parse(message, scpi.parse_number, self.query(message))

    def query_boolean(self, message: str) -> bool:
        """As `query`, for an answer that is a boolean."""
        return self.parse(message, scpi.parse_boolean, self.query(message))

    def query_string(self, message: str) -> str:
        """As `query`, for an answer in quotes, which are taken off."""
        return self.parse(message, scpi.parse_string, self.query(message))

    def query_block(self, message: str, *, max_bytes: int, timeout_s: float | None = None) -> bytes:
        """As `query`, for an answer that is an IEEE 488.2 block of either kind with at most `max_bytes` of data."""
        return self._query(message, lambda: self._exchange.read_block(self._timeout(timeout_s), max_bytes))

    def parse(self, message: str, parser: Callable[[str], T], answer: str) -> T:
        """What `parser` makes of the answer to `message`; its ValueError becomes a DeviceError."""
        try:
            return parser(answer)
        except ValueError as wrong:
            raise DeviceError(
                f"{self.name} answered {message} with something else: {wrong}",
                device=self.name,
                number=None,
                text=answer[:80],
            ) from wrong

    def _connect(self) -> None:
        try:
            identity = self._exchange.open()
        except (CallTimeout, DeviceError) as strange:
            raise DeviceUnavailable(f"{self.name} does not say who it is: {strange}", device=self.name) from strange
        if self._known_identity not in (None, identity):
            raise DeviceUnavailable(
                f"{self.name}: {identity!r} answers on {self._line.port} where {self._known_identity!r} was; plug that "
                "one in, or close and open the device to use this one",
                device=self.name,
            )
        self._known_identity = identity
        # Errors from before we came are not the fault of the first call.
        self._exchange.tell(b"*CLS")

    def _disconnect(self) -> None:
        self._exchange.close()

    def _command_at_once(self, *messages: str) -> list[scpi.QueueEntry]:
        """Send before anything else, also while an answer is still due; return the error queue instead of raising it.

        For `make_safe`: there the state that is read back afterwards decides.
        """
        with self._lock, self._reaching():
            self._exchange.tell_at_once(*(_encode(message) for message in messages))
            return self._exchange.read_queue() if self.options.check_errors else []

    def _command(self, shown: str, *messages: bytes) -> None:
        with self._lock, self._reaching():
            self._exchange.tell(*messages)
            try:
                self._raise_queue(shown)
            except GatewayError as lost:
                interrupted = bool(lost.facts.get("interrupted"))
                if not interrupted and not isinstance(lost, DeviceUnavailable):
                    raise
                raise OutcomeUnknown(
                    f"{self.name} may or may not have obeyed {shown}: {lost}",
                    device=self.name,
                    interrupted=interrupted,
                ) from lost

    def _query(self, message: str, receive: Callable[[], T]) -> T:
        with self._lock, self._reaching():
            try:
                answer = self._exchange.ask(_encode(message), receive)
            except CallTimeout:
                self._explain_silence(message)
                raise
            self._raise_queue(message)
            return answer

    def _explain_silence(self, message: str) -> None:
        """Raise the error for which the instrument gave no answer, if it can say so."""
        with suppress(CallTimeout):
            self._exchange.get_in_step(min(DIAGNOSIS_S, self.options.timeout_s))
            self._raise_queue(message)

    def _raise_queue(self, message: str) -> None:
        if not self.options.check_errors:
            return
        entries = self._exchange.read_queue()
        if entries:
            more = " (and more, cleared)" if len(entries) == MAX_QUEUE else ""
            shown = ", ".join(map(str, entries))
            raise DeviceError(
                f"{self.name} reports {shown}{more} after {message}",
                device=self.name,
                number=entries[0].number,
                text=entries[0].text,
                entries=tuple(tuple(entry) for entry in entries),
            )

    def _timeout(self, timeout_s: float | None) -> float:
        return self.options.timeout_s if timeout_s is None else timeout_s


def _encode(message: str) -> bytes:
    if not message.isascii() or not message.isprintable():
        raise ValueError(f"{message!r} is not one SCPI message")
    return message.encode("ascii")
