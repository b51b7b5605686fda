"""Proxies: what they answer themselves, what they ask, and what a peer can't make of them."""

from __future__ import annotations

import copy
import pickle
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gateway
from gateway.errors import ProtocolError
from gateway.protocol.netref import BUILTIN_CLASSES, LOCAL_NAMES
from gateway.sync.netref import BaseNetref, builtin_netref, make_class, remote_method

Pair = Callable[..., tuple[Any, Any]]


class Old:
    """A sequence of the days of Python 2."""

    def __getitem__(self, key: Any) -> Any:
        raise TypeError("no slices")

    def __getslice__(self, start: int, stop: int) -> tuple[int, int]:
        return start, stop


class Bench(gateway.Service):
    """A bench to call."""

    def exposed_make(self, kind: str) -> Any:
        return {"list": [3, 1, 2], "dict": {"a": 1}, "old": Old(), "array": np.arange(3), "range": range(5)}[kind]

    def exposed_add(self, a: int, b: int = 0) -> int:
        """Add two numbers."""
        return a + b

    def exposed_apply(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    def exposed_is_mine(self, thing: Any) -> bool:
        return isinstance(thing, types.MethodType) and thing.__self__ is self


@pytest.fixture
def conn(pair: Pair) -> Any:
    return pair(there=Bench)[0]


def test_a_call_of_an_exposed_method_is_one_request(conn: Any) -> None:
    root = conn.root
    received = conn.received
    assert root.add(1, b=2) == 3
    assert conn.received == received + 1
    assert root.exposed_add(1) == 1


def test_a_method_that_is_not_called_asks_nothing_and_knows_its_name(conn: Any) -> None:
    root = conn.root
    received = conn.received
    method = root.add
    found = remote_method(method)
    assert found is not None
    assert found[0] is root
    assert found[1] == "add"
    assert (method.__name__, method.__doc__) == ("add", "Add two numbers.")
    assert conn.received == received
    assert remote_method(len) is None
    assert remote_method(Bench().exposed_add) is None


def test_a_method_that_is_passed_on_is_the_owners_own(conn: Any) -> None:
    root = conn.root
    assert root.is_mine(root.add)
    assert root.apply(root.add, 1, 2) == 3
    assert root.is_mine(root.add), "it is fetched once and kept"


def test_the_class_of_a_proxy_is_asked_for_once(conn: Any) -> None:
    root = conn.root
    received = conn.received
    made = [root.make("old") for _ in range(3)]
    assert conn.received == received + 4
    assert len({type(each) for each in made}) == 1


def test_classes_and_instances_print_readably(conn: Any) -> None:
    assert repr(type(conn.root)) == f"<netref class '{__name__}.Bench'>"
    assert "Bench object" in repr(conn.root)
    assert conn.root.__doc__ == "A bench to call."


def test_builtin_names_need_no_question(conn: Any) -> None:
    root = conn.root
    received = conn.received
    numbers = root.make("list")
    assert conn.received == received + 1
    assert isinstance(numbers, list)
    assert type(numbers) is builtin_netref("builtins.list", is_class=False)  # type: ignore[comparison-overlap]
    assert numbers.__class__ is list


def test_every_builtin_name_has_a_class_for_itself_and_for_its_instances() -> None:
    for name in BUILTIN_CLASSES:
        for is_class in (True, False):
            assert builtin_netref(name, is_class=is_class) is not None
    assert builtin_netref("builtins.no_such", is_class=True) is None
    assert "__call__" in vars(builtin_netref("builtins.list", is_class=True))
    assert "__call__" not in vars(builtin_netref("builtins.list", is_class=False))
    assert "__call__" in vars(builtin_netref("builtins.function", is_class=False))


def test_old_slices_are_asked_for_as_stock_does(conn: Any) -> None:
    old = conn.root.make("old")
    assert old.__getslice__(1, 2) == (1, 2)
    assert old.__getslice__(1, 2**63 - 1) == (1, 2**63 - 1)


def test_numpy_reads_no_memory_through_a_proxy_and_no_array_without_consent(conn: Any) -> None:
    array = conn.root.make("array")
    for name in ("__array_struct__", "__array_interface__"):
        with pytest.raises(AttributeError):
            getattr(array, name)
    with pytest.raises(TypeError, match="allow_pickle is off"):
        array.__array__()


def test_with_consent_of_both_a_proxy_is_copied_pickled_and_made_an_array(pair: Pair) -> None:
    yes = {"allow_pickle": True}
    conn, _ = pair(there=Bench, config=yes, remote_config=yes)
    numbers, array = conn.root.make("list"), conn.root.make("array")
    assert copy.copy(numbers) == pickle.loads(pickle.dumps(numbers)) == [3, 1, 2]
    assert np.asarray(array).tolist() == [0, 1, 2]


def test_without_consent_nothing_is_copied(conn: Any) -> None:
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="can't be pickled or copied"):
            duplicate(conn.root.make("dict"))


def test_isinstance_with_a_proxy_of_an_instance_is_a_mistake_and_says_so(conn: Any) -> None:
    with pytest.raises(TypeError, match="must be a class; this proxy is of an instance"):
        isinstance([], conn.root.make("list"))


def test_isinstance_takes_no_name_for_a_proof(pair: Pair) -> None:
    class Kinds(gateway.Service):
        def exposed_kind(self) -> type:
            return Old

        def exposed_make(self) -> Old:
            return Old()

        def exposed_builtin(self) -> type:
            return list

    one, other = (pair(there=Kinds)[0].root for _ in range(2))
    assert isinstance(one.make(), one.kind())
    assert not isinstance(one.make(), other.kind()), "an id means something on its own connection only"
    assert not isinstance(5, one.kind())
    assert isinstance([], one.builtin())
    assert not isinstance(5, one.builtin())
    assert not isinstance(one.kind(), one.kind()), "a class is no instance of itself"


def test_names_a_proxy_answers_itself_are_never_taken_from_a_table() -> None:
    table = tuple((name, "theirs") for name in sorted(LOCAL_NAMES))
    cls = make_class("bench.Liar", table, exact=True)
    assert not {name for name in LOCAL_NAMES if name in vars(cls)} - {"__slots__", "__module__", "__doc__"}


def test_an_exact_table_makes_every_name_a_method_and_another_only_exposed_and_special_ones() -> None:
    table = (("read", None), ("exposed_write", "Write."), ("__len__", None))
    exact, seed = make_class("bench.A", table, exact=True), make_class("bench.A", table)
    assert {"read", "exposed_write", "__len__"} <= set(vars(exact))
    assert "read" not in vars(seed)
    assert {"exposed_write", "write", "__len__"} <= set(vars(seed))
    assert vars(seed)["write"].__doc__ == "Write."
    assert issubclass(exact, BaseNetref)


@pytest.mark.parametrize(
    "methods",
    [
        5,
        (5,),
        (("read",),),
        ((5, None),),
        (("x" * 500, None),),
        tuple((f"m{number}", None) for number in range(5000)),
    ],
    ids=["no-table", "no-entries", "no-pair", "no-name", "long-name", "many"],
)
def test_a_method_table_that_no_owner_sends_is_an_error_of_that_call(
    pair: Pair, methods: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn, remote = pair(there=Bench)
    monkeypatch.setattr(remote._policy, "methods", lambda obj: methods)
    with pytest.raises(ProtocolError, match="method table"):
        conn.root  # noqa: B018
    conn.ping()


@pytest.mark.parametrize(
    "name", ["__qualname__", "__classcell__", "____known__", "____local_class__", "____methods__", "mro"]
)
def test_a_method_table_with_a_name_that_means_something_to_python_breaks_nothing_else(
    pair: Pair, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn, remote = pair(there=Bench)
    with monkeypatch.context() as patch:
        patch.setattr(remote._policy, "methods", lambda obj: ((name, None), ("exposed_add", None)))
        try:
            assert conn.root.add(1, 2) == 3
        except Exception as error:
            assert isinstance(error, TypeError | AttributeError | ProtocolError)
    conn.ping()


def test_a_doc_that_is_no_text_is_no_doc(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    conn, remote = pair(there=Bench)
    monkeypatch.setattr(remote._policy, "methods", lambda obj: (("exposed_add", 5),))
    assert conn.root.add.__doc__ is None


def test_class_tables_are_bounded(pair: Pair) -> None:
    from gateway.limits import Limits

    class Many(gateway.Service):
        def exposed_make(self, number: int) -> Any:
            return type(f"Class{number}", (), {"exposed_read": lambda self: number})()

    conn, _ = pair(there=Many, limits=Limits(remote_classes=8))
    root = conn.root
    for number in range(20):
        assert root.make(number).read() == number
        assert len(conn._proxies._classes) <= 8
