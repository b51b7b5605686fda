"""usb:// on a real Linux USB stack, in a virtual machine: libusb, the kernel's drivers, plugging and unplugging."""

from __future__ import annotations

import errno
import json
import re
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import gateway
from devices.simulators.multimeter import SimulatedMultimeter
from gateway.channels import Channel, open_channel
from gateway.errors import DeviceUnavailable, GatewayError, LinkDown, OutcomeUnknown
from gateway.server.registry import GatewayService
from hil.channel_checks import CHECKS, SIZES
from hil.usb.acm import AcmPort
from hil.usb.function import RpycFunction
from hil.usb.redir import Redir
from hil.usb.tmc import TmcInstrument
from hil.vm.machine import Vm
from tests.server.bridged import wait_until
from tests.usb.softhost import Counter, SoftHost, numbers_once

ROOT = Path(__file__).resolve().parents[2]
PYTHON = shlex.quote(sys.executable)
PORT = 18871
CYCLES = 20
SLOW_S = 60.0
"""All in the machine is emulated, ten to thirty times slower than here."""


def in_guest(*arguments: str) -> str:
    """The shell's line that runs Python there."""
    return f"cd {shlex.quote(str(ROOT))}; {PYTHON} {shlex.join(arguments)}"


def test_both_ends_on_the_kernels_own_stacks(vm_image: Path) -> None:
    command = in_guest("tests/usb/guest_gadget.py", "conformance", "unplug")
    with Vm(command, folder=vm_image) as vm:
        assert vm.wait(120.0) == 0, vm.console
        found = json.loads(vm.console.rpartition("result ")[2].splitlines()[0])
    assert found["conformance"]["checks"] == 18
    assert "is gone: unplugged" in found["unplug"]["said"]
    assert found["unplug"]["unplugged_s"] < 3.0
    assert found["left"] == []


def test_the_command_is_a_usb_device_and_leaves_nothing(vm_image: Path) -> None:
    with Vm(in_guest("tests/usb/guest_host.py"), folder=vm_image) as vm:
        assert vm.wait(120.0) == 0, vm.console
        found = json.loads(vm.console.rpartition("result ")[2].splitlines()[0])
    assert found == {
        "url": "gadget://1209:0001/VMHOST",
        "names": ["psu1"],
        "gadgets": [1, 0],
        "mounts": [],
        "code": 0,
    }


def test_software_devices_on_the_kernel_by_usbip(vm_image: Path) -> None:
    with Vm(in_guest("tests/usb/guest_usbip.py", "conformance", "usbtmc", "i2c"), folder=vm_image) as vm:
        assert vm.wait(120.0) == 0, vm.console
        found = json.loads(vm.console.rpartition("result ")[2].splitlines()[0])
    assert found == {
        "conformance": {"checks": 18},
        "usbtmc": {"said": "HIL,TMC,1,1.0\n"},
        "i2c": {"read": "aabb", "refused": errno.ENXIO},
    }


def test_the_channel_keeps_its_promises_when_the_device_is_redirected(vm_image: Path) -> None:
    with ExitStack() as stack:
        function = RpycFunction()
        command = in_guest("tests/usb/guest_relay.py", f"tcp://10.0.2.15:{PORT}")
        vm = stack.enter_context(Vm(command, redirs=["pi"], ports=[PORT], folder=vm_image))
        vm.wait_for("[vm] ready", SLOW_S)
        stack.callback(Redir(function, vm.redir("pi")).close)
        function.channels.get(timeout=SLOW_S).close()  # it has been seen
        vm.wait_for("[relay] ready", SLOW_S)

        @contextmanager
        def pair() -> Iterator[tuple[Channel, Channel]]:
            inside = open_channel(f"tcp://127.0.0.1:{vm.port(PORT)}")
            device = function.channels.get(timeout=SLOW_S)
            try:
                yield inside, device
            finally:
                inside.close()
                device.close()

        for check in CHECKS:
            for turned in (False, True):
                with pair() as ends:
                    check(ends[::-1] if turned else ends, SIZES)


def test_a_gateway_uses_a_host_that_is_plugged_in_and_out(vm_image: Path) -> None:
    # The gateway is the supervisor's child.
    child = "c=$(cat /proc/$!/task/$!/children); c=${c% }; c=/proc/${c##* }"
    watch = f"while sleep 0.5; do {child}; echo [left] $(ls $c/fd | wc -l) $(ls $c/task | wc -l); done"
    command = f"{in_guest('-m', 'gateway', 'serve', '--config', 'tests/usb/guest_gateway.toml')} & {watch}"
    with ExitStack() as stack:
        soft = SoftHost(stack)
        vm = stack.enter_context(Vm(command, redirs=["pi"], ports=[PORT], folder=vm_image))
        vm.wait_for(f" at tcp://10.0.2.15:{PORT}", SLOW_S)
        conn = gateway.connect(f"tcp://127.0.0.1:{vm.port(PORT)}", config={"sync_request_timeout": SLOW_S})
        stack.callback(conn.close)
        bench = Plugging(soft, vm, conn)
        bench.plug()
        assert conn.root.pi.box.echo(bytes(100_000)) == bytes(100_000)
        for _ in range(2):
            bench.cycle()
        before = bench.left()
        for _ in range(CYCLES):
            bench.cycle()
        after = bench.left()
        assert after[0] <= before[0] + 1, f"open files before and after {CYCLES} replugs: {before[0]}, {after[0]}"
        assert after[1] <= before[1] + 2, f"threads before and after {CYCLES} replugs: {before[1]}, {after[1]}"
        assert numbers_once(soft.box)
        assert set(bench.done) <= set(soft.box.calls)
        print(f"plug to first good call {_spread(bench.up_s)}; unplug to typed error {_spread(bench.down_s)}")


def _spread(seconds: list[float]) -> str:
    return f"median {statistics.median(seconds):.3f} s, worst {max(seconds):.3f} s"


def test_a_gateway_drives_an_instrument_and_a_serial_port_of_the_kernel(vm_image: Path) -> None:
    with ExitStack() as stack:
        port = AcmPort()
        host_end = port.join_pty()
        counter = Counter()
        served = gateway.Server(GatewayService({"box": counter}), f"serial://{host_end}?baudrate=2000000", strict=True)
        stack.enter_context(served)
        command = in_guest("-m", "gateway", "serve", "--config", "tests/usb/guest_gateway.toml")
        vm = stack.enter_context(Vm(command, redirs=["dmm", "acm"], ports=[PORT], folder=vm_image))
        vm.wait_for("[vm] ready", SLOW_S)
        stack.callback(Redir(TmcInstrument(SimulatedMultimeter().receive), vm.redir("dmm")).close)
        stack.callback(Redir(port, vm.redir("acm")).close)
        vm.wait_for(f" at tcp://10.0.2.15:{PORT}", SLOW_S)
        conn = gateway.connect(f"tcp://127.0.0.1:{vm.port(PORT)}", config={"sync_request_timeout": SLOW_S})
        stack.callback(conn.close)
        root = conn.root
        # by USBTMC, with the kernel's usbtmc sent away
        wait_until(lambda: _said(root.dmm1.identify), "the multimeter answers", SLOW_S)
        assert root.dmm1.identify().count(",") == 3
        assert len(root.dmm1.waveform(5000)) == 5000
        # by the link on /dev/ttyACM0, with errors of the line
        wait_until(lambda: _said(lambda: root.line.box.echo(b"x")), "the host on the line answers", SLOW_S)
        assert port.dtr
        assert port.baudrate == 2_000_000
        for number in range(40):
            if number % 4 == 0:
                port.line_error(framing=True, overrun=number % 8 == 0)
            assert root.line.box.count(number) == number + 1
        assert counter.calls == list(range(40))
        assert root.line.box.echo(bytes(range(256)) * 100) == bytes(range(256)) * 100


def _said(call: Callable[[], Any]) -> bool:
    try:
        call()
    except (GatewayError, AttributeError):
        return False
    return True


class Plugging:
    """Plugs a host in and out, and calls it meanwhile."""

    def __init__(self, soft: SoftHost, vm: Vm, conn: Any) -> None:
        self.soft, self.vm, self.conn = soft, vm, conn
        self.number = 0
        self.done: list[int] = []
        """Numbers whose call was answered."""
        self.up_s: list[float] = []
        self.down_s: list[float] = []
        self._redir: Redir | None = None

    def plug(self) -> None:
        """Plug it in, and wait for the first call that is answered."""
        begin = monotonic()
        self._redir = Redir(self.soft.function, self.vm.redir("pi"))
        wait_until(self._answers, "the first good call", SLOW_S)
        self.up_s.append(monotonic() - begin)

    def _answers(self) -> bool:
        self.number += 1
        try:
            self.conn.root.pi.box.count(self.number)
        except (GatewayError, AttributeError):
            return False
        self.done.append(self.number)
        return True

    def cycle(self) -> None:
        """Pull it out while a call runs, and plug it in again."""
        self.number += 1
        self.soft.box.entered.clear()
        self.soft.box.release.clear()
        waiting = gateway.async_(self.conn.root.pi.box.block)(self.number)
        assert self.soft.box.entered.wait(SLOW_S)
        begin = monotonic()
        assert self._redir is not None
        self._redir.close()
        with pytest.raises((OutcomeUnknown, DeviceUnavailable, LinkDown)) as caught:
            _ = waiting.value
        self.down_s.append(monotonic() - begin)
        assert isinstance(caught.value, OutcomeUnknown), caught.value
        self.soft.box.release.set()
        self.plug()

    def left(self) -> tuple[int, int]:
        """How many open files and threads the gateway has, a moment later."""
        seen = len(re.findall(r"\[left\] (\d+) (\d+)", self.vm.console))
        wait_until(lambda: len(re.findall(r"\[left\] (\d+) (\d+)", self.vm.console)) > seen + 2, "its count", SLOW_S)
        files, threads = re.findall(r"\[left\] (\d+) (\d+)", self.vm.console)[-1]
        return int(files), int(threads)
