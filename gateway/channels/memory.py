"""memory_pair - the two ends of a channel in one process: for tests, and for a client beside its server.

It is a pair of connected sockets, so each end has a descriptor and works wherever a network connection works.
"""

from __future__ import annotations

import socket

from gateway.channels.base import Channel
from gateway.channels.sockets import SocketStream
from gateway.channels.stream import StreamChannel
from gateway.limits import Limits


def memory_pair(limits: Limits | None = None) -> tuple[Channel, Channel]:
    """Two channels; what one sends, the other receives."""
    one, other = socket.socketpair()
    return StreamChannel(SocketStream(one), limits), StreamChannel(SocketStream(other), limits)
