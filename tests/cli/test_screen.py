"""What is written where: tables, JSON, errors, and text from a peer that would drive the terminal."""

from __future__ import annotations

import json

import pytest

from gateway.cli.exits import Exit, Failure, failure
from gateway.cli.screen import Screen, printable
from gateway.errors import BY_CODE, Ambiguous, CallTimeout, DeviceUnavailable, GatewayError, LimitExceeded, NotFound


def test_a_table_away_from_a_terminal_is_aligned_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().table(("name", "state"), [("psu1", "open"), ("multimeter", "faulty")])
    assert capsys.readouterr().out == "name        state\npsu1        open\nmultimeter  faulty\n"


def test_a_long_row_is_neither_cut_nor_wrapped_away_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().table(("name",), [("x" * 500,)])
    assert capsys.readouterr().out == "name\n" + "x" * 500 + "\n"


def test_json_is_all_there_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    screen.line("hello")
    screen.table(("name",), [("psu1",)])
    screen.document({"unit": "Ω", "text": "\ud800"})
    assert json.loads(capsys.readouterr().out) == {"unit": "Ω", "text": "\ud800"}


def test_an_error_is_one_line_on_stderr_or_one_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    problem = Failure("not-found", "no\n gateway  here", Exit.NOT_FOUND)
    Screen().failed(problem)
    assert capsys.readouterr() == ("", "error: no gateway here\n")
    Screen(as_json=True).failed(problem)
    written = capsys.readouterr()
    assert json.loads(written.out) == {"error": {"code": "not-found", "message": "no gateway here"}}
    assert written.err == ""


def test_where_stdout_carries_the_protocol_nothing_else_is_written_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True, wire_on_stdout=True)
    screen.failed(Failure("config-error", "wrong", Exit.USAGE))
    Screen(wire_on_stdout=True).line("hello")
    written = capsys.readouterr()
    assert written.out == ""
    assert json.loads(written.err.splitlines()[0])["error"]["code"] == "config-error"


def test_a_peers_text_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("\x1b]0;owned\x07 Ω\n") == "\\x1b]0;owned\\x07 Ω\\n"
    screen = Screen()
    screen.line("[red]\x1b[31m")
    screen.table(("name",), [("\x1b[2J",)])
    screen.note("\x1b[2J")
    screen.failed(Failure("x", "\x1b[2J", Exit.RAISED))
    written = capsys.readouterr()
    assert "\x1b" not in written.out + written.err
    assert written.out.startswith("[red]\\x1b[31m\n")


def test_bars_run_from_the_lowest_to_the_highest_value() -> None:
    screen = Screen()
    assert screen.sparkline([]) == ""
    assert len(set(screen.sparkline([1.0, 1.0, 1.0]))) == 1
    bars = screen.sparkline([0.0, float("nan"), 7.0])
    assert (bars[0], bars[1], bars[2]) == ("▁", " ", "█")


@pytest.mark.parametrize(
    ("problem", "code", "exit_code"),
    [
        (NotFound("no psu9"), "not-found", 3),
        (Ambiguous("two"), "ambiguous", 3),
        (CallTimeout("no answer"), "call-timeout", 4),
        (LimitExceeded("frame", actual=2, allowed=1), "limit-exceeded", 4),
        (DeviceUnavailable("gone"), "device-unavailable", 1),
        (KeyboardInterrupt(), "interrupted", 130),
        (TimeoutError(), "call-timeout", 4),
        (ZeroDivisionError("division by zero"), "zero-division-error", 1),
    ],
)
def test_every_error_has_a_code_and_an_exit_code(problem: BaseException, code: str, exit_code: int) -> None:
    found = failure(problem)
    assert (found.code, found.exit) == (code, exit_code)
    assert found.message


@pytest.mark.parametrize("kind", [kind for kind in BY_CODE.values() if kind is not LimitExceeded])
def test_every_class_of_the_error_tree_has_an_exit_code(kind: type[GatewayError]) -> None:
    assert failure(kind("text")).exit in (1, 2, 3, 4)
