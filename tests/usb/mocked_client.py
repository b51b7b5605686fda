"""Runs with umockdev's library loaded: our channel on the real libusb, its device in another process."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.channels import open_channel
from gateway.errors import LinkDown

URL = "usb://1209:0001/MOCK1"


def main() -> None:
    echoed = 0
    for _ in range(2):
        channel = open_channel(URL)
        for size in (1, 506, 512, 4096, 20_000):
            message = random.Random(size).randbytes(size)
            channel.send(message)
            assert channel.recv_within(20.0) == message
            echoed += 1
        assert channel.recv_within(0.1) is None
        begin = time.monotonic()
        channel.close()
        closed_s = time.monotonic() - begin
        try:
            channel.send(b"x")
        except LinkDown as error:
            said = str(error)
    print(json.dumps({"echoed": echoed, "closed_s": closed_s, "said": said}))


main()
