"""A wire of two pseudo serial ports in real time: paced, with an adapter's latency, and with faults.

    with PtyWire(baud=115200, faults=FaultPlan(seed=1, flip=1e-4)) as wire:
        serial.Serial(wire.port(End.A)); serial.Serial(wire.port(End.B))

    port A -- tty -- [ flights, faults ] -- adapter -- tty -- port B        and the same back

`baud="follow"` takes speed and bits per character from what each port's owner sets. Then two owners that disagree hear
noise. What a pty can't do is in `quirks`: no modem lines, no parity, no 7 bits, and `flush` returns at once. It holds
about 20 kB for a writer beyond what the line has carried.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import random
import select
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self, TypeVar

from hil.damage import Damage, Event, Replug, Schedule
from hil.faults import CLEAN, End, FaultPlan, HangUp, Insert, Seconds, Unplug
from hil.lane import Lane
from hil.quirks import Quirk
from hil.tty import Tty

T = TypeVar("T")

FOLLOW: Final = "follow"
MAX_HELD: Final = 4096
"""Bytes that wait for a reader who takes none; then the line stops (or, without flow control, they are lost)."""
TOLERANCE: Final = 0.03
"""Two speeds that differ by more don't understand each other."""
COMMAND_S: Final = 10.0


class Tapped(NamedTuple):
    """What the tap has heard."""

    at_s: float
    """By `time.monotonic()`."""
    end: End
    """The end whose port it passed."""
    sent: bool
    """Written by that port's owner, as it was before any fault; otherwise given to it to read."""
    data: bytes


class PtyWire:
    """Two joined ports. All work is done by one thread; every method may be called from any other."""

    def __init__(
        self,
        baud: int | Literal["follow"] | None = None,
        *,
        bits: int | None = None,
        latency_s: float = 0.0,
        flow_control: bool = True,
        faults: FaultPlan = CLEAN,
        folder: Path | None = None,
        names: tuple[str, str] = ("ttyA0", "ttyB0"),
    ) -> None:
        """`baud` None: unpaced. `bits` per character: 10, or what the owner sets when following. `latency_s`: the timer
        of an FTDI adapter, 0.016 as they come. The ports' names appear in `folder`, by default one of its own.
        """
        if (isinstance(baud, int) and baud < 1) or (bits is not None and bits < 1) or not 0 <= latency_s < 10:
            raise ValueError("a wire has a baud and bits above 0, and a latency_s from 0 to 10")
        self.quirks = frozenset({Quirk.NO_MODEM_LINES, Quirk.NO_PARITY, Quirk.NO_EOF, Quirk.FLUSH_DOES_NOT_WAIT})
        self._baud, self._bits, self._flow_control = baud, bits, flow_control
        self._own_folder = tempfile.TemporaryDirectory(prefix="hil-") if folder is None else None
        root = Path(self._own_folder.name) if self._own_folder else folder
        assert root is not None
        self._ttys = tuple(Tty(root, end.name, name) for end, name in zip(End, names, strict=True))
        self._lanes = Lane(latency_s), Lane(latency_s)
        self._noise = random.Random(faults.seed)
        self._misread = [0.5, 0.5]
        """Of each sender's bytes, what a receiver at another speed has heard of the next one."""
        self._tapped: list[Tapped] | None = None
        self._overruns = 0
        self._failure: BaseException | None = None
        self._commands: queue.SimpleQueue[tuple[Callable[[], object], Future[object]]] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        self._closed = self._stopping = False
        self._inflict(faults)
        self._thread = threading.Thread(target=self._run, name="hil-wire", daemon=True)
        self._thread.start()

    # -------------------------------------------------------------------------------------------------------- the ports

    def port(self, end: End) -> str:
        """Path of the port's device node: another one after it came back under another name."""
        return str(self._ttys[end].node)

    def by_id(self, end: End) -> str:
        """Path that stays the same, as one under /dev/serial/by-id does."""
        return str(self._ttys[end].by_id)

    def address(self, end: End) -> str:
        """What `serial.serial_for_url` opens as this end; it stays the same over a replug."""
        return self.by_id(end)

    def channel_url(self, end: End, options: str = "") -> str:
        """What `gateway.channels.open_channel` opens; `options` such as `baudrate=9600&framing=raw`."""
        address = self.address(end)
        url = address if "://" in address else f"serial://{address}"
        return f"{url}?{options}" if options else url

    def plugged(self, end: End) -> bool:
        """Whether the port is there."""
        return self._do(lambda: self._ttys[end].plugged)

    def sent(self, end: End) -> int:
        """Bytes that the owner of this port has written and the line has taken."""
        return self._look(lambda: self._lanes[end].sent)

    def delivered(self, end: End) -> int:
        """Bytes that came in at this port."""
        return self._look(lambda: self._lanes[end.other].delivered)

    @property
    def overruns(self) -> int:
        """Bytes lost because a reader was too slow, on a wire without flow control."""
        return self._overruns

    def record(self) -> list[Tapped]:
        """Begin a recording; the list grows while bytes pass. Once `delivered` counts them, they are in it."""

        def begin() -> list[Tapped]:
            self._tapped = []
            return self._tapped

        return self._do(begin)

    # ----------------------------------------------------------------------------------------------------------- faults

    def inflict(self, plan: FaultPlan) -> None:
        """From now on this goes wrong, and what was planned before does not. Bytes and times count from now.

        A port that is unplugged stays so until `replug`.
        """
        self._do(lambda: self._inflict(plan))

    def mute(self, sender: End, *, mute: bool = True) -> None:
        """Lose everything that `sender` writes from now on; with `mute=False` no longer."""
        self._do(lambda: setattr(self._lanes[sender], "mute", mute))

    def insert(self, sender: End, data: bytes) -> None:
        """Let bytes arrive now, as if `sender` had sent them."""
        self._do(lambda: self._happen(Insert(Seconds(0.0), data, sender=sender), monotonic()))

    def unplug(self, end: End | None = None) -> None:
        """Pull the plug of `end`, or of both; returns when it is out. What is on the way is lost."""
        self._do(lambda: self._happen(Unplug(Seconds(0.0), end=end), monotonic()))

    def replug(self, end: End | None = None, name: str | None = None) -> None:
        """Put the plug of `end`, or of both, back in; returns when the port is there. With `name` it is called so."""
        for each in End if end is None else (end,):
            self._do(lambda each=each: self._happen(Replug(each, name), monotonic()))  # type: ignore[misc]

    def hang_up(self, end: End | None = None) -> None:
        """Whoever has the port open loses it; it can be opened again at once."""
        self._do(lambda: self._happen(HangUp(Seconds(0.0), end=end), monotonic()))
        self._do(lambda: self._catch_up(monotonic()))

    def close(self) -> None:
        """Take both ports away for good. Idempotent. Raises what the wire itself failed with, if it did."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(RuntimeError):
            self._do(lambda: setattr(self, "_stopping", True))
        self._thread.join(COMMAND_S)
        for each in self._ttys:
            each.unplug()
        for descriptor in (self._wake_read, self._wake_write):
            os.close(descriptor)
        if self._own_folder is not None:
            self._own_folder.cleanup()
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------- the thread

    def _do(self, command: Callable[[], T]) -> T:
        """Let the wire's thread do it, and wait. Raises RuntimeError when the thread has ended."""
        if not self._thread.is_alive():
            raise RuntimeError("the wire is closed" if self._failure is None else f"the wire failed: {self._failure!r}")
        future: Future[T] = Future()
        self._commands.put((command, future))  # type: ignore[arg-type]
        os.write(self._wake_write, b"x")
        return future.result(COMMAND_S)

    def _look(self, command: Callable[[], T]) -> T:
        """As `_do`, so that what is under way at this moment is done first; of a closed wire as it was left."""
        return self._do(command) if self._thread.is_alive() else command()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        except BaseException as failure:  # noqa: BLE001 - told to whoever uses or closes the wire
            self._failure = failure
        while not self._commands.empty():
            self._commands.get()[1].set_exception(RuntimeError("the wire is closed"))

    def _turn(self) -> None:
        """Pass on what is due, then wait for the next moment or the next bytes, then take these."""
        now = monotonic()
        self._catch_up(now)
        reads, writes, moment = [self._wake_read], [], self._schedule.next_s
        for end in End:
            source, target, lane = self._ttys[end], self._ttys[end.other], self._lanes[end]
            lane.land(now)
            blocked = self._deliver(lane, end.other, now)
            if blocked:
                writes.append(target.master)
            else:
                moment = min(moment, lane.next_s(now))
            if source.plugged and len(lane.held) < MAX_HELD and lane.room(self._byte_s(end)) > 0:
                reads.append(source.master)
        timeout = None if moment == math.inf else max(0.0, moment - monotonic())
        readable, _, _ = select.select(reads, writes, [], timeout)
        for end in End:
            if self._ttys[end].master in readable:
                self._take(end)
        if self._wake_read in readable:
            os.read(self._wake_read, 1024)
            self._obey()

    def _obey(self) -> None:
        while not self._commands.empty():
            command, future = self._commands.get()
            try:
                future.set_result(command())
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)

    def _take(self, end: End) -> None:
        tty, lane, byte_s = self._ttys[end], self._lanes[end], self._byte_s(end)
        try:
            data = os.read(tty.master, lane.room(byte_s))
        except BlockingIOError:
            return
        now = monotonic()
        if self._tapped is not None:
            self._tapped.append(Tapped(now, end, True, data))
        heard = self._as_understood(end, data)
        for when, event in lane.put(heard, now, byte_s, waiting=tty.waiting):
            self._schedule.add(when, event)
        lane.sent += len(data) - len(heard)

    def _deliver(self, lane: Lane, end: End, now: float) -> bool:
        """Give the reader what is due; whether it takes no more."""
        data = lane.due(now)
        if not data:
            return False
        if not self._ttys[end].plugged:
            lane.held.clear()
            lane.passed_on(0, now)
            return False
        try:
            count = os.write(self._ttys[end].master, data)
        except BlockingIOError:
            count = 0
        if self._tapped is not None and count:
            self._tapped.append(Tapped(now, end, False, data[:count]))
        lane.passed_on(count, now)
        if count == len(data):
            return False
        lane.stall()
        if not self._flow_control:
            self._overruns += len(data) - count
            del lane.held[: len(data) - count]
            return False
        return True

    def _byte_s(self, end: End) -> float:
        """What one byte of this end takes on the line."""
        if self._baud is None:
            return 0.0
        if self._baud != FOLLOW:
            return (self._bits or 10) / self._baud
        baud, bits = self._ttys[end].settings if self._ttys[end].plugged else (38400, 10)
        return (self._bits or bits) / max(baud, 1)

    def _as_understood(self, sender: End, data: bytes) -> bytes:
        """What a receiver at another speed makes of the bytes: others, and more or fewer of them."""
        receiver = self._ttys[sender.other]
        if self._baud != FOLLOW or not receiver.plugged:
            return data
        here, there = self._ttys[sender].settings[0], receiver.settings[0]
        if abs(here - there) <= TOLERANCE * max(here, 1):
            return data
        self._misread[sender] += len(data) * min(4.0, there / max(here, 1))
        count = int(self._misread[sender])
        self._misread[sender] -= count
        return self._noise.randbytes(count)

    def _inflict(self, plan: FaultPlan) -> None:
        now = monotonic()
        self._schedule = Schedule(plan, now)
        for end in End:
            self._lanes[end].origin = now
            self._lanes[end].damage = None if plan.clean else Damage(plan, end)

    def _catch_up(self, now: float) -> None:
        while self._schedule.next_s <= now:
            when, event = self._schedule.pop()
            # What arrived before the plug was pulled has been delivered.
            for end in End:
                self._lanes[end].land(when)
                self._deliver(self._lanes[end], end.other, when)
            self._happen(event, when)

    def _happen(self, event: Event, when: float) -> None:
        match event:
            case Insert():
                for end in End:
                    if event.sender in {None, end}:
                        self._lanes[end].insert(event.data, when)
            case Unplug():
                for end in event.ends:
                    self._ttys[end].unplug()
                    if event.away_s < math.inf:
                        self._schedule.add(when + event.away_s, Replug(end, event.name))
                for lane in self._lanes:
                    lane.clear()
            case Replug():
                self._ttys[event.end].plug(event.name)
