"""What `usb://` carries: `python tests/bench/usb_carriers.py [--row NAME] [--json] [--quick]`.

in-process    a device in this process: what the channel itself costs
mocked        a device of another process, on the real libusb (umockdev)
redir         a device of this process, plugged into a virtual machine (QEMU's usb-redir); the host's end is in there
gadget        both ends in a virtual machine, on the kernel's own stacks (FunctionFS, dummy_hcd, libusb)
usbip         a device of the machine's own process, plugged into its kernel by USB/IP

Each is measured against bare transfers of pyusb over the same endpoints, taken in turn: `down_share` and `up_share` are
goodput in messages of 1 MiB against those, `call_over_echo` a small call against an echo of as many bytes. In the
machine, Python is ten to thirty times slower than outside.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve()
ROOT: Final = HERE.parents[2]
sys.path.insert(0, str(ROOT))

from gateway.usb.finding import WantedUsb  # noqa: E402
from hil.usb.function import RpycFunction  # noqa: E402
from hil.usb.in_process import Bus  # noqa: E402
from hil.usb.redir import Redir  # noqa: E402
from hil.vm.image import FOLDER, build  # noqa: E402
from hil.vm.machine import Vm  # noqa: E402
from tests.usb import loops  # noqa: E402

URL: Final = "usb://1209:0001/HIL0001"
WANTED: Final = WantedUsb(0x1209, 0x0001, "HIL0001")
SYSTEM_PYTHON: Final = "/usr/bin/python3"
Figures = dict[str, Any]


def in_process(quick: bool) -> Figures:
    function, bus = RpycFunction(), Bus()
    bus.plug(function)
    loops.background(function.channels.get)
    with bus.installed():
        return loops.measure(URL, WANTED, rounds=3 if quick else 9, messages=50, calls=1000)


def redir(quick: bool) -> Figures:
    function = RpycFunction()
    loops.background(function.channels.get)
    with ExitStack() as stack:
        vm = stack.enter_context(_vm("redir", quick, redirs=["pi"]))
        vm.wait_for("[vm] ready")
        stack.callback(Redir(function, vm.redir("pi")).close)
        return _result(vm)


def gadget(quick: bool) -> Figures:
    with _vm("gadget", quick) as vm:
        return _result(vm)


def usbip(quick: bool) -> Figures:
    with _vm("usbip", quick) as vm:
        return _result(vm)


def mocked(quick: bool) -> Figures:
    bench = str(ROOT / "tests/usb/mocked_bench.py")
    with subprocess.Popen(
        ["umockdev-wrapper", SYSTEM_PYTHON, bench, "device"],
        env={**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")},  # Debian's Python, with our pyusb
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as device:
        assert device.stdout is not None
        testbed = device.stdout.readline().strip()
        loaded = {"LD_PRELOAD": "libumockdev-preload.so.0", "UMOCKDEV_DIR": testbed}
        done = subprocess.run(
            [sys.executable, bench, "host", str(int(quick))],
            env={**os.environ, **loaded},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        figures: Figures = json.loads(done.stdout)
        device.communicate()
    return figures


def _vm(kind: str, quick: bool, **how: Any) -> Vm:
    folder = build(ROOT / FOLDER)
    command = f"cd {shlex.quote(str(ROOT))}; {shlex.quote(sys.executable)} tests/usb/guest_bench.py {kind} {int(quick)}"
    return Vm(command, folder=folder, **how)


def _result(vm: Vm) -> Figures:
    vm.wait_for("result ", 300.0)
    vm.wait(60.0)
    figures: Figures = json.loads(vm.console.rpartition("result ")[2].splitlines()[0])
    return figures


ROWS: Final[dict[str, Callable[[bool], Figures]]] = {
    "in-process": in_process,
    "mocked": mocked,
    "redir": redir,
    "gadget": gadget,
    "usbip": usbip,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", action="append", choices=list(ROWS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {}
    for name in options.row or ROWS:
        found[name] = ROWS[name](options.quick)
        if not options.json:
            print(f"{name:12}", "  ".join(f"{key} {value}" for key, value in found[name].items()), flush=True)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
