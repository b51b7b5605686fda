"""A simulated instrument at the far end of a wire: what a driver's tests plug their driver into.

    with SimulatedInstrument(SimulatedThermostat(), baud=115200) as line:
        driver = Thermostat("oven", ThermostatOptions(port=line.port))
        line.unplug(); line.replug()

The instrument is anything with `receive(data: bytes) -> bytes`, such as a `devices.simulators.scpi.ScpiEngine`.
"""

from __future__ import annotations

import os
import select
import threading
from types import TracebackType
from typing import Any, Final, Self

from devices.simulators.instrument import Instrument, Unplugged
from hil.faults import End, FaultPlan
from hil.pty_wire import PtyWire

CHUNK: Final = 4096
JOIN_S: Final = 10.0
QUIET_S: Final = 0.01


class SimulatedInstrument:
    """The wire, with the instrument at end B. The driver's port is end A. A context manager."""

    def __init__(self, instrument: Instrument, **wire: Any) -> None:
        """`wire` is what `PtyWire` takes: baud, latency_s, faults ..."""
        self.instrument = instrument
        self.wire = PtyWire(**wire)
        self.failure: BaseException | None = None
        """What the instrument's own code raised; `close` raises it again."""
        self._fd = os.open(self.wire.port(End.B), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="hil-instrument", daemon=True)
        self._thread.start()

    @property
    def port(self) -> str:
        """Path of the driver's port; it stays the same over a replug."""
        return self.wire.by_id(End.A)

    @property
    def received(self) -> int:
        """Bytes that the driver has sent; waits until nothing more comes for a moment."""
        pause = threading.Event()
        before = -1
        while before != (now := self.wire.sent(End.A)):
            before = now
            pause.wait(QUIET_S)
        return now

    def unplug(self) -> None:
        """Pull the plug of the driver's port; returns when it is gone."""
        self.wire.unplug(End.A)

    def replug(self, name: str | None = None) -> None:
        """Put it back in, under another node's name if one is given."""
        self.wire.replug(End.A, name)

    def mute(self, *, mute: bool = True) -> None:
        """Let the instrument's answers get lost, or no longer."""
        self.wire.mute(End.B, mute=mute)

    def inflict(self, plan: FaultPlan) -> None:
        """Let this go wrong on the wire from now on."""
        self.wire.inflict(plan)

    def close(self) -> None:
        """Take all away. Idempotent. Raises what the instrument's own code raised."""
        if self._stop_write >= 0:
            os.write(self._stop_write, b"x")
            self._thread.join(JOIN_S)
            for descriptor in (self._fd, self._stop_read, self._stop_write):
                os.close(descriptor)
            self._stop_write = -1
            self.wire.close()
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            unsent = self.instrument.receive(b"")
            while True:
                readable, writable, _ = select.select([self._stop_read, self._fd], [self._fd] if unsent else [], [])
                if self._stop_read in readable:
                    return
                if writable:
                    unsent = unsent[os.write(self._fd, unsent) :]
                if self._fd in readable:
                    unsent += self.instrument.receive(os.read(self._fd, CHUNK))
        except Unplugged:
            self.wire.unplug(End.A)
        except BaseException as failure:  # noqa: BLE001 - told to whoever closes it
            self.failure = failure
