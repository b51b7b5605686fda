"""What a proxy knows without asking: held against stock's own lists."""

from __future__ import annotations

import builtins
import gc
import sys
import weakref
from typing import Any

import pytest
from rpyc.core import netref as stock  # type: ignore[import-untyped]
from rpyc.lib import get_methods  # type: ignore[import-untyped]

from gateway.protocol.netref import BUILTIN_CLASSES, LOCAL_NAMES, NEVER_REMOTE, Netref, methods_of
from tests.protocol.proxies import KnownProxy


def test_the_builtin_names_are_the_ones_that_stock_resolves_without_asking() -> None:
    assert set(BUILTIN_CLASSES) == set(stock.builtin_classes_cache)
    assert len(BUILTIN_CLASSES) == 34


@pytest.mark.parametrize("name", BUILTIN_CLASSES)
def test_a_builtin_name_stands_for_its_class(name: str) -> None:
    cls = BUILTIN_CLASSES[name]
    assert f"{cls.__module__}.{cls.__name__}" == name
    if cls.__name__ in vars(builtins):
        assert vars(builtins)[cls.__name__] is cls


def test_a_proxy_answers_at_least_the_names_itself_that_stock_does() -> None:
    assert stock.LOCAL_ATTRS - {"____refcount__"} <= LOCAL_NAMES
    assert NEVER_REMOTE <= LOCAL_NAMES


@pytest.mark.parametrize("obj", [1, [], "x", int, ValueError(), len, sys], ids=lambda obj: type(obj).__name__)
def test_a_method_table_is_stocks_without_the_names_a_proxy_answers_itself(obj: Any) -> None:
    ours = dict(methods_of(obj))
    theirs = dict(get_methods(stock.LOCAL_ATTRS, obj))
    assert ours == {name: doc for name, doc in theirs.items() if name not in LOCAL_NAMES}


class Base:
    def inherited(self) -> None:
        """Of the base."""

    def overridden(self) -> None:
        """Of the base."""


class Derived(Base):
    volts = 3.3

    def overridden(self) -> None:
        """Of the derived class."""

    @property
    def reading(self) -> float:
        raise AssertionError("a property was read")

    def _private(self) -> None: ...


def test_a_method_table_lists_routines_with_the_nearest_docstring_and_reads_nothing() -> None:
    table = dict(methods_of(Derived()))
    assert table["inherited"] == "Of the base."
    assert table["overridden"] == "Of the derived class."
    assert table["_private"] is None
    assert not {"volts", "reading", "__class__", "__init__", "__eq__"} & set(table)


def test_a_class_shows_its_own_methods_and_its_metaclass_s() -> None:
    table = dict(methods_of(Derived))
    assert {"overridden", "__call__", "mro"} <= set(table)
    assert "__call__" not in dict(methods_of(Derived()))


def test_a_proxy_has_slots_and_no_finalizer() -> None:
    proxy = KnownProxy(None, ("a.B", 1, 2))
    assert not hasattr(proxy, "__dict__")
    assert not hasattr(Netref, "__del__"), "a finalizer can be overtaken by a thread that receives the object again"
    alive = weakref.ref(proxy)
    del proxy
    gc.collect()
    assert alive() is None
