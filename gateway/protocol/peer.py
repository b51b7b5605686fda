"""Peer: one end of an RPyC conversation, without its wires. Messages in, events out, and back.

The front that owns a Peer gives it messages in the order of the wire, one thread at a time; everything that depends on
that order - unboxing, releases - happens in `receive`. Encoding may happen in any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from itertools import count
from typing import Any, Final, NamedTuple

from gateway.errors import BadRequest, GatewayError, LimitExceeded, ProtocolError
from gateway.limits import KIB, Limits
from gateway.protocol import vinegar
from gateway.protocol.boxing import Boxing, Loan, tuple_of
from gateway.protocol.brine import SMALL as SMALL_TYPES
from gateway.protocol.brine import dump
from gateway.protocol.constants import EXCEPTION, LABEL_LOCAL_REF, LABEL_TUPLE, LABEL_VALUE, REPLY, REQUEST, Handler
from gateway.protocol.framing import Message
from gateway.protocol.messages import RPYC6, THREADS, MessageDecoder, Returned, dialect_of, encode_int
from gateway.protocol.netref import IdPack, Netref, Reference
from gateway.protocol.schemas import SCHEMAS

VERSION: Final = 1
"""Of the extensions that HELLO announces."""
DEVICE_PROFILE: Final = "device-profile"
"""Feature: serves under the device policy: containers go by value, and INSPECT lists exactly what may be called."""

COPIES: Final = "copies"
"""Feature: understands containers and arrays by value."""
PACKS: Final = "packed-numbers"
"""Feature: understands many numbers by value as an array's bytes."""
SHORT: Final = "short-references"
"""Feature: knows an object that it lent by its number alone."""
FIXED: Final = "fixed-attributes"
"""Feature: understands an INSPECT answer that names the attributes which stay the same object."""
HEARTBEATS: Final = "heartbeats"
"""Feature: sends an empty frame every two seconds, and takes those of the peer."""
QUIET: Final = "quiet-releases"
"""Feature: answers no DEL, of which nobody awaits the answer, and expects none."""
FEATURES: Final = frozenset({COPIES, PACKS, SHORT, FIXED, QUIET})
_KNOWN: Final = FEATURES | {DEVICE_PROFILE, HEARTBEATS}
_FEATURES: Final = 64
"""Features of a peer that are looked at."""

_HANDLERS: Final = {int(handler): (handler, SCHEMAS[handler]) for handler in Handler}
_DEL: Final = int(Handler.DEL)
_REPEATED: Final = frozenset(map(int, (Handler.GETATTR, Handler.CALL, Handler.CALLATTR)))
"""Handlers of which the same request comes again and again."""
_BOX_VALUE: Final = b"\x11\x51"
_NO_ARGUMENTS: Final = _BOX_VALUE + b"\x02"
_ONE_ARGUMENT: Final = _BOX_VALUE + b"\x10"
_NO_KEYWORDS: Final = _NO_ARGUMENTS
SMALL: Final = KIB
"""Requests up to this size are not weighed: their number is bounded."""
_HEAD_MAX: Final = 64
"""Bytes that an answer takes besides its args, at most: thread ids, the message type, a sequence number."""


class Request(NamedTuple):
    """The peer asks. `args` are checked and unboxed; `target` is the loan of args[0], if the handler has a target."""

    seq: int
    handler: Handler
    args: list[Any]
    target: Loan | None
    threads: tuple[int, int] | None
    new: list[Netref]
    """Proxies among the arguments whose class must be asked for before they are used."""
    size: int
    """Bytes of the message."""
    charged: int = 0
    """What `Peer.charge` said that the arguments weigh."""


class Known(NamedTuple):
    """A request that came before and had nothing but values besides its target: only that has to be found again."""

    args: tuple[Any, ...]
    """As they were decoded."""
    handler: Handler
    reference: Reference
    values: list[Any]
    """The arguments after the target, checked and unboxed, without the keywords."""
    keywords: bool
    """Whether keywords follow: there were none."""


class Refused(NamedTuple):
    """The peer asked for what can't be: answer with the error, nothing else happens."""

    seq: int
    error: Exception
    threads: tuple[int, int] | None


class Answer(NamedTuple):
    """The peer answers request `seq` with a value, or with an error to raise."""

    seq: int
    value: Any
    error: Exception | None
    new: list[Netref]


Event = Request | Refused | Answer

_NOTHING: list[Netref] = []


@cache
def _shared(features: frozenset[str]) -> frozenset[str]:
    """One object for all peers that know the same: an idle connection should take little memory."""
    return features


class Peer:
    """The machine that joins codec, boxes, schemas and vinegar.

    `connection` is what a proxy's `____conn__` will be, `proxy_for` makes proxies, `released` takes note of one that
    died and `stand_in` is Boxing's too, `lock` guards the loans, `config` is the seed's (its exception keys are used
    here), `first_seq` the number of the first request.
    """

    def __init__(
        self,
        connection: object,
        proxy_for: Callable[[IdPack], Netref],
        released: Callable[[IdPack, int], None],
        config: dict[str, Any],
        limits: Limits,
        lock: AbstractContextManager[Any] | None = None,
        stand_in: Callable[[Any], Any] | None = None,
        first_seq: int = 0,
    ) -> None:
        self._config = config
        self._limits = limits
        self._sequence = count(first_seq)
        self._heads = RPYC6
        self._recognised = False
        self._decoder = MessageDecoder(limits)
        self.boxing = Boxing(connection, proxy_for, released, limits, lock, stand_in)
        self.features: frozenset[str] | None = None
        """What the peer announced in HELLO, as far as it is known here; None while it hasn't."""
        self.quiet = False
        """Whether both ends leave DEL unanswered."""
        self.charge: Callable[[list[Any], int], int] | None = None
        """Called with the arguments of a request of more than SMALL bytes, and their number. Gives what they weigh on
        somebody's account, or raises a GatewayError: then the request is refused."""

    # -- outgoing ---------------------------------------------------------------------------------------------------

    def request(
        self, handler: int, args: tuple[Any, ...], threads: tuple[int, int] | None = None
    ) -> tuple[int, Message]:
        """`(seq, message)` of a request. Raises Unencodable or LimitExceeded for arguments that can't be sent."""
        seq = next(self._sequence)
        head = self._head(REQUEST, seq, threads) + b"\x11" + encode_int(handler)
        return seq, self.boxing.box(args, head=head)

    def prefix(self, handler: int, target: Netref, values: tuple[str, ...] = (), more: int = 0) -> bytes:
        """What follows the sequence number in a request: the handler, the target, `values`; `more` boxes follow it."""
        head = b"\x11" + encode_int(handler) + b"\x11\x52" + bytes((0x10 + len(values) + more,))
        return b"".join((head, self.boxing.box(target), *[_BOX_VALUE + dump(value, self._limits) for value in values]))

    def prefixed(self, prefix: bytes, threads: tuple[int, int] | None = None) -> tuple[int, Message]:
        """`(seq, message)` of a request that is nothing but its prefix."""
        seq = next(self._sequence)
        return seq, self._head(REQUEST, seq, threads) + prefix

    def call(
        self, prefix: bytes, args: tuple[Any, ...], kwargs: dict[str, Any], threads: tuple[int, int] | None = None
    ) -> tuple[int, Message]:
        """`(seq, message)` of a call; the arguments, which may be megabytes, are copied once. Raises as `request`."""
        seq = next(self._sequence)
        if len(args) < 2 and not kwargs and threads is None and (not args or type(args[0]) in SMALL_TYPES):
            # Nearly always. That it fits into a frame is looked at when it is sent.
            box = _NO_ARGUMENTS if not args else _ONE_ARGUMENT + dump(args[0], self._limits)
            return seq, self._heads[REQUEST] + encode_int(seq) + prefix + box + _NO_KEYWORDS
        return seq, self._call(seq, prefix, args, kwargs, threads)

    def _call(
        self, seq: int, prefix: bytes, args: tuple[Any, ...], kwargs: dict[str, Any], threads: tuple[int, int] | None
    ) -> Message:
        box = self.boxing.box
        keywords = box(tuple(kwargs.items())) if kwargs else _NO_KEYWORDS
        return box(args, head=self._head(REQUEST, seq, threads) + prefix, tail=keywords)

    def value_head(self, seq: int) -> bytes:
        """How the answer to request `seq` begins where it is a value; that follows."""
        return self._heads[REPLY] + encode_int(seq) + _BOX_VALUE

    def reply(self, seq: int, value: Any, owner: object = None, threads: tuple[int, int] | None = None) -> Message:
        """The answer to request `seq`; a value that can't be encoded or is too large becomes that call's error."""
        try:
            if type(value) in SMALL_TYPES and threads is None:  # nearly always; said in one line
                message = self._heads[REPLY] + encode_int(seq) + _BOX_VALUE + dump(value, self._limits)
                if len(message) <= self._limits.frame:
                    return message
            return self.boxing.box(value, owner, head=self._head(REPLY, seq, threads), packs=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, the peer waits for an answer
            return self.fault(seq, error, None, threads)

    def fault(
        self, seq: int, error: BaseException, traceback_text: str | None, threads: tuple[int, int] | None = None
    ) -> bytes:
        """The answer to request `seq` that raises `error` at the peer, whatever may be wrong with `error` itself."""
        version = vinegar.RPYC_VERSION if self._config["include_local_version"] else None
        try:
            payload = dump(vinegar.dump(error, traceback_text, version, self._limits), self._limits)
            if len(payload) > self._limits.frame - _HEAD_MAX:
                raise LimitExceeded("frame", actual=len(payload), allowed=self._limits.frame - _HEAD_MAX)
        except Exception as problem:  # noqa: BLE001 - an exception's own code may raise anything
            name = type(error).__name__[: self._limits.exception_name]
            stand_in = RuntimeError(f"{name} was raised, and can't be sent: {type(problem).__name__}")
            payload = dump(vinegar.dump(stand_in, None, version, self._limits), self._limits)
        return self._head(EXCEPTION, seq, threads) + payload

    def release(self, proxy_id: IdPack, times: int) -> tuple[int, Message]:
        """`(seq, message)` of the request that gives `times` sends of one object back."""
        reference = b"\x11\x53" + dump(self.boxing.reference(proxy_id))
        box = b"\x11\x52" + tuple_of([reference, _BOX_VALUE + encode_int(times)], self._limits)
        return self.prefixed(b"\x11" + encode_int(Handler.DEL) + box)

    def _head(self, kind: int, seq: int, threads: tuple[int, int] | None) -> bytes:
        """What a message begins with."""
        head = self._heads[kind] + encode_int(seq)
        return head if threads is None else THREADS.pack(*threads) + head

    # -- incoming ---------------------------------------------------------------------------------------------------

    def receive(self, message: Message) -> Event:
        """What one message means. Raises ProtocolError where the conversation can't go on.

        What is wrong with one call only comes back as that call's `Refused` or `Answer`.
        """
        if not message:
            raise ProtocolError("a message of no bytes")
        if not self._recognised:
            self._recognised = True
            self._heads = dialect_of(message)
        kind, seq, args, threads = self._decoder.decode(message)
        if type(args) is Returned:
            if self.boxing.short:
                self.boxing.loans.release(*args)
                return Request(seq, Handler.DEL, [], None, threads, _NOTHING, len(message))
            args = _DEL, (LABEL_TUPLE, ((LABEL_LOCAL_REF, args.number), (LABEL_VALUE, args.times)))
        elif type(args) is Known:
            args, handler, reference, values, keywords = args
            target = self.boxing.loans.get(reference)
            if target is not None:
                arguments = [target.obj, *values, {}] if keywords else [target.obj, *values]
                # As Request(...), which is a function in Python.
                return tuple.__new__(Request, (seq, handler, arguments, target, threads, _NOTHING, len(message), 0))
        if kind == REQUEST:
            return self._receive_request(seq, args, threads, len(message))
        if kind == REPLY:
            return self._receive_reply(seq, args)
        return Answer(seq, None, vinegar.load(args, self._config, self._limits), _NOTHING)

    def _receive_request(self, seq: int, args: Any, threads: tuple[int, int] | None, size: int) -> Request | Refused:
        if type(args) is not tuple or len(args) != 2 or type(args[0]) is not int:
            raise ProtocolError("the args of a request are (handler, box)")
        number, box = args
        new: list[Netref] = []
        try:
            known = _HANDLERS.get(number)
            if known is None:
                raise BadRequest(f"there is no handler {number}")
            handler, schema = known
            arguments = schema.read(self.boxing, box, new, self._limits)
            charged = self.charge(arguments, size) if size > SMALL and self.charge is not None else 0
        except GatewayError as error:
            return Refused(seq, error.with_traceback(None), threads)  # its frames hold what was decoded
        if number == _DEL:
            self.boxing.loans.release(*arguments)
            arguments = []
        target = None
        if arguments and type(arguments[0]) is Loan:
            target = arguments[0]
            arguments[0] = target.obj
            if self._decoder.again is not None and number in _REPEATED:
                self._remember(self._decoder.again, args, handler, arguments[1:])
        return Request(seq, handler, arguments, target, threads, new, size, charged)

    def _remember(self, body: bytes, args: Any, handler: Handler, values: list[Any]) -> None:
        """Note what a request meant that came for the second time, where all but its target is by value."""
        label, (target, *others) = args[1]
        keywords = values.pop() if handler is not Handler.GETATTR else None
        if label == LABEL_TUPLE and not keywords and all(box[0] == LABEL_VALUE for box in others):
            reference = self.boxing.reference_of(target[1])
            self._decoder.remember(body, Known(args, handler, reference, values, keywords is not None))

    def _receive_reply(self, seq: int, box: Any) -> Answer:
        if type(box) is tuple and len(box) == 2 and box[0] == LABEL_VALUE:
            return Answer(seq, box[1], None, _NOTHING)
        new: list[Netref] = []
        try:
            return Answer(seq, self.boxing.unbox(box, new), None, new)
        except GatewayError as error:
            return Answer(seq, None, error.with_traceback(None), _NOTHING)

    # -- both -------------------------------------------------------------------------------------------------------

    def agree(self, version: int, features: tuple[Any, ...], ours: frozenset[str]) -> None:
        """Take note of what the peer announced; `ours` is what this side announces.

        Containers go by value where both ends understand it and one of them serves under the device policy.
        """
        announced = {feature for feature in features[:_FEATURES] if type(feature) is str}
        self.features = _shared(frozenset(announced & _KNOWN))
        both = self.features & ours
        self.boxing.copies = version >= VERSION and COPIES in both and DEVICE_PROFILE in self.features | ours
        self.boxing.packs = self.boxing.copies and PACKS in both
        self.boxing.short = version >= VERSION and SHORT in both
        self.quiet = version >= VERSION and QUIET in both
        self.boxing.imports = DEVICE_PROFILE not in ours

    def forget(self) -> None:
        """Let go of everything that belongs to the peer. The Peer is of no use afterwards."""
        self.boxing.loans.clear()
        self.boxing.proxies.clear()
        self._decoder = MessageDecoder(self._limits)
