"""Remote objects live as long as their proxies, and die in the order the proxies did."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.behaviour.conditions import eventually

Connect = Callable[..., Any]


class Dummy:
    def __init__(self, name: str, deleted: list[str]) -> None:
        self.exposed_name = name
        self._deleted = deleted

    def __del__(self) -> None:
        self._deleted.append(self.exposed_name)


class Factory:
    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.kept: list[Any] = []

    def exposed_make(self, name: str) -> Dummy:
        return Dummy(name, self.deleted)

    def exposed_make_many(self, *names: str) -> tuple[Dummy, ...]:
        return tuple(Dummy(name, self.deleted) for name in names)

    def exposed_deleted(self) -> tuple[str, ...]:
        gc.collect()
        return tuple(self.deleted)

    def exposed_same(self, thing: Any) -> Any:
        return thing

    def exposed_keep(self, thing: Any) -> None:
        self.kept.append(thing)

    def exposed_forget(self) -> None:
        self.kept.clear()
        gc.collect()


@pytest.fixture
def conn(connect: Connect) -> Any:
    return connect(Factory)


def test_objects_die_with_their_proxies_in_order(conn: Any) -> None:
    root = conn.root
    first, second, third, fourth = (root.make(name) for name in ("d1", "d2", "d3", "d4"))
    again = second
    del first
    del third
    gc.collect()
    assert root.deleted() == ("d1", "d3")
    del second
    gc.collect()
    assert root.deleted() == ("d1", "d3")
    del again
    gc.collect()
    assert root.deleted() == ("d1", "d3", "d2")
    assert fourth.name == "d4"


def test_an_object_that_was_sent_often_dies_once(conn: Any) -> None:
    root = conn.root
    thing = root.make("often")
    for _ in range(5):
        assert root.same(thing) is thing
    assert root.deleted() == ()
    del thing
    gc.collect()
    assert root.deleted() == ("often",)


def test_a_proxy_that_dies_between_sends_does_not_take_the_object_along(conn: Any) -> None:
    root = conn.root
    root.keep(root.make("kept"))
    gc.collect()
    assert root.deleted() == ()
    root.forget()
    gc.collect()
    assert eventually(lambda: root.deleted() == ("kept",))


def test_references_inside_a_tuple_are_released_too(conn: Any) -> None:
    root = conn.root
    first, second = root.make_many("a", "b")
    del first
    gc.collect()
    assert root.deleted() == ("a",)
    assert second.name == "b"


def test_proxies_in_a_cycle_are_released_by_the_collector(conn: Any) -> None:
    root = conn.root
    cycle: list[Any] = [root.make("looped")]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert root.deleted() == ("looped",)


class Handed:
    """Something of the client's that the peer may keep."""


def test_an_argument_is_released_when_the_peer_drops_it(conn: Any) -> None:
    handed = Handed()
    alive = weakref.ref(handed)
    conn.root.keep(handed)
    del handed
    gc.collect()
    assert alive() is not None
    conn.root.forget()

    def released() -> bool:
        conn.poll_all(0)
        gc.collect()
        return alive() is None

    assert eventually(released)


def test_closing_releases_what_the_peer_held(conn: Any) -> None:
    handed = Handed()
    alive = weakref.ref(handed)
    conn.root.keep(handed)
    del handed
    conn.close()

    def released() -> bool:
        gc.collect()
        return alive() is None

    assert eventually(released)


def test_closing_releases_what_was_held_of_the_peer(connect: Connect, as_service: Callable[[type], type]) -> None:
    factory = as_service(Factory)()
    conn = connect(factory)
    thing = conn.root.make("lent")
    conn.close()

    def released() -> bool:
        gc.collect()
        return bool(factory.deleted == ["lent"])

    assert eventually(released)
    del thing


def test_a_proxy_may_die_after_its_connection(conn: Any) -> None:
    thing = conn.root.make("late")
    conn.close()
    del thing
    gc.collect()
    assert conn.closed


def test_hundreds_of_short_lived_proxies_leave_nothing_behind(conn: Any) -> None:
    root = conn.root
    for number in range(300):
        root.make(str(number))
    gc.collect()
    assert len(root.deleted()) == 300
