"""A board that serves its functions over RPyC.

    from instrument_board import Board, stdio

    board = Board(driver="Blinker", identity="firmware 1.0", safe_state="LED off")
    led = board.output("led", 25)                        # a pin, low when the host is gone

    @board.expose(("times", int, 1, 100), doc="Blink so often.")
    def blink(times):
        ...

    board.serve(stdio())

Runs on MicroPython. Nothing is allocated for ever; a board with 64 KiB of heap is enough.
"""

import os
import time

from .hardware import Adc, I2cBus, Input, Output, Pwm, Serial
from .link import Link
from .members import Member
from .ports import stdio, tty, uart
from .raw import Raw
from .requests import Requests

__all__ = ("Board", "stdio", "tty", "uart")
VERSION = "1.0.0"
IDLE_MS = 5
INTERRUPT = b"\r\x03"
"""What mpremote says to a board to get its REPL."""


def random_nonce():
    """A number that was not used before, not 0."""
    return int.from_bytes(os.urandom(4), "big") or 1


class Board:
    """One device, which is all that the host sees of this board.

    `safe_state` says in words what `make_safe` does; the parts that were added have safe states of their own. After
    `dead_man_ms` milliseconds without a frame the board makes itself safe; 0: never, which only plain frames need.
    """

    def __init__(
        self, name="board", driver="Board", doc="", identity="", safe_state="", make_safe=None, dead_man_ms=2000
    ):
        self.name, self.driver, self.doc, self.safe_state = name, driver, doc, safe_state
        self.identity = identity or "instrument_board %s" % VERSION
        self.members = []
        self.parts = []
        self.problems = []
        """What went wrong with making it safe, the latest last."""
        self.dead_man_ms = dead_man_ms
        self._make_safe = make_safe
        self._armed = False
        self._heard_at = 0
        self._now = 0
        self._ticks = time.ticks_ms()
        self._requests = Requests(self)
        self._line = None
        self._port = None
        self._unwritten = b""

    # -- what it shows ----------------------------------------------------------------------------------------------

    def add(self, member):
        """One more member. Raises ValueError for a name that is taken, or is none."""
        name = member.name
        if not name or name.startswith("_") or [each for each in self.members if each.name == name]:
            raise ValueError("a member called %r can't be added" % name)
        self.members.append(member)

    def expose(self, *arguments, result=None, unit="", doc="", access="control", name=None):
        """Decorator of a function. Each of `arguments` is `(name, type)` or `(name, type, lowest, highest)`."""

        def decorate(function):
            self.add(Member(name or function.__name__, function, arguments, result, unit, doc, access))
            return function

        return decorate

    def property(self, name, read, kind=float, write=None, lowest=None, highest=None, unit="", doc=""):
        """A value that can be read by `read()`, and set by `write(value)` where that is given."""
        arguments = ((name, kind, lowest, highest),) if write is not None else ()
        self.add(Member(name, read, arguments, kind, unit, doc, "read", write, True))

    # -- parts with safe states of their own ------------------------------------------------------------------------

    def _part(self, part, name):
        self.parts.append(part)
        part.show(self, name)
        return part

    def output(self, name, pin, safe=0):
        """A pin that drives: the settable property `name`, 0 or 1. `safe` is its level when nobody is there."""
        return self._part(Output(pin, safe), name)

    def input(self, name, pin, pull=None):
        """A pin that is read: the property `name`. `pull` is "up" or "down"."""
        return self._part(Input(pin, pull), name)

    def pwm(self, name, pin, frequency=1000, safe=0.0):
        """A pin that is on for a part of the time: the settable property `name`, 0.0 to 1.0."""
        return self._part(Pwm(pin, frequency, safe), name)

    def adc(self, name, pin, full_scale=3.3, unit="V"):
        """A voltage that is measured: the property `name`."""
        return self._part(Adc(pin, full_scale, unit), name)

    def i2c(self, name, bus, **settings):
        """An I2C bus: the methods `name_read`, `name_write` and `name_scan`."""
        return self._part(I2cBus(bus, settings), name)

    def serial(self, name, number, baudrate=9600, **settings):
        """A UART of the board: the methods `name_read` and `name_write`."""
        return self._part(Serial(number, baudrate, settings), name)

    # -- safety -----------------------------------------------------------------------------------------------------

    def make_safe(self):
        """Bring all parts to their safe states, each though another one fails; whether none failed."""
        good = True
        for work in [each.make_safe for each in self.parts] + [self._make_safe]:
            if work is None:
                continue
            try:
                work()
            except Exception as problem:
                good = False
                self.problems.append("make_safe: %s: %s" % (type(problem).__name__, problem))
                del self.problems[:-8]
        self._armed = False
        return good

    # -- serving ----------------------------------------------------------------------------------------------------

    def attach(self, port, framing="link", **sizes):
        """Serve at `port` from now on, `framing` "link" or "raw". To be called once, before `poll`.

        `sizes` are those of a Link: frame, window, message.
        """
        self._port = port
        if framing == "raw":
            self._line = Raw(**sizes)
        else:
            patience = self.dead_man_ms // 4 if 0 < self.dead_man_ms < 4000 else 1000
            self._line = Link(sizes.pop("nonce", random_nonce), poll_ms=patience, **sizes)
        self.make_safe()

    def now(self):
        """Milliseconds since the start; the chip's own clock goes round."""
        ticks = time.ticks_ms()
        self._now += time.ticks_diff(ticks, self._ticks)
        self._ticks = ticks
        return self._now

    def poll(self, wait_ms=0):
        """Do what is to be done now, after waiting up to `wait_ms` for something to come."""
        line = self._line
        data = self._port.read(wait_ms)
        now = self.now()
        if data:
            if data[:2] == INTERRUPT and not line.open:
                raise KeyboardInterrupt  # somebody wants the REPL; in a session these bytes are data
            line.receive(data, now)
            if line.heard_at == now:
                self._heard_at, self._armed = now, True
        while line.inbox:
            answer = self._requests.serve(line.inbox[0])
            if line.over:
                break
            del line.inbox[0]
            if answer is not None:
                line.send(answer)
        self._write(now)
        if line.over:
            line.over = False
            self.make_safe()
        if self.dead_man_ms and self._armed and self.now() - self._heard_at >= self.dead_man_ms:
            self.make_safe()

    def _write(self, now):
        data = self._unwritten or self._line.output(now)
        if data:
            written = self._port.write(data)
            self._unwritten = data[written:] if written is not None and written < len(data) else b""

    def serve(self, port, framing="link", **sizes):
        """Serve at `port` for ever: see `attach`."""
        self.attach(port, framing, **sizes)
        while True:
            self.poll(IDLE_MS)
