"""LinkDriver: one thread that drives a link over a port, and opens the port again when it was lost.

It alone reads and writes the port, and asks the link what to write.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final
from weakref import WeakSet

from gateway.channels.link_channel import LinkChannel
from gateway.channels.link_streams import LinkStreams
from gateway.channels.port_wait import PortWait
from gateway.channels.ports import CHUNK, OpenPort, Port, drain, port_lost
from gateway.errors import GatewayError, LinkDown, Unreachable
from gateway.limits import Limits
from gateway.link import LinkConfig

OPEN_S: Final = 10.0
REOPEN_S: Final = 0.05
MOST_REOPEN_S: Final = 0.25
"""How long to wait before a lost port is looked for: a little longer each time."""
LINGER_S: Final = 0.5
"""How long closing waits for what is queued to arrive."""
LEAVE_S: Final = 2.0
"""How long `close` waits for the thread, which needs `LINGER_S` and as long as the port takes to drain."""


_live: Final[WeakSet[LinkDriver]] = WeakSet()


@atexit.register
def _close_all() -> None:
    # A tty tells nobody that a process has ended: without a word from us the peer would wait for us for seconds.
    for driver in list(_live):
        driver.close()


class LinkDriver(LinkStreams):
    """Owns a port and the link over it. `close` it; then, or when the only channel of a `single` one ends, the port is
    given back.

    `accept` gets each channel that the peer opens, in the link's thread; without it this end opens them.
    """

    def __init__(
        self,
        open_port: OpenPort,
        config: LinkConfig,
        limits: Limits,
        name: str,
        *,
        nonces: Callable[[], int],
        port: Port | None = None,
        accept: Callable[[LinkChannel], bool] | None = None,
        on_left: Callable[[], None] = lambda: None,
        single: bool = False,
    ) -> None:
        """`port`: where it is open already. `on_left` is called whenever a channel was closed by this side."""
        super().__init__(config, limits, name, nonces=nonces, accept=accept, on_left=on_left, single=single)
        self._open_port = open_port
        self._port = port
        self._reopen_s = REOPEN_S
        self._unwritten = b""
        self._unwritten_since = 0.0
        self._wait = PortWait(config.line_rate)
        self._thread = threading.Thread(target=self._run, name=f"link {name}", daemon=True)

    def start(self) -> None:
        _live.add(self)
        self._thread.start()

    def port(self, timeout: float) -> Port:
        """The port, open within `timeout` seconds. Raises why it is not, such as Unreachable."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._port is not None or self._closing, timeout):
                raise self._problem or Unreachable(f"{self.name} is not open")
            if self._port is None:
                raise LinkDown(f"{self.name} was closed by this side")
            return self._port

    def _nudge(self) -> None:
        self._wait.nudge()

    def close(self) -> None:
        """End all channels, tell the peer, and give the port back. Idempotent; takes `LEAVE_S` at most."""
        with self._changed:
            self._closing = True
            for channel in self._channels.values():
                channel.finish(LinkDown(f"{self.name} was closed by this side"))
            self._changed.notify_all()
            self._wait.nudge()
        if threading.current_thread() is not self._thread:
            self._thread.join(LEAVE_S)

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                if self._port is None:
                    self._look_for_port()
                else:
                    self._turn(self._port)
            self._say_goodbye()
        finally:
            self._end()

    def _turn(self, port: Port, deadline: float | None = None) -> None:
        """Write what has to be written, wait, read. `deadline`: come back by then."""
        with self._changed:
            error = self._pump(port)
            wait = self.limits.progress_s if self._unwritten else self._link.wait(monotonic())
        if error is not None:
            self._lose_port(port, error)
            return
        if deadline is not None:
            left = max(0.0, deadline - monotonic())
            wait = left if wait is None else min(wait, left)
        events = self._wait.wait(port.fileno(), wait, to_write=bool(self._unwritten))
        if events & ~select.POLLOUT:
            self._read(port, hung_up=not events & select.POLLIN)

    def _read(self, port: Port, *, hung_up: bool) -> None:
        try:
            data = os.read(port.fileno(), CHUNK)
        except BlockingIOError:
            if hung_up:
                self._lose_port(port, port_lost(self.name))
            return
        except OSError as error:
            self._lose_port(port, port_lost(self.name, error))
            return
        if not data:
            self._lose_port(port, port_lost(self.name))
            return
        self._wait.came(len(data))
        with self._changed:
            self._link.receive(data, monotonic())
            self._handle_events()

    def _pump(self, port: Port) -> LinkDown | None:
        """Write what the link wants to say, as far as the port takes it now; why the port is lost, if so."""
        now = monotonic()
        data = self._unwritten or self._link.output(now)
        self._handle_events()
        self._drop_unread(now)
        if not data:
            return None
        try:
            written = os.write(port.fileno(), data)
        except BlockingIOError:
            written = 0
        except OSError as error:
            return port_lost(self.name, error)
        if written or not self._unwritten:
            self._unwritten_since = now
        elif now >= self._unwritten_since + self.limits.progress_s:
            return LinkDown(f"{self.name} took no data for {self.limits.progress_s:g} s: does flow control hold it?")
        self._unwritten = data[written:]
        self._changed.notify_all()
        return None

    # -- the port ---------------------------------------------------------------------------------------------------

    def _lose_port(self, port: Port, error: LinkDown) -> None:
        with self._changed:
            self._link.restart(str(error), monotonic())
            self._handle_events()
            self._port, self._unwritten = None, b""
            self._problem = Unreachable(str(error))
        with contextlib.suppress(OSError):
            port.discard_output()
        port.close()
        self._sleep(REOPEN_S)

    def _look_for_port(self) -> None:
        try:
            port = self._open_port(OPEN_S)
        except GatewayError as error:
            with self._changed:
                self._problem = error
            self._sleep(self._reopen_s)
            self._reopen_s = min(1.2 * self._reopen_s, MOST_REOPEN_S)
            return
        self._reopen_s = REOPEN_S
        with self._changed:
            self._port, self._problem = port, None
            self._link.restart("the port was opened again", monotonic())
            self._changed.notify_all()

    def _sleep(self, seconds: float) -> None:
        """Until `close`, or for so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing, seconds)

    def _say_goodbye(self) -> None:
        """Let what is queued arrive, if that goes quickly, and tell the peer that this end leaves."""
        deadline = monotonic() + LINGER_S
        with self._changed:
            for stream in self._channels:
                self._link.end(stream)
        while self._port is not None and not self._link.idle and monotonic() < deadline:
            self._turn(self._port, deadline)
        port = self._port
        if port is None:
            return
        with self._changed:
            self._link.close()
            if self._pump(port) is None and self._unwritten:
                self._pump(port)
        drain(port)

    def _end(self) -> None:
        with self._changed:
            self._closing = True
            self._lose_session(f"{self.name} was closed by this side")
            port, self._port = self._port, None
            self._link.close()
        self._wait.close()
        if port is not None:
            port.close()
