"""The exposure table: what is in it for each way of marking a member, and what never is."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from gateway.service.exposure import (
    Access,
    Exposable,
    ExposedProperty,
    Exposure,
    Kind,
    exposed,
    exposure_table,
    service,
)


class Supply(Exposable):
    """One member of each kind."""

    exposed_model = "PSU"
    exposed_serial: str
    plain = 5
    _private = 6

    def exposed_by_name(self, volts: float) -> None:
        """Reached as `by_name`."""

    @exposed
    def by_mark(self, volts: float, *, channel: int = 1) -> float:
        """Reached under its name."""
        return volts * channel

    @exposed(access="admin", unit="A")
    def with_facts(self) -> float:
        return 0.0

    @exposed("remote_")
    def by_own_prefix(self) -> None: ...

    @exposed(unit="V")  # type: ignore[prop-decorator]
    @property
    def voltage(self) -> float:
        """The set voltage."""
        return 3.3

    @voltage.setter
    def voltage(self, volts: float) -> None: ...

    @property
    @exposed(unit="A")
    def current(self) -> float:
        """The current, marked inside."""
        return 0.1

    @current.setter
    def current(self, amps: float) -> None: ...

    @property
    @exposed(access="admin")
    def fixed(self) -> int:
        return 1

    @exposed
    def trace(self, count: int) -> Iterator[float]:
        """Readings, one by one."""
        yield from range(count)

    @exposed
    @staticmethod
    def static_outside(x: int) -> int:
        return x

    @staticmethod
    @exposed
    def static_inside(x: int) -> int:
        return x

    @exposed
    @classmethod
    def of_class_outside(cls, x: int) -> int:
        return x

    @classmethod
    @exposed
    def of_class_inside(cls, x: int) -> int:
        return x

    @exposed  # type: ignore[prop-decorator]
    @functools.cached_property
    def cached(self) -> int:
        return 1

    @exposed
    class Channel:
        """A nested class."""

        def __init__(self, number: int) -> None: ...

    def unmarked(self) -> None: ...


def row(cls: type, name: str) -> Exposure:
    return exposure_table(cls)[name]


METHOD, PROPERTY, STREAM = Kind.METHOD, Kind.PROPERTY, Kind.STREAM
READ, CONTROL, ADMIN = Access.READ, Access.CONTROL, Access.ADMIN


@pytest.mark.parametrize(
    ("name", "kind", "signature", "doc", "unit", "access", "settable"),
    [
        ("model", PROPERTY, "", "", None, READ, False),
        ("serial", PROPERTY, "", "", None, READ, False),
        ("by_name", METHOD, "(volts: float) -> None", "Reached as `by_name`.", None, CONTROL, False),
        (
            "by_mark",
            METHOD,
            "(volts: float, *, channel: int = 1) -> float",
            "Reached under its name.",
            None,
            CONTROL,
            False,
        ),
        ("with_facts", METHOD, "() -> float", "", "A", ADMIN, False),
        ("by_own_prefix", METHOD, "() -> None", "", None, CONTROL, False),
        ("voltage", PROPERTY, "-> float", "The set voltage.", "V", READ, True),
        ("current", PROPERTY, "-> float", "The current, marked inside.", "A", READ, True),
        ("fixed", PROPERTY, "-> int", "", None, ADMIN, False),
        ("trace", STREAM, "(count: int) -> Iterator[float]", "Readings, one by one.", None, CONTROL, False),
        ("static_outside", METHOD, "(x: int) -> int", "", None, CONTROL, False),
        ("static_inside", METHOD, "(x: int) -> int", "", None, CONTROL, False),
        ("of_class_outside", METHOD, "(x: int) -> int", "", None, CONTROL, False),
        ("of_class_inside", METHOD, "(x: int) -> int", "", None, CONTROL, False),
        ("cached", PROPERTY, "", "", None, READ, False),
        ("Channel", METHOD, "(number: int) -> None", "A nested class.", None, CONTROL, False),
    ],
)
def test_each_way_to_mark_a_member_gives_its_row(
    name: str, kind: Kind, signature: str, doc: str, unit: str | None, access: Access, settable: bool
) -> None:
    found = row(Supply, name)
    assert (found.name, found.kind, found.signature, found.doc) == (name, kind, signature, doc)
    assert (found.unit, found.access, found.settable) == (unit, access, settable)


def test_the_table_holds_what_is_marked_and_nothing_else() -> None:
    assert set(exposure_table(Supply)) == {
        *(
            "model",
            "serial",
            "by_name",
            "by_mark",
            "with_facts",
            "by_own_prefix",
            "voltage",
            "current",
            "fixed",
            "trace",
        ),
        *("static_outside", "static_inside", "of_class_outside", "of_class_inside", "cached", "Channel"),
    }


@pytest.mark.parametrize("name", exposure_table(Supply))
def test_a_row_names_the_attribute_that_is_there(name: str) -> None:
    if name != "serial":  # annotated only: each object sets it
        assert hasattr(Supply, row(Supply, name).attribute)


def test_a_marked_member_still_works_for_its_own_side() -> None:
    supply = Supply()
    assert supply.by_mark(2.0, channel=3) == 6.0
    assert supply.voltage == 3.3
    assert Supply.static_inside(4) == Supply.of_class_outside(4) == 4
    assert list(supply.trace(2)) == [0, 1]


def test_the_table_can_not_be_written_to() -> None:
    with pytest.raises(TypeError):
        exposure_table(Supply)["secret"] = row(Supply, "model")  # type: ignore[index]
    with pytest.raises(AttributeError):
        row(Supply, "model").access = READ  # type: ignore[misc]


# -- marks -------------------------------------------------------------------------------------------------------------


def test_a_property_keeps_its_mark_through_getter_setter_and_deleter() -> None:
    class Dial(Exposable):
        @exposed(unit="Hz")  # type: ignore[prop-decorator]
        @property
        def frequency(self) -> float:
            raise AssertionError("replaced below")

        @frequency.getter  # type: ignore[misc]
        def frequency(self) -> float:
            return 50.0

        @frequency.setter
        def frequency(self, hertz: float) -> None: ...

        @frequency.deleter
        def frequency(self) -> None: ...

    found = row(Dial, "frequency")
    assert (found.unit, found.settable) == ("Hz", True)
    assert isinstance(vars(Dial)["frequency"], ExposedProperty)
    assert Dial().frequency == 50.0
    del Dial().frequency


@pytest.mark.parametrize("wrong", [5, None, [], 3.3], ids=repr)
def test_what_can_not_be_reached_can_not_be_marked(wrong: Any) -> None:
    if wrong is None:
        assert callable(exposed(wrong)), "the decorator without a member waits for one"
    else:
        with pytest.raises(TypeError, match="@exposed takes"):
            exposed(wrong)


def test_an_access_that_does_not_exist_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="owner"):
        exposed(access="owner")


def test_a_wrapper_of_a_marked_function_is_marked() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    class Dial(Exposable):
        @logged
        @exposed(unit="V")
        def reading(self, channel: int) -> float:
            """A reading."""
            return 1.0

    found = row(Dial, "reading")
    assert (found.kind, found.signature, found.doc, found.unit) == (
        METHOD,
        "(channel: int) -> float",
        "A reading.",
        "V",
    )


def test_a_wrapped_generator_is_a_method_for_what_the_wrapper_returns_is_unknown() -> None:
    def collected(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> list[Any]:
            return list(function(*args))

        return wrapper

    class Dial(Exposable):
        @exposed
        @collected
        def readings(self) -> Iterator[int]:
            yield 1

    assert row(Dial, "readings").kind is METHOD


def test_the_mark_of_a_nested_class_is_not_inherited() -> None:
    class Bench(Exposable):
        @exposed
        class Channel: ...

        class Secret(Channel): ...

        spare = Channel()

    assert set(exposure_table(Bench)) == {"Channel"}


def test_members_of_a_nested_class_that_is_marked_get_their_names_too() -> None:
    @service
    class Bench:
        @exposed
        class Channel:
            @exposed
            def volts(self) -> float:
                return 3.3

    assert Bench.exposed_Channel().exposed_volts() == 3.3  # type: ignore[attr-defined]


def test_the_class_decorator_gives_prefixed_names_and_leaves_the_plain_ones() -> None:
    @service
    class Bench:
        @exposed
        def add(self, a: int, b: int) -> int:
            return a + b

        @exposed("my_")
        def sub(self, a: int, b: int) -> int:
            return a - b

        @exposed
        def exposed_mul(self, a: int, b: int) -> int:
            return a * b

    bench: Any = Bench()
    assert (bench.add(2, 1), bench.exposed_add(2, 1), bench.my_sub(2, 1), bench.exposed_mul(2, 1)) == (3, 3, 1, 2)
    assert not hasattr(bench, "exposed_sub")
    assert not hasattr(bench, "exposed_exposed_mul")
    assert set(exposure_table(Bench)) == {"add", "sub", "mul"}


# -- inheritance -------------------------------------------------------------------------------------------------------


class Base(Exposable):
    @exposed(unit="V")
    def reading(self) -> str:
        """Of the base."""
        return "base"

    def exposed_by_name(self) -> str:
        return "base"

    @exposed
    def hidden_later(self) -> str:
        return "base"


def reached(obj: Any, name: str) -> Any:
    return getattr(obj, row(type(obj), name).attribute)()


def test_a_derived_class_shows_what_its_base_shows() -> None:
    class Derived(Base):
        @exposed
        def more(self) -> None: ...

    assert set(exposure_table(Derived)) == set(exposure_table(Base)) | {"more"}
    assert reached(Derived(), "reading") == "base"


def test_the_marked_override_counts() -> None:
    class Derived(Base):
        @exposed(unit="mV")
        def reading(self) -> str:
            """Of the derived class."""
            return "derived"

    assert reached(Derived(), "reading") == "derived"
    assert (row(Derived, "reading").unit, row(Derived, "reading").doc) == ("mV", "Of the derived class.")
    assert row(Base, "reading").unit == "V"


def test_an_override_by_prefixed_name_counts_whichever_way_the_base_marked_it() -> None:
    class Derived(Base):
        def exposed_reading(self) -> str:
            return "derived"

        def exposed_by_name(self) -> str:
            return "derived"

    assert reached(Derived(), "reading") == "derived"
    assert reached(Derived(), "by_name") == "derived"


def test_a_marked_override_of_a_prefixed_name_counts() -> None:
    class Derived(Base):
        @exposed
        def by_name(self) -> str:
            return "derived"

    assert reached(Derived(), "by_name") == "derived"


def test_the_nearest_class_of_the_resolution_order_counts() -> None:
    class Left(Base):
        @exposed
        def reading(self) -> str:
            return "left"

    class Right(Base):
        @exposed
        def reading(self) -> str:
            return "right"

    class Both(Left, Right): ...

    assert reached(Both(), "reading") == "left"


def test_a_member_that_is_annotated_again_stays_what_it_was() -> None:
    class Derived(Base):
        exposed_by_name: Callable[[], str]

    assert row(Derived, "by_name").kind is METHOD


def test_a_marked_abstract_member_is_shown_by_the_class_that_implements_and_marks_it() -> None:
    class Abstract(Exposable, ABC):
        @abstractmethod
        @exposed(access="read")
        def identify(self) -> str: ...

    class Concrete(Abstract):
        @exposed(access="read")
        def identify(self) -> str:
            return "me"

    assert reached(Concrete(), "identify") == "me"


# -- other objects -----------------------------------------------------------------------------------------------------


class Foreign:
    """A class that knows nothing of the table's base."""

    exposed_volts = 3.3

    @exposed
    def reading(self) -> int:
        return 1


def test_any_class_has_a_table_and_it_is_built_once() -> None:
    assert set(exposure_table(Foreign())) == {"volts", "reading"}
    assert exposure_table(Foreign()) is exposure_table(Foreign)


@pytest.mark.parametrize(
    "obj",
    [5, "text", None, [], object(), len, type, int],
    ids=["5", "text", "None", "list", "object", "len", "type", "int"],
)
def test_what_nobody_marked_shows_nothing(obj: Any) -> None:
    assert dict(exposure_table(obj)) == {}


def test_a_table_is_found_without_calling_into_the_object() -> None:
    class Trap:
        exposed_volts = 3.3

        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

    table = exposure_table(Trap())
    assert set(table) == {"volts"}


def test_an_exposable_object_may_have_a_table_of_its_own() -> None:
    class Registry(Exposable):
        def exposures(self) -> Mapping[str, Exposure]:
            return MappingProxyType({"psu1": row(Supply, "model")})

    assert set(exposure_table(Registry())) == {"psu1"}
    assert set(exposure_table(Registry)) == set()


def test_a_signature_that_nobody_can_tell_is_empty() -> None:
    class Odd(Exposable):
        exposed_min = min
        exposed_write_only = property(None, lambda self, value: None)

    assert row(Odd, "min").signature == ""
    assert row(Odd, "write_only").signature == ""
    assert row(Odd, "write_only").settable
