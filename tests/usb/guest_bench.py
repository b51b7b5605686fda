"""Runs in the virtual machine, for tests/bench/usb_carriers.py: the host's end, and most often the device's."""

from __future__ import annotations

import json
import select
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.channels import listen
from gateway.channels.stream import StreamChannel
from gateway.channels.usb_devices import WantedUsb, open_function
from hil.usb.function import RpycFunction
from hil.usb.usbip import UsbIp
from tests.usb import loops

SERIAL = "HIL0001"
WANTED = WantedUsb(0x1209, 0x0001, SERIAL)


def main() -> None:
    kind, quick = sys.argv[1], sys.argv[2] == "1"
    if kind == "gadget":
        listener = listen(f"gadget://1209:0001/{SERIAL}")

        def accept() -> StreamChannel:
            select.select([listener.fileno()], [], [])
            channel = listener.accept()
            assert isinstance(channel, StreamChannel)
            return channel

        loops.background(accept)
    elif kind == "usbip":
        function = RpycFunction(SERIAL)
        UsbIp(function)
        loops.background(function.channels.get)
    loops.until_there(lambda: open_function(WANTED, detach=False)).close()
    figures = loops.measure(
        f"usb://1209:0001/{SERIAL}", WANTED, rounds=2 if quick else 5, messages=10, calls=60 if quick else 150
    )
    print("result", json.dumps(figures), flush=True)


main()
