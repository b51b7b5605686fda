"""Runs in the virtual machine: whoever connects by TCP gets a session of the USB function that is plugged in."""

from __future__ import annotations

import select
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.channels import Channel, listen, open_channel
from hil.usb.relay import relay
from tests.usb.loops import until_there


def serve(outside: Channel) -> None:
    relay(outside, until_there(lambda: open_channel("usb://1209:0001")))


def main() -> None:
    until_there(lambda: open_channel("usb://1209:0001")).close()
    listener = listen(sys.argv[1])
    print("[relay] ready", flush=True)
    while True:
        select.select([listener.fileno()], [], [])
        channel = listener.accept()
        if channel is not None:
            threading.Thread(target=serve, args=(channel,), daemon=True).start()


main()
