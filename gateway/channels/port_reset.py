"""How the control lines of a serial port reset the board at its other end.

| name | what is done | for example |
|---|---|---|
| `dtr` | DTR leaves its level for a tenth of a second | Arduino boards; RUN of a Pico through a transistor |
| `rts` | the same with RTS | |
| `esp32` | RTS is raised with DTR low, then lowered | boards with the auto-program circuit of Espressif's |
| `break` | the line is held in a break for a quarter of a second | firmware that takes it for a reset |

Whether a line is raised or lowered for it depends on the level that the port's URL gives it while open: `dtr=on` (as it
is where nothing is said) makes a pulse down, `dtr=off` one up.
"""

from __future__ import annotations

import errno
import termios
from collections.abc import Callable, Mapping
from threading import Event
from typing import Final

from gateway.channels.ports import Port, port_lost
from gateway.errors import ConfigError, LinkDown

PULSE_S: Final = 0.1
BREAK_S: Final = 0.25


def reset_board(port: Port, how: str) -> None:
    """Reset what is at the other end of an open port; takes as long as the pulse.

    Raises ConfigError for a port without such lines and for an unknown name, LinkDown where the port is gone.
    """
    sequence = SEQUENCES.get(how)
    if sequence is None:
        raise ConfigError(f"no way to reset a board is called {how!r:.40}; there are: {', '.join(SEQUENCES)}")
    try:
        sequence(port)
    except (OSError, termios.error, ValueError) as error:
        if isinstance(error, ConfigError | LinkDown):
            raise
        number = error.args[0] if error.args else None
        if number in (errno.ENOTTY, errno.EINVAL) or isinstance(error, ValueError):
            raise ConfigError(f"{port.name} has no control lines that {how!r} could use ({error})") from None
        raise port_lost(port.name, error) from None


def _dtr(port: Port) -> None:
    port.set_lines(dtr=not port.dtr)
    _wait(PULSE_S)
    port.set_lines(dtr=port.dtr)


def _rts(port: Port) -> None:
    port.set_lines(rts=not port.rts)
    _wait(PULSE_S)
    port.set_lines(rts=port.rts)


def _esp32(port: Port) -> None:
    # The two transistors hold the chip's EN low while RTS is on and DTR off, its boot pin while it is the other way
    # round. So both go back to their levels in the order that passes through the latter, which does not reset.
    port.set_lines(dtr=False, rts=True)
    _wait(PULSE_S)
    port.set_lines(rts=False)
    _wait(PULSE_S)
    port.set_lines(dtr=port.dtr)
    port.set_lines(rts=port.rts)


SEQUENCES: Final[Mapping[str, Callable[[Port], None]]] = {
    "dtr": _dtr,
    "rts": _rts,
    "esp32": _esp32,
    "break": lambda port: port.send_break(BREAK_S),
}


def _wait(seconds: float) -> None:
    Event().wait(seconds)
