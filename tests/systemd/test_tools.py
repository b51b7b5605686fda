"""Running the system's tools: what is told of one that is missing, fails or hangs."""

from __future__ import annotations

from gateway.systemd.tools import TIMED_OUT, Output, run_tool


def test_what_a_tool_says_and_how_it_ends_is_given() -> None:
    assert run_tool("sh", "-c", "echo said; echo first >&2; echo complaint >&2; exit 3") == Output(
        3, "said\n", "first\ncomplaint\n"
    )


def test_the_last_line_of_a_complaint_is_the_one_that_is_shown() -> None:
    assert Output(1, "", "usage:\nuseradd: cannot lock /etc/passwd\n\n").complaint == "useradd: cannot lock /etc/passwd"
    assert Output(3, "").complaint == "exit code 3"


def test_a_tool_that_is_not_there_is_told_from_one_that_hangs() -> None:
    assert run_tool("no-such-tool-of-any-system") is None
    hanging = run_tool("sleep", "60", timeout_s=0.2)
    assert hanging is not None
    assert (hanging.code, hanging.complaint) == (TIMED_OUT, "not done within 0.2 s")


def test_a_tool_speaks_english_and_waits_for_no_input() -> None:
    said = run_tool("sh", "-c", 'echo "$LC_ALL"; cat')
    assert said == Output(0, "C.UTF-8\n")
