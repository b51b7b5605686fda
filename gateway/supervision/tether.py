"""The worker's end of what ties it to its supervisor. It pings while its keeper looks around, and ends if that is gone.

tether.attend(stop)        from here on the supervisor can end it
tether.watch(gateway)      the keeper's thread pings from here on
tether.serving("3 devices")
tether.ending()
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, Final, Protocol

from gateway.app import Gateway
from gateway.server.safety import Stop
from gateway.supervision.words import MAX_WORD, decode, encode
from gateway.systemd import Notifier

_log: Final = logging.getLogger(__name__)

PING_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Restart:
    """Why there is another worker, and what was done meanwhile."""

    number: int
    """How often the gateway was restarted so far."""
    why: str
    url: str = ""
    """Where the gateway served; empty if none did so far."""
    stop: Stop | None = None
    """The emergency stop that was latched then, and is still."""


class Stopping(Protocol):
    """What a signal sets: see `gateway.cli.running.Stop`."""

    @property
    def is_set(self) -> bool: ...
    def reload(self) -> None: ...


class Tether:
    """A worker's way to its supervisor: a socket of whole datagrams. Any thread may say something."""

    def __init__(self, sock: socket.socket, restart: Restart | None = None) -> None:
        self.restart = restart
        """Why this worker is not the first; None if it is."""
        self._socket = sock
        self._pinged_at = -PING_S
        self._reached: dict[str, str] = {}

    def attend(self, stop: Stopping) -> None:
        """Listen to the supervisor from now on: what it says reaches `stop`, and so does that it is gone."""
        threading.Thread(target=self._listen, args=(stop,), name="gateway-tether", daemon=True).start()

    def take_over(self, gateway: Gateway) -> None:
        """Before the gateway starts: tell of its emergency stop from now on, and have it latched if it was."""
        if self.restart is not None:
            gateway.why = f"the gateway starts again: {self.restart.why}"
            if self.restart.stop is not None:
                gateway.keeper.safety.latch(self.restart.stop)
        gateway.keeper.safety.on_latched.append(lambda stop: self._say("stopped", stop=facts_of(stop)))

    def watch(self, gateway: Gateway) -> None:
        """Ping while the keeper's thread looks around, and say where the devices are."""

        def tick(now: float) -> None:
            if now - self._pinged_at >= PING_S and self._say("ping"):
                self._pinged_at = now
                self._tell_reached(gateway)

        self._tell_reached(gateway)
        gateway.keeper.each_tick.append(tick)

    def _tell_reached(self, gateway: Gateway) -> None:
        reached = self._reached | reached_ports(gateway)
        if reached != self._reached and self._say("reached", ports=reached):
            self._reached = reached

    def serving(self, status: str, url: str) -> None:
        """It serves, at `url`."""
        self._say("serving", status=status, url=url)

    def ending(self) -> None:
        """It was asked to end, and begins to."""
        self._say("ending")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Around reading the config again; an error says that the old one goes on to hold."""
        self._say("reloading")
        good = False
        try:
            yield
            good = True
        finally:
            self._say("reloaded", good=good)

    def _say(self, word: str, **facts: Any) -> bool:
        # A supervisor that does not listen must not hold up the gateway; one that is gone ends it by itself.
        with contextlib.suppress(OSError):
            return self._socket.send(encode(word, **facts), socket.MSG_DONTWAIT) > 0
        return False

    def _listen(self, stop: Stopping) -> None:
        while True:
            try:
                data = self._socket.recv(MAX_WORD)
            except OSError:
                data = b""
            if not data:
                break
            said = decode(data)
            match said.get("word"):
                case "reload":
                    stop.reload()
                case "stop" if not stop.is_set:
                    _signal_self(int(said.get("number", signal.SIGTERM)))
        if not stop.is_set:
            _log.error("the supervisor is gone; the gateway ends")
            _signal_self(signal.SIGTERM)


class Alone:
    """In the place of a tether, for a gateway that nobody supervises: tells the service manager how it is."""

    restart: Restart | None = None

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._fed_at = -math.inf

    def attend(self, stop: Stopping) -> None:
        """Nobody but signals ends it."""

    def take_over(self, gateway: Gateway) -> None:
        """There was none before."""

    def watch(self, gateway: Gateway) -> None:
        """Feed the service manager's watchdog while the keeper's thread looks around."""
        watchdog_s = self._notifier.watchdog_s
        if watchdog_s is None:
            return

        def tick(now: float) -> None:
            if now - self._fed_at >= watchdog_s / 2 - PING_S:
                self._fed_at = now
                self._notifier.watchdog()

        gateway.keeper.each_tick.append(tick)

    def serving(self, status: str, url: str) -> None:
        """It serves, at `url`."""
        self._notifier.ready(status)

    def ending(self) -> None:
        """It was asked to end, and begins to."""
        self._notifier.stopping()

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Around reading the config again."""
        self._notifier.reloading(now=monotonic())
        try:
            yield
        finally:
            self._notifier.ready()


def facts_of(stop: Stop | None) -> dict[str, str] | None:
    """An emergency stop in plain values."""
    return None if stop is None else {"by": stop.by, "why": stop.why, "since": stop.since.isoformat()}


def stop_of(facts: object) -> Stop | None:
    """The emergency stop of these facts; None for none."""
    if not isinstance(facts, dict):
        return None
    return Stop(str(facts["by"]), str(facts["why"]), datetime.fromisoformat(str(facts["since"])))


def reached_ports(gateway: Gateway) -> dict[str, str]:
    """The devices that are open, and the port of each where its driver has an option of that name."""
    found = {}
    for device in gateway.devices:
        if device.state == "open":
            port = getattr(getattr(device.instrument, "options", None), "port", "")
            found[device.name] = port if isinstance(port, str) else ""
    return found


def _signal_self(number: int) -> None:
    # To the main thread, which may be in a system call that has to end.
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, number)
