"""The conformance suite of device drivers.

    with SimulatedInstrument(SimulatedThermostat()) as line:
        oven = Thermostat("oven", ThermostatOptions(port=line.port))
        check_device(oven, line, refused=[("heat_to", 81)], safe=lambda: not line.instrument.heating)

It opens and closes the driver itself, pulls its plug, mutes its line and lets noise into it. Raises `NotConformant`
with what was done, what came of it and what should have.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Protocol

from devices.base import Device
from gateway.errors import CallTimeout, DeviceUnavailable, GatewayError
from gateway.service.exposure import Exposure, Kind, exposure_table
from hil.conformance import Job, outcome, require, shown
from hil.faults import Bytes, End, FaultPlan, Garble

PATIENCE_S: Final = 30.0
ALWAYS: Final = frozenset({"identify", "make_safe", "state"})
BY_VALUE: Final = (type(None), bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)
RECOVERY_S: Final = 5.0
"""A driver is itself again so soon after its plug is back, after silence or noise."""
NOTICE_S: Final = 1.0
"""A device whose call failed says so soon that it is faulty."""
RETRY_S: Final = 0.02


class Line(Protocol):
    """What the suite does to a driver's line. `SimulatedInstrument` has it; so may a bench of real hardware."""

    @property
    def received(self) -> int: ...
    def unplug(self) -> None: ...
    def replug(self) -> None: ...
    def mute(self, *, mute: bool = True) -> None: ...
    def inflict(self, plan: FaultPlan) -> None: ...


def check_device(
    device: Device,
    line: Line | None = None,
    *,
    refused: Sequence[tuple[Any, ...]] = (),
    safe: Callable[[], bool] | None = None,
    unitless: Collection[str] = (),
    probe: Callable[[Device], Any] | None = None,
) -> None:
    """Run all checks on a driver that is closed; it is closed again afterwards.

    `refused`: calls that have to be refused before anything is sent, each a method's name and its arguments. `safe`:
    whether the hardware is in its safe condition, seen from outside. `unitless`: members that give a float whose unit
    is not always the same. `probe`: a call that fails when the device is not there, where `identify` does not ask it.
    Without a `line` what needs one is left out: losing it, and counting what is sent.
    """
    reach = probe or (lambda device: device.identify())
    table = exposure_table(device)
    check_table(device.name, table.values(), unitless=unitless)
    require(device.state == "closed", f"{device.name} is {device.state}; give check_device a driver that is not open")
    _check_closed(device, reach)
    try:
        device.open()
        require(device.state == "open", f"{device.name}.state is {device.state!r} after open()")
        _check_basics(device, safe)
        _check_properties(device, table.values())
        _check_refused(device, line, refused)
        if line is not None:
            _check_unplugged(device, line, reach)
            _check_mute(device, line)
            _check_noise(device, line)
        _check_closing(device, safe)
    except BaseException:
        with suppress(Exception):  # what was found is what is told
            device.close()
        raise
    device.close()


def check_table(name: str, rows: Collection[Exposure], *, unitless: Collection[str] = ()) -> None:
    """The exposure table is complete and says what a client needs to know."""
    missing = ALWAYS - {row.name for row in rows}
    require(not missing, f"{name} does not expose {', '.join(sorted(missing))}: every device does")
    for row in rows:
        member = f"{name}.{row.name}"
        require(row.doc.strip(), f"{member} has no docstring: say what it is and what it raises")
        require(row.signature, f"{member} has no signature: annotate it")
        # "self" aside, what has no annotation shows as a bare name.
        bare = re.findall(r"[(,] *(?!self\b|\*|/)(\w+)(?= *[,)=])", row.signature)
        require(not bare, f"{member}{row.signature}: annotate {', '.join(bare)}")
        gives_float = row.signature.endswith("-> float")
        if gives_float and row.name not in unitless:
            require(row.unit, f"{member} gives a float without a unit: @exposed(unit=...)")


def _check_closed(device: Device, reach: Callable[[Device], Any]) -> None:
    _, error = outcome(lambda: reach(device))
    require(
        isinstance(error, DeviceUnavailable),
        f"a call of {device.name}, which is closed, has to raise DeviceUnavailable: {shown(error)}",
    )
    _, error = outcome(device.make_safe)
    require(
        error is None or isinstance(error, DeviceUnavailable),
        f"{device.name}.make_safe() on a closed device may raise DeviceUnavailable only: {shown(error)}",
    )
    device.close()
    require(device.state == "closed", f"{device.name}.close() on a closed device left it {device.state!r}")


def _check_basics(device: Device, safe: Callable[[], bool] | None) -> None:
    identity = device.identify()
    require(
        isinstance(identity, str) and identity.strip() and identity.isprintable(),
        f"{device.name}.identify() gave {identity!r}: one line of text is due",
    )
    again = device.identify()
    require(again == identity, f"{device.name}.identify() gave {again!r} after {identity!r}")
    for count in ("first", "second"):
        _, error = outcome(device.make_safe)
        require(error is None, f"the {count} {device.name}.make_safe() raised: {shown(error)}")
        _require_safe(device, safe, f"after the {count} make_safe()")
    device.open()
    require(device.state == "open", f"{device.name}.open() on an open device left it {device.state!r}")


def _check_properties(device: Device, rows: Collection[Exposure]) -> None:
    for row in rows:
        if row.kind is not Kind.PROPERTY:
            continue
        value, error = outcome(lambda row=row: getattr(device, row.attribute))  # type: ignore[misc]
        require(error is None, f"reading {device.name}.{row.name} raised: {shown(error)}")
        require(
            isinstance(value, BY_VALUE),
            f"{device.name}.{row.name} is a {type(value).__name__}: a client would get a proxy of it, not a value",
        )
        if row.signature == "-> float":
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            require(is_number, f"{device.name}.{row.name} is said to give a float, and gave {value!r}")


def _check_refused(device: Device, line: Line | None, refused: Sequence[tuple[Any, ...]]) -> None:
    for name, *arguments in refused:
        call = f"{device.name}.{name}({', '.join(map(repr, arguments))})"
        before = line.received if line else 0
        _, error = outcome(lambda name=name, arguments=arguments: getattr(device, name)(*arguments))  # type: ignore[misc]
        require(
            isinstance(error, ValueError | TypeError),
            f"{call} has to raise OutOfRange or TypeError: {shown(error)}",
        )
        sent = (line.received if line else 0) - before
        require(sent == 0, f"{call} was refused, but {sent} bytes were sent before: check first, then send")
        require(device.state == "open", f"{call} was refused and left the device {device.state!r}")


def _check_unplugged(device: Device, line: Line, reach: Callable[[Device], Any]) -> None:
    line.unplug()
    for when in ("after the plug was pulled", "again, still without the plug"):
        _, error = Job(lambda: reach(device)).wait(PATIENCE_S, f"a call of {device.name} {when}")
        require(
            isinstance(error, DeviceUnavailable),
            f"a call of {device.name} {when} has to raise DeviceUnavailable: {shown(error)}",
        )
        # A thread of the driver may be the one that says so.
        deadline, pause = monotonic() + NOTICE_S, threading.Event()
        while device.state != "faulty":
            require(monotonic() < deadline, f"{device.name}.state is {device.state!r} {when}; it has to be 'faulty'")
            pause.wait(RETRY_S)
    line.replug()
    _require_recovery(device, lambda: reach(device), "the plug is back")
    require(device.state == "open", f"{device.name}.state is {device.state!r} after the plug is back")


def _check_mute(device: Device, line: Line) -> None:
    identity = device.identify()
    if not _asks(device, line):
        return
    line.mute()
    _, error = Job(device.identify).wait(PATIENCE_S, f"{device.name}.identify() without an answer")
    line.mute(mute=False)
    require(
        isinstance(error, CallTimeout | DeviceUnavailable),
        f"{device.name}.identify() without an answer has to raise CallTimeout: {shown(error)}",
    )
    _require_recovery(device, device.identify, "an answer that never came", identity)


def _check_noise(device: Device, line: Line) -> None:
    identity = device.identify()
    if not _asks(device, line):
        return
    for seed in range(2):
        line.inflict(FaultPlan(seed=seed, script=(Garble(where=Bytes(0, 12), sender=End.B),)))
        said, error = Job(device.identify).wait(PATIENCE_S, f"{device.name}.identify() through noise")
        line.inflict(FaultPlan())
        require(
            isinstance(error, GatewayError) or isinstance(said, str),
            f"{device.name}.identify() through noise has to give a text or an error of the gateway's: "
            f"{repr(said) if error is None else shown(error)}",
        )
        _require_recovery(device, device.identify, "noise", identity)


def _asks(device: Device, line: Line) -> bool:
    """Whether the device is asked who it is; some can't be."""
    before = line.received
    device.identify()
    return line.received > before


def _check_closing(device: Device, safe: Callable[[], bool] | None) -> None:
    for count in ("first", "second"):
        _, error = outcome(device.close)
        require(error is None, f"the {count} {device.name}.close() raised: {shown(error)}")
        require(device.state == "closed", f"{device.name}.state is {device.state!r} after the {count} close()")
    _require_safe(device, safe, "after close()")
    device.open()
    require(device.state == "open", f"{device.name} can't be opened a second time: {device.state!r}")


def _require_recovery(device: Device, call: Callable[[], Any], what: str, expected: Any = None) -> None:
    deadline, pause = monotonic() + RECOVERY_S, threading.Event()
    while True:
        said, error = Job(call).wait(PATIENCE_S, f"a call of {device.name} after {what}")
        if error is None and expected in {None, said}:
            return
        came = shown(error) if error else f"{said!r} in place of {expected!r}"
        require(monotonic() < deadline, f"{device.name} is not itself again {RECOVERY_S:g} s after {what}: {came}")
        pause.wait(RETRY_S)


def _require_safe(device: Device, safe: Callable[[], bool] | None, when: str) -> None:
    if safe is not None:
        require(safe(), f"{device.name} is not in its safe condition {when}")
