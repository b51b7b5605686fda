"""Words of the command line to values, and values to JSON and to text."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.values import as_json, call_arguments, literal, shown

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("3", 3),
        ("-5", -5),
        ("3.30", 3.3),
        ("1e-3", 0.001),
        ("True", True),
        ("None", None),
        ("[1, 2]", [1, 2]),
        ("{'a': (1, b'x')}", {"a": (1, b"x")}),
        ("'3'", "3"),
        ("'a=b'", "a=b"),
        ("*IDN?", "*IDN?"),
        ("MEAS:VOLT?", "MEAS:VOLT?"),
        ("true", True),
        (" false", False),
        ("null", None),
        ("'true'", "true"),
        ("True story", "True story"),
        ("", ""),
        ("__import__('os')", "__import__('os')"),
        ("1+", "1+"),
        ("{[]: 1}", "{[]: 1}"),
        ("(" * 5000, "(" * 5000),
        ("9" * 5000, "9" * 5000),
        ("\x00", "\x00"),
    ],
)
def test_a_word_is_a_literal_where_it_is_one_and_itself_otherwise(word: str, value: object) -> None:
    assert literal(word) == value
    assert type(literal(word)) is type(value)


def test_keywords_are_told_from_positional_words() -> None:
    assert call_arguments(["1", "volts=3.3", "mode=fast", "'a=b'", "x =1"]) == (
        [1, "a=b", "x =1"],
        {"volts": 3.3, "mode": "fast"},
    )


@given(st.text())
def test_no_word_is_refused(word: str) -> None:
    literal(word)


@given(VALUES)
def test_every_value_has_a_json_form(value: object) -> None:
    json.loads(json.dumps(as_json(value), allow_nan=False))


def test_the_documented_json_forms() -> None:
    assert as_json((1, [2.5, None], {"a": True})) == [1, [2.5, None], {"a": True}]
    assert as_json(b"\x00\xff") == {"base64": "AP8="}
    assert as_json(1 + 2j) == {"real": 1.0, "imag": 2.0}
    assert as_json([math.nan, math.inf, -math.inf]) == ["nan", "inf", "-inf"]
    assert as_json(np.array([[1, 2], [3, 4]])) == [[1, 2], [3, 4]]
    assert as_json(np.float64(1.5)) == 1.5
    assert as_json({1: 2}) == {"1": 2}
    assert as_json(object).keys() == {"repr"}


def test_nesting_without_end_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    json.dumps(as_json(loop))


def test_a_value_is_shown_with_its_unit() -> None:
    assert shown(3.3, "V", brief=True) == "3.3 V"
    assert shown("ready", None, brief=True) == "ready"
    assert shown(None, "V", brief=True) == "None"
    assert shown(True, None, brief=True) == "True"


def test_a_long_list_is_summarised_only_where_a_person_looks() -> None:
    values = [float(n) for n in range(1000)]
    assert shown(values, "V", brief=True) == "[0, 1, 2, ..., 999]  1000 items, min 0, max 999, mean 499.5 V"
    assert shown(values, None, brief=False) == repr(values)
    assert shown(["a"] * 100, None, brief=True) == "['a', 'a', 'a', ..., 'a']  100 items"
    assert shown([1, 2], None, brief=True) == "[1, 2]"


def test_an_array_is_summarised_with_its_shape() -> None:
    array = np.arange(2000.0).reshape(2, 1000)
    assert shown(array, None, brief=True) == "[0, 1, 2, ..., 1999]  2 x 1000 float64, min 0, max 1999, mean 999.5"
    assert shown(np.array([1, 2]), None, brief=True) == "[1, 2]"
    assert shown(np.array([], dtype=float), None, brief=True) == "[]"
    assert shown(np.array([1.0, np.nan] * 10), None, brief=True) == "[1, nan, 1, ..., nan]  20 float64"
