"""Messages: requests, replies and exceptions as bytes, in the dialects that peers speak.

    rpyc 6.x      type u8 | brine (seq, args)      type 1 REQUEST, 2 REPLY, 3 EXCEPTION
    4.1 to 5.x    brine (type, seq, args)          begins with 0x12
    bind_threads  sender's thread u64 | addressed thread u64 | one of the above
                                                   begins with 0x00: no thread id is that large

REQUEST args = (handler, box of the arguments), REPLY args = box, EXCEPTION args = what vinegar made.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final, NamedTuple

from gateway.errors import ProtocolError
from gateway.limits import Limits
from gateway.protocol.brine import INTS, dump, load
from gateway.protocol.constants import (
    EXCEPTION,
    LABEL_COPY,
    LABEL_LOCAL_REF,
    LABEL_REMOTE_REF,
    LABEL_TUPLE,
    LABEL_VALUE,
    REPLY,
    REQUEST,
    Handler,
)
from gateway.protocol.framing import Message

THREADS: Final = Struct("!QQ")
UNBOUND: Final = 0
"""A thread id that addresses whichever thread is free."""
SEQ_MAX: Final = 2**63
"""Nobody has counted that far."""

RPYC6: Final = {REQUEST: b"\x01\x11", REPLY: b"\x02\x11", EXCEPTION: b"\x03\x11"}
RPYC5: Final = {REQUEST: b"\x12\x51", REPLY: b"\x12\x52", EXCEPTION: b"\x12\x53"}
"""A dialect: how a message begins, before its sequence number."""
_INT_HEADS: Final = [bytes((0x16, count)) for count in range(256)]
_NUMBER_END: Final = 4 + 18
"""Where a number has to end that is read without looking how large it is."""
REMEMBERED: Final = 256
REMEMBERED_SIZE: Final = 256
_ONCE: Final = frozenset(b"\x11" + INTS[handler] for handler in (Handler.GETROOT, Handler.CLOSE, Handler.HELLO))
"""How the args of requests begin that come once in a connection."""
_DEL: Final = b"\x11" + INTS[Handler.DEL]
_TYPES: Final = frozenset({REQUEST, REPLY, EXCEPTION})


def encode_int(number: int) -> bytes:
    """The brine bytes of a number from 0 on."""
    if number < 4096:
        return INTS[number]
    digits = b"%d" % number
    return _INT_HEADS[len(digits)] + digits


def dialect_of(message: Message) -> dict[int, bytes]:
    """What the peer speaks, by the first byte of a message."""
    start = THREADS.size if message[0] == 0 else 0
    return RPYC5 if message[start : start + 1] == b"\x12" else RPYC6


class Returned(NamedTuple):
    """What DEL brings that names its object by the number alone, and is decoded at once: an object dies but once."""

    number: int
    times: int


class MessageDecoder:
    """Decodes the messages of one peer, and remembers the args of the latest short ones.

    Who polls an instrument sends the same bytes again and again, but for the sequence number; what they decode to is
    immutable, so it can be used again. A stock peer asks for a method anew before each call, so that the target differs
    too: then what stands around the target is remembered.
    """

    __slots__ = ("_limits", "_names", "_remembered", "_surroundings", "again")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._remembered: dict[bytes, Any] = {}
        self._surroundings: dict[bytes, tuple[int, tuple[Any, ...]]] = {}
        """What stands around the target -> the handler, and the boxes of the other arguments."""
        self._names: dict[bytes, str] = {}
        self.again: bytes | None = None
        """What followed the sequence number of the latest message, if that is remembered from an earlier one."""

    def decode(self, message: Message) -> tuple[int, int, Any, tuple[int, int] | None]:
        """`(type, seq, args, threads)`: args still boxed; threads is (sender's, addressed) with a bind_threads peer.

        Raises ProtocolError (BrineError, LimitExceeded) for what is no message; the connection can't go on then.
        """
        first = message[0]
        self.again = None
        if first == REQUEST and len(message) < REMEMBERED_SIZE and type(message) is bytes:
            place = _after_seq(message)
            if place is not None:
                seq, start = place
                body = message[start:]
                args = self._remembered.get(body)
                if args is not None:
                    self.again = body
                elif body[:2] == _DEL:
                    args = _returned(body) or load(body, 0, self._limits)
                else:
                    args = self._decode_args(body)
                    if body[:2] in _ONCE:
                        return first, seq, args, None
                    if len(self._remembered) >= REMEMBERED:
                        self._remembered.clear()
                    self._remembered[body] = args
                return first, seq, args, None
        if first == REPLY and len(message) < REMEMBERED_SIZE and type(message) is bytes:
            place = _after_seq(message)
            box = None if place is None else self._small_box(message, place[1])
            if place is not None and box is not None:
                return first, place[0], box, None
        if first in _TYPES:
            value = load(message, 1, self._limits, lends=type(message) is bytearray and _brings_array(message))
            if type(value) is tuple and len(value) == 2:
                seq, args = value
                if type(seq) is int and 0 <= seq < SEQ_MAX:
                    return first, seq, args, None
            raise ProtocolError("a message is a type and (seq, args), seq from 0 on")
        return _decode_other(message, self._limits)

    def _small_box(self, message: bytes, start: int) -> tuple[int, Any] | None:
        """The box from `start` on, if that is of a value or of an object of the peer; else None."""
        if message.startswith(_VALUE, start):
            return LABEL_VALUE, load(message, start + 2, self._limits)
        if not message.startswith(_REFERENCE, start):
            return None
        found = _id_pack_at(message, start + 2)
        if found is None or found[3] != len(message):
            return None
        encoded_name, class_id, instance_id, _ = found
        name = self._names.get(encoded_name)
        if name is None:
            if len(self._names) >= REMEMBERED:
                self._names.clear()
            self._names[encoded_name] = name = load(b"\x08\x0e" + encoded_name, 0, self._limits)
        return LABEL_REMOTE_REF, (name, class_id, instance_id)

    def remember(self, body: bytes, meaning: Any) -> None:
        """Have `decode` give `meaning` in place of the args, the next time that `body` (see `again`) comes."""
        self._remembered[body] = meaning

    def _decode_args(self, body: bytes) -> Any:
        target = _target_of(body)
        if target is None:
            return load(body, 0, self._limits)
        encoded_name, class_id, instance_id, end = target
        around = body[:_TARGET_AT] + body[end:]
        known = self._surroundings.get(around)
        name = self._names.get(encoded_name)
        if known is not None and name is not None:
            handler, others = known
            return handler, (LABEL_TUPLE, ((LABEL_LOCAL_REF, (name, class_id, instance_id)), *others))
        args = load(body, 0, self._limits)
        if len(self._surroundings) >= REMEMBERED or len(self._names) >= REMEMBERED:
            self._surroundings.clear()
            self._names.clear()
        handler, (_, ((_, (name, _, _)), *others)) = args
        self._surroundings[around] = handler, tuple(others)
        self._names[encoded_name] = name
        return args


def _brings_array(message: bytearray) -> bool:
    """Whether it is an answer that brings an array or many numbers: their bytes are copied as they are rebuilt."""
    place = _after_seq(message)
    return message[0] == REPLY and place is not None and message.startswith(_ARRAYS, place[1])


_ARRAYS: Final = tuple(dump((LABEL_COPY, (kind, ())))[:-1] for kind in ("ndarray", "numbers"))
"""How the box of an array begins, see `copies`."""
_VALUE: Final = b"\x11\x51"
"""How the box of a value begins."""
_REFERENCE: Final = b"\x11\x54\x12\x08\x0e"
"""How the box of an object of the peer begins."""
_TARGET_AT: Final = 7
"""Where the id_pack of a request's target begins, see `_target_of`."""


def _target_of(body: bytes) -> tuple[bytes, int, int, int] | None:
    """`(encoded name, class id, instance id, where it ends)` of the target in `(handler, (2, ((3, id_pack), ...)))`.

    None where that is not written as stock peers do: then `load` says what it is.
    """
    # 11 handler | 11 52 1x | 11 53 | id_pack
    if body[2:4] != b"\x11\x52" or body[5:10] != b"\x11\x53\x12\x08\x0e":
        return None
    if body[0] != 0x11 or not 0x50 <= body[1] <= 0xEF or not 0x10 <= body[4] <= 0x13:
        return None
    return _id_pack_at(body, _TARGET_AT)


def _id_pack_at(body: bytes, place: int) -> tuple[bytes, int, int, int] | None:
    """`(encoded name, class id, instance id, where it ends)` of an id_pack whose tags are those of `_REFERENCE`."""
    # 12 08 0e | length, name | class id | instance id
    try:
        name_end = place + 4 + body[place + 3]
        class_id, after = _int_at(body, name_end)
        instance_id, end = _int_at(body, after)
        return body[place + 3 : name_end], class_id, instance_id, end
    except (IndexError, ValueError):
        return None


def _returned(body: bytes) -> Returned | None:
    """The meaning of `(DEL, (2, ((3, number), (1, times))))`; None where it is written in any other way."""
    try:
        number, end = _int_at(body, 7)
        times, after = _int_at(body, end + 2)
    except (IndexError, ValueError):
        return None
    usual = body[2:7] == b"\x11\x52\x11\x11\x53" and body[end : end + 2] == b"\x11\x51" and after == len(body)
    return Returned(number, times) if usual and number > 0 and times > 0 else None


def _int_at(body: bytes, place: int) -> tuple[int, int]:
    """The int that begins at `place`, and where it ends. Raises IndexError, ValueError."""
    tag = body[place]
    if 0x20 <= tag <= 0xEF:
        return tag - 0x50, place + 1
    end = place + 2 + body[place + 1]
    digits = body[place + 2 : end]
    if tag != 0x16 or not digits.isdigit() or digits[0] == 0x30 or len(digits) > 18 or end > len(body):
        raise ValueError
    return int(digits), end


def _after_seq(message: Message) -> tuple[int, int] | None:
    """`(seq, where the args begin)` of a message of two parts; None where it is written in any other way."""
    if len(message) > 4 and message[1] == 0x11:
        tag = message[2]
        if 0x50 <= tag <= 0xEF:
            return tag - 0x50, 3
        if tag == 0x16:
            end = 4 + message[3]
            digits = message[4:end]
            if digits.isdigit() and digits[0] != 0x30 and end <= _NUMBER_END:
                return int(digits), end
    return None


def _decode_other(message: Message, limits: Limits) -> tuple[int, int, Any, tuple[int, int] | None]:
    """The rarer dialects."""
    threads = None
    start = 0
    if message[0] == 0 and len(message) > THREADS.size:
        threads = THREADS.unpack_from(message)
        start = THREADS.size
    kind: Any = message[start]
    if kind == 0x12:
        kind, seq, args = load(message, start, limits)  # the tag of a tuple of three
    elif kind in _TYPES:
        value = load(message, start + 1, limits)
        if type(value) is not tuple or len(value) != 2:
            raise ProtocolError("a message is a type and (seq, args)")
        seq, args = value
    else:
        raise ProtocolError(f"message type 0x{kind:02x}: the peer speaks no RPyC that is known here")
    if type(kind) is not int or kind not in _TYPES or type(seq) is not int or not 0 <= seq < SEQ_MAX:
        raise ProtocolError(f"message type {kind!r:.20} with sequence number {seq!r:.40}")
    return kind, seq, args, threads
