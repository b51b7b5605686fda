"""RPyC over RPyC: a reference that is passed on through a second connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Serve = Callable[..., Any]

SETTABLE = {"allow_setattr": True}


class Note:
    """The client's object, on its way through two servers."""

    def __init__(self, text: str = "note") -> None:
        self._text = text

    @property
    def exposed_text(self) -> str:
        return self._text

    @exposed_text.setter
    def exposed_text(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __add__(self, other: Any) -> str:
        return self._text + str(other)


class Backend:
    """The far end."""

    def __init__(self) -> None:
        self.things: dict[str, Note] = {}

    def exposed_same(self, thing: Any) -> Any:
        return thing

    def exposed_text_of(self, thing: Any) -> str:
        return str(thing)

    def exposed_sum(self, thing: Any, other: Any) -> Any:
        return thing + other

    def exposed_sign(self, note: Any, signature: str) -> Any:
        note.text = note.text + signature
        return note

    def exposed_make(self, text: str) -> Note:
        return self.things.setdefault(text, Note(text))

    def exposed_is_mine(self, thing: Any, text: str) -> bool:
        return thing is self.things[text]

    def exposed_call(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    def exposed_fail(self) -> None:
        raise ZeroDivisionError("at the far end")


@pytest.fixture
def conn(serve: Serve) -> Any:
    """A client of a gateway that hands everything on to one of two backends, `first` and `second`."""
    return gateway_to(serve, serve(Backend, SETTABLE), serve(Backend, SETTABLE))


def gateway_to(serve: Serve, *backends: Any) -> Any:
    class Gateway:
        def on_connect(self, conn: Any) -> None:
            self.behind = [backend.connect(config=SETTABLE) for backend in backends]

        def on_disconnect(self, conn: Any) -> None:
            for behind in self.behind:
                behind.close()

        def exposed_first(self, name: str, *args: Any) -> Any:
            return getattr(self.behind[0].root, name)(*args)

        def exposed_second(self, name: str, *args: Any) -> Any:
            return getattr(self.behind[1].root, name)(*args)

        def exposed_backend(self, number: int) -> Any:
            return self.behind[number].root

        def exposed_sign(self, note: Any) -> Any:
            note.text = note.text + " gateway"
            return self.behind[0].root.sign(note, " backend")

    return serve(Gateway, SETTABLE).connect(config=SETTABLE)


def test_an_objects_text_is_read_through_two_hops(conn: Any) -> None:
    assert conn.root.first("text_of", Note("near")) == "near"


def test_an_object_that_comes_home_is_itself(conn: Any) -> None:
    note = Note()
    assert conn.root.first("same", note) is note
    assert str(note) == "note"


def test_a_property_is_set_through_two_hops(conn: Any) -> None:
    note = Note()
    assert conn.root.sign(note) is note
    assert str(note) == "note gateway backend"


def test_an_operator_runs_through_two_hops(conn: Any) -> None:
    assert conn.root.first("sum", Note("a"), "b") == "ab"


def test_a_backends_object_reaches_the_client(conn: Any) -> None:
    note = conn.root.first("make", "made")
    assert note.text == "made"
    assert str(note) == "made"
    assert note + "!" == "made!"
    note.text = "changed"
    assert conn.root.first("text_of", note) == "changed"


def test_a_backends_object_that_comes_home_is_itself(conn: Any) -> None:
    note = conn.root.first("make", "made")
    assert conn.root.first("is_mine", note, "made")


def test_a_backends_root_can_be_handed_on(conn: Any) -> None:
    backend = conn.root.backend(0)
    note = backend.make("direct")
    assert note.text == "direct"
    assert backend.same(note) is note
    assert backend.is_mine(note, "direct")


def test_objects_of_two_backends_are_never_mixed_up(conn: Any) -> None:
    firsts = [conn.root.first("make", f"first {number}") for number in range(5)]
    seconds = [conn.root.second("make", f"second {number}") for number in range(5)]
    assert [note.text for note in firsts] == [f"first {number}" for number in range(5)]
    assert [note.text for note in seconds] == [f"second {number}" for number in range(5)]
    assert conn.root.second("text_of", firsts[0]) == "first 0"
    assert conn.root.first("text_of", seconds[0]) == "second 0"


def test_a_function_of_ours_is_called_from_the_far_end(conn: Any) -> None:
    calls: list[tuple[int, ...]] = []

    def record(*args: int) -> int:
        calls.append(args)
        return sum(args)

    assert conn.root.first("call", record, 1, 2) == 3
    assert calls == [(1, 2)]


def test_an_exception_of_the_far_end_reaches_the_client(conn: Any) -> None:
    with pytest.raises(ZeroDivisionError, match="at the far end") as info:
        conn.root.first("fail")
    assert "exposed_fail" in info.value._remote_tb  # type: ignore[attr-defined]
    assert "exposed_first" in info.value._remote_tb  # type: ignore[attr-defined]


def test_a_reference_goes_from_one_connection_of_the_client_to_another(serve: Serve) -> None:
    first, second = serve(Backend).connect(), serve(Backend).connect()
    note = first.root.make("travelling")
    assert second.root.text_of(note) == "travelling"
    assert second.root.same(note) is note
    assert first.root.is_mine(second.root.same(note), "travelling")
