"""isinstance, __class__ and class objects across a connection."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest

from tests.behaviour.differences import differs

Connect = Callable[..., Any]


class Meta(type):
    def __hash__(cls) -> int:
        return 4321


class Base(metaclass=Meta):
    pass


class Foo(Base):
    def __hash__(self) -> int:
        return 1234


class Bar(Foo):
    pass


class Zoo:
    exposed_Base = Base
    exposed_Foo = Foo
    exposed_Bar = Bar

    def exposed_foo(self) -> Foo:
        return Foo()

    def exposed_bar(self) -> Bar:
        return Bar()

    def exposed_make(self, kind: str) -> Any:
        makers: dict[str, Callable[[], Any]] = {
            "list": lambda: [1, 2, 3],
            "dict": lambda: {"a": 0xD35DB33F},
            "set": lambda: {1},
            "bytearray": lambda: bytearray(b"ab"),
            "function": lambda: self.exposed_make_function,
            "generator": lambda: (number for number in (1, 2)),
            "exception": lambda: RuntimeError("as a value"),
            "module": lambda: types,
        }
        return makers[kind]()

    @staticmethod
    def exposed_make_function() -> int:
        return 1

    def exposed_none_type(self) -> type:
        return type(None)

    def exposed_is_instance(self, thing: Any, cls: Any) -> bool:
        return isinstance(thing, cls)

    def exposed_type(self, kind: str) -> type:
        return {"list": list, "dict": dict, "int": int}[kind]


@pytest.fixture
def root(connect: Connect) -> Any:
    return connect(Zoo).root


BUILTINS = [
    ("list", list),
    ("dict", dict),
    ("set", set),
    ("bytearray", bytearray),
    ("generator", types.GeneratorType),
]


@pytest.mark.parametrize(("kind", "cls"), BUILTINS, ids=[kind for kind, _ in BUILTINS])
def test_a_builtin_is_an_instance_of_its_class_and_a_netref(rpc: Any, root: Any, kind: str, cls: type) -> None:
    thing = root.make(kind)
    assert isinstance(thing, cls)
    assert isinstance(thing, rpc.BaseNetref)
    assert thing.__class__ is cls
    assert type(thing) is not cls


def test_an_exception_as_a_value_is_an_exception(root: Any) -> None:
    error = root.make("exception")
    assert isinstance(error, Exception)
    assert isinstance(error, BaseException)


def test_methods_of_a_netrefs_class_take_the_netref(root: Any) -> None:
    numbers = root.make("list")
    assert type(numbers).__getitem__(numbers, 0) == numbers.__getitem__(0) == 1
    assert root.make("dict")["a"] == 3546133311


def test_an_instance_is_no_second_argument_of_isinstance(root: Any) -> None:
    with pytest.raises(TypeError):
        isinstance([], root.make("list"))
    with pytest.raises(TypeError):
        isinstance(root.Foo, root.bar())


def test_isinstance_asks_a_remote_class_about_its_own_instances(root: Any) -> None:
    assert isinstance(root.foo(), root.Foo)
    assert isinstance(root.bar(), root.Bar)
    assert not isinstance(root.foo(), root.Bar)


def test_a_local_object_is_an_instance_of_the_same_builtin_class(root: Any) -> None:
    assert isinstance([], root.type("list"))
    assert not isinstance({}, root.type("list"))
    assert isinstance(None, root.none_type())


def test_the_peer_asks_isinstance_about_what_it_is_handed(root: Any) -> None:
    assert root.is_instance(root.make("list"), list)
    assert root.is_instance([], list)
    assert root.is_instance(root.foo(), root.Foo)
    assert not root.is_instance(root.foo(), root.Bar)


def test_a_remote_class_makes_remote_instances(rpc: Any, root: Any) -> None:
    made = root.type("list")((1, 2))
    assert isinstance(made, rpc.BaseNetref)
    assert list(made) == [1, 2]


def test_the_text_of_a_remote_class_is_the_owners(root: Any) -> None:
    assert repr(root.type("dict")) == repr(dict)
    assert type(root.type("dict").__class__) is type


def test_hashes_of_classes_and_instances_are_the_owners(root: Any) -> None:
    assert hash(root.Base) == hash(root.Foo) == hash(root.Bar) == 4321
    assert hash(root.foo()) == hash(root.bar()) == 1234


def test_isinstance_across_two_connections(rpc: Any, connect: Connect) -> None:
    first, second = connect(Zoo), connect(Zoo)
    expected = not differs(rpc, "ids-belong-to-one-connection")
    assert isinstance(first.root.bar(), second.root.Bar) == expected
    assert not isinstance(first.root.bar(), second.root.Foo)
