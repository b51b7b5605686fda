"""The reliable serial link: messages over a line that flips, drops and delays bytes. Pure: bytes and the time go in.

hdlc        what a frame is on the line: flags, escapes, CRC-32
frames      the four kinds of frames, drawn byte by byte
config      what an end can take, and its times
pace        when the line takes the next frame
window      numbering: what is in flight, what has to be sent again, what has come
rtt         how long an answer may take
streams     messages cut into fragments and put together again, deflated where both ends can
session     what two ends agreed on: nonces, keys, sizes
exchange    the DATA and ACK frames of one session, and their timers
machine     the states, the handshake and the table that joins all this: `Link`
"""

from __future__ import annotations

from gateway.link.config import LinkConfig
from gateway.link.counters import Counters
from gateway.link.events import Cause, Down, Ended, Event, Opened, Received
from gateway.link.machine import Link, LinkState
from gateway.link.session import Peer

__all__ = [
    "Cause",
    "Counters",
    "Down",
    "Ended",
    "Event",
    "Link",
    "LinkConfig",
    "LinkState",
    "Opened",
    "Peer",
    "Received",
]
