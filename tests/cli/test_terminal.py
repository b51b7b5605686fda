"""What a person sees: colour, spinners, lines rewritten in place, completion - on a pseudo terminal."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.terminal import Terminal


@pytest.fixture
def look(command: Any, bench: dict[str, Any]) -> Any:
    """Starts a command, talking to the bench, on a terminal."""
    opened: list[Terminal] = []

    def start(*words: str, **changes: str) -> Terminal:
        settings = {"TERM": "xterm-256color", "INSTRUMENT_GATEWAY": bench["url"], "LANG": "C.UTF-8", **changes}
        opened.append(Terminal(command.line(*words), command.environment(**settings)))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


Look = Callable[..., Terminal]


def plain(shown: str) -> str:
    """What is left on the screen's lines, without colours."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    return "\n".join(line.rpartition("\r")[2] or line for line in text.replace("\r\n", "\n").split("\n"))


def test_a_table_on_a_terminal_has_colour_and_fits_its_width(look: Look) -> None:
    code, shown = look("describe", "psu1").end()
    assert code == 0
    assert "\x1b[1;36m" in shown
    table = plain(shown).partition("member ")[2].splitlines()
    assert all(len(line) <= 100 for line in table)
    assert re.search(
        r"^ set_voltage +method +\(volts: float\) -> +V +control +Set the voltage", plain(shown), re.MULTILINE
    )


def test_no_color_is_honoured(look: Look) -> None:
    code, shown = look("describe", NO_COLOR="1").end()
    assert code == 0
    assert re.findall(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", shown) == []
    assert "psu1" in shown


def test_an_error_on_a_terminal_is_one_red_line(look: Look) -> None:
    code, shown = look("read", "psu1.voltag").end()
    assert code == 3
    assert "\x1b[1;31merror: \x1b[0mpsu1 has no 'voltag'; did you mean 'voltage'?\r\n" in shown


def test_a_spinner_tells_that_it_is_looking_and_leaves_nothing_behind(look: Look) -> None:
    terminal = look("list", "--timeout", "0.5")
    terminal.wait_for("looking for gateways")
    code, shown = terminal.end()
    assert code == 0
    # The cursor is shown again, and the spinner's line cleared.
    assert re.search(r"\x1b\[\?25h\r\x1b\[1A\x1b\[2K", shown)


def test_a_watched_value_is_rewritten_in_place_with_a_sparkline(look: Look) -> None:
    terminal = look("read", "dmm1.voltage_dc", "--watch", "0.05")
    terminal.wait_for(r"\r\x1b\[2K\x1b\[1mdmm1\.voltage_dc  -?\d+\.\d+ V  [▁▂▃▄▅▆▇█]{5}  \S+ to \S+ V")
    terminal.type("\x03")
    code, shown = terminal.end()
    assert code == 130
    assert shown.endswith("\r\ninterrupted\r\n")
    assert "Traceback" not in shown


def test_an_array_is_summarised_on_a_terminal(look: Look) -> None:
    code, shown = look("call", "dmm1.waveform", "1000").end()
    assert code == 0
    assert re.search(r"\[\S+, \S+, \S+, \.\.\., \S+\]  1000 float64, min \S+, max \S+, mean \S+\n", plain(shown))


def test_the_shell_completes_names_without_asking_the_instruments(look: Look) -> None:
    terminal = look("shell", INPUTRC="/dev/null")
    banner = plain(terminal.wait_for(r">>> "))
    assert "psu1 (ScpiPowerSupply), dmm1 (ScpiMultimeter), console1 (SerialConsole)" in banner
    terminal.type("psu1.set_voltage(1)\r")
    terminal.wait_for(r"NotLeased: controlling psu1 takes a lease, .*\r\n>>> ")
    terminal.type("bench = lease('psu1')\r")
    terminal.wait_for(r">>> ")
    terminal.type("ps\t")
    terminal.wait_for(r"psu1")
    terminal.type(".set_v\t")
    terminal.wait_for(r"\.set_voltage\(")
    terminal.type("99)\r")
    terminal.wait_for(r"OutOfRange: psu1\.voltage must be from 0 to 12 V, not 99\r\n")
    # Another name for the same device, members of the root, and a local object.
    terminal.type("x = psu1\rx.max_v\t\r")
    terminal.wait_for(r"x\.max_voltage\r\n12\.0\r\n")
    terminal.type("conn.root.dm\t.wavef\t2).ndi\t")
    # It can't know without a call what that is, and rings the bell.
    terminal.wait_for(r"conn\.root\.dmm1\.waveform\(2\)\.ndi\x07")
    # Ctrl-U clears the line; Ctrl-C ends what runs (here without an end of its own), and not the shell.
    terminal.type("\x15print('busy', 'now'); sum(0 for _ in iter(int, 1))\r")
    terminal.wait_for("busy now\r\n")
    terminal.type("\x03")
    terminal.wait_for(r"\r\nKeyboardInterrupt\r\n>>> ")
    terminal.type("\x04")
    code, shown = terminal.end()
    assert code == 0
    assert "Traceback" not in shown


def test_a_typed_ctrl_c_is_for_the_command_of_a_lease_and_comes_once(look: Look) -> None:
    script = "trap 'echo got it' INT; trap 'exit 5' TERM; echo running; while :; do sleep 0.05; done"
    terminal = look("lease", "psu1", "--", "sh", "-c", script)
    terminal.wait_for("running\r\n")
    terminal.type("\x03")
    terminal.wait_for("got it\r\n")
    terminal.process.send_signal(signal.SIGTERM)
    code, shown = terminal.end()
    assert code == 5
    assert "got it" not in shown


def test_who_waits_for_a_lease_sees_the_place_and_may_give_up(look: Look) -> None:
    holder = look("lease", "psu1", "--", "sh", "-c", "echo running; exec sleep 100")
    holder.wait_for("running")
    waiting = look("lease", "psu1", "--", "true")
    waiting.wait_for(r"waiting for psu1: number 1 in the queue, about 5 min; Ctrl-C gives up")
    waiting.type("\x03")
    code, shown = waiting.end()
    assert code == 130
    assert plain(shown).endswith("interrupted\n")
    status = look("lease", "psu1")
    code, shown = status.end()
    assert code == 0
    assert "sh -c on " in plain(shown)
    assert "to control: gateway lease psu1 -- COMMAND" in plain(shown)
    holder.process.send_signal(signal.SIGTERM)
    assert holder.end()[0] == 128 + signal.SIGTERM


def test_closing_the_terminal_of_a_gateway_makes_its_devices_safe(look: Look) -> None:
    terminal = look("demo", "--name", "hangup", "--listen", "tcp://127.0.0.1:0")
    terminal.wait_for("Ctrl-C ends it")
    terminal.process.send_signal(signal.SIGHUP)
    code, shown = terminal.end()
    assert code == 0
    assert "stopped; in their safe state: psu1, dmm1, console1" in plain(shown)
