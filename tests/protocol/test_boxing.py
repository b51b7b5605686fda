"""Boxes and the counts behind them: what is lent, what is borrowed, and when it is let go."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BadRequest, LimitExceeded, NotFound
from gateway.limits import Limits
from gateway.protocol import brine
from gateway.protocol.boxing import Borrowed, Boxing, Loans, id_pack_of, split, tuple_of
from gateway.protocol.brine import Unencodable
from gateway.protocol.constants import LABEL_COPY, LABEL_LOCAL_REF, LABEL_REMOTE_REF, LABEL_TUPLE, LABEL_VALUE
from gateway.protocol.netref import IdPack, Netref
from tests.protocol.proxies import FakeConnection, KnownProxy, NewProxy

LIMITS: Final = Limits()
REMOTE: Final = ("bench.Supply", 7, 8)


class Thing:
    """An object to lend."""


class Lock:
    """A lock that counts its uses."""

    def __init__(self) -> None:
        self.uses = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()
        self.uses += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def loans(limits: Limits = LIMITS) -> Loans:
    return Loans(limits, threading.Lock())


def boxing(
    limits: Limits = LIMITS,
    *,
    proxy: type[KnownProxy] = KnownProxy,
    stand_in: Callable[[Any], Any] | None = None,
) -> Boxing:
    connection = FakeConnection()
    released: list[tuple[IdPack, int]] = []
    made = Boxing(
        connection,
        lambda id_pack: proxy(connection, id_pack),
        lambda id_pack, times: released.append((id_pack, times)),
        limits,
        stand_in=stand_in,
    )
    made.released = released  # type: ignore[attr-defined]
    return made


def decoded(box: bytes) -> Any:
    return brine.load(box)


# -- what is lent ------------------------------------------------------------------------------------------------------


def test_each_send_counts_and_all_of_them_must_be_given_back() -> None:
    lent, thing = loans(), Thing()
    ids = {lent.lend(thing) for _ in range(3)}
    assert len(ids) == 1
    (id_pack,) = ids
    lent.release(id_pack, 2)
    assert lent.find(id_pack).obj is thing
    lent.release(id_pack, 1)
    assert len(lent) == 0
    with pytest.raises(NotFound, match="released or never sent"):
        lent.find(id_pack)


@pytest.mark.parametrize(("sent", "given_back", "left"), [(1, 1, 0), (2, 1, 1), (5, 5, 0), (1, 9, 0), (3, 0, 1)])
def test_what_is_given_back_is_taken_off_the_count(sent: int, given_back: int, left: int) -> None:
    lent, thing = loans(), Thing()
    for _ in range(sent):
        id_pack = lent.lend(thing)
    lent.release(id_pack, given_back)
    assert len(lent) == left


def test_giving_back_what_was_never_lent_is_nothing() -> None:
    lent, thing = loans(), Thing()
    id_pack = lent.lend(thing)
    lent.release(("bench.Other", 1, 999), 5)
    assert [found is thing for found in lent] == [True]
    lent.release(id_pack, 1)
    lent.release(id_pack, 1)
    assert len(lent) == 0


def test_a_lent_object_lives_until_it_is_given_back() -> None:
    lent, thing = loans(), Thing()
    alive = weakref.ref(thing)
    id_pack = lent.lend(thing)
    del thing
    gc.collect()
    assert alive() is not None
    lent.release(id_pack, 1)
    gc.collect()
    assert alive() is None


def test_an_object_that_is_lent_anew_gets_an_id_that_was_never_used() -> None:
    lent, used = loans(), set()
    for _ in range(50):
        id_pack = lent.lend(Thing())
        assert id_pack not in used
        used.add(id_pack)
        lent.release(id_pack, 1)


def test_ids_are_small_counters_and_no_addresses() -> None:
    lent, thing = loans(), Thing()
    name, class_id, instance_id = lent.lend(thing)
    assert name == f"{__name__}.Thing"
    assert 0 < class_id < 10
    assert 0 < instance_id < 10


def test_a_class_has_the_instance_id_0_and_the_class_id_of_its_instances() -> None:
    lent = loans()
    _, class_id, instance_id = lent.lend(Thing)
    assert instance_id == 0
    assert lent.lend(Thing())[1] == class_id
    assert lent.lend(Lock)[1] != class_id
    assert len({lent.lend(cls) for cls in (Thing, Lock, int, type)}) == 4


def test_a_module_goes_under_its_own_name() -> None:
    name, _, instance_id = loans().lend(sys)
    assert name == "sys"
    assert instance_id != 0


def test_an_owner_is_noted_with_the_first_send() -> None:
    lent, thing, device = loans(), Thing(), object()
    id_pack = lent.lend(thing, device)
    assert lent.find(id_pack).owner is device


def test_the_number_of_lent_objects_is_limited() -> None:
    lent = loans(Limits(references=3))
    things = [Thing() for _ in range(3)]
    ids = [lent.lend(thing) for thing in things]
    with pytest.raises(LimitExceeded) as refused:
        lent.lend(Thing())
    assert (refused.value.what, refused.value.allowed) == ("references", 3)
    assert lent.lend(things[0]) == ids[0], "one that is lent already needs no more room"
    lent.release(ids[1], 1)
    lent.lend(Thing())


def test_clearing_lets_go_of_everything() -> None:
    lent, thing = loans(), Thing()
    alive, id_pack = weakref.ref(thing), lent.lend(thing)
    del thing
    lent.clear()
    gc.collect()
    assert alive() is None
    lent.release(id_pack, 1)


def test_lending_and_releasing_use_the_lock() -> None:
    lock = Lock()
    lent = Loans(LIMITS, lock)
    id_pack = lent.lend(Thing())
    lent.release(id_pack, 1)
    assert lock.uses == 2


def test_threads_that_lend_and_release_the_same_object_lose_no_count() -> None:
    lent, thing = loans(), Thing()

    def churn() -> None:
        for _ in range(300):
            lent.release(lent.lend(thing), 1)

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lent) == 0


# -- chained connections -----------------------------------------------------------------------------------------------


def test_the_same_object_has_ids_of_its_own_on_each_connection() -> None:
    thing, one, other = Thing(), loans(), loans()
    for _ in range(3):
        one.lend(Thing())
    assert one.lend(thing) != other.lend(thing)


def test_proxies_of_two_backends_never_alias_though_their_ids_are_equal() -> None:
    lent = loans()
    proxies = [KnownProxy(FakeConnection(token), REMOTE) for token in (1, 2)]
    ids = [lent.lend(proxy) for proxy in proxies]
    assert ids[0] != ids[1]
    assert [lent.find(id_pack).obj for id_pack in ids] == proxies
    assert ids[0][1] != ids[1][1], "their classes are two as well"


def test_objects_of_one_class_of_a_backend_have_one_class_id() -> None:
    lent, backend = loans(), FakeConnection()
    one, other = (lent.lend(KnownProxy(backend, ("bench.Supply", 7, number))) for number in (8, 9))
    assert one[:2] == other[:2]
    assert one[2] != other[2]


def test_a_backends_class_stays_a_class() -> None:
    lent, backend = loans(), FakeConnection()
    supply_class = lent.lend(KnownProxy(backend, ("bench.Supply", 7, 0)))
    supply = lent.lend(KnownProxy(backend, ("bench.Supply", 7, 8)))
    assert supply_class[2] == 0
    assert supply_class[:2] == supply[:2]


def test_classes_that_a_backend_makes_up_are_not_all_kept() -> None:
    lent, backend = loans(Limits(remote_classes=10)), FakeConnection()
    ids = {lent.lend(KnownProxy(backend, ("bench.Supply", number, number))) for number in range(1, 50)}
    assert len(ids) == 49
    assert len(lent._foreign_class_ids) <= 10


def test_a_backends_id_is_not_passed_on() -> None:
    assert loans().lend(KnownProxy(FakeConnection(), ("bench.Supply", 94236789, 13991234)))[1:] == (1, 2)


# -- what is borrowed --------------------------------------------------------------------------------------------------


class Bank:
    """Borrowed objects, and what was given back."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.returned: list[tuple[IdPack, int]] = []
        self.on_return: Callable[[], None] = lambda: None
        self.borrowed = Borrowed(limits, self._returned)

    def _returned(self, id_pack: IdPack, times: int) -> None:
        self.returned.append((id_pack, times))
        self.on_return()

    def receive(self, number: int = 1) -> Netref:
        return self.borrowed.receive(("bench.Supply", 7, number), lambda id_pack: KnownProxy(None, id_pack))


def test_a_name_of_a_class_is_limited() -> None:
    with pytest.raises(LimitExceeded, match="name of a class"):
        Bank().borrowed.receive(("x" * 1000, 1, 2), lambda id_pack: KnownProxy(None, id_pack))


def test_an_object_that_is_received_again_is_the_same_proxy() -> None:
    bank = Bank()
    proxy = bank.receive()
    assert bank.receive() is proxy
    assert bank.receive(2) is not proxy
    assert bank.returned == [(("bench.Supply", 7, 2), 1)]


@pytest.mark.parametrize("times", [1, 2, 7])
def test_a_proxy_gives_back_as_often_as_it_was_received(times: int) -> None:
    bank = Bank()
    proxy = [bank.receive() for _ in range(times)].pop()
    assert bank.returned == []
    del proxy
    gc.collect()
    assert bank.returned == [(("bench.Supply", 7, 1), times)]
    assert len(bank.borrowed) == 0


def test_a_proxy_in_a_cycle_is_given_back_by_the_collector() -> None:
    bank = Bank()
    cycle: list[Any] = [bank.receive()]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert bank.returned == [(("bench.Supply", 7, 1), 1)]


def test_an_object_that_comes_again_while_its_proxy_dies_gets_a_new_proxy() -> None:
    """A thread that reads may be anywhere while another one drops the last reference."""
    bank = Bank()
    late: list[Netref] = []
    bank.on_return = lambda: late.append(bank.receive()) if not late else None
    bank.receive()
    assert len(late) == 1
    assert bank.receive() is late[0]
    assert len(bank.borrowed) == 1
    bank.on_return = lambda: None
    late.clear()
    assert bank.returned == [(("bench.Supply", 7, 1), 1), (("bench.Supply", 7, 1), 2)]


def test_what_dies_after_clearing_is_not_given_back() -> None:
    bank = Bank()
    proxy = bank.receive()
    bank.borrowed.clear()
    del proxy
    gc.collect()
    assert bank.returned == []


def test_the_number_of_living_proxies_is_limited_and_the_dead_do_not_count() -> None:
    bank = Bank(Limits(references=2))
    for number in range(10):
        bank.receive(number)
    kept = [bank.receive(1), bank.receive(2)]
    with pytest.raises(LimitExceeded, match="references"):
        bank.receive(3)
    kept.pop()
    kept.append(bank.receive(3))
    assert len(bank.borrowed) == 2


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60))
def test_all_that_was_received_is_given_back_or_still_held(steps: list[tuple[bool, int]]) -> None:
    bank, held, received = Bank(), {}, dict.fromkeys(range(4), 0)
    for receives, number in steps:
        if receives:
            held[number] = bank.receive(number)
            received[number] += 1
        else:
            held.pop(number, None)
        given_back = dict.fromkeys(range(4), 0)
        for (_, _, returned), times in bank.returned:
            given_back[returned] += times
        for each in range(4):
            outstanding = received[each] - given_back[each]
            assert outstanding > 0 if each in held else outstanding == 0
    held.clear()
    assert sum(times for _, times in bank.returned) == sum(received.values())


# -- boxes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 1, "V", b"\0", (), (1, ("a", 2.5)), frozenset((1,)), slice(1, 2)], ids=repr)
def test_a_value_travels_as_itself(value: Any) -> None:
    ours, theirs = boxing(), boxing()
    box = decoded(ours.box(value))
    assert box == (LABEL_VALUE, value)
    assert theirs.unbox(box, []) == value
    assert len(ours.loans) == 0


def test_a_tuple_with_an_object_in_it_is_boxed_item_by_item() -> None:
    ours, thing = boxing(), Thing()
    label, items = decoded(ours.box((1, (thing, "x"), thing)))
    assert label == LABEL_TUPLE
    reference = (LABEL_REMOTE_REF, ours.loans.lend(thing))
    assert items == ((LABEL_VALUE, 1), (LABEL_TUPLE, (reference, (LABEL_VALUE, "x"))), reference)


def test_an_object_of_ours_arrives_as_a_proxy_and_comes_home_as_itself() -> None:
    ours, theirs, thing = boxing(), boxing(), Thing()
    proxy = theirs.unbox(decoded(ours.box(thing)), [])
    assert isinstance(proxy, KnownProxy)
    label, id_pack = decoded(theirs.box(proxy))
    assert (label, id_pack) == (LABEL_LOCAL_REF, proxy.____id_pack__)
    assert ours.unbox((label, id_pack), []) is thing
    assert len(theirs.loans) == 0


def test_what_two_sides_count_is_the_same_and_ends_at_nothing() -> None:
    ours, theirs, things = boxing(), boxing(), [Thing(), Thing()]
    for _ in range(3):
        proxies = theirs.unbox(decoded(ours.box((things[0], (things[1], things[0])))), [])
    assert proxies[0] is proxies[1][1]
    del proxies
    gc.collect()
    for id_pack, times in theirs.released:  # type: ignore[attr-defined]
        ours.loans.release(id_pack, times)
    assert len(ours.loans) == 0


def test_a_proxy_of_another_connection_is_lent_like_an_object_of_ours() -> None:
    ours = boxing()
    foreign = KnownProxy(FakeConnection(2), REMOTE)
    label, id_pack = decoded(ours.box(foreign))
    assert label == LABEL_REMOTE_REF
    assert ours.unbox((LABEL_LOCAL_REF, id_pack), []) is foreign


def test_a_stand_in_is_sent_in_place_of_what_the_front_replaces() -> None:
    thing = Thing()
    ours = boxing(stand_in=lambda value: thing if value is Thing else value)
    _, id_pack = decoded(ours.box(Thing))
    assert ours.loans.find(id_pack).obj is thing


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ((Thing(), "\ud800"), Unencodable),
        ((Thing(), 10**5000), Unencodable),
        ((Thing(), b"x" * 5000), LimitExceeded),
        ((Thing(), (((Thing(),),),)), LimitExceeded),
        (tuple(Thing() for _ in range(9)), LimitExceeded),
    ],
    ids=["surrogate", "huge-int", "too-large", "too-deep", "too-many"],
)
def test_what_can_not_be_sent_lends_nothing(value: Any, problem: type[Exception]) -> None:
    ours = boxing(Limits(frame=4096, nesting=3, references=8))
    kept = Thing()
    ours.box(kept)
    with pytest.raises(problem):
        ours.box((kept, value))
    assert list(ours.loans) == [kept]
    assert ours.loans.find(ours.loans.lend(kept)).count == 2


def test_a_box_and_its_head_fit_into_a_frame() -> None:
    size = len(boxing().box("x" * 1000, head=b"head"))
    assert boxing(Limits(frame=size)).box("x" * 1000, head=b"head").startswith(b"head")
    with pytest.raises(LimitExceeded) as refused:
        boxing(Limits(frame=size - 1)).box("x" * 1000, head=b"head")
    assert (refused.value.what, refused.value.actual, refused.value.allowed) == ("frame", size, size - 1)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 255, 256, 1000])
def test_a_tuple_of_encoded_items_is_brines_tuple(size: int) -> None:
    assert tuple_of([brine.dump(7)] * size, LIMITS) == brine.dump((7,) * size)


def test_a_tuple_of_encoded_items_is_limited() -> None:
    with pytest.raises(LimitExceeded, match="items"):
        tuple_of([b"\0"] * 300, Limits(items=299))


# -- what can't be unboxed ---------------------------------------------------------------------------------------------

NO_BOXES: Final = {
    "no tuple": 5,
    "an empty tuple": (),
    "a tuple of one": (1,),
    "a tuple of three": (1, 2, 3),
    "an unknown label": (9, 5),
    "a label that is no int": ("1", 5),
    "no label": (None, 5),
    "a tuple box that holds no tuple": (LABEL_TUPLE, 5),
    "a tuple box that holds no boxes": (LABEL_TUPLE, (5,)),
    "a reference without an id": (LABEL_LOCAL_REF, 5),
    "an id of two parts": (LABEL_REMOTE_REF, ("a.B", 1)),
    "an id of four parts": (LABEL_REMOTE_REF, ("a.B", 1, 2, 3)),
    "an id whose name is no text": (LABEL_REMOTE_REF, (b"a.B", 1, 2)),
    "an id whose class is no int": (LABEL_REMOTE_REF, ("a.B", "1", 2)),
    "an id whose number is a bool": (LABEL_REMOTE_REF, ("a.B", 1, True)),
    "a container nobody agreed on": (LABEL_COPY, ("list", (LABEL_VALUE, ()))),
}


@pytest.mark.parametrize("box", NO_BOXES.values(), ids=NO_BOXES)
def test_what_is_no_box_is_a_bad_request(box: Any) -> None:
    with pytest.raises(BadRequest):
        boxing().unbox(box, [])


@pytest.mark.parametrize("data", [5, (), ("list",), ("list", (LABEL_VALUE, ()), 0), ("heap", (LABEL_VALUE, ()))])
def test_a_container_of_no_known_form_is_a_bad_request(data: Any) -> None:
    ours = boxing()
    ours.copies = True
    with pytest.raises(BadRequest):
        ours.unbox((LABEL_COPY, data), [])


def test_a_reference_to_what_is_not_lent_is_not_found() -> None:
    with pytest.raises(NotFound):
        boxing().unbox((LABEL_LOCAL_REF, REMOTE), [])


def test_an_error_message_shows_no_more_than_a_line_of_what_was_sent() -> None:
    for box in ((LABEL_LOCAL_REF, ("x" * 10_000, 1, 2)), ("x" * 10_000, 5), ("x" * 10_000,) * 3):
        with pytest.raises((BadRequest, NotFound)) as refused:
            boxing().unbox(box, [])
        assert len(str(refused.value)) < 400


def test_objects_in_a_box_that_fails_are_given_back() -> None:
    theirs = boxing()
    with pytest.raises(BadRequest):
        theirs.unbox((LABEL_TUPLE, ((LABEL_REMOTE_REF, REMOTE), (LABEL_REMOTE_REF, REMOTE), 5)), [])
    gc.collect()
    assert theirs.released == [(REMOTE, 2)]  # type: ignore[attr-defined]


def test_proxies_of_unknown_classes_are_listed_each_time_they_come() -> None:
    theirs = boxing(proxy=NewProxy)
    new: list[Netref] = []
    proxies = theirs.unbox((LABEL_TUPLE, ((LABEL_REMOTE_REF, REMOTE), (LABEL_REMOTE_REF, REMOTE))), new)
    assert new == [proxies[0], proxies[0]]
    known: list[Netref] = []
    boxing().unbox((LABEL_REMOTE_REF, REMOTE), known)
    assert known == []


def test_split_and_id_pack_of_give_what_they_have_checked() -> None:
    box = (LABEL_VALUE, 5)
    assert split(box) == box
    assert id_pack_of(REMOTE) == REMOTE


# -- containers by value -----------------------------------------------------------------------------------------------


def test_containers_go_by_reference_until_both_ends_agreed() -> None:
    ours = boxing()
    assert decoded(ours.box([1, 2]))[0] == LABEL_REMOTE_REF
    ours.copies = True
    assert decoded(ours.box([1, 2]))[0] == LABEL_COPY


def test_a_container_takes_the_objects_in_it_along_by_reference() -> None:
    ours, theirs, thing = boxing(), boxing(), Thing()
    ours.copies = theirs.copies = True
    received = theirs.unbox(decoded(ours.box({"things": [thing, thing], "count": 2})), [])
    assert received["count"] == 2
    assert received["things"][0] is received["things"][1]
    assert isinstance(received["things"][0], KnownProxy)
    assert ours.loans.find(ours.loans.lend(thing)).count == 3


def test_a_container_that_holds_itself_is_too_deep_and_lends_nothing() -> None:
    ours, endless = boxing(), [Thing()]
    ours.copies = True
    endless.append(endless)  # type: ignore[arg-type]
    with pytest.raises(LimitExceeded, match="nesting"):
        ours.box(endless)
    assert len(ours.loans) == 0


# -- references by number ----------------------------------------------------------------------------------------------


def short(ours: Boxing) -> Boxing:
    ours.short = True
    return ours


def test_an_object_is_known_by_its_number_alone_where_both_ends_agreed() -> None:
    ours = short(boxing())
    thing = Thing()
    name, class_id, number = ours.loans.lend(thing)
    assert ours.unbox((LABEL_LOCAL_REF, number), []) is thing
    assert ours.unbox((LABEL_LOCAL_REF, (name, class_id, number)), []) is thing, "and still by all of its id"
    ours.loans.release(number, 1)
    assert len(ours.loans) == 0


def test_a_class_has_a_number_too_and_it_is_no_instances() -> None:
    ours = short(boxing())
    thing = Thing()
    lent = [ours.loans.lend(obj) for obj in (thing, Thing)]
    assert lent[0][1] == lent[1][1]
    assert ours.unbox((LABEL_LOCAL_REF, lent[1][1]), []) is Thing
    assert ours.unbox((LABEL_LOCAL_REF, lent[0][2]), []) is thing


def test_the_peers_objects_are_named_to_it_by_number() -> None:
    ours = short(boxing())
    proxy = ours.unbox((LABEL_REMOTE_REF, REMOTE), [])
    assert decoded(ours.box(proxy)) == (LABEL_LOCAL_REF, REMOTE[2])
    of_a_class = ours.unbox((LABEL_REMOTE_REF, ("bench.Supply", 7, 0)), [])
    assert decoded(ours.box(of_a_class)) == (LABEL_LOCAL_REF, 7)


def test_a_number_is_no_reference_before_both_ends_agreed() -> None:
    ours = boxing()
    number = ours.loans.lend(Thing())[2]
    with pytest.raises(BadRequest):
        ours.unbox((LABEL_LOCAL_REF, number), [])


@pytest.mark.parametrize("wrong", [0, -1, 99, 2**70])
def test_a_number_that_is_not_lent_is_not_found(wrong: int) -> None:
    ours = short(boxing())
    ours.loans.lend(Thing())
    with pytest.raises(NotFound):
        ours.unbox((LABEL_LOCAL_REF, wrong), [])


@pytest.mark.parametrize("wrong", [True, 1.0, "one", b"1", None, (1,)])
def test_what_is_no_number_is_no_reference(wrong: object) -> None:
    ours = short(boxing())
    ours.loans.lend(Thing())
    with pytest.raises(BadRequest):
        ours.unbox((LABEL_LOCAL_REF, wrong), [])


def test_the_right_number_under_a_wrong_name_is_not_found() -> None:
    ours = boxing()
    name, class_id, number = ours.loans.lend(Thing())
    for id_pack in ((f"{name}x", class_id, number), (name, class_id + 99, number)):
        with pytest.raises(NotFound):
            ours.loans.find(id_pack)
        ours.loans.release(id_pack, 1)
    assert len(ours.loans) == 1
