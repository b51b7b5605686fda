"""A board without a gateway: what it says of itself, typed, and its device, for scripts and tests.

    from firmware_bridge.host import opened

    with opened("serial:///dev/ttyUSB0?baudrate=115200") as board:
        print(board.identity, [member.signature for member in board.members])
        board.device.set_pwm(3, 0.25)

The program is the board's host while the block runs: the board makes itself safe at its end, or when it falls silent.
Behind a gateway a board needs nothing of this: it is a device like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import gateway
from gateway.errors import ProtocolError

MAX_MEMBERS: Final = 256
MAX_TEXT: Final = 4000


@dataclass(frozen=True, slots=True)
class Member:
    """One function or property of a board."""

    name: str
    kind: str
    """`method` or `property`."""
    access: str
    """`read` or `control`."""
    signature: str
    unit: str
    doc: str
    settable: bool


@dataclass(frozen=True, slots=True)
class Board:
    """A board that can be reached."""

    name: str
    driver: str
    identity: str
    """Its firmware, and what else it says to be told from others."""
    safe_state: str
    members: tuple[Member, ...]
    device: Any
    """The proxy: `device.set_pwm(3, 0.25)`."""


@contextmanager
def opened(url: str, *, timeout_s: float = 10.0) -> Iterator[Board]:
    """The board at `url`, a channel URL such as `serial:///dev/ttyUSB0`, until the end of the block.

    Raises ConfigError for a wrong URL, Unreachable where no board answers, ProtocolError where what answers is none.
    """
    with closing(gateway.connect(url, timeout=timeout_s)) as conn:
        yield read_board(conn.root)


def read_board(root: Any) -> Board:
    """What the board with this root says of itself. Raises ProtocolError where it is none."""
    try:
        ((name, summary),) = _pairs(root.describe()).items()
        facts = _pairs(summary)
        rows = _pairs(root.describe(name))["members"]
        if len(rows) > MAX_MEMBERS:
            raise ValueError(f"{len(rows)} members")
        members = tuple(_member(_pairs(row)) for row in rows)
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise ProtocolError(f"what answers there does not describe itself as a board does: {problem}") from problem
    return Board(
        name=name,
        driver=_text(facts, "driver"),
        identity=_text(facts, "identity"),
        safe_state=_text(facts, "safe_state"),
        members=members,
        device=root.device(name),
    )


def _pairs(said: Any) -> dict[str, Any]:
    """A dict, or the tuple of pairs that firmware says instead."""
    return {str(key)[:MAX_TEXT]: value for key, value in (said.items() if isinstance(said, dict) else said)}


def _member(row: dict[str, Any]) -> Member:
    texts = {key: _text(row, key) for key in ("name", "kind", "access", "signature", "unit", "doc")}
    return Member(**texts, settable=row.get("settable") is True)


def _text(facts: dict[str, Any], key: str) -> str:
    value = facts.get(key)
    return value[:MAX_TEXT] if isinstance(value, str) else ""
