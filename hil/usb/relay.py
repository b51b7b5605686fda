"""Join two channels, message by message: so one end of a carrier can be where another process is."""

from __future__ import annotations

import threading
from typing import Final

from gateway.channels.base import Channel
from gateway.errors import LinkDown

LEAVE_S: Final = 5.0


def relay(one: Channel, other: Channel) -> None:
    """Hand on what comes, in both directions, until either end is closed; then both are."""
    back = threading.Thread(target=_hand_on, args=(other, one), name="relay", daemon=True)
    back.start()
    _hand_on(one, other)
    back.join(LEAVE_S)


def _hand_on(source: Channel, sink: Channel) -> None:
    try:
        while True:
            sink.send(bytes(source.recv()))
    except LinkDown:
        source.close()
        sink.close()
