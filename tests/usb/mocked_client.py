"""Runs with umockdev's library loaded: the channel's checks on the real libusb, for a device in another process.

That one hands on each session's messages to the Unix socket which is the argument.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.channels import Channel, listen, open_channel
from hil.channel_checks import CHECKS, SIZES

URL = "usb://1209:0001/MOCK1"
ACCEPT_S = 20.0


def main() -> None:
    listener = listen(f"unix://{sys.argv[1]}")
    closing: list[float] = []

    @contextmanager
    def pair() -> Iterator[tuple[Channel, Channel]]:
        here = open_channel(URL)
        assert select.select([listener.fileno()], [], [], ACCEPT_S)[0]
        there = listener.accept()
        assert there is not None
        try:
            yield here, there
        finally:
            begin = time.monotonic()
            here.close()
            closing.append(time.monotonic() - begin)
            there.close()

    for turned in (False, True):
        for check in CHECKS:
            with pair() as ends:
                check(ends[::-1] if turned else ends, SIZES)
    print(json.dumps({"checks": 2 * len(CHECKS), "closed_s": max(closing)}))


main()
