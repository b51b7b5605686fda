"""Runs in the virtual machine: software devices on its kernel by USB/IP; the channel's checks, and kernel drivers."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.channels import Channel, open_channel
from hil.channel_checks import CHECKS, SIZES
from hil.usb.function import RpycFunction
from hil.usb.i2c import I2cAdapter, Memory
from hil.usb.tmc import TmcInstrument
from hil.usb.usbip import UsbIp
from tests.usb.loops import until_there

I2C_SLAVE = 0x0703


def conformance() -> dict[str, Any]:
    """Every check of `check_channel`, in both directions."""
    function = RpycFunction()
    plug = UsbIp(function)

    @contextmanager
    def pair() -> Iterator[tuple[Channel, Channel]]:
        here = until_there(lambda: open_channel("usb://1209:0001"))
        there = function.channels.get(timeout=20.0)
        try:
            yield here, there
        finally:
            here.close()
            there.close()

    for turned in (False, True):
        for check in CHECKS:
            with pair() as ends:
                check(ends[::-1] if turned else ends, SIZES)
    plug.close()
    return {"checks": 2 * len(CHECKS)}


def usbtmc() -> dict[str, Any]:
    """The kernel's own driver asks the instrument."""
    plug = UsbIp(TmcInstrument(lambda message: b"HIL,TMC,1,1.0\n" if message.startswith(b"*IDN?") else b""), 1)
    fd = os.open(_appears("/dev", "usbtmc"), os.O_RDWR)
    os.write(fd, b"*IDN?\n")
    said = os.read(fd, 100)
    os.close(fd)
    plug.close()
    return {"said": said.decode()}


def i2c() -> dict[str, Any]:
    """The kernel's own driver reads and writes a memory, and is refused elsewhere."""
    plug = UsbIp(I2cAdapter({0x48: Memory()}), 2)
    names = Path("/sys/class/i2c-dev")

    def found() -> str | None:
        for each in names.iterdir():
            if "tiny" in (each / "name").read_text():
                return f"/dev/{each.name}"
        return None

    fd = os.open(_until(found), os.O_RDWR)
    fcntl.ioctl(fd, I2C_SLAVE, 0x48)
    os.write(fd, b"\x10\xaa\xbb")
    os.write(fd, b"\x10")
    read = os.read(fd, 2).hex()
    fcntl.ioctl(fd, I2C_SLAVE, 0x20)
    try:
        os.write(fd, b"\0")
        refused = 0
    except OSError as error:
        refused = error.errno or -1
    os.close(fd)
    plug.close()
    return {"read": read, "refused": refused}


def _appears(folder: str, prefix: str) -> str:
    return _until(lambda: next((str(each) for each in Path(folder).iterdir() if each.name.startswith(prefix)), None))


def _until(found: Callable[[], str | None]) -> str:
    deadline = time.monotonic() + 20.0
    while (name := found()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return name


def main() -> None:
    print("result", json.dumps({name: globals()[name]() for name in sys.argv[1:]}), flush=True)


main()
