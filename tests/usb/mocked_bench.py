"""For tests/bench/usb_carriers.py, over umockdev: `device` for Debian's Python, `host` with its library loaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.usb.finding import WantedUsb
from hil.usb import mocked
from hil.usb.function import RpycFunction
from tests.usb import loops

SERIAL = "MOCK1"


def main() -> None:
    if sys.argv[1] == "device":
        function = RpycFunction(SERIAL)
        loops.background(function.channels.get)
        mocked.serve(function)
    else:
        quick = sys.argv[2] == "1"
        wanted = WantedUsb(0x1209, 0x0001, SERIAL)
        figures = loops.measure(
            f"usb://1209:0001/{SERIAL}", wanted, rounds=3 if quick else 9, messages=50, calls=300 if quick else 1000
        )
        print(json.dumps(figures))


main()
