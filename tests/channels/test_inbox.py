"""The inbox of streams that a thread fills: order, bounds, its end, and pieces that are only lent."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator

import pytest

from gateway.channels.inbox import MOST_HELD, Inbox
from gateway.errors import LinkDown

OVER = LinkDown("over")


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox()
    yield inbox
    inbox.close(OVER)


def readable(inbox: Inbox) -> bool:
    return bool(select.select([inbox.fileno()], [], [], 0)[0])


def test_what_has_come_is_given_at_once_and_the_descriptor_says_so(inbox: Inbox) -> None:
    assert not readable(inbox)
    assert inbox.take(0) is None
    inbox.put(b"one ")
    inbox.put(b"two")
    assert readable(inbox)
    assert inbox.wait(0)
    assert inbox.take(0) == b"one two"
    assert not readable(inbox)
    assert not inbox.wait(0)


def test_a_lent_piece_comes_back_with_the_next_take_and_not_before(inbox: Inbox) -> None:
    back: list[str] = []
    inbox.put(memoryview(b"first"), lambda: back.append("first"))
    assert inbox.take(0) == b"first"
    inbox.put(memoryview(b"second"), lambda: back.append("second"))
    assert back == []
    assert inbox.take(0) == b"second"
    assert back == ["first"]
    assert inbox.take(0) is None
    assert back == ["first", "second"]


def test_pieces_that_are_put_together_come_back_at_once(inbox: Inbox) -> None:
    back: list[str] = []
    for name in ("a", "b"):
        inbox.put(memoryview(name.encode()), lambda name=name: back.append(name))  # type: ignore[misc]
    assert inbox.take(0) == b"ab"
    assert back == ["a", "b"]


def test_who_brings_too_much_waits_until_somebody_takes() -> None:
    room = threading.Event()
    inbox = Inbox(room.set)
    inbox.put(bytes(MOST_HELD))
    assert not inbox.has_room
    bringer = threading.Thread(target=inbox.put, args=(b"more",))
    bringer.start()
    taken = inbox.take(1.0)
    assert taken is not None
    assert room.is_set()
    bringer.join(5.0)
    rest = b"" if len(taken) > MOST_HELD else inbox.take(1.0)
    assert len(taken) + len(rest or b"") == MOST_HELD + 4
    inbox.close(OVER)


def test_the_end_comes_behind_what_was_brought(inbox: Inbox) -> None:
    inbox.put(b"last")
    inbox.end(LinkDown("pulled out", code=5))
    inbox.end(LinkDown("only the first one counts"))
    assert not inbox.put(b"too late")
    assert inbox.take(0) == b"last"
    assert readable(inbox)
    with pytest.raises(LinkDown, match="pulled out") as caught:
        inbox.take(0)
    assert caught.value.facts["code"] == 5


def test_closing_wakes_who_waits_and_gives_the_descriptor_back() -> None:
    inbox = Inbox()
    number = inbox.fileno()
    caught: list[BaseException] = []

    def take() -> None:
        try:
            inbox.take(None)
        except LinkDown as error:
            caught.append(error)

    taker = threading.Thread(target=take)
    taker.start()
    inbox.close(OVER)
    inbox.close(LinkDown("again"))
    taker.join(5.0)
    assert [str(error) for error in caught] == ["over"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    for use in (lambda: inbox.take(0), lambda: inbox.wait(0)):
        with pytest.raises(LinkDown, match="over"):
            use()


def test_what_came_is_put_where_it_belongs(inbox: Inbox) -> None:
    given_back: list[str] = []
    inbox.put(b"one")
    inbox.put(memoryview(b"twothree"), lambda: given_back.append("lent"))
    room = bytearray(6)
    with memoryview(room) as place:
        assert inbox.take_into(place, 0.0) == 6
    assert room == b"onetwo"
    assert not given_back, "its rest is still to be taken"
    assert readable(inbox), "there is more"
    assert inbox.take(0.0) == b"three"
    assert inbox.take_into(memoryview(room), 0.0) is None
    assert given_back == ["lent"]
    assert not readable(inbox)


def test_who_waits_for_much_is_woken_when_it_is_there(inbox: Inbox) -> None:
    room = bytearray(1000)
    taken: list[int | None] = []
    taker = threading.Thread(target=lambda: taken.append(inbox.take_into(memoryview(room), 10.0)))
    taker.start()
    for _ in range(10):
        inbox.put(b"x" * 100)
    taker.join(10.0)
    assert taken
    assert taken[0] is not None
    assert 100 <= taken[0] <= 1000, "a busy machine may take longer than the moment that is waited"
    assert room[: taken[0]] == b"x" * taken[0]


def test_who_waits_for_more_than_comes_gets_what_there_is(inbox: Inbox) -> None:
    room = bytearray(1000)
    inbox.put(b"x")
    assert inbox.take_into(memoryview(room), 10.0) == 1
    inbox.put(b"y")
    inbox.end(LinkDown("gone"))
    assert inbox.take_into(memoryview(room), 10.0) == 1
    with pytest.raises(LinkDown, match="gone"):
        inbox.take_into(memoryview(room), 10.0)


def test_a_poll_tells_the_descriptor_of_what_came_for_a_taker(inbox: Inbox) -> None:
    polled: list[bool] = []
    poller = threading.Thread(target=lambda: polled.append(inbox.wait(10.0)))
    poller.start()
    inbox.put(b"x")
    poller.join(10.0)
    assert polled == [True]
    assert readable(inbox)
    assert inbox.take(0.0) == b"x"
