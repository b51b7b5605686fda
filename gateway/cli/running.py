"""What `serve`, `demo` and `stdio` share: the signals that end a gateway, its log, and what it says about itself."""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Final, Protocol

from rich.logging import RichHandler

from gateway.app import Gateway, Left
from gateway.cli.exits import Exit
from gateway.cli.screen import Screen
from gateway.discovery.static import without_password
from gateway.supervision.terminal import has_terminal
from gateway.systemd import JournalFormatter, stderr_is_journal

_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, a service manager, and a terminal that was closed: each must leave the devices in their safe state."""


ADVERTISE_S: Final = 3.0
"""Being advertised takes about 1.5 s; a network where it takes longer must not hide that the gateway serves."""
LOOK_S: Final = 0.25
"""How often it is looked whether a signal came: one that comes just as a wait begins does not interrupt it."""


class Stop:
    """Set by the first signal; a gateway then closes undisturbed by further ones."""

    def __init__(self) -> None:
        # Not an Event: a handler that sets one as this thread begins to wait for it would wait for the wait's own lock.
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._signal = 0
        self._reload = False
        self.interrupts = True
        """Whether the first signal raises KeyboardInterrupt too: for as long as nothing looks at the Stop."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        interrupts, self.interrupts = self.interrupts, False
        self._signal = self._signal or number
        self._wakes.put(None)
        if interrupts:
            raise KeyboardInterrupt

    @property
    def is_set(self) -> bool:
        """Whether to stop."""
        return self._signal != 0

    @property
    def exit(self) -> Exit:
        """The exit code: Ctrl-C is told apart from being asked to end."""
        return Exit.INTERRUPTED if self._signal == signal.SIGINT else Exit.OK

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a signal, or for a reload; whether to stop."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not (self.is_set or self._reload) and (left := deadline - time.monotonic()) > 0:
            with suppress(Empty):  # what woke an earlier wait may still be in it: what was asked for is what counts
                self._wakes.get(timeout=min(left, LOOK_S))
        return self.is_set

    def reload(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Have the config read again. A signal handler too."""
        self._reload = True
        self._wakes.put(None)

    def take_reload(self) -> bool:
        """Whether the config is to be read again: once for each time that was asked for, or for several at once."""
        asked, self._reload = self._reload, False
        return asked


class Attendant(Protocol):
    """Who follows how a gateway runs: its supervisor, or the service manager."""

    def attend(self, stop: Stop) -> None:
        """The gateway is about to start; `stop` ends it."""

    def ending(self) -> None:
        """It begins to end."""


@contextmanager
def stop_signals(*, reloads: bool = False) -> Iterator[Stop]:
    """SIGINT, SIGTERM and SIGHUP set the `Stop` instead of ending the process.

    With `reloads` SIGHUP asks for the config to be read again, unless it is ignored already.
    """
    stop = Stop()
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    handlers: dict[int, Any] = dict.fromkeys(numbers, stop)
    if reloads and hasattr(signal, "SIGHUP"):
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        handlers[signal.SIGHUP] = signal.SIG_IGN if ignored else _hung_up_or(stop)
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _hung_up_or(stop: Stop) -> Callable[[int, FrameType | None], None]:
    """SIGHUP asks for a reload, but comes also when the terminal is closed, and then it ends the gateway."""
    had_terminal = has_terminal()

    def handler(number: int, frame: FrameType | None) -> None:
        (stop if had_terminal and not has_terminal() else stop.reload)(number, frame)

    return handler


def log_to_stderr(screen: Screen, level: str) -> None:
    """Send the gateway's log to stderr: coloured on a terminal, with priorities to journald, plain lines elsewhere."""
    handler: logging.Handler
    if stderr_is_journal():
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JournalFormatter())
    elif screen.err.is_terminal:
        handler = RichHandler(console=screen.err, show_path=False, omit_repeated_times=False)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        # zeroconf's own words are about packets; ours about them are in gateway.discovery.
        logging.getLogger("zeroconf").setLevel(logging.ERROR)


def run(
    screen: Screen,
    gateway: Gateway,
    body: Callable[[Stop], None],
    start: Callable[[], object] | None = None,
    attendant: Attendant | None = None,
) -> Exit:
    """Start the gateway (with `start` in place of its own), run `body`, close the gateway. The exit code.

    Signals end the start at once; `body` has to look at its `Stop`, or to set `interrupts` where it does not. With an
    attendant SIGHUP asks for a reload, for which `body` has to look too.
    """
    with stop_signals(reloads=attendant is not None) as stop:
        try:
            if attendant is not None:
                attendant.attend(stop)
            with screen.busy("opening the devices"):
                (start or gateway.start)()
            stop.interrupts = False
            body(stop)
        except KeyboardInterrupt:
            if not stop.is_set:
                raise
        finally:
            stop.interrupts = False
            if attendant is not None:
                attendant.ending()
            gateway.close()
        return farewell(screen, gateway, stop)


def wait_advertised(screen: Screen, gateway: Gateway, stop: Stop) -> None:
    """Wait until it is advertised, or for as long as that usually takes, or until a signal comes."""
    deadline = time.monotonic() + ADVERTISE_S
    with screen.busy("advertising"):
        while gateway.advertises and time.monotonic() < deadline and not stop.is_set:
            if gateway.wait_advertised(0.1):
                return


def farewell(screen: Screen, gateway: Gateway, stop: Stop) -> Exit:
    """Say how the devices of a closed gateway were left. The exit code."""
    left = {how: ", ".join(device.name for device in gateway.devices if device.left is how) for how in Left}
    parts = [
        f"in their safe state: {left[Left.SAFE]}" if left[Left.SAFE] else "",
        f"not reached: {left[Left.UNREACHED]}" if left[Left.UNREACHED] else "",
    ]
    screen.line("; ".join(["stopped", *filter(None, parts)]))
    if left[Left.UNSAFE]:
        screen.note(f"look at these, they may not be in their safe state: {left[Left.UNSAFE]}", style="bold red")
        return Exit.RAISED
    return stop.exit


def announce(screen: Screen, running: Gateway, *, advice: bool = True) -> None:
    """Say where the gateway is, who can reach it (with `advice`: how to change that in a config), what it serves."""
    screen.document(document(running))
    screen.line(f"serving {running.name!r} at {without_password(running.url)}", style="bold")
    if running.local_only:
        screen.line("  only this computer can connect")
        if advice:
            screen.line('  to open it to the bench\'s network: listen = "tls://0.0.0.0:18871" in the table [gateway];')
            screen.line("  then let each client in with `gateway pair`")
    elif running.url.startswith("tls:"):
        screen.line("  every paired computer can connect; let one in with `gateway pair`")
    else:
        screen.line("  every computer that reaches this address can connect, and use the instruments")
    screen.line(f"  {running.advert_status}")
    show_devices(screen, running)


def show_devices(screen: Screen, running: Gateway) -> None:
    """The gateway's own devices, and where its instrument hosts are."""
    screen.line()
    if running.devices:
        screen.table(
            ("device", "driver", "state", "identity"),
            [(each.name, each.driver, each.state, each.problem or each.identity) for each in running.devices],
        )
    for host in running.hosts:
        screen.line(f"instrument host {host.name} at {host.url}: its devices are {host.name}.NAME, when it is there")


def document(running: Gateway) -> dict[str, Any]:
    """The JSON form of a running gateway."""
    hosts = [{"name": host.name, "url": str(host.url)} for host in running.hosts]
    return {
        "name": running.name,
        "url": without_password(running.url),
        "local_only": running.local_only,
        "advertised": running.advertised,
        "advert_status": running.advert_status,
        "devices": [
            {
                "name": device.name,
                "driver": device.driver,
                "state": device.state,
                "identity": device.identity or None,
                "problem": device.problem or None,
            }
            for device in running.devices
        ],
        **({"hosts": hosts} if hosts else {}),
    }
