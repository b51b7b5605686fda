"""The SCPI language: strict parsing, both kinds of blocks, strings and the numbers that stand for infinity."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import scpi


@pytest.mark.parametrize(
    ("answer", "value"),
    [("1", 1.0), ("+1.25", 1.25), ("-3.", -3.0), (".5E-3", 0.0005), ("+4.98485154E+00", 4.98485154), (" 7 ", 7.0)],
)
def test_a_number_in_each_of_the_three_forms_is_read(answer: str, value: float) -> None:
    assert scpi.parse_number(answer) == value


@pytest.mark.parametrize(
    "answer", ["", "nan", "inf", "1_000", "0x10", "1,2", "1.2.3", "12V", "1e", "--1", "1\n", "1e999", "\u0661", "OVLD"]
)
def test_what_is_nearly_a_number_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        scpi.parse_number(answer)


def test_scpi_infinity_is_an_overload_and_scpi_nan_is_nan() -> None:
    assert scpi.parse_number("9.9E37") == math.inf
    assert scpi.parse_number("+9.90000000E+37") == math.inf
    assert scpi.parse_number("-9.9E+37") == -math.inf
    assert math.isnan(scpi.parse_number("9.91E37"))


@given(st.floats(min_value=-9.8e37, max_value=9.8e37))
def test_a_number_survives_being_sent_to_ten_digits(value: float) -> None:
    assert math.isclose(scpi.parse_number(f"{value:.17e}"), value)
    sent = scpi.format_number(value)
    assert math.isclose(float(sent), value, rel_tol=1e-9, abs_tol=1e-300)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_that_is_not_finite_is_never_sent(value: float) -> None:
    with pytest.raises(ValueError, match="can't be sent"):
        scpi.format_number(value)


def test_numbers_between_commas_are_read_in_order() -> None:
    assert scpi.parse_numbers("1,-2,3E0") == [1.0, -2.0, 3.0]
    with pytest.raises(ValueError, match="is not a number"):
        scpi.parse_numbers("1,,2")


@pytest.mark.parametrize(("answer", "value"), [("0", False), ("1", True), ("ON", True), ("off", False), (" 1", True)])
def test_a_boolean_is_read(answer: str, value: bool) -> None:
    assert scpi.parse_boolean(answer) is value


@pytest.mark.parametrize("answer", ["", "2", "true", "1.0", "00"])
def test_what_is_nearly_a_boolean_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        scpi.parse_boolean(answer)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_a_string_survives_its_quotes(text: str) -> None:
    assert scpi.parse_string(scpi.format_string(text)) == text


@pytest.mark.parametrize("answer", ["", '"', "abc", '"abc', 'abc"', '"a"b"', "'a\"", '"""'])
def test_what_is_nearly_a_string_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match="not a quoted string"):
        scpi.parse_string(answer)


def test_single_quotes_make_a_string_too() -> None:
    assert scpi.parse_string("'say \"hi\", it''s fine'") == 'say "hi", it\'s fine'


def test_an_identity_has_four_fields_and_the_firmware_may_have_commas() -> None:
    assert scpi.parse_identity("Acme, PS-1,0,1.0,a,b") == scpi.Identity("Acme", "PS-1", "0", "1.0,a,b")


@pytest.mark.parametrize("answer", ["", "Acme", "Acme,PS-1,123", "Ac\x00me,PS,1,2"])
def test_an_identity_with_less_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match=r"\*IDN\?"):
        scpi.parse_identity(answer)


def test_an_entry_of_the_error_queue_is_read() -> None:
    assert scpi.parse_queue_entry('-113,"Undefined header;A ""B"""') == (-113, 'Undefined header;A "B"')
    assert scpi.parse_queue_entry('+0,"No error"').number == 0


@pytest.mark.parametrize("answer", ["", "0", "0,No error", '1.5,"x"', '"No error",0', '99999999999,"x"'])
def test_what_is_nearly_an_entry_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match=r"not a quoted string|no entry"):
        scpi.parse_queue_entry(answer)


@pytest.mark.parametrize(
    ("data", "block"), [(b"", b"#10"), (b"abc", b"#13abc"), (b"\n" * 12, b"#212" + b"\n" * 12), (b"#1", b"#12#1")]
)
def test_a_definite_block_tells_its_length(data: bytes, block: bytes) -> None:
    assert scpi.encode_block(data) == block
    digits = scpi.block_digits(block[:2])
    assert scpi.block_length(block[2 : 2 + digits]) == len(data)


def test_zero_digits_mean_an_indefinite_block() -> None:
    assert scpi.block_digits(b"#0") == 0


@pytest.mark.parametrize("head", [b"", b"#", b"1#", b"#A", b"##", b"#12"])
def test_what_does_not_begin_a_block_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match="does not begin a block"):
        scpi.block_digits(head)


@pytest.mark.parametrize("digits", [b"", b"-1", b"1 ", b"\xb2"])
def test_what_is_no_length_is_refused(digits: bytes) -> None:
    with pytest.raises(ValueError, match="not the length"):
        scpi.block_length(digits)
