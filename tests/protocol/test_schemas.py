"""What each handler's arguments must be: one table of good and bad for all of them."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest, GatewayError, LimitExceeded, NotFound
from gateway.limits import Limits
from gateway.protocol.boxing import Boxing, Loan
from gateway.protocol.constants import Handler
from gateway.protocol.netref import IdPack, Netref
from gateway.protocol.schemas import SCHEMAS, CallSchema
from tests.protocol.proxies import FakeConnection, KnownProxy

LIMITS: Final = Limits(name=20, unordered_items=4)


class Thing:
    """What the peer was lent."""


class Bench:
    """A boxing with one thing on loan, and the ways to write it."""

    def __init__(self) -> None:
        connection = FakeConnection()
        self.boxing = Boxing(
            connection, lambda id_pack: KnownProxy(connection, id_pack), lambda id_pack, times: None, LIMITS
        )
        self.thing = Thing()
        self.id_pack: IdPack = self.boxing.loans.lend(self.thing)

    def fill_in(self, box: Any) -> Any:
        """The box with TARGET, GONE and ID replaced by what they stand for here."""
        if isinstance(box, tuple):
            return tuple([self.fill_in(item) for item in box])
        if isinstance(box, Placeholder):
            return {"TARGET": (3, self.id_pack), "ID": self.id_pack}[box.name]
        return box

    def read(self, handler: Handler, box: Any) -> list[Any]:
        return SCHEMAS[handler].read(self.boxing, self.fill_in(box), [], LIMITS)


class Placeholder:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


TARGET: Final = Placeholder("TARGET")
ID: Final = Placeholder("ID")
GONE: Final = (3, ("a.B", 1, 999))
THEIRS: Final = (4, ("a.B", 1, 2))
NAME: Final = (1, "volts")
FIVE: Final = (1, 5)
NONE: Final = (1, None)
LONG: Final = (1, "x" * 21)
BAD_NAMES: Final = ((1, 5), (1, None), (1, ("volts",)), THEIRS, TARGET, (1, b"\xff"), LONG, (2, ()), 5)
BAD_COUNTS: Final = ((1, -1), (1, 1.0), (1, True), (1, "1"), (1, None), THEIRS, TARGET, (2, ()))
BAD_ARGS: Final = ((1, 5), (1, None), (1, "ab"), THEIRS, TARGET, (2, 5), (2, (5,)), (9, ()))
BAD_TARGETS: Final = ((1, 5), (1, "volts"), (1, None), THEIRS, (2, (TARGET,)), (3, 5), (3, ("a.B", 1)), 5)
BAD_IDS: Final = (NONE, (1, ("a.B", 1)), (1, ("a.B", 1, "2")), TARGET, THEIRS, (2, (NAME, FIVE, FIVE)))
MANY: Final = (1, tuple((f"key{number}", number) for number in range(5)))
BAD_KWARGS: Final = (
    (1, 5),
    (1, "ab"),
    (1, (5,)),
    (1, ("ab",)),
    (1, (("a",),)),
    (1, (("a", 1, 2),)),
    (1, ((5, 1),)),
    (1, (("a", 1), ("a", 2))),
    (2, ((2, (THEIRS, FIVE)),)),
    (2, ((1, (LONG[1], 5)),)),
    THEIRS,
    TARGET,
    MANY,
)

# handler -> what it takes: (a box of arguments, what is read of it). `Thing` stands for the loan of the target.
GOOD: Final[dict[Handler, list[tuple[Any, list[Any]]]]] = {
    Handler.PING: [((1, ("echo",)), ["echo"]), ((2, (FIVE,)), [5]), ((2, (TARGET,)), [Ellipsis])],
    Handler.CLOSE: [((1, ()), []), ((2, ()), [])],
    Handler.GETROOT: [((1, ()), [])],
    Handler.GETATTR: [((2, (TARGET, NAME)), [Thing, "volts"]), ((2, (TARGET, (1, b"volts"))), [Thing, "volts"])],
    Handler.DELATTR: [((2, (TARGET, NAME)), [Thing, "volts"])],
    Handler.SETATTR: [((2, (TARGET, NAME, FIVE)), [Thing, "volts", 5])],
    Handler.CALL: [
        ((2, (TARGET, (1, (1, 2)), (1, ()))), [Thing, (1, 2), {}]),
        ((2, (TARGET, (1, (1, 2)))), [Thing, (1, 2), {}]),
        ((2, (TARGET, (2, (FIVE, (1, "a"))), (1, (("b", 2),)))), [Thing, (5, "a"), {"b": 2}]),
        ((2, (TARGET, (1, ()), (2, ((2, (NAME, FIVE)),)))), [Thing, (), {"volts": 5}]),
        ((2, (TARGET, (1, ()), (1, ((b"b", 2),)))), [Thing, (), {"b": 2}]),
    ],
    Handler.CALLATTR: [
        ((2, (TARGET, NAME, (1, (3.3,)), (1, ()))), [Thing, "volts", (3.3,), {}]),
        ((2, (TARGET, NAME, (1, (3.3,)))), [Thing, "volts", (3.3,), {}]),
        ((2, (TARGET, (1, b"volts"), (1, ()), (1, ()))), [Thing, "volts", (), {}]),
        ((2, (TARGET, NAME, (2, (FIVE,)), (2, ()))), [Thing, "volts", (5,), {}]),
    ],
    Handler.REPR: [((2, (TARGET,)), [Thing])],
    Handler.STR: [((2, (TARGET,)), [Thing])],
    Handler.HASH: [((2, (TARGET,)), [Thing])],
    Handler.DIR: [((2, (TARGET,)), [Thing])],
    Handler.CMP: [
        ((2, (TARGET, FIVE, (1, "__lt__"))), [Thing, 5, "__lt__"]),
        ((2, (TARGET, FIVE)), [Thing, 5, "__cmp__"]),
    ],
    Handler.PICKLE: [((2, (TARGET, FIVE)), [Thing, 5]), ((2, (TARGET, (1, -1))), [Thing, -1])],
    Handler.DEL: [((2, (TARGET, FIVE)), [ID, 5]), ((2, (TARGET,)), [ID, 1]), ((2, (GONE, FIVE)), [GONE[1], 5])],
    Handler.INSPECT: [((1, (ID,)), [ID]), ((2, ((1, ID),)), [ID]), ((1, (("a.B", 1, 999),)), [("a.B", 1, 999)])],
    Handler.BUFFITER: [((2, (TARGET, FIVE)), [Thing, 5]), ((2, (TARGET, (1, 0))), [Thing, 0])],
    Handler.OLDSLICING: [
        ((2, (TARGET, NAME, NAME, FIVE, NONE, (1, ()))), [Thing, "volts", "volts", 5, None, ()]),
    ],
    Handler.CTXEXIT: [((2, (TARGET, NONE)), [Thing, None])],
    Handler.INSTANCECHECK: [((2, (TARGET, (1, ID))), [Thing, ID])],
    Handler.HELLO: [((1, (1, ("copies",))), [1, ("copies",)])],
}


def bad_boxes() -> list[Any]:
    """`(handler, box)` of what no handler takes: each place of a good request with something wrong in it."""
    rows: list[tuple[Handler, Any]] = []

    def wrong(handler: Handler, place: int, boxes: tuple[Any, ...]) -> None:
        good = next(box for box, _ in GOOD[handler] if box[0] == 2 and len(box[1]) > place)[1]
        rows.extend((handler, (2, (*good[:place], box, *good[place + 1 :]))) for box in boxes)

    for handler in GOOD:
        rows += [(handler, (2, (FIVE,) * 9)), (handler, (1, 5)), (handler, 5), (handler, THEIRS), (handler, TARGET)]
        if handler not in (Handler.CLOSE, Handler.GETROOT):
            rows.append((handler, (1, ())))
        if handler not in (Handler.PING, Handler.CLOSE, Handler.GETROOT, Handler.INSPECT, Handler.HELLO):
            wrong(handler, 0, BAD_TARGETS)
    for handler in (Handler.GETATTR, Handler.DELATTR, Handler.SETATTR, Handler.CALLATTR, Handler.OLDSLICING):
        wrong(handler, 1, BAD_NAMES)
    wrong(Handler.OLDSLICING, 2, BAD_NAMES)
    wrong(Handler.CMP, 2, BAD_NAMES)
    wrong(Handler.CALL, 1, BAD_ARGS)
    wrong(Handler.CALL, 2, BAD_KWARGS)
    wrong(Handler.CALLATTR, 2, BAD_ARGS)
    wrong(Handler.CALLATTR, 3, BAD_KWARGS)
    wrong(Handler.OLDSLICING, 5, BAD_ARGS)
    wrong(Handler.DEL, 1, BAD_COUNTS)
    wrong(Handler.BUFFITER, 1, BAD_COUNTS)
    wrong(Handler.PICKLE, 1, ((1, 1.0), (1, True), (1, "4"), THEIRS))
    wrong(Handler.INSTANCECHECK, 1, BAD_IDS)
    rows += [(Handler.INSPECT, (2, (box,))) for box in BAD_IDS]
    rows += [(Handler.HELLO, (2, (count, (1, ())))) for count in BAD_COUNTS]
    rows += [(Handler.HELLO, (2, (FIVE, args))) for args in BAD_ARGS]
    return rows


def labelled(rows: list[Any]) -> list[Any]:
    return [pytest.param(*row, id=f"{row[0].name}-{number}") for number, row in enumerate(rows)]


def test_every_handler_has_a_schema_and_a_row_here() -> None:
    assert set(SCHEMAS) == set(GOOD) == set(Handler)


@pytest.mark.parametrize(
    ("handler", "box", "read"), labelled([(handler, *row) for handler, rows in GOOD.items() for row in rows])
)
def test_good_arguments_are_read(handler: Handler, box: Any, read: list[Any]) -> None:
    bench = Bench()
    arguments = bench.read(handler, box)
    assert len(arguments) == len(read)
    for argument, meant in zip(arguments, read, strict=True):
        if meant is Thing:
            assert type(argument) is Loan
            assert argument.obj is bench.thing
        elif meant is Ellipsis:
            assert argument is bench.thing
        else:
            assert argument == bench.fill_in(meant)
            assert type(argument) is type(bench.fill_in(meant))


@pytest.mark.parametrize(("handler", "box"), labelled(bad_boxes()))
def test_bad_arguments_are_refused(handler: Handler, box: Any) -> None:
    with pytest.raises((BadRequest, LimitExceeded)):
        Bench().read(handler, box)


@pytest.mark.parametrize(
    "handler",
    [handler for handler, rows in GOOD.items() if rows[0][1][:1] == [Thing]],
)
def test_a_target_that_is_gone_is_not_found(handler: Handler) -> None:
    box = GOOD[handler][0][0]
    with pytest.raises(NotFound):
        Bench().read(handler, (2, (GONE, *box[1][1:])))


@pytest.mark.parametrize(("box", "what"), [(LONG, "name"), (MANY, "unordered_items")])
def test_names_and_keywords_are_limited(box: Any, what: str) -> None:
    request = (TARGET, box) if what == "name" else (TARGET, (1, ()), box)
    with pytest.raises(LimitExceeded) as refused:
        Bench().read(Handler.GETATTR if what == "name" else Handler.CALL, (2, request))
    assert refused.value.what == what


def test_proxies_among_the_arguments_are_listed() -> None:
    bench, new = Bench(), list[Netref]()

    class Unknown(KnownProxy):
        ____known__ = False

    bench.boxing._proxy_for = lambda id_pack: Unknown(None, id_pack)
    box = bench.fill_in((2, (TARGET, NAME, (2, (THEIRS,)), (2, ((2, (NAME, THEIRS)),)))))
    _, _, args, kwargs = SCHEMAS[Handler.CALLATTR].read(bench.boxing, box, new, LIMITS)
    assert new == [args[0], args[0]]
    assert kwargs == {"volts": args[0]}


def test_a_default_is_not_shared_between_requests() -> None:
    bench = Bench()
    for _ in range(2):
        kwargs = bench.read(Handler.CALL, (2, (TARGET, (1, ()))))[2]
        assert kwargs == {}


# -- the usual form of a call is read by a short cut -------------------------------------------------------------------

labels = st.sampled_from([1, 2, 3, 4, 5, True, 1.0, "1", None])
scalars = st.sampled_from(
    [None, True, 1, -1, 2.5, "volts", "x" * 21, b"volts", b"\xff", (), (1,), ("a",), ("volts", 1)]
)
ids = st.sampled_from([ID, ("a.B", 1, 999), ("a.B", 1), ("a.B", True, 1), 5, ()])
boxes = st.recursive(
    st.tuples(labels, scalars) | st.tuples(st.sampled_from([3, 4]), ids) | scalars | st.just(TARGET) | st.just(NAME),
    lambda inner: st.tuples(st.just(2), st.lists(inner, max_size=3).map(tuple)) | st.tuples(inner, inner),
    max_leaves=6,
)
targets = st.just(TARGET) | st.just(GONE) | boxes
names = st.just(NAME) | st.tuples(labels, st.sampled_from(["volts", "x" * 20, "x" * 21, b"volts", 5])) | boxes
args = st.just((1, ())) | st.just((1, (1, "a"))) | st.tuples(labels, scalars) | boxes
kwargs = st.just((1, ())) | st.just((True, ())) | st.just((1, (("a", 1),))) | st.tuples(labels, scalars) | boxes
calls = st.tuples(
    st.just(2) | labels,
    st.tuples(targets, args, kwargs) | st.tuples(targets, names, args, kwargs) | st.lists(boxes, max_size=5).map(tuple),
)


def shown(value: Any) -> Any:
    """A read argument in a form that can be compared: type and all, objects by their id."""
    if type(value) is Loan:
        return value.obj
    if isinstance(value, KnownProxy):
        return value.____id_pack__
    if type(value) is tuple:
        return tuple([shown(item) for item in value])
    if type(value) is dict:
        return [(key, shown(item)) for key, item in value.items()]
    return value if type(value) is Thing else repr(value)


def outcome(schema: Any, bench: Bench, box: Any) -> Any:
    try:
        return [shown(argument) for argument in schema.read(bench.boxing, box, [], LIMITS)]
    except GatewayError as error:
        return type(error)


@pytest.mark.parametrize("handler", [Handler.CALL, Handler.CALLATTR])
@settings(deadline=None)
@given(calls)
def test_the_short_cut_reads_what_the_general_schema_reads(handler: Handler, box: Any) -> None:
    schema = SCHEMAS[handler]
    assert isinstance(schema, CallSchema)
    bench = Bench()
    box = bench.fill_in(box)
    assert outcome(schema, bench, box) == outcome(schema._general, bench, box)


@pytest.mark.parametrize("handler", [Handler.CALL, Handler.CALLATTR])
def test_the_short_cut_is_taken_for_the_usual_call(handler: Handler) -> None:
    bench, usual = Bench(), GOOD[handler][0][0]
    short = CallSchema(None, named=handler is Handler.CALLATTR)  # type: ignore[arg-type]
    assert short.read(bench.boxing, bench.fill_in(usual), [], LIMITS)[0].obj is bench.thing
