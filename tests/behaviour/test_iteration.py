"""Walking remote iterables: one item a call, or in blocks by buffiter."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Connect = Callable[..., Any]


class Source:
    def __init__(self) -> None:
        self.produced = 0

    def exposed_count_to(self, stop: int) -> Iterator[int]:
        for number in range(stop):
            self.produced += 1
            yield number

    def exposed_forever(self) -> Iterator[int]:
        for number in itertools.count():
            self.produced += 1
            yield number

    def exposed_failing(self) -> Iterator[int]:
        yield 1
        raise OSError("the source broke")

    def exposed_list(self, stop: int) -> list[int]:
        return list(range(stop))

    def exposed_dict(self) -> dict[str, int]:
        return {"a": 1, "b": 2}

    def exposed_range(self, stop: int) -> range:
        return range(stop)

    def exposed_total(self, numbers: Any) -> int:
        return sum(numbers)


@pytest.fixture
def source(as_service: Callable[[type], type]) -> Any:
    return as_service(Source)()


@pytest.fixture
def conn(connect: Connect, source: Any) -> Any:
    return connect(source)


def test_a_generator_is_walked_item_by_item(conn: Any, source: Any) -> None:
    numbers = conn.root.count_to(5)
    assert next(numbers) == 0
    assert source.produced == 1
    assert list(numbers) == [1, 2, 3, 4]
    with pytest.raises(StopIteration):
        next(numbers)


@pytest.mark.parametrize("method", ["list", "range", "count_to"])
def test_any_iterable_is_walked(conn: Any, method: str) -> None:
    assert list(getattr(conn.root, method)(7)) == [0, 1, 2, 3, 4, 5, 6]


def test_a_remote_dict_is_used_like_a_dict(conn: Any) -> None:
    table = conn.root.dict()
    assert sorted(table) == ["a", "b"]
    assert table["b"] == 2
    assert "a" in table
    assert "c" not in table
    assert len(table) == 2
    with pytest.raises(KeyError):
        table["c"]


def test_an_error_in_the_middle_reaches_the_walker(conn: Any) -> None:
    numbers = conn.root.failing()
    assert next(numbers) == 1
    with pytest.raises(OSError, match="the source broke"):
        next(numbers)


def test_the_peer_walks_our_iterables(conn: Any) -> None:
    assert conn.root.total([1, 2, 3]) == 6
    assert conn.root.total(number for number in (4, 5)) == 9


@pytest.mark.parametrize("stop", [0, 1, 9, 10, 11, 2500])
def test_buffiter_gives_the_same_items(rpc: Any, conn: Any, stop: int) -> None:
    assert list(rpc.buffiter(conn.root.count_to(stop))) == list(range(stop))
    assert list(rpc.buffiter(conn.root.list(stop), chunk=1, factor=1)) == list(range(stop))


def test_buffiter_reads_in_growing_blocks(rpc: Any, conn: Any, source: Any) -> None:
    items = rpc.buffiter(conn.root.forever(), chunk=2, max_chunk=8, factor=2)
    seen: list[int] = []
    for _ in range(31):
        next(items)
        if not seen or seen[-1] != source.produced:
            seen.append(source.produced)
    assert seen == [2, 6, 14, 22, 30, 38]


def test_buffiter_refuses_a_factor_that_shrinks(rpc: Any, conn: Any) -> None:
    with pytest.raises(ValueError, match="factor"):
        list(rpc.buffiter(conn.root.list(3), factor=0.5))
