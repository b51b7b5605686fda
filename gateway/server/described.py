"""What an instrument host says about its devices, checked: a host may be broken, hostile, or of another version.

A device whose description can't be used is left out, and the log says why. Texts are cut, and made of characters that a
terminal can show. The names follow the rules of the config. Firmware knows no containers by value: it says tuples of
(key, value) pairs where Python says dicts, and tuples where Python says lists.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from gateway.config import name_problem
from gateway.errors import ProtocolError
from gateway.limits import Limits
from gateway.service.exposure import Access, Exposure, Kind

_log: Final = logging.getLogger(__name__)

MAX_DEVICES: Final = 64
MAX_MEMBERS: Final = 256
MAX_FACTS: Final = 64
"""Of a device or a member."""
MAX_DOC: Final = 4000
MAX_LINE: Final = 400
MAX_UNIT: Final = 40
MAX_WAITING: Final = 1_000_000
_KINDS: Final = frozenset(kind.value for kind in Kind)
_ACCESSES: Final = frozenset(access.value for access in Access)

READ: Final = "read:"
CALL: Final = "call:"
"""What the attribute of a relayed member begins with: no attribute of an object of ours can have such a name, so
whatever a host calls its members, none of ours is reached by it."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One device of a host, without its members."""

    name: str
    driver: str
    doc: str
    state: str
    waiting: int
    identity: str = ""
    owner: str = ""
    notes: str = ""
    safe_state: str = ""
    """Its safe state in words; empty where it has none."""
    needs_lease: bool = False
    sole: bool = False
    """The host is this device, and has no other."""


def summaries(said: Any, host: str) -> dict[str, Summary]:
    """The devices in a host's `describe()`, by name. Raises ProtocolError where it is no description at all."""
    devices = _table(said, MAX_DEVICES)
    if devices is None:
        raise ProtocolError(f"{host} does not describe its devices as a table of at most {MAX_DEVICES}")
    found: dict[str, Summary] = {}
    for name, described in devices.items():
        row = _table(described, MAX_FACTS)
        problem = "it is not described by a name and a table" if row is None else _name_problem(name)
        if problem or row is None:
            _log.warning("a device of %s can't be served: %s", host, problem)
        else:
            found[name] = _summary(name, row)
    return found


def members(said: Any, limits: Limits) -> Mapping[str, Exposure]:
    """The exposure table in a host's `describe(name)`. Raises ProtocolError for one that can't be used."""
    listed: Any = (_table(said, MAX_FACTS) or {}).get("members")
    if not isinstance(listed, list | tuple) or len(listed) > MAX_MEMBERS:
        raise ProtocolError(f"its members are no list of at most {MAX_MEMBERS}")
    rows: dict[str, Exposure] = {}
    for member in listed:
        row = _row(member, limits)
        rows[row.name] = row
    return MappingProxyType(rows)


def row_of(name: str, kind: Kind, *, signature: str = "", doc: str = "", settable: bool = False) -> Exposure:
    """A row for a member of an object that is elsewhere; who may do what there, its owner decides."""
    access = Access.READ if kind is Kind.PROPERTY else Access.CONTROL
    return Exposure(name, _attribute(name, kind), kind, signature, doc, None, access, settable)


def text(value: Any, most: int) -> str:
    """A text of a host for people: cut, and without what a terminal would obey."""
    if type(value) is not str:
        return ""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in value[:most])


def line(value: Any, most: int = MAX_LINE) -> str:
    """The same in one line."""
    return " ".join(text(value, most).split())


def _table(said: Any, most: int) -> dict[Any, Any] | None:
    """A dict, or what firmware says instead of one; None for anything else, and for one that is larger."""
    if type(said) is dict:
        return said if len(said) <= most else None
    if type(said) is not tuple or len(said) > most:
        return None
    if not all(type(pair) is tuple and len(pair) == 2 and type(pair[0]) is str for pair in said):
        return None
    return dict(said)


def _name_problem(name: Any) -> str:
    return name_problem(name) if type(name) is str else "it is not described by a name and a table"


def _summary(name: str, row: dict[Any, Any]) -> Summary:
    driver, waiting = line(row.get("driver"), 80), row.get("waiting")
    return Summary(
        name=name,
        driver=driver if driver.isidentifier() else "Device",
        doc=line(row.get("doc")),
        state=line(row.get("state"), 40) or "open",
        waiting=waiting if type(waiting) is int and 0 <= waiting <= MAX_WAITING else 0,
        identity=line(row.get("identity")),
        owner=line(row.get("owner")),
        notes=text(row.get("notes"), MAX_DOC),
        safe_state=line(row.get("safe_state")),
        needs_lease=row.get("needs_lease") is True,
        sole=row.get("sole") is True,
    )


def _row(said: Any, limits: Limits) -> Exposure:
    fields = _table(said, MAX_FACTS) or {}
    name, kind, access = (fields.get(key) for key in ("name", "kind", "access"))
    if type(name) is not str or not name.isidentifier() or len(name) > limits.name:
        raise ProtocolError("one of its members has no name, or one that is none")
    if type(kind) is not str or kind not in _KINDS or type(access) is not str or access not in _ACCESSES:
        raise ProtocolError(f"its member {name} is of a kind, or needs an access, that this gateway doesn't know")
    return Exposure(
        name=name,
        attribute=_attribute(name, Kind(kind)),
        kind=Kind(kind),
        signature=line(fields.get("signature")),
        doc=text(fields.get("doc"), MAX_DOC),
        unit=line(fields.get("unit"), MAX_UNIT) or None,
        access=Access(access),
        settable=fields.get("settable") is True and kind == Kind.PROPERTY,
    )


def _attribute(name: str, kind: Kind) -> str:
    return (READ if kind is Kind.PROPERTY else CALL) + name
