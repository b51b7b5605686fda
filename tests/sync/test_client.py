"""RPyC's small tools around a connection, where they go beyond what stock's own tests ask."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import gateway
from gateway import async_, buffiter, restricted, timed
from gateway.channels import memory_pair
from gateway.errors import ConfigError, LinkDown
from gateway.sync.client import Async

Pair = Callable[..., tuple[Any, Any]]


class Bench(gateway.Service):
    def __init__(self) -> None:
        self.blocks: list[int] = []

    def exposed_add(self, a: int, b: int = 0) -> int:
        return a + b

    def exposed_numbers(self, count: int) -> Iterator[int]:
        return iter(range(count))

    def exposed_endless(self) -> Iterator[int]:
        return itertools.count()

    def exposed_list(self) -> list[int]:
        return [1, 2, 3]

    def exposed_function(self) -> Callable[[int], int]:
        return lambda value: value * 2

    def exposed_restricted(self, *attrs: str) -> Any:
        return restricted(Instrument(), attrs)

    def exposed_read_only(self) -> Any:
        return restricted(Instrument(), ("volts", "amps"), ("amps",))


class Instrument:
    def __init__(self) -> None:
        self.volts, self.amps, self.secret = 3.3, 0.1, "secret"

    def read(self) -> float:
        return self.volts


@pytest.fixture
def conn(pair: Pair) -> Any:
    return pair(there=Bench)[0]


# -- async_ and timed --------------------------------------------------------------------------------------------------


def test_async_takes_a_method_a_function_and_a_wrapper(conn: Any) -> None:
    assert async_(conn.root.add)(1, b=2).value == 3
    assert async_(conn.root.function())(4).value == 8
    wrapper = async_(conn.root.add)
    assert async_(wrapper) is wrapper
    assert repr(wrapper).startswith("async_(<bound method")


def test_async_gives_the_same_wrapper_as_long_as_somebody_holds_it(conn: Any) -> None:
    root = conn.root
    wrapper = async_(root.add)
    assert async_(root.add) is wrapper
    assert async_(root.numbers) is not wrapper
    kept = weakref.ref(wrapper)
    del wrapper
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("local", [len, lambda: None, 5, Instrument().read], ids=["len", "lambda", "5", "method"])
def test_async_refuses_what_is_not_remote(local: Any) -> None:
    with pytest.raises(TypeError, match="async_ takes a remote callable"):
        async_(local)


def test_async_refuses_what_can_not_be_called(conn: Any) -> None:
    with pytest.raises(TypeError):
        async_(conn.root.list())


def test_timed_sets_the_expiry_of_each_result(conn: Any) -> None:
    call = timed(conn.root.add, 20)
    assert call(1, b=2).value == 3
    assert repr(call).startswith("timed(async_(")
    late = timed(conn.root.add, 0)(1)
    assert late.expired or late.done
    assert isinstance(call._call, Async)


# -- buffiter ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 100, 3000])
def test_buffiter_gives_every_item_once_and_in_order(conn: Any, count: int) -> None:
    assert list(buffiter(conn.root.numbers(count))) == list(range(count))


def test_buffiter_asks_for_blocks_that_grow_up_to_the_largest(conn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, asked = conn.root.numbers(100), list[int]()
    request = gateway.Connection.sync_request

    def noting(self: Any, handler: int, *args: Any) -> Any:
        if handler == 17:
            asked.append(args[1])
        return request(self, handler, *args)

    monkeypatch.setattr(gateway.Connection, "sync_request", noting)
    assert list(buffiter(numbers, chunk=5, max_chunk=30, factor=2)) == list(range(100))
    assert asked == [5, 10, 20, 30, 30, 30, 30]


def test_buffiter_asks_for_no_more_than_was_taken(conn: Any) -> None:
    items = buffiter(conn.root.endless())
    assert list(itertools.islice(items, 25)) == list(range(25))


def test_buffiter_iterates_a_list_and_what_is_local(conn: Any) -> None:
    assert list(buffiter(conn.root.list(), 2)) == [1, 2, 3]
    assert list(buffiter([1, 2])) == [1, 2]


@pytest.mark.parametrize("factor", [0, 0.5, -1])
def test_buffiter_refuses_blocks_that_shrink(conn: Any, factor: float) -> None:
    with pytest.raises(ValueError, match="factor must be 1 or more"):
        next(buffiter(conn.root.list(), factor=factor))


# -- restricted --------------------------------------------------------------------------------------------------------


def test_a_restricted_view_shows_what_it_names_on_either_side(conn: Any) -> None:
    local = restricted(Instrument(), ("volts", "read"))
    remote = conn.root.restricted("volts", "read")
    for view in (local, remote):
        assert view.volts == view.read() == 3.3
        for name in ("amps", "secret"):
            with pytest.raises(AttributeError):
                getattr(view, name)
    for name in ("_obj", "_readable", "__class__", "__dict__"):
        with pytest.raises(AttributeError):
            conn.sync_request(4, remote, name)


def test_a_restricted_view_lets_be_set_what_it_shows_or_what_it_was_told() -> None:
    view = restricted(Instrument(), ("volts",))
    view.volts = 5.0
    assert view.volts == 5.0
    with pytest.raises(AttributeError):
        view.amps = 1.0
    read_only = restricted(Instrument(), ("volts", "amps"), ("amps",))
    read_only.amps = 2.0
    with pytest.raises(AttributeError):
        read_only.volts = 1.0
    with pytest.raises(AttributeError, match="restricted view"):
        del read_only.amps


def test_a_restricted_view_decides_about_what_a_peer_sets_too(conn: Any) -> None:
    view = conn.root.read_only()
    view.amps = 2.0
    assert view.amps == 2.0
    for name in ("volts", "_obj"):
        with pytest.raises(AttributeError):
            setattr(view, name, 1.0)
    with pytest.raises(AttributeError):
        del view.amps


# -- connecting --------------------------------------------------------------------------------------------------------


def test_a_pair_of_this_process_talks_both_ways() -> None:
    one, other = gateway.connect_pair(Bench(), Bench, {"connid": "one"}, {"connid": "other"}, limits=gateway.Limits())
    assert one.root.add(1, 2) == other.root.add(1, 2) == 3
    assert repr(one) == "<Connection 'one' (open)>"
    one.close()
    other.close()


def test_connecting_by_url_needs_somebody_there() -> None:
    with pytest.raises(LinkDown):
        gateway.connect("tcp://127.0.0.1:1", timeout=1)
    with pytest.raises(ConfigError):
        gateway.connect("gopher://127.0.0.1", timeout=1)


def test_a_service_that_refuses_is_an_error_of_connecting() -> None:
    class Refusing(gateway.Service):
        def on_connect(self, conn: Any) -> None:
            raise RuntimeError("not with me")

    ours, theirs = memory_pair()
    with pytest.raises(RuntimeError, match="not with me"):
        gateway.connect_channel(ours, Refusing)
    for end in (ours, theirs):
        end.close()
