"""The supervisor's front: forks, signals and sockets. What to do is the machine's to decide."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final

from gateway.app import audit_path
from gateway.config import Config
from gateway.drivers import load_drivers
from gateway.errors import ConfigError
from gateway.server.safety import Outcome, Stop
from gateway.supervision.machine import (
    DEFAULT_PATIENCE,
    Action,
    Forward,
    KillSecurer,
    KillWorker,
    Patience,
    Reload,
    Reread,
    Secure,
    StartWorker,
    State,
    Supervision,
    Tell,
)
from gateway.supervision.securing import NOTHING, Report, run_securer
from gateway.supervision.terminal import has_terminal
from gateway.supervision.tether import Restart, Tether, stop_of
from gateway.supervision.words import MAX_WORD, decode, encode
from gateway.systemd import Notifier

_log: Final = logging.getLogger(__name__)

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
LOOK_S: Final = 0.25
"""How long the supervisor sleeps at most."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The supervisor has ended, with this exit code."""

    code: int


def can_supervise() -> bool:
    """Whether this system lets a process go on as two: elsewhere than on Linux, libraries may not survive that."""
    return sys.platform == "linux"


def supervise(
    settings: Config,
    reread: Callable[[], Config],
    notifier: Notifier,
    patience: Patience = DEFAULT_PATIENCE,
) -> Ended | tuple[Tether, Config]:
    """Supervise the gateway of `settings` until it ends. Returns more than once, as fork does.

    In the supervisor it returns how it ended. In each worker, a process of its own, it gives the tether and the config
    that the worker is to serve. `reread` loads the config anew. Raises ConfigError for a driver that can't be loaded.
    """
    outcome = Supervisor(settings, reread, notifier, patience).run()
    if not isinstance(outcome, Ended):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor is told, and passes it on
        _let_signals_in()
    return outcome


class Supervisor:
    """Owns the worker, or else the securer. No threads: what is forked must find no lock held."""

    def __init__(
        self, settings: Config, reread: Callable[[], Config], notifier: Notifier, patience: Patience = DEFAULT_PATIENCE
    ) -> None:
        self._drivers = load_drivers(settings.devices)  # so that all of them are imported when they are needed
        self._settings = settings
        self._reread = reread
        self._notifier = notifier
        self._machine = Supervision(patience)
        self._worker: int | None = None
        self._socket: socket.socket | None = None
        self._reached: dict[str, str] = {}
        self._securer: int | None = None
        self._pipe = -1
        self._lines = b""
        self._reports: list[Report] = []
        self._why = ""
        self._url = ""
        self._stop: Stop | None = None
        self._fed_at = monotonic()
        self._had_terminal = has_terminal()

    def run(self) -> Ended | tuple[Tether, Config]:
        """See `supervise`."""
        gc.collect()
        gc.freeze()  # what is there now stays shared with the workers
        with _woken_by_signals() as wakeup:
            self._machine.begin(monotonic())
            while True:
                for action in self._machine.take_actions():
                    tether = self._do(action)
                    if tether is not None:
                        return tether, self._settings
                if self._machine.state is State.ENDED:
                    return Ended(self._machine.code)
                self._wait(wakeup)

    # -- what happens -----------------------------------------------------------------------------------------------

    def _wait(self, wakeup: int) -> None:
        now = monotonic()
        poller = select.poll()
        for descriptor in (wakeup, self._socket.fileno() if self._socket is not None else -1, self._pipe):
            if descriptor >= 0:
                poller.register(descriptor, select.POLLIN)
        poller.poll(max(0.0, min(LOOK_S, self._machine.next_deadline() - now)) * 1000)
        self._hear_worker()
        self._hear_securer()
        for number in _drained(wakeup):
            self._signalled(number)
        self._reap()
        now = monotonic()
        self._machine.handle_timeout(now)
        watchdog_s = self._notifier.watchdog_s
        if watchdog_s is not None and self._machine.is_well and now - self._fed_at >= watchdog_s / 2 - LOOK_S:
            self._fed_at = now
            self._notifier.watchdog()

    def _signalled(self, number: int) -> None:
        now = monotonic()
        if number == signal.SIGHUP and not (self._had_terminal and not has_terminal()):
            self._machine.reload()
        elif number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._notifier.stopping()
            self._machine.stop(number, now)

    def _hear_worker(self) -> None:
        while self._socket is not None:
            try:
                data = self._socket.recv(MAX_WORD, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._socket.close()
                self._socket = None
                return
            self._heard(data)

    def _heard(self, data: bytes) -> None:
        now = monotonic()
        said = decode(data)
        match said.get("word"):
            case "ping":
                self._machine.ping(now)
            case "reached":
                ports = said.get("ports")
                self._reached = ports if isinstance(ports, dict) else {}
            case "stopped":
                self._stop = stop_of(said.get("stop"))
            case "serving":
                self._url = str(said.get("url", ""))
                self._machine.serving(now)
                self._notifier.ready(str(said.get("status", "")))
            case "reloading":
                self._notifier.reloading(now=now)
            case "reloaded":
                if said.get("good"):
                    self._read_again()
                self._notifier.ready()
            case "ending":
                self._notifier.stopping()
                self._machine.ending(now)

    def _hear_securer(self) -> None:
        if self._pipe < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._pipe, MAX_WORD):
                self._lines += data
            os.close(self._pipe)
            self._pipe = -1
        *lines, self._lines = self._lines.split(b"\n")
        for line in lines:
            report = Report.decode(line)
            if report is None:
                continue
            self._reports.append(report)
            if report.outcome != NOTHING:
                level = logging.ERROR if report.outcome == Outcome.FAILED else logging.WARNING
                detail = f": {report.detail}" if report.detail else ""
                _log.log(level, "%s: safe state %s in %.2f s%s", report.device, report.outcome, report.took_s, detail)

    def _reap(self) -> None:
        if self._worker is not None and (code := _code(self._worker)) is not None:
            self._worker = None
            self._hear_worker()
            if self._socket is not None:  # a child of the worker has it
                self._socket.close()
                self._socket = None
            self._machine.died(code, monotonic())
        if self._securer is not None and (code := _code(self._securer)) is not None:
            self._securer = None
            self._hear_securer()
            if self._pipe >= 0:
                os.close(self._pipe)
                self._pipe = -1
            unsafe = [report.device for report in self._reports if report.outcome == Outcome.FAILED]
            if code != 0:
                told = {report.device for report in self._reports}
                enabled = [section.name for section in self._settings.devices if section.common.disabled is None]
                unsafe += [name for name in enabled if name not in told]
            self._machine.secured(unsafe, monotonic())

    # -- what is done -----------------------------------------------------------------------------------------------

    def _do(self, action: Action) -> Tether | None:
        """Carry out an action. In the worker that it started: its tether."""
        match action:
            case StartWorker():
                return self._start_worker()
            case Secure(why=why):
                self._notifier.status(f"{why}; making the devices safe")
                self._why = why
                self._secure(why)
            case KillWorker():
                _kill(self._worker)
            case KillSecurer():
                _kill(self._securer)
            case Forward(number=number):
                self._say(encode("stop", number=number))
            case Reload():
                self._say(encode("reload"))
            case Reread():
                self._read_again()
            case Tell(text=text):
                _log.error("%s", text)
        return None

    def _start_worker(self) -> Tether | None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._reached = {}
        pid = _fork()
        if pid == 0:
            ours.close()
            number = self._machine.restarts
            return Tether(theirs, Restart(number, self._why, self._url, self._stop) if number else None)
        theirs.close()
        self._worker, self._socket = pid, ours
        return None

    def _secure(self, why: str) -> None:
        reading, writing = os.pipe()
        self._lines, self._reports = b"", []
        pid = _fork()
        if pid == 0:
            section = self._settings.gateway
            devices = self._settings.devices
            run_securer(devices, self._drivers, self._reached, why, audit_path(section), writing)
        os.close(writing)
        os.set_blocking(reading, False)
        self._securer, self._pipe = pid, reading

    def _say(self, data: bytes) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is gone, or hangs, and that will be seen
                self._socket.send(data, socket.MSG_DONTWAIT)

    def _read_again(self) -> None:
        """Have the config as it is now, for the next worker and for making devices safe."""
        try:
            settings = self._reread()
            drivers = load_drivers(settings.devices)
        except ConfigError as problem:
            _log.error("the config was not taken up: %s", problem)
        else:
            self._settings, self._drivers = settings, drivers


@contextmanager
def _woken_by_signals() -> Iterator[int]:
    """While in here, signals are numbers to be read from the descriptor that it gives."""
    reading, writing = os.pipe()
    for descriptor in (reading, writing):
        os.set_blocking(descriptor, False)
    previous = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in previous.items():
            signal.signal(number, handler)
        for descriptor in (reading, writing):
            os.close(descriptor)


def _fork() -> int:
    """Fork. In the child all signals have their usual effects, and none arrives before `_let_signals_in`."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    else:
        _let_signals_in()
    return pid


def _let_signals_in() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _drained(wakeup: int) -> bytes:
    try:
        return os.read(wakeup, 4096)
    except BlockingIOError:
        return b""


def _code(pid: int) -> int | None:
    """How a child ended; None if it has not."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def _kill(pid: int | None) -> None:
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
