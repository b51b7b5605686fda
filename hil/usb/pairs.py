"""Pairs of channels with a USB cable between them: in software, or of this machine's own ports."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, TypeAlias

from gateway.channels import Channel, listen, open_channel
from gateway.errors import Unreachable
from hil.usb.function import RpycFunction
from hil.usb.in_process import Bus

OPEN_S: Final = 10.0
Pairs: TypeAlias = Callable[[], AbstractContextManager[tuple[Channel, Channel]]]


@contextmanager
def software_pairs() -> Iterator[Pairs]:
    """A device in this process."""
    function, bus = RpycFunction(), Bus()
    bus.plug(function)
    with bus.installed():
        yield lambda: _pair("usb://1209:0001/HIL0001", lambda: function.channels.get(timeout=OPEN_S))


@contextmanager
def real_pairs(ids: str) -> Iterator[Pairs]:
    """This machine is the host and the device: a cable leads from its device port to one of its others."""
    listener = listen(f"gadget://{ids}/HILUSB")

    def accept() -> Channel:
        select.select([listener.fileno()], [], [], OPEN_S)
        channel = listener.accept()
        if channel is None:
            raise Unreachable(
                f"{listener.url}: no host has opened it within {OPEN_S:g} s; does a cable join the ports?"
            )
        return channel

    try:
        yield lambda: _pair(f"usb://{ids}/HILUSB", accept)
    finally:
        listener.close()


@contextmanager
def _pair(url: str, accept: Callable[[], Channel]) -> Iterator[tuple[Channel, Channel]]:
    deadline = time.monotonic() + OPEN_S
    while True:
        try:
            here = open_channel(url)
        except Unreachable:  # the kernel has not seen it yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            break
    there = accept()
    try:
        yield here, there
    finally:
        here.close()
        there.close()
