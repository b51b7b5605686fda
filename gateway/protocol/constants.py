"""The numbers of the RPyC wire: message types, box labels and handlers."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

REQUEST: Final = 1
REPLY: Final = 2
EXCEPTION: Final = 3

LABEL_VALUE: Final = 1
"""`(1, value)`: an immutable value."""
LABEL_TUPLE: Final = 2
"""`(2, (box, ...))`: a tuple of which at least one item is no value."""
LABEL_LOCAL_REF: Final = 3
"""`(3, id_pack)`: an object the receiver owns."""
LABEL_REMOTE_REF: Final = 4
"""`(4, id_pack)`: an object the sender owns."""
LABEL_COPY: Final = 5
"""`(5, (kind, data))`: a mutable container or array by value; only between peers that agreed on it in HELLO."""

EXC_STOP_ITERATION: Final = 1


class Handler(IntEnum):
    """What a REQUEST asks for. 1 to 20 are RPyC's; stock peers answer any other number with an exception."""

    PING = 1
    CLOSE = 2
    GETROOT = 3
    GETATTR = 4
    DELATTR = 5
    SETATTR = 6
    CALL = 7
    CALLATTR = 8
    REPR = 9
    STR = 10
    CMP = 11
    HASH = 12
    DIR = 13
    PICKLE = 14
    DEL = 15
    INSPECT = 16
    BUFFITER = 17
    OLDSLICING = 18
    CTXEXIT = 19
    INSTANCECHECK = 20
    HELLO = 71
    """Ours: announces `(version, features)` and answers the same."""
