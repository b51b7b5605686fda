"""UsbStream: the bytes of an RPyC function, as the host that it is plugged into sees them."""

from __future__ import annotations

import array
import contextlib
import errno
import secrets
import threading
from functools import partial
from queue import SimpleQueue
from typing import Final

import usb.core

from gateway.channels import usb_session as session
from gateway.channels.inbox import Inbox
from gateway.channels.stream import Stream
from gateway.channels.usb_devices import ADVICE, Function
from gateway.errors import ConfigError, GatewayError, LinkDown, Unreachable
from gateway.protocol.framing import HEARTBEAT, Message
from gateway.usb.finding import usb_error, usb_lost

CLOSE_MS: Final = 50
"""Saying goodbye to a device may take so long."""
LEAVE_S: Final = 0.1
"""`close` waits so long for the thread that reads."""
BEAT_MS: Final = 50
"""A heartbeat that the device does not take within this time is not sent: there is another one soon."""
LENT: Final = session.LARGE // 2
"""So many bytes are not copied but lent; fewer are not worth the buffer that is full of them."""
FOREVER: Final = 0
"""libusb's timeout for a read that waits: one that runs out could lose what comes just then."""


class UsbStream(Stream):
    """Takes over `function`, and begins a session with it. A thread reads: libusb has no descriptor to wait on.

    Raises Unreachable where the device does not answer within `timeout` seconds, ConfigError where it has no such
    function.
    """

    def __init__(self, function: Function, timeout: float) -> None:
        self._function = function
        self._inbox = Inbox()
        self._writing = threading.Lock()
        self._holding = threading.RLock()
        """Held by whoever closes the device, or says goodbye to it."""
        self._closed = self._gone = False
        nonce = secrets.token_bytes(session.NONCE)
        try:
            function.say(session.OPEN, session.VERSION, nonce, timeout_ms=max(1, int(timeout * 1000)))
            # The device ended its last session by halting. Not before OPEN, or it could do so afterwards.
            for endpoint in (function.coming, function.going):
                function.device.clear_halt(endpoint)
            function.device.write(function.going, session.marker(nonce), max(1, int(timeout * 1000)))
        except usb.core.USBError as error:
            failure: GatewayError = ConfigError(f"{function.name} has no RPyC function; {ADVICE}")
            if error.errno != errno.EPIPE:
                failure = usb_error(function.name.removeprefix("the USB device "), error, function.device)
            function.close()
            raise failure from None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._read_all, args=(nonce,), name=f"read {function.name}", daemon=True)
        self._thread.start()
        if not self._begun.wait(timeout):
            self.close()
            raise Unreachable(f"{function.name} does not answer; is gateway host --usb running there?")
        if self._inbox.is_over:
            self.close()
            raise Unreachable(f"{function.name} went away as it was opened")

    # -- what comes -------------------------------------------------------------------------------------------------

    def _read_all(self, nonce: bytes) -> None:
        read, coming = self._function.device.read, self._function.coming
        small = array.array("B", b"\0") * session.SMALL
        free: SimpleQueue[array.array[int]] = SimpleQueue()
        """Large buffers: one that is full is lent to who reads, and comes back."""
        buffer = small
        begun = False
        try:
            while not self._closed:
                count = read(coming, buffer, FOREVER)
                data = memoryview(buffer)[:count]
                lends = begun and count >= LENT
                if not begun:
                    begun = data == session.marker(nonce)  # else it is of an earlier session
                    if begun:
                        self._begun.set()
                elif lends:
                    if not self._inbox.put(data, partial(free.put, buffer)):
                        return
                elif count and not self._inbox.put(data.tobytes()):
                    return
                if count < session.SMALL:
                    buffer = small
                elif lends or buffer is small:
                    buffer = array.array("B", b"\0") * session.LARGE if free.empty() else free.get()
        except usb.core.USBError as error:
            self._inbox.end(usb_lost(self._function.name, error))
        finally:
            self._inbox.end(self._closed_here())
            self._begun.set()
            self._leave()

    def read(self, size: int, timeout: float | None) -> bytes | memoryview | None:
        return self._inbox.take(timeout)

    reads_into = True

    def read_into(self, room: memoryview, timeout: float | None) -> int | None:
        return self._inbox.take_into(room, timeout)

    def wait_readable(self, timeout: float | None) -> bool:
        return self._inbox.wait(timeout)

    def fileno(self) -> int:
        return self._inbox.fileno()

    # -- what goes --------------------------------------------------------------------------------------------------

    def write(self, data: Message | array.array[int], progress_s: float) -> None:
        with self._writing:
            self._inbox.raise_if_over()
            try:
                if data == HEARTBEAT:
                    self._beat()
                else:
                    self._write(data, progress_s)
            except usb.core.USBError as error:
                if self._closed:
                    raise self._closed_here() from None
                if error.errno == errno.ETIMEDOUT:
                    raise LinkDown(f"{self._function.name}: the peer took no data for {progress_s:g} s") from None
                raise usb_lost(self._function.name, error) from None

    def write_parts(self, parts: tuple[Message, ...], progress_s: float) -> None:
        whole = array.array("B")  # which pyusb takes without another copy
        for part in parts:
            whole.frombytes(part)
        self.write(whole, progress_s)

    def _write(self, data: Message | array.array[int], progress_s: float) -> None:
        write, going, timeout = self._function.device.write, self._function.going, max(1, int(progress_s * 1000))
        sent = 0
        while sent < len(data):
            # A slice of its own: pyusb takes a memoryview byte by byte.
            sent += write(going, data if len(data) <= session.LARGE else data[sent : sent + session.LARGE], timeout)
            if sent < len(data) <= session.LARGE:
                data, sent = data[sent:], 0  # it took a part only, for want of time
        if len(data) % self._function.packet == 0:
            write(going, b"", timeout)  # the end of the transfer

    def _beat(self) -> None:
        with contextlib.suppress(usb.core.USBTimeoutError):
            self._function.device.write(self._function.going, HEARTBEAT, BEAT_MS)

    def takes_at_once(self) -> bool:
        return not self._closed and not self._writing.locked()

    # -- the end ----------------------------------------------------------------------------------------------------

    def _closed_here(self) -> LinkDown:
        return LinkDown(f"{self._function.name} was closed by this side")

    def close(self) -> None:
        with self._holding:
            if self._closed:
                return
            self._closed = True
            self._inbox.close(self._closed_here())
            if not self._gone:
                with contextlib.suppress(usb.core.USBError):
                    self._function.say(session.CLOSE, timeout_ms=CLOSE_MS)
                self._function.release()  # the transfers end
        if threading.current_thread() is not self._thread:
            self._thread.join(LEAVE_S)

    def _leave(self) -> None:
        """The thread that reads is through: the device was closed, or it is lost."""
        with self._writing, self._holding:
            self._gone = True
            self._function.close()

    @property
    def closed(self) -> bool:
        return self._closed
