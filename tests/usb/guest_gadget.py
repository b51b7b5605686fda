"""Runs in the virtual machine: both ends of `usb://` on the kernel's own stacks, joined by dummy_hcd.

python tests/usb/guest_gadget.py conformance|speed
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.channels import Channel, Listener, listen, open_channel
from gateway.errors import LinkDown, Unreachable
from hil.channel_checks import CHECKS, SIZES

URL = "usb://1209:0001/VM1"


def opened(timeout: float = 20.0) -> Channel:
    """The host's end, as soon as the kernel has the device."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return open_channel(URL)
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def accepted(listener: Listener) -> Channel:
    """The device's end."""
    assert select.select([listener.fileno()], [], [], 20.0)[0]
    channel = listener.accept()
    assert channel is not None
    return channel


@contextmanager
def pair(listener: Listener) -> Iterator[tuple[Channel, Channel]]:
    here = opened()
    there = accepted(listener)
    try:
        yield here, there
    finally:
        here.close()
        there.close()


def conformance(listener: Listener) -> dict[str, Any]:
    """Every check of `check_channel`, in both directions."""
    done = []
    for turned in (False, True):
        for check in CHECKS:
            with pair(listener) as ends:
                check(ends[::-1] if turned else ends, SIZES)
            done.append(check.__name__)
            print("checked", check.__name__, "turned" if turned else "", flush=True)
    return {"checks": len(done)}


def unplug(listener: Listener) -> dict[str, Any]:
    """The device goes away while the host reads; it comes back, and can be used."""
    here = opened()
    accepted(listener)
    begin = time.monotonic()
    listener.close()
    try:
        here.recv_within(10.0)
    except LinkDown as error:
        said = str(error)
    took = time.monotonic() - begin
    here.close()
    again = listen("gadget://1209:0001/VM1")
    begin = time.monotonic()
    here = opened()
    there = accepted(again)
    here.send(b"x")
    assert there.recv_within(10.0) == b"x"
    back = time.monotonic() - begin
    here.close()
    there.close()
    again.close()
    return {"unplugged_s": round(took, 3), "said": said, "back_s": round(back, 3)}


def main() -> None:
    listener = listen("gadget://1209:0001/VM1")
    print("listening", listener.url, flush=True)
    found = {}
    for name in sys.argv[1:]:
        found[name] = globals()[name](listener)
    listener.close()
    left = [str(path) for path in Path("/sys/kernel/config/usb_gadget").iterdir()]
    print("result", json.dumps(found | {"left": left}), flush=True)


main()
