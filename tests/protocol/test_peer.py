"""Peer: two of them talk in memory, without a wire, a thread or a clock."""

from __future__ import annotations

import gc
import itertools
import json
from collections import deque
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest, DeviceError, LimitExceeded, NotFound, ProtocolError
from gateway.limits import Limits
from gateway.protocol import brine
from gateway.protocol.brine import Unencodable
from gateway.protocol.constants import EXCEPTION, REPLY, REQUEST, Handler
from gateway.protocol.framing import FrameDecoder
from gateway.protocol.messages import RPYC5, RPYC6, THREADS, MessageDecoder, encode_int
from gateway.protocol.netref import IdPack
from gateway.protocol.peer import COPIES, DEVICE_PROFILE, FEATURES, SHORT, VERSION, Answer, Peer, Refused, Request
from gateway.protocol.vinegar import TRACEBACK_DENIED, VERSION_DENIED, GenericException
from gateway.sync.config import DEFAULT_CONFIG
from tests.protocol.proxies import KnownProxy

LIMITS: Final = Limits()
VECTORS: Final[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "messages.json").read_text())
tokens = itertools.count(1)


class End:
    """A front as small as can be: it answers each request at once, in the order of the wire."""

    def __init__(self, root: object = None, limits: Limits = LIMITS, **config: Any) -> None:
        self.token = next(tokens)
        self.root = root
        self.released: list[tuple[IdPack, int]] = []
        self.peer = Peer(
            self,
            lambda id_pack: KnownProxy(self, id_pack),
            lambda id_pack, times: self.released.append((id_pack, times)),
            {**DEFAULT_CONFIG, **config},
            limits,
        )
        self.inbox: deque[bytes] = deque()
        self.events: list[Request | Refused | Answer] = []
        self.other: End = self

    def ask(self, handler: int, *args: Any) -> Any:
        """Send a request and let both ends work until its answer is here."""
        seq, message = self.peer.request(handler, args)
        self.other.inbox.append(message)
        while self.other.inbox or self.inbox:
            self.other.work()
            self.work()
        answer = next(event for event in reversed(self.events) if isinstance(event, Answer) and event.seq == seq)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def release(self) -> None:
        """Give back what has died here."""
        gc.collect()
        while self.released:
            self.other.inbox.append(self.peer.release(*self.released.pop(0))[1])
        self.other.work()

    def work(self) -> None:
        while self.inbox:
            event = self.peer.receive(self.inbox.popleft())
            self.events.append(event)
            if isinstance(event, Refused):
                self.other.inbox.append(self.peer.fault(event.seq, event.error, None))
            elif isinstance(event, Request):
                self.other.inbox.append(self._answer(event))

    def _answer(self, request: Request) -> bytes:
        try:
            match request.handler, request.args:
                case Handler.GETROOT, []:
                    value = self.root
                case Handler.PING, [value]:
                    pass
                case Handler.CALLATTR, [target, name, args, kwargs]:
                    value = getattr(target, name)(*args, **kwargs)
                case _:
                    value = None
        except Exception as error:
            return self.peer.fault(request.seq, error, "the traceback")
        return self.peer.reply(request.seq, value)


class Bench:
    """A root to call."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def add(self, a: int, b: int = 0) -> int:
        return a + b

    def echo(self, value: Any) -> Any:
        return value

    def keep(self, value: Any) -> None:
        self.kept.append(value)

    def make(self) -> Bench:
        return Bench()

    def fail(self) -> None:
        raise DeviceError("-222, out of range", number=-222)


def pair(limits: Limits = LIMITS, **config: Any) -> tuple[End, End]:
    """A client's end, and that of a server with a Bench."""
    client, server = End(limits=limits, **config), End(Bench(), limits, **config)
    client.other, server.other = server, client
    return client, server


def decoded(message: bytes) -> tuple[int, int, Any, Any]:
    return MessageDecoder(LIMITS).decode(message)


# -- two peers talk ----------------------------------------------------------------------------------------------------


def test_a_call_goes_there_and_its_result_comes_back() -> None:
    client, server = pair()
    root = client.ask(Handler.GETROOT)
    assert client.ask(Handler.CALLATTR, root, "add", (1,), (("b", 2),)) == 3
    assert client.ask(Handler.CALLATTR, root, "add", (1, 2)) == 3
    request = server.events[-1]
    assert isinstance(request, Request)
    assert (request.handler, request.args) == (Handler.CALLATTR, [server.root, "add", (1, 2), {}])
    assert request.target is not None
    assert request.target.obj is server.root


def test_each_side_counts_its_own_requests_from_its_first_number() -> None:
    client, server = pair()
    assert [client.peer.request(Handler.PING, ("x",))[0] for _ in range(3)] == [0, 1, 2]
    assert server.peer.request(Handler.PING, ("x",))[0] == 0
    late = Peer(
        None, lambda id_pack: KnownProxy(None, id_pack), lambda *died: None, DEFAULT_CONFIG, LIMITS, first_seq=99
    )
    assert [late.request(Handler.PING, ("x",))[0] for _ in range(2)] == [99, 100]


def test_an_object_that_went_out_comes_home_as_itself() -> None:
    client, server = pair()
    root, mine = client.ask(Handler.GETROOT), Bench()
    assert client.ask(Handler.CALLATTR, root, "echo", ((mine, 1),))[0] is mine
    assert client.ask(Handler.CALLATTR, root, "echo", (mine,)) is mine
    assert client.ask(Handler.CALLATTR, root, "echo", (root,)) is root
    client.ask(Handler.CALLATTR, root, "keep", (root,))
    assert server.root.kept == [server.root]  # type: ignore[attr-defined]


def test_what_both_sides_hold_ends_at_nothing_when_it_is_dropped() -> None:
    client, server = pair()
    root = client.ask(Handler.GETROOT)
    things = [client.ask(Handler.CALLATTR, root, "make", ()) for _ in range(5)]
    for thing in things:
        assert client.ask(Handler.CALLATTR, root, "echo", (thing,)) is thing
    assert len(server.peer.boxing.loans) == 6
    del things, thing, root
    client.events.clear()
    client.release()
    assert len(server.peer.boxing.loans) == 0
    assert len(client.peer.boxing.loans) == 0


def test_a_release_takes_effect_in_the_order_of_the_wire() -> None:
    client, server = pair()
    root = client.ask(Handler.GETROOT)
    kept_alive = root.____id_pack__
    messages = [
        client.peer.request(Handler.CALLATTR, (root, "add", (1, 1)))[1],
        client.peer.release(kept_alive, 1)[1],
        client.peer.request(Handler.CALLATTR, (root, "add", (1, 1)))[1],
    ]
    before, release, after = (server.peer.receive(message) for message in messages)
    assert isinstance(before, Request)
    assert isinstance(release, Request)
    assert (release.handler, release.args, release.target) == (Handler.DEL, [], None)
    assert isinstance(after, Refused)
    assert isinstance(after.error, NotFound)
    assert before.args[0] is server.root, "a request that was received keeps its target"


def test_a_release_of_what_was_never_lent_is_answered_like_any_other() -> None:
    client, server = pair()
    server.inbox.append(client.peer.release(("a.B", 1, 999), 5)[1])
    server.work()
    assert isinstance(server.events[-1], Request)
    client.work()
    assert client.events[-1] == Answer(0, None, None, [])


def test_an_owner_is_noted_for_what_a_reply_lends() -> None:
    _, server = pair()
    device, thing = object(), Bench()
    server.peer.reply(0, (1, thing), device)
    loans = server.peer.boxing.loans
    assert loans.find(loans.lend(thing)).owner is device


# -- errors of one call ------------------------------------------------------------------------------------------------


def test_an_error_of_a_call_is_raised_where_the_call_was_made() -> None:
    client, _ = pair()
    root = client.ask(Handler.GETROOT)
    with pytest.raises(DeviceError, match="-222") as raised:
        client.ask(Handler.CALLATTR, root, "fail", ())
    assert raised.value.number == -222
    assert raised.value._remote_tb == "the traceback"
    assert client.ask(Handler.CALLATTR, root, "add", (1, 2)) == 3


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((99, (1, ())), BadRequest),
        ((0, (1, ())), BadRequest),
        ((-1, (1, ())), BadRequest),
        ((4, (1, ("x", "y"))), BadRequest),
        ((4, 5), BadRequest),
        ((9, (2, ((3, ("a.B", 1, 2)),))), NotFound),
        ((1, (2, ((9, 5),))), BadRequest),
        ((1, (2, ((5, ("list", (1, ()))),))), BadRequest),
        ((4, (2, ((3, ("a.B", 1, 2)), (1, "x" * 300)))), NotFound),
    ],
    ids=[
        "unknown",
        "zero",
        "negative",
        "a-value-as-target",
        "no-box",
        "not-lent",
        "no-label",
        "no-copies",
        "two-faults",
    ],
)
def test_a_request_that_is_wrong_in_itself_is_refused_and_nothing_else_happens(
    args: Any, error: type[Exception]
) -> None:
    client, server = pair()
    event = server.peer.receive(b"\x01" + brine.dump((7, args)))
    assert isinstance(event, Refused)
    assert type(event.error) is error
    assert event.seq == 7
    assert client.ask(Handler.PING, "still here") == "still here"


@pytest.mark.parametrize(
    ("box", "error"),
    [
        ((3, ("a.B", 1, 2)), NotFound),
        ((9, 5), BadRequest),
        (5, BadRequest),
        ((2, ((1, 5), 6)), BadRequest),
        ((4, ("a.B", 1)), BadRequest),
        ((5, ("list", (1, ()))), BadRequest),
    ],
    ids=repr,
)
def test_an_answer_that_can_not_be_unboxed_is_that_calls_error(box: Any, error: type[Exception]) -> None:
    client, _ = pair()
    event = client.peer.receive(b"\x02" + brine.dump((0, box)))
    assert isinstance(event, Answer)
    assert type(event.error) is error
    assert client.ask(Handler.PING, 5) == 5


@pytest.mark.parametrize("payload", [1, "text", 5, ((), (), ()), (("builtins", "KeyError"), ("x",), (), "")], ids=repr)
def test_any_exception_of_the_peer_becomes_an_error_to_raise(payload: Any) -> None:
    client, _ = pair()
    event = client.peer.receive(b"\x03" + brine.dump((4, payload)))
    assert isinstance(event, Answer)
    assert isinstance(event.error, StopIteration | KeyError | GenericException)
    assert (event.seq, event.value) == (4, None)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x07",
        b"\x01" + brine.dump((0, 5)),
        b"\x01" + brine.dump((0, (3,))),
        b"\x01" + brine.dump((0, (3, (1, ()), 5))),
        b"\x01" + brine.dump((0, ("3", (1, ())))),
        b"\x01" + brine.dump((0, (True, (1, ())))),
        b"\x02" + brine.dump((0,)),
        b"\x03\x11\x50\xff",
        brine.dump((1, 0, 5)),
    ],
    ids=lambda message: message.hex() or "nothing",
)
def test_what_is_no_conversation_ends_it(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        End().peer.receive(message)


# -- answers that can't be sent ----------------------------------------------------------------------------------------


class Unspeakable(Exception):
    """An exception that fails whenever it is looked at."""

    def __dir__(self) -> list[str]:
        raise RuntimeError("no dir")


class Moody(type):
    """Its classes can't be counted."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        return cls is other


class OfAMoodyClass(metaclass=Moody):
    pass


SMALL: Final = Limits(frame=4096, references=4)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("\ud800", Unencodable),
        (10**5000, Unencodable),
        ((object(), "\ud800"), Unencodable),
        (b"x" * 5000, LimitExceeded),
        ((object(), b"x" * 5000), LimitExceeded),
        (tuple(object() for _ in range(5)), LimitExceeded),
        (OfAMoodyClass(), TypeError),
    ],
    ids=[
        "surrogate",
        "huge-int",
        "object-and-surrogate",
        "too-large",
        "object-and-too-large",
        "too-many",
        "unhashable-class",
    ],
)
def test_a_result_that_can_not_be_sent_becomes_that_calls_error(value: Any, error: type[Exception]) -> None:
    client, server = pair(SMALL)
    answer = client.peer.receive(server.peer.reply(0, value))
    assert isinstance(answer, Answer)
    assert isinstance(answer.error, error) or error.__name__ in str(answer.error)
    assert len(server.peer.boxing.loans) == 0


def test_the_largest_result_that_fits_is_sent() -> None:
    client, server = pair(SMALL)
    answers = {size: client.peer.receive(server.peer.reply(10**15, "x" * size)) for size in range(3900, 4096)}
    sizes = [size for size, answer in answers.items() if isinstance(answer, Answer) and answer.error is None]
    assert sizes == list(range(3900, sizes[-1] + 1))
    for threads in (None, (2**55, 2**55)):
        assert len(server.peer.reply(2**63 - 1, "x" * sizes[-1], None, threads)) <= SMALL.frame


@pytest.mark.parametrize(
    "error",
    [
        Unspeakable(),
        ValueError(*(f"{number}" * 4000 for number in range(9))),
        ValueError("\ud800", 10**5000, ("\ud800",)),
        type("\u03a9" * 300, (Exception,), {"__module__": "\ud800"})(),
        type("Odd", (Exception,), {"__module__": None})(),
    ],
    ids=["unspeakable", "too-large", "unencodable", "unencodable-module", "no-module"],
)
@pytest.mark.parametrize("text", [None, "a traceback\n" * 1000])
def test_whatever_is_wrong_with_an_error_the_call_is_answered(error: Exception, text: str | None) -> None:
    client, server = pair(SMALL)
    message = server.peer.fault(3, error, text)
    assert len(message) <= SMALL.frame
    answer = client.peer.receive(message)
    assert isinstance(answer, Answer)
    assert answer.seq == 3
    assert answer.error is not None


def test_the_version_is_told_unless_the_config_says_no() -> None:
    for tells, version in ((True, "6.0.2"), (False, VERSION_DENIED)):
        _, server = pair(include_local_version=tells)
        _, _, args, _ = decoded(server.peer.fault(0, ValueError(), None))
        assert ("_remote_version", version) in args[2]
        assert args[3] == TRACEBACK_DENIED


# -- requests in parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "volts", "\u03a9"])
@pytest.mark.parametrize("args", [(), (1, "a"), (object(),)], ids=["none", "values", "object"])
@pytest.mark.parametrize("kwargs", [{}, {"b": 2}, {"b": object()}], ids=["none", "value", "object"])
def test_a_call_from_prepared_parts_is_the_call_in_one(name: str | None, args: Any, kwargs: dict[str, Any]) -> None:
    client, _ = pair()
    root = client.ask(Handler.GETROOT)
    handler = Handler.CALL if name is None else Handler.CALLATTR
    names = () if name is None else (name,)
    _, in_parts = client.peer.call(client.peer.prefix(handler, root, names, 2), args, kwargs)
    _, in_one = client.peer.request(handler, (root, *names, args, tuple(kwargs.items())))
    server = pair()[1]
    server.peer.boxing.loans.lend(server.root)
    read = []
    for message in (in_parts, in_one):
        kind, _, (number, _), _ = decoded(message)
        assert (kind, number) == (REQUEST, handler)
        event = server.peer.receive(message)
        assert isinstance(event, Request)
        read.append([repr(argument) for argument in event.args])
    assert read[0] == read[1]


# -- dialects ----------------------------------------------------------------------------------------------------------


def test_a_peer_speaks_the_dialect_of_the_first_message_it_hears() -> None:
    old = RPYC5[REQUEST] + encode_int(0) + brine.dump((1, (1, ("x",))))
    new = RPYC6[REQUEST] + encode_int(0) + brine.dump((1, (1, ("x",))))
    for first, then, heads in ((old, new, RPYC5), (new, old, RPYC6)):
        end = End()
        for message in (first, then):
            assert isinstance(end.peer.receive(message), Request)
            assert end.peer.reply(0, 5).startswith(heads[REPLY])
            assert end.peer.fault(0, ValueError(), None).startswith(heads[EXCEPTION])
            assert end.peer.request(Handler.PING, ("x",))[1].startswith(heads[REQUEST])


@pytest.mark.parametrize("heads", [RPYC5, RPYC6], ids=["rpyc5", "rpyc6"])
def test_a_peer_that_binds_threads_is_told_them_in_its_dialect(heads: dict[int, bytes]) -> None:
    end = End()
    message = THREADS.pack(11, 22) + heads[REQUEST] + encode_int(0) + brine.dump((1, (1, ("x",))))
    event = end.peer.receive(message)
    assert isinstance(event, Request)
    assert event.threads == (11, 22)
    for answer, kind in (
        (end.peer.reply(0, 5, None, (33, 11)), REPLY),
        (end.peer.fault(0, ValueError(), None, (33, 11)), EXCEPTION),
    ):
        assert answer.startswith(THREADS.pack(33, 11) + heads[kind])
    refused = end.peer.receive(THREADS.pack(11, 22) + heads[REQUEST] + encode_int(1) + brine.dump((99, (1, ()))))
    assert isinstance(refused, Refused)
    assert refused.threads == (11, 22)


@pytest.mark.parametrize(("dialect", "mode"), [(d, m) for d in ("rpyc5", "rpyc6") for m in ("plain", "bound")])
def test_no_message_of_a_stock_peer_is_a_bad_request_or_a_bad_answer(dialect: str, mode: str) -> None:
    for rows in VECTORS[dialect][mode].values():
        ends = {"client": End(), "server": End()}
        for row in rows:
            decoder = FrameDecoder(LIMITS)
            decoder.receive(bytes.fromhex(row["frame"]))
            message = decoder.next_message()
            assert message is not None
            # Each is received by the end it was meant for; what it refers to was never lent there.
            event = ends["server" if row["from"] == "client" else "client"].peer.receive(message)
            if isinstance(event, Refused):
                assert isinstance(event.error, NotFound)
            elif isinstance(event, Answer) and row["type"] == REPLY:
                assert event.error is None or isinstance(event.error, NotFound)


# -- agreeing ----------------------------------------------------------------------------------------------------------

OURS: Final = FEATURES
STRICT: Final = FEATURES | {DEVICE_PROFILE}


@pytest.mark.parametrize(
    ("version", "theirs", "ours", "copies"),
    [
        (VERSION, STRICT, OURS, True),
        (VERSION, OURS, STRICT, True),
        (VERSION, STRICT, STRICT, True),
        (VERSION + 1, {*STRICT, "deadlines"}, OURS, True),
        (VERSION, OURS, OURS, False),
        (VERSION, {DEVICE_PROFILE}, OURS, False),
        (VERSION, (), STRICT, False),
        (0, STRICT, OURS, False),
    ],
)
def test_containers_go_by_value_where_both_understand_it_and_one_is_strict(
    version: int, theirs: Any, ours: frozenset[str], copies: bool
) -> None:
    end = End()
    end.peer.agree(version, tuple(sorted(theirs)), ours)
    assert end.peer.boxing.copies is copies
    assert end.peer.features == frozenset(theirs) & STRICT, "what nobody knows here is not kept"


@pytest.mark.parametrize(
    ("version", "theirs", "short"),
    [(VERSION, OURS, True), (VERSION, STRICT, True), (VERSION, OURS - {SHORT}, False), (0, OURS, False)],
)
def test_references_are_numbers_where_both_understand_it(version: int, theirs: Any, short: bool) -> None:
    end = End()
    end.peer.agree(version, tuple(sorted(theirs)), OURS)
    assert end.peer.boxing.short is short


def test_features_that_are_no_short_texts_are_left_out() -> None:
    end = End()
    end.peer.agree(VERSION, (COPIES, 5, None, (), "x" * 1000), STRICT)
    assert end.peer.features == frozenset({COPIES})


def test_nothing_is_kept_of_a_peer_that_is_forgotten() -> None:
    client, server = pair()
    root = client.ask(Handler.GETROOT)
    client.ask(Handler.CALLATTR, root, "keep", (object(),))
    for end in (client, server):
        end.peer.forget()
        assert len(end.peer.boxing.loans) == 0
        assert len(end.peer.boxing.proxies) == 0
    del root
    client.events.clear()
    gc.collect()
    assert client.released == []


# -- anything at all ---------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 160) | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=5).map(tuple),
    max_leaves=15,
)
messages = (
    st.binary(max_size=60)
    | st.builds(lambda kind, body: bytes([kind]) + brine.dump(body), st.integers(0, 4), values)
    | st.builds(
        lambda seq, handler, box: b"\x01" + brine.dump((seq, (handler, box))),
        st.integers(0, 300),
        st.integers(0, 80),
        values,
    )
)


@settings(deadline=None)
@given(st.lists(messages, max_size=4), st.booleans())
def test_whatever_comes_is_an_event_or_a_protocol_error(received: list[bytes], copies: bool) -> None:
    end = End()
    end.peer.boxing.copies = copies
    for message in received:
        try:
            event = end.peer.receive(message)
        except ProtocolError:
            continue
        assert isinstance(event, Request | Refused | Answer)


# -- requests that come again ------------------------------------------------------------------------------------------


def pair_of(root: object) -> tuple[End, End, Any]:
    """A client, a server that has lent its root, and the root's proxy."""
    client, server = End(), End(root)
    client.other, server.other = server, client
    return client, server, client.ask(Handler.GETROOT)


def test_a_request_that_comes_again_is_not_decoded_again_and_means_the_same() -> None:
    bench = Bench()
    client, server, root = pair_of(bench)
    for number in (1, 2, 3, 4):
        assert client.ask(Handler.CALLATTR, root, "add", (5,), ()) == 5
        assert (server.peer._decoder.again is not None) == (number > 1), "it is known from the second time on"
    assert client.ask(Handler.CALLATTR, root, "add", (6,), ()) == 6, "another value is another request"
    requests = [event for event in server.events if isinstance(event, Request) and event.handler == Handler.CALLATTR]
    assert [request.args for request in requests] == [[bench, "add", (5,), {}]] * 4 + [[bench, "add", (6,), {}]]
    assert len({id(request.args) for request in requests}) == 5, "a handler may change its own arguments"
    assert len({request.seq for request in requests}) == 5


def test_keywords_and_references_are_read_anew_each_time() -> None:
    bench = Bench()
    client, _, root = pair_of(bench)
    for _ in range(4):
        assert client.ask(Handler.CALLATTR, root, "add", (5,), (("b", 2),)) == 7
    thing = object()
    for _ in range(4):
        client.ask(Handler.CALLATTR, root, "keep", (thing,), ())
    assert len(bench.kept) == 4
    assert len({id(kept) for kept in bench.kept}) == 1, "one proxy, received four times"


def test_a_known_request_for_what_was_given_back_is_refused() -> None:
    client, server, root = pair_of(Bench())
    for _ in range(3):
        client.ask(Handler.CALLATTR, root, "add", (5,), ())
    again = server.peer._decoder.again
    assert again is not None
    server.peer.boxing.loans.clear()
    with pytest.raises(NotFound, match="no object"):
        client.ask(Handler.CALLATTR, root, "add", (5,), ())


def test_what_comes_once_in_a_connection_is_not_remembered() -> None:
    client, server, _ = pair_of(Bench())
    client.ask(Handler.HELLO, VERSION, ("copies",))
    client.ask(Handler.GETROOT)
    assert not server.peer._decoder._remembered
