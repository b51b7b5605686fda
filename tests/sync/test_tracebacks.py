"""Traceback texts: what `traceback` of the standard library prints, and nothing that fails."""

from __future__ import annotations

import itertools
import re
import traceback
from collections.abc import Callable
from typing import Any

import pytest

import gateway
from gateway.sync.tracebacks import format_traceback


def without_carets(text: str) -> str:
    return re.sub(r"\n +[\^~]+(?=\n)", "", text)


def raised(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def plain() -> None:
    raise ValueError("over range")


def caused() -> None:
    try:
        plain()
    except ValueError as error:
        raise KeyError("volts") from error


def in_context() -> None:
    try:
        plain()
    except ValueError:
        int("x")


def suppressed() -> None:
    try:
        plain()
    except ValueError:
        raise KeyError("volts") from None


def with_notes() -> None:
    error = ValueError("over range")
    error.add_note("at channel 1")
    error.add_note("twice")
    raise error


class OfAClass(Exception):
    """An exception of this module."""


def of_a_class() -> None:
    raise OfAClass("here")


def without_text() -> None:
    raise OfAClass


@pytest.mark.parametrize("function", [plain, caused, in_context, suppressed, with_notes, of_a_class, without_text])
def test_a_text_is_the_standard_librarys(function: Callable[[], Any]) -> None:
    error = raised(function)
    assert format_traceback(error) == without_carets("".join(traceback.format_exception(error)))


def test_an_error_that_was_never_raised_has_a_headline() -> None:
    assert format_traceback(ValueError("over")) == "Traceback (most recent call last):\nValueError: over\n"


def test_a_deep_recursion_is_cut() -> None:
    def down() -> None:
        down()

    text = format_traceback(raised(down))
    assert text.count("in down") <= 70
    assert "  ...\n" in text
    assert text.endswith("RecursionError: maximum recursion depth exceeded\n")


def test_a_chain_that_is_long_or_closed_is_cut() -> None:
    errors = [ValueError(str(number)) for number in range(20)]
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    assert format_traceback(errors[0]).count("ValueError") <= 8
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert format_traceback(one).count("ValueError") == 2


@pytest.mark.parametrize("notes", [5, None, "text", ("a", 5), [object()]], ids=lambda notes: type(notes).__name__)
def test_notes_of_any_kind_do_not_break_it(notes: Any) -> None:
    error = ValueError("over")
    error.__notes__ = notes
    assert "ValueError: over" in format_traceback(error)


def test_an_error_that_can_not_be_shown_is_named() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert format_traceback(Mute()).endswith("Mute: <exception without a str>\n")


def test_code_without_a_source_is_named_by_its_line() -> None:
    text = format_traceback(raised(lambda: exec("raise ValueError('over')", {})))
    assert '  File "<string>", line 1, in <module>\n' in text


def test_a_remote_traceback_begins_in_the_objects_own_code(serve: Any, connect: Any) -> None:
    class Bench(gateway.Service):
        def exposed_fail(self) -> None:
            self.deeper()

        def deeper(self) -> None:
            raise ValueError("no such range")

    with pytest.raises(ValueError, match="no such range") as caught:
        connect(serve(Bench)).root.fail()
    text = caught.value._remote_tb  # type: ignore[attr-defined]
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("  File")] == ["exposed_fail", "deeper"]


def test_what_is_refused_on_the_way_shows_the_way(serve: Any, connect: Any) -> None:
    with pytest.raises(AttributeError) as caught:
        connect(serve(gateway.Service)).root.hidden  # noqa: B018
    assert "seed_policy.py" in caught.value._remote_tb  # type: ignore[attr-defined]
