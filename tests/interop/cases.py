"""The ordinary cases of the matrix: each drives a client of any implementation against a server of any implementation.

A case gets a `Session` and passes unless it raises. It uses only what rpyc's own users use.
"""

from __future__ import annotations

import copy
import gc
import random
from dataclasses import dataclass
from typing import Any, Final

from tests.interop.session import Session, case, eventually, raised

VALUES: Final = (
    None, True, False, NotImplemented, ..., 0, -49, 160, 10**300, 1.5, -0.0, 2 + 3j, "", "Ω \U0001f50c", "x" * 5000,
    b"", b"four", b"\x00\xff" * 150, (), (1, (2, (3,))), tuple(range(300)), slice(1, None, 2), frozenset({1, 2}),
)  # fmt: skip


@case()
def calls(session: Session) -> None:
    root = session.root
    assert root.add(2, 3) == 5
    assert root.exposed_add(2) == 12
    assert root.add("a", "b") == "ab"
    for value in VALUES:
        returned = root.echo(value)
        assert type(returned) is type(value)
        assert repr(returned) == repr(value)
        assert root.type_of(value) == type(value).__name__


@case()
def keyword_arguments(session: Session) -> None:
    root = session.root
    assert root.arguments(1, "b", volts=3.3, amps=None) == ((1, "b"), (("amps", None), ("volts", 3.3)))
    assert root.arguments() == ((), ())
    assert root.named(volts=5) == (5, 0.5)
    assert root.named(amps=1, volts=5) == (5, 1)
    raised(TypeError, root.named, 5)


@case()
def properties(session: Session) -> None:
    root = session.root
    assert root.volts == 1.5
    assert root.LIMIT == 42
    supply = root.supply("psu1")
    assert supply.volts == 0.0
    supply.volts = 3.3
    assert supply.volts == 3.3
    assert supply.exposed_volts == 3.3


@case()
def refused_attributes(session: Session) -> None:
    root = session.root
    supply = root.supply("psu1")
    for owner, name in ((root, "_conn"), (root, "peer"), (root, "missing"), (supply, "secret"), (supply, "_name")):
        raised(AttributeError, getattr, owner, name)
        assert not hasattr(owner, name)
    raised(AttributeError, setattr, root, "volts", 3.0)
    raised(AttributeError, delattr, supply, "volts")
    raised(Exception, copy.copy, supply)
    assert root.add(1, 1) == 2


@case()
def callbacks(session: Session) -> None:
    root = session.root
    assert root.call(lambda number: number * 2, 21) == 42
    assert root.call(lambda *args, **kwargs: (args, kwargs["unit"]), 1, 2, unit="V") == ((1, 2), "V")

    def fails() -> None:
        raise ValueError("by the client")

    assert root.catch(fails) == "caught by the client"
    raised(ValueError, root.call, fails)

    def down(depth: int) -> int:
        return 0 if depth == 0 else 1 + int(root.call(down, depth - 1))

    assert root.call(down, 5) == 5


@case()
def callbacks_later(session: Session) -> None:
    seen: list[int] = []
    session.root.call_later(seen.append, 5)

    def all_came() -> bool:
        session.conn.poll_all(0.02)
        return len(seen) == 5

    assert eventually(all_came)
    assert seen == [0, 1, 2, 3, 4]


@case()
def iteration(session: Session) -> None:
    root = session.root
    assert list(root.stream(20)) == list(range(20))
    assert [number + 1 for number in root.numbers(3)] == [1, 2, 3]
    walker = iter(root.stream(1))
    assert next(walker) == 0
    raised(StopIteration, next, walker)
    table = root.table()
    assert sorted(table) == ["a", "b"]
    assert (table["b"], len(table), "a" in table, "z" in table) == (2, 2, True, False)
    raised(KeyError, table.__getitem__, "z")
    assert root.total([1, 2, 3]) == 6
    assert root.total(number for number in (4, 5)) == 9


@case()
def iteration_in_blocks(session: Session) -> None:
    assert list(session.peer.buffiter(session.root.stream(1500))) == list(range(1500))
    assert list(session.peer.buffiter(session.root.numbers(7), chunk=2, max_chunk=3)) == list(range(7))


@case()
def builtin_exceptions(session: Session) -> None:
    root = session.root
    error = raised(ArithmeticError, root.divide, 1, 0)
    assert type(error).__name__ == "ZeroDivisionError"
    assert error.args == ("division by zero",)
    assert "exposed_divide" in error._remote_tb
    if not session.peer.VERSION.startswith("5."):
        assert "WARNING" not in error._remote_tb
    raised(StopIteration, root.stop)
    raised(TypeError, root.add)
    assert root.add(1, 1) == 2


@case()
def custom_exceptions(session: Session) -> None:
    error = raised(Exception, session.root.overload)
    assert session.peer.class_name_of(error).endswith("bench.OverloadError")
    assert error.args == ("too much",)
    assert error.reading == 99.5
    assert "exposed_overload" in error._remote_tb


@case()
def context_managers(session: Session) -> None:
    root = session.root
    before = len(root.log())
    with root.output(2.5) as volts:
        assert volts == 5.0
        assert root.log()[before:] == ("on",)
    assert root.log()[before:] == ("on", "off")

    def trips() -> None:
        with root.output(1):
            raise KeyError("in the block")

    raised(KeyError, trips)
    assert root.log()[before + 2 :] == ("on", "tripped", "off")


@case()
def async_calls(session: Session) -> None:
    wait, add = session.peer.async_(session.root.wait), session.peer.async_(session.root.add)
    slow = wait(0.2)
    assert not slow.ready
    results = [add(number, 1) for number in range(20)]
    seen: list[Any] = []
    slow.add_callback(seen.append)
    assert [result.value for result in results] == list(range(1, 21))
    assert slow.value == "waited"
    assert slow.ready
    assert not slow.error
    assert seen == [slow]
    failed = add("a", 1)
    failed.wait()
    assert failed.error
    raised(TypeError, lambda: failed.value)


@case()
def timed_calls(session: Session) -> None:
    assert session.peer.timed(session.root.wait, 5)(0).value == "waited"
    late = session.peer.timed(session.root.wait, 0.05)(0.3)
    raised(session.peer.AsyncResultTimeout, lambda: late.value)
    assert late.expired
    assert session.root.add(1, 1) == 2
    assert not late.ready


@case()
def big_random_payloads(session: Session) -> None:
    data = random.Random(1).randbytes(session.big)
    assert session.root.count(data) == len(data)
    assert session.root.echo(data) == data


@case()
def big_compressible_payloads(session: Session) -> None:
    text = "3.3000 V, " * (session.big // 10)
    assert session.root.echo(text) == text
    assert session.root.echo(bytes(session.big)) == bytes(session.big)


@case()
def identity(session: Session) -> None:
    root = session.root
    supply = root.supply("psu1")
    assert root.supply("psu1") is supply
    assert root.supply("psu2") is not supply
    assert root.echo(supply) is supply
    assert root.is_supply(supply, "psu1")
    assert not root.is_supply(root.supply("psu2"), "psu1")
    mine = Mine("here")
    assert root.echo(mine) is mine
    kept = root.echo((mine, supply, 5))
    assert kept[0] is mine
    assert kept[1] is supply


@dataclass
class Mine:
    """An object of the client's."""

    exposed_name: str

    def __hash__(self) -> int:
        return 77

    def __str__(self) -> str:
        return f"mine: {self.exposed_name}"


@case()
def comparison(session: Session) -> None:
    root = session.root
    first, second = root.supply("psu1"), root.supply("psu2")
    assert first == root.Supply("psu1")
    assert first != second
    assert first < second
    assert second > first
    assert root.numbers(3) == root.numbers(3)
    assert len(first) == 4
    first.volts = 1.0
    assert first + 0.5 == 1.5
    assert {first: "found"}[root.Supply("psu1")] == "found"


@case()
def hash_dir_repr_str(session: Session) -> None:
    root = session.root
    supply = root.supply("psu1")
    assert hash(supply) == 1234
    assert repr(supply) == "Supply('psu1')"
    assert str(supply) == "supply psu1"
    assert {"exposed_volts", "exposed_name"} <= set(dir(supply))
    assert repr(root.numbers(3)) == "[0, 1, 2]"
    assert root.describe(Mine("here")) == ("mine: here", 77, ("exposed_name",))


@case()
def remote_classes(session: Session) -> None:
    root = session.root
    made = root.Supply("made")
    assert made.name() == "made"
    assert isinstance(made, root.Supply)
    assert isinstance(root.supply("psu1"), root.Supply)
    assert not isinstance(root.numbers(1), root.Supply)
    assert isinstance(root.numbers(1), list)


@case()
def chained_by_the_server(session: Session) -> None:
    inner = session.root.inner()
    supply = inner.supply()
    assert supply.name() == "inner"
    assert str(supply) == "supply inner"
    supply.volts = 2.5
    assert supply.volts == 2.5
    assert inner.supply() is supply
    assert inner.is_supply(supply)
    assert inner.call(lambda left, right: left + right, 2, 3) == 5


@case(serial=False)
def chained_by_the_client(session: Session) -> None:
    other = session.peer.connect(session.url)
    try:
        supply = session.root.supply("psu1")
        assert other.root.describe(supply)[:2] == ("supply psu1", 1234)
        assert other.root.echo(supply) is supply
        assert session.root.is_supply(other.root.echo(supply), "psu1")
        assert other.root.call(supply.name) == "psu1"
    finally:
        session.peer.close(other)


@case()
def references_are_released(session: Session) -> None:
    root = session.root
    first, second = root.lend(), root.lend()
    assert root.lent() == 2
    assert root.echo(first) is first
    del first
    gc.collect()
    assert eventually(lambda: root.lent() == 1)
    del second
    gc.collect()
    assert eventually(lambda: root.lent() == 0)


@case()
def ping(session: Session) -> None:
    session.conn.ping()
    session.conn.ping("some data", timeout=5)
