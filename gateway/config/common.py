"""What every `[devices.NAME]` may say beside its driver's own options.

[devices.psu1]
driver = "scpi-power-supply"
match = {serial_number = "FT8X2Q", vid_pid = "0403:6001"}   # where it is, in place of `port`
owner = "Ada"                        # for people
notes = "the lid sticks"
disabled = "on repair until May"     # not opened; what callers are told
hazardous = true
lease = true                         # whether control needs a lease; without it, as the driver says
deadline_s = 5.0                     # one call may take so long
heartbeat_s = 0.5                    # who holds it must be heard from so often
allow = "door.closed and chiller.flow > 2"

[devices.psu1.safe]                  # property = value
output = false
[devices.psu1.limits]                # property or method.parameter = [lowest, highest]
voltage = [0, 12]
ramp.volts = [0, 5]
[devices.psu1.cache]                 # property = seconds between two polls
measured_voltage = 0.5
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from gateway.config.convert import Table, as_found, converted, fields_of
from gateway.config.source import MAX_SHOWN, KeyPath, Source
from gateway.errors import ConfigError

MAX_ENTRIES: Final = 64
"""Rows of `safe`, `limits` and `cache`."""
MAX_VALUE: Final = 200
"""Characters of a text in `safe`."""
MAX_SECONDS: Final = 3600.0
LEAST_POLL_S: Final = 0.01

Setting = bool | int | float | str

_TEXT: Final = 200
_Seconds = Annotated[float, Meta(gt=0, le=MAX_SECONDS)]
_MEMBER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device is known by, wherever it is plugged in. All that is given must fit; something must be given."""

    serial_number: Annotated[str, Meta(min_length=1, max_length=_TEXT)] | None = None
    """The USB serial number, exactly."""
    vid_pid: Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{4}:[0-9a-fA-F]{4}$", examples=["0403:6001"])] | None = None
    """USB vendor and product, in hexadecimal."""
    path: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    """The place: a path such as `/dev/serial/by-path/...`, or a USB location such as `1-1.2`."""
    interface: Annotated[int, Meta(ge=0, le=255)] | None = None
    """Which interface of a USB device with several ports: 0 is the first."""
    idn: Annotated[str, Meta(min_length=1, max_length=_TEXT)] | None = None
    """A pattern for the answer to `*IDN?`, with `*` and `?`, in any case. Needs `probe`."""
    probe: bool = False
    """Whether `*IDN?` may be sent to ports that nobody has open, to find it."""

    def __str__(self) -> str:
        facts = ((name, getattr(self, name)) for name in self.__struct_fields__ if name != "probe")
        return ", ".join(f"{name} {value!r}" for name, value in facts if value is not None)

    @property
    def finds_by_port(self) -> bool:
        """Whether it says anything that is known of a port without asking the instrument."""
        return any(fact is not None for fact in (self.serial_number, self.vid_pid, self.path, self.interface))


class DeviceCommon(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The common keys of one `[devices.NAME]`."""

    match: Match | None = None
    """How its port is found; without it the driver's own `port` says."""
    owner: Annotated[str, Meta(max_length=_TEXT)] = ""
    notes: Annotated[str, Meta(max_length=4096)] = ""
    disabled: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    """Why the device must not be used. None: it may."""
    hazardous: bool = False
    lease: bool | None = None
    """Whether control needs a lease. None: as the driver says."""
    deadline_s: _Seconds | None = None
    """Seconds that one call may take. None: the gateway's default."""
    heartbeat_s: _Seconds | None = None
    """Who controls it must be heard from this often, in seconds. None: as connections in general."""
    safe: dict[str, Setting] = {}
    """Property -> the value that is its safe state. Empty: the driver's own safe state."""
    limits: dict[str, tuple[float, float]] = {}
    """Property, or `method.parameter` -> lowest and highest value, both included, in the unit of the property."""
    allow: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    """The interlock: an expression over other devices' readings."""
    cache: dict[str, Annotated[float, Meta(ge=LEAST_POLL_S, le=MAX_SECONDS)]] = {}
    """Property -> seconds between two polls."""


COMMON_KEYS: Final = frozenset(DeviceCommon.__struct_fields__)


def option_clashes(options: type[Any]) -> list[str]:
    """The fields of a driver's options that a device table has a meaning for already: an error of the driver."""
    return sorted(key for key in fields_of(options) if key in COMMON_KEYS or key == "driver")


def read_common(table: Table, source: Source, path: KeyPath) -> tuple[DeviceCommon | None, list[ConfigError]]:
    """The common keys of a device's table (the others are left out), or None and what is wrong with them."""
    given = {key: value for key, value in table.items() if key in COMMON_KEYS}
    problems: list[ConfigError] = []
    if isinstance(given.get("limits"), dict):
        given["limits"] = _flat(given["limits"])
    for key, check in _ROWS.items():
        if isinstance(given.get(key), dict):
            wrong = _check_rows(given[key], check, source, (*path, key))
            problems += wrong
            if wrong:
                del given[key]
    common, refused = converted(given, DeviceCommon, source, path)
    problems += refused
    if common is not None and common.match is not None:
        problems += _check_match(common.match, table, source, (*path, "match"))
    return (None if problems else common), problems


def _check_match(match: Match, table: Table, source: Source, path: KeyPath) -> list[ConfigError]:
    problems = []
    if not match.finds_by_port and match.idn is None:
        what = "'match' is empty; say what the device is known by: serial_number, vid_pid, path, interface or idn"
        problems.append(source.error(path, what))
    elif match.interface is not None and match.serial_number is match.vid_pid is match.path is None:
        problems.append(source.error((*path, "interface"), "'match.interface' needs a serial_number, vid_pid or path"))
    if match.idn is not None and not match.probe:
        what = "'match.idn' needs probe = true: *IDN? is then sent to ports that nobody has open"
        problems.append(source.error((*path, "idn"), what))
    problems += [
        source.error(path, f"'match' and {key!r} both say where the device is; keep one of them")
        for key in ("port", "resource")
        if key in table
    ]
    return problems


def _flat(limits: Table) -> dict[str, Any]:
    """`ramp.volts = [0, 5]` without quotes is a table in a table for TOML."""
    flat: dict[str, Any] = {}
    for key, value in limits.items():
        flat |= {f"{key}.{inner}": row for inner, row in value.items()} if isinstance(value, dict) else {key: value}
    return flat


# -- the rows of safe, limits and cache: msgspec does not say in which of them a problem is ----------------------------


def _check_rows(rows: Table, check: Callable[[Any], str], source: Source, path: KeyPath) -> list[ConfigError]:
    kind = path[-1]
    if len(rows) > MAX_ENTRIES:
        return [source.error(path, f"{kind!r} has {len(rows)} rows; at most {MAX_ENTRIES} are allowed")]
    problems = []
    for key, value in rows.items():
        place = (*path, key) if (*path, key) in source.lines else (*path, *key.split("."))
        shown = repr(f"{kind}.{key[: 2 * MAX_SHOWN]}")
        parts = key.split(".")
        if not all(map(_MEMBER.fullmatch, parts)) or len(parts) > (2 if kind == "limits" else 1):
            wanted = "a property, or method.parameter" if kind == "limits" else "a property"
            problems.append(source.error(place, f"{shown} is not the name of {wanted}"))
        elif wrong := check(value):
            problems.append(source.error(place, f"{shown} {wrong}"))
    return problems


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float holds
        return False


def _setting_problem(value: Any) -> str:
    if isinstance(value, bool) or _is_number(value):
        return ""
    if isinstance(value, str):
        return "" if len(value) <= MAX_VALUE else f"must be at most {MAX_VALUE} characters"
    return f"must be true, false, a finite number or text in quotes, not {as_found(value)}"


def _range_problem(value: Any) -> str:
    if not isinstance(value, list):
        return f"must be [lowest, highest], not {as_found(value)}"
    if len(value) != 2 or not all(map(_is_number, value)):
        return "must be [lowest, highest], two finite numbers"
    low, high = value
    return "" if low <= high else f"must be [lowest, highest]: {low:g} is above {high:g}"


def _poll_problem(value: Any) -> str:
    if _is_number(value) and LEAST_POLL_S <= value <= MAX_SECONDS:
        return ""
    return f"must be the seconds between two polls, {LEAST_POLL_S:g} to {MAX_SECONDS:g}, not {as_found(value)}"


_ROWS: Final = {"safe": _setting_problem, "limits": _range_problem, "cache": _poll_problem}
