"""The conformance suites pass what conforms and catch, by its name, everything that does not."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest

from devices.bounds import number_between
from devices.console import ConsoleOptions, SerialConsole
from devices.multimeter import ScpiMultimeter
from devices.power_supply import PowerSupplyOptions, ScpiPowerSupply
from devices.scpi import format_number
from devices.scpi_instrument import ScpiInstrument, ScpiOptions
from devices.simulators.console import ConsoleBoard
from devices.simulators.multimeter import SimulatedMultimeter
from devices.simulators.power_supply import SimulatedPowerSupply
from devices.simulators.scpi import Commands, ScpiEngine, boolean, fixed, number
from gateway.channels import memory_pair, open_channel
from gateway.channels.base import Channel
from gateway.errors import DeviceError, DeviceUnavailable, LinkDown
from gateway.service.exposure import exposed
from hil import End, NotConformant, PtyWire, SimulatedInstrument, check_channel, check_device

# -------------------------------------------------------------------------------------------------------------- devices


class SimulatedHeater(ScpiEngine):
    def __init__(self) -> None:
        self.target, self.heating = 20.0, False
        super().__init__("Acme,Heater,1,1.0")

    def commands(self) -> Commands:
        return {
            "TEMPerature": self._set,
            "TEMPerature?": lambda _: fixed(self.target),
            "HEATer[:STATe]": self._heat,
            "HEATer[:STATe]?": lambda _: "1" if self.heating else "0",
        }

    def _set(self, parameters: Any) -> None:
        self.target = number(parameters, lowest=0, highest=120)

    def _heat(self, parameters: Any) -> None:
        self.heating = boolean(parameters)


class Heater(ScpiInstrument):
    """Conforms. Those below have one fault each."""

    @property
    @exposed(unit="Cel")
    def target(self) -> float:
        """Where it heats to."""
        return self.query_number("TEMP?")

    @exposed(access="control")
    def heat_to(self, target: float) -> None:
        """Heat. Raises OutOfRange."""
        self.command(f"TEMP {format_number(number_between('target', target, 0.0, 80.0, 'Cel'))}", "HEAT ON")

    @exposed(access="control")
    def make_safe(self) -> None:
        """Off."""
        self._command_at_once("HEAT OFF")
        if self.query_boolean("HEAT?"):
            raise DeviceError("it still heats", number=None, text="")


class Undocumented(Heater):
    @exposed(access="read")
    def mystery(self) -> int:
        return 1


class Unannotated(Heater):
    @exposed(access="control")
    def nudge(self, by, *, hard: bool = False) -> None:  # type: ignore[no-untyped-def]
        """Heat a little more."""


class Unsigned(Heater):
    @property
    @exposed
    def warmth(self):  # type: ignore[no-untyped-def]
        """How warm it is."""
        return 1


class WithoutUnit(Heater):
    @property
    @exposed
    def warmth(self) -> float:
        """How warm it is."""
        return 1.0


class Fickle(Heater):
    _count = itertools.count()

    @exposed(access="read")
    def identify(self) -> str:
        """Another one each time."""
        return f"{super().identify()} {next(self._count)}"


class Silent(Heater):
    @exposed(access="read")
    def identify(self) -> str:
        """Says nothing."""
        super().identify()
        return ""


class SafeOnce(Heater):
    _done = False

    @exposed(access="control")
    def make_safe(self) -> None:
        """Works once."""
        if self._done:
            raise DeviceError("already safe", number=None, text="")
        super().make_safe()
        self._done = True


class Unsafe(Heater):
    @exposed(access="control")
    def make_safe(self) -> None:
        """Does the contrary."""
        self.command("HEAT ON")


class Careless(Heater):
    @exposed(access="control")
    def heat_to(self, target: float) -> None:
        """Send first, check afterwards."""
        self.command("HEAT ON")
        number_between("target", target, 0.0, 80.0, "Cel")


class Limitless(Heater):
    @exposed(access="control")
    def heat_to(self, target: float) -> None:
        """Take anything."""


class Proxied(Heater):
    @property
    @exposed
    def parts(self) -> Any:
        """Not by value."""
        return iter([1])


class Broken(Heater):
    @property
    @exposed
    def parts(self) -> int:
        """Can't be read."""
        raise DeviceError("no parts", number=None, text="")


class Textual(Heater):
    @property
    @exposed(unit="Cel")
    def target(self) -> float:
        """A text that is said to be a float."""
        return "20"  # type: ignore[return-value]


class NeverClosed(Heater):
    @exposed(access="read")
    def identify(self) -> str:
        """Answers though it is closed."""
        return "Acme,Heater,1,1.0" if self.state == "closed" else super().identify()


class Oblivious(Heater):
    """Never learns that its port is gone."""

    _known = ""

    @exposed(access="read")
    def identify(self) -> str:
        """What it was told once."""
        if self.state == "closed":
            raise DeviceUnavailable("closed")
        self._known = self._known or super().identify()
        return self._known


class Raw(Heater):
    @exposed(access="read")
    def identify(self) -> str:
        """Lets the system's error through."""
        try:
            return super().identify()
        except DeviceUnavailable as error:
            if self.state == "faulty":
                raise OSError(5, "Input/output error") from error
            raise


class Lost(Heater):
    """Once lost, lost for ever."""

    _lost = False

    def _connect(self) -> None:
        if self._lost:
            raise DeviceUnavailable("I gave up")
        super()._connect()

    @exposed(access="read")
    def identify(self) -> str:
        """Gives up after the first loss."""
        try:
            return super().identify()
        except DeviceUnavailable:
            self._lost = self.state == "faulty"
            raise


class Impatient(Heater):
    @exposed(access="read")
    def identify(self) -> str:
        """A timeout that is none of the gateway's."""
        try:
            return super().identify()
        except TimeoutError as late:
            raise ValueError("no answer") from late


class Noisy(Heater):
    @exposed(access="read")
    def identify(self) -> str:
        """Decodes what it can't."""
        try:
            return super().identify()
        except DeviceError as strange:
            raise UnicodeDecodeError("ascii", b"\xff", 0, 1, "not ASCII") from strange


class ClosedOnce(Heater):
    _closed = 0

    def close(self) -> None:
        self._closed += self.state == "closed"
        super().close()
        if self._closed > 1:
            raise DeviceError("closed already", number=None, text="")


class OpenedOnce(Heater):
    _opened = False

    def open(self) -> None:
        if self.state == "closed" and self._opened:
            return
        super().open()
        self._opened = True


def check_heater(kind: type[Heater]) -> None:
    with SimulatedInstrument(SimulatedHeater()) as line:
        device = kind("oven", ScpiOptions(port=line.port, timeout_s=0.5))
        try:
            check_device(
                device,
                line,
                refused=[("heat_to", 81), ("heat_to", -1.0), ("heat_to", "hot")],
                safe=lambda: not line.instrument.heating,  # type: ignore[attr-defined]
            )
        finally:
            device._disconnect()


def test_a_driver_that_conforms_passes() -> None:
    check_heater(Heater)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (Undocumented, r"oven\.mystery has no docstring"),
        (Unannotated, r"oven\.nudge.*annotate by"),
        (Unsigned, r"oven\.warmth has no signature"),
        (WithoutUnit, r"oven\.warmth gives a float without a unit"),
        (Fickle, r"identify\(\) gave '.*0' after|identify\(\) gave '.* 1' after"),
        (Silent, r"one line of text is due"),
        (SafeOnce, r"the second oven\.make_safe\(\) raised: DeviceError: already safe"),
        (Unsafe, r"not in its safe condition after the first make_safe"),
        (Careless, r"heat_to\(81\) was refused, but \d+ bytes were sent before"),
        (Limitless, r"heat_to\(81\) has to raise OutOfRange.*nothing was raised"),
        (Proxied, r"oven\.parts is a list_iterator: a client would get a proxy"),
        (Broken, r"reading oven\.parts raised: DeviceError: no parts"),
        (Textual, r"oven\.target is said to give a float, and gave '20'"),
        (NeverClosed, r"which is closed, has to raise DeviceUnavailable: nothing was raised"),
        (Oblivious, r"after the plug was pulled has to raise DeviceUnavailable: nothing was raised"),
        (Raw, r"after the plug was pulled has to raise DeviceUnavailable: OSError"),
        (Lost, r"not itself again .* after the plug is back: DeviceUnavailable: I gave up"),
        (Impatient, r"without an answer has to raise CallTimeout: ValueError"),
        (Noisy, r"through noise has to give a text or an error of the gateway's: UnicodeDecodeError"),
        (ClosedOnce, r"the second oven\.close\(\) raised: DeviceError: closed already"),
        (OpenedOnce, r"can't be opened a second time: 'closed'"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_driver_with_a_fault_is_caught(kind: type[Heater], complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.device_checks.RECOVERY_S", 0.3)
    with pytest.raises(NotConformant, match=complaint):
        check_heater(kind)


def test_an_open_driver_is_not_for_the_suite() -> None:
    with SimulatedInstrument(SimulatedHeater()) as line:
        with Heater("oven", ScpiOptions(port=line.port)) as oven:
            with pytest.raises(NotConformant, match="oven is open"):
                check_device(oven, line)
            assert oven.state == "open"


def test_without_a_line_the_rest_is_checked() -> None:
    with SimulatedInstrument(SimulatedHeater()) as line:
        options = ScpiOptions(port=line.port, timeout_s=0.5)
        check_device(Heater("oven", options), refused=[("heat_to", 81)])
        with pytest.raises(NotConformant, match="nothing was raised"):
            check_device(Limitless("oven", options), refused=[("heat_to", 81)])


def test_the_projects_own_drivers_conform() -> None:
    with SimulatedInstrument(SimulatedPowerSupply()) as line:
        psu = ScpiPowerSupply("psu", PowerSupplyOptions(port=line.port, timeout_s=0.3, max_voltage=12.0))
        check_device(psu, line, refused=[("set_voltage", 12.1), ("set_voltage", -0.1), ("set_voltage", None)])
    with SimulatedInstrument(SimulatedMultimeter()) as line:
        dmm = ScpiMultimeter("dmm", ScpiMultimeter.Options(port=line.port, timeout_s=0.3))
        check_device(dmm, line, unitless=["range"])
    with SimulatedInstrument(ConsoleBoard()) as line:
        console = SerialConsole("console", ConsoleOptions(port=line.port, reopen_s=0.05))
        check_device(console, line, probe=lambda device: device.write(b"\r"))  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------------------- channels


@contextlib.contextmanager
def memory() -> Iterator[tuple[Channel, Channel]]:
    one, other = memory_pair()
    with contextlib.closing(one), contextlib.closing(other):
        yield one, other


@contextlib.contextmanager
def raw_serial() -> Iterator[tuple[Channel, Channel]]:
    with PtyWire() as wire:
        one, other = (open_channel(wire.channel_url(end, "framing=raw")) for end in End)
        with contextlib.closing(one), contextlib.closing(other):
            yield one, other


@pytest.mark.parametrize("make_pair", [memory, raw_serial], ids=["memory", "serial"])
def test_the_projects_own_channels_conform(make_pair: Any) -> None:
    check_channel(make_pair)


class Wrapped(Channel):
    """A channel of the project's, to be spoilt."""

    def __init__(self, inner: Channel) -> None:
        self.inner = inner

    def send(self, data: bytes) -> None:
        self.inner.send(data)

    def recv(self) -> bytes:
        return self.inner.recv()

    def poll(self, timeout: float | None) -> bool:
        return self.inner.poll(timeout)

    def close(self) -> None:
        self.inner.close()

    @property
    def closed(self) -> bool:
        return self.inner.closed

    @property
    def buffered(self) -> bool:
        return self.inner.buffered

    def fileno(self) -> int:
        return self.inner.fileno()


class Losing(Wrapped):
    count = 0

    def send(self, data: bytes) -> None:
        self.count += 1
        if self.count % 5:
            super().send(data)


class Altering(Wrapped):
    def send(self, data: bytes) -> None:
        super().send(data.replace(b"\x7e", b"\x7f"))


class Cutting(Wrapped):
    def send(self, data: bytes) -> None:
        super().send(data[:4096])


class Shuffling(Wrapped):
    def send_many(self, messages: list[bytes]) -> None:
        for message in reversed(messages):
            self.send(message)


class Eager(Wrapped):
    def poll(self, timeout: float | None) -> bool:
        return self.inner.poll(0)


class Lying(Wrapped):
    def poll(self, timeout: float | None) -> bool:
        return True

    def recv_within(self, timeout: float | None) -> bytes | None:
        return self.inner.recv_within(timeout)


class Late(Wrapped):
    def poll(self, timeout: float | None) -> bool:
        threading.Event().wait(0.3)
        return self.inner.poll(timeout)


class Blind(Wrapped):
    @property
    def buffered(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._silent[0].fileno()

    @property
    def _silent(self) -> Any:
        import socket

        if not hasattr(self, "_pair"):
            self._pair = socket.socketpair()
        return self._pair

    def close(self) -> None:
        super().close()
        for end in getattr(self, "_pair", ()):
            end.close()


class Deaf(Wrapped):
    """Its close does not wake a receiver."""

    def close(self) -> None:
        self.gone = True

    def recv(self) -> bytes:
        end = monotonic() + 1.0
        while monotonic() < end:
            if (data := self.inner.recv_within(0.05)) is not None:
                return data
        raise LinkDown("too late")


class WrongError(Wrapped):
    def recv(self) -> bytes:
        try:
            return super().recv()
        except LinkDown:
            raise OSError(9, "Bad file descriptor") from None


class CloseOnce(Wrapped):
    def close(self) -> None:
        if self.closed:
            raise ValueError("closed already")
        super().close()


class NeverSaysClosed(Wrapped):
    @property
    def closed(self) -> bool:
        return False


class Swallowing(Wrapped):
    def send(self, data: bytes) -> None:
        if not self.closed:
            super().send(data)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (Losing, "bytes\\) came as|did not come within"),
        (Altering, "came as .* other bytes"),
        (Cutting, "20000 bytes\\) came as 4096 other bytes"),
        (Shuffling, "came as"),
        (Eager, r"poll\(0\.1\) took 0\.0|recv_within\(0\.1\) took 0\.0"),
        (Lying, r"poll\(0\) with nothing sent gave True"),
        (Late, r"(poll|recv_within)\(0\) took 0\.3"),
        (Blind, r"fileno\(\) did not become readable"),
        (Deaf, r"recv\(\) on a channel that another thread closed was not back"),
        (WrongError, "has to raise LinkDown: OSError"),
        (CloseOnce, r"a second close\(\) raised: ValueError"),
        (NeverSaysClosed, r"closed is False after close\(\)"),
        (Swallowing, r"send\(\) on a closed channel has to raise LinkDown: nothing was raised"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_channel_with_a_fault_is_caught(
    kind: Callable[[Channel], Wrapped], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil.channel_checks.PATIENCE_S", 0.5)
    monkeypatch.setattr("hil.channel_checks.SLACK_S", 0.25)

    @contextlib.contextmanager
    def spoilt() -> Iterator[tuple[Channel, Channel]]:
        one, other = memory_pair()
        pair = kind(one), kind(other)
        try:
            yield pair
        finally:
            for end in pair:
                with contextlib.suppress(ValueError):
                    end.close()
                end.inner.close()

    with pytest.raises(NotConformant, match=complaint):
        check_channel(spoilt)
