"""The gateway's configuration: frozen structs, read from one TOML file.

    [gateway]                            # all of it may be left out
    name = "bench-3"                     # what discovery shows; default: the host's name
    listen = "tcp://127.0.0.1:18871"
    advertise = true
    interfaces = ["192.168.1.20"]        # where to advertise; default: what `listen` is bound to
    log_level = "warning"

    [devices.psu1]                       # one table a device; its name is what clients say
    driver = "scpi-power-supply"         # an entry point's name, or "package.module:Class"
    port = "/dev/serial/by-id/usb-..."   # the rest belongs to the driver, which declares it in its `Options`

    [limits]                             # any field of `gateway.limits.Limits`
    connections = 32

A wrong file is a `ConfigError` of one line that begins with `FILE:LINE:` and says what to write instead.
"""

from __future__ import annotations

import difflib
import ipaddress
import keyword
import os
import re
import socket
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from gateway.channels import parse_url
from gateway.errors import ConfigError
from gateway.limits import MIB, Limits

DEFAULT_LISTEN: Final = "tcp://127.0.0.1:18871"
MAX_FILE: Final = MIB
MAX_LIMIT: Final = 1e15
"""Above any useful limit, and small enough for every clock and allocation."""
MAX_INSTANCE_NAME: Final = 63
"""Bytes of a DNS label (RFC 6763 section 4.1.1), which an instance name has to fit in."""
MAX_DEVICE_NAME: Final = 40

RESERVED_NAMES: Final = frozenset(
    {"names", "device", "devices", "describe", "close", "get_service_name", "get_service_aliases"}
    | {"root", "conn", "gateway", "help", "exit", "quit"}
)
"""What no device may be called: the names the root service answers itself, and those that `gateway shell` uses."""

T = TypeVar("T")
Table = Mapping[str, Any]
KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a piece of configuration was written: the file, and the line of every key in it."""

    file: str
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def error(self, path: KeyPath, problem: str) -> ConfigError:
        """A ConfigError that begins with `FILE:LINE: [table]`; the line is that of `path` or of what holds it."""
        line = next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), None)
        where = self.file if line is None else f"{self.file}:{line}"
        table = path[: 2 if path[:1] == ("devices",) else 1]
        label = f"[{'.'.join(part[:MAX_DEVICE_NAME] for part in table)}] " if len(path) > 1 else ""
        return ConfigError(f"{where}: {label}{problem}", file=self.file, line=line, key=".".join(filter(None, path)))


class GatewaySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[gateway]`."""

    name: str = msgspec.field(default_factory=lambda: socket.gethostname().partition(".")[0] or "gateway")
    """The instance name that discovery shows, at most 63 bytes."""
    listen: str = DEFAULT_LISTEN
    """The URL to listen at. Port 0 takes a free one."""
    advertise: bool = True
    interfaces: tuple[str, ...] = ()
    """Addresses of the interfaces to advertise on; empty: those that `listen` is bound to."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"


class DeviceSection(msgspec.Struct, frozen=True, kw_only=True):
    """One table `[devices.NAME]`. `options` are raw until the driver is known: see `driver_options`."""

    name: str
    driver: str
    options: dict[str, Any]
    source: Source

    @property
    def path(self) -> KeyPath:
        """The table's key path in the file."""
        return ("devices", self.name)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One whole file."""

    gateway: GatewaySection
    devices: tuple[DeviceSection, ...]
    """In the file's order."""
    limits: Limits
    source: Source


def default_path() -> Path:
    """Where a config lies when none is named: the user's own if it is there, else the machine's."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    own = home / "instrument-gateway" / "gateway.toml"
    return own if own.exists() else Path("/etc/instrument-gateway/gateway.toml")


def load(path: str | os.PathLike[str]) -> Config:
    """The config in the file at `path`. Raises ConfigError: no such file, unreadable, over 1 MiB, or `parse`'s."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(f"{name}: no such file; write one like examples/bench.toml", file=name) from None
    except OSError as problem:
        raise ConfigError(f"{name}: cannot read it: {problem.strerror or problem}", file=name) from None
    if len(data) > MAX_FILE:
        raise ConfigError(f"{name}: larger than {MAX_FILE} bytes, which no config is", file=name)
    return parse(data, file=name)


def parse(data: bytes, *, file: str) -> Config:
    """The config in `data`; `file` is its name in errors. Raises ConfigError."""
    return _config(*_document(data, file))


def from_tables(devices: Table, *, origin: str, gateway: Table | None = None) -> Config:
    """A config of tables that come from code, such as a bench; `origin` is the place that errors name."""
    return _config({"devices": dict(devices), "gateway": dict(gateway or {})}, Source(origin))


def _config(document: Table, source: Source) -> Config:
    _refuse_unknown(document, ("gateway", "devices", "limits"), source, (), what="table")
    gateway = _struct(_table(document, ("gateway",), source), GatewaySection, source, ("gateway",))
    _check_gateway(gateway, source)
    devices = _table(document, ("devices",), source)
    if not devices:
        raise source.error((), "no [devices.NAME] table: nothing to serve")
    return Config(
        gateway=gateway,
        devices=tuple(_device(name, devices, source) for name in devices),
        limits=_limits(_table(document, ("limits",), source), source),
        source=source,
    )


def driver_options(section: DeviceSection, options: type[T]) -> T:
    """The section's options as the driver's `options` struct or dataclass.

    Raises ConfigError with file, line and key: an unknown or missing key, a wrong type, or what the struct refuses.
    """
    return _struct(section.options, options, section.source, section.path)


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'port'?`, or the list of what is known where nothing is near."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(known)}" if known else "none is known"


# -- reading the text ---------------------------------------------------------------------------------------------


def _document(data: bytes, file: str) -> tuple[dict[str, Any], Source]:
    try:
        # Editors on Windows begin a file with a byte order mark, which is not TOML.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        raise ConfigError(f"{file}:{line}: not UTF-8 text; save it as UTF-8", file=file, line=line) from None
    source = Source(file, _line_index(text))
    if not text.strip():
        raise source.error((), "the file is empty; write one like examples/bench.toml")
    try:
        return tomllib.loads(text), source
    except tomllib.TOMLDecodeError as problem:
        message, _, where = str(problem).rpartition(" (at ")
        found = re.match(r"line (\d+)", where)
        line = int(found[1]) if found else text.rstrip().count("\n") + 1
        raise ConfigError(f"{file}:{line}: not TOML: {_first_lower(message)}", file=file, line=line) from None
    except ValueError as problem:
        # A number with more digits than Python converts.
        raise ConfigError(f"{file}: {_first_lower(str(problem).partition(';')[0])}", file=file) from None
    except RecursionError:
        raise ConfigError(f"{file}: lists or tables nested too deeply", file=file) from None


_HEADER: Final = re.compile(r"\s*\[{1,2}([^\[\]]+)\]{1,2}\s*(?:#.*)?$")
_KEY: Final = re.compile(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_KEY_PART: Final = re.compile(r"[\w-]+|\"[^\"]*\"|'[^']*'")


def _line_index(text: str) -> dict[KeyPath, int]:
    """Key path -> line. For error messages only: tomllib keeps no positions, so this reads headers and keys again."""
    index: dict[KeyPath, int] = {}
    table: KeyPath = ()
    inside = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not inside:
            if header := _HEADER.match(line):
                path = table = _key_path(header[1])
            elif key := _KEY.match(line):
                path = table + _key_path(key[1])
            else:
                path = ()
            for end in range(1, len(path) + 1):
                index.setdefault(path[:end], number)
        for quotes in ('"""', "'''"):
            if inside in ("", quotes) and line.count(quotes) % 2:
                inside = "" if inside else quotes
    return index


def _key_path(text: str) -> KeyPath:
    return tuple(part.strip("\"'") for part in _KEY_PART.findall(text))


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]


# -- what each table may hold -------------------------------------------------------------------------------------


def _table(holder: Table, path: KeyPath, source: Source) -> Table:
    """The table at the last key of `path` in `holder`, empty where it is left out."""
    found = holder.get(path[-1], {})
    if not isinstance(found, dict):
        raise source.error(path, f"{path[-1]!r} must be a table, [{'.'.join(path)}], not {_found(found)}")
    return found


def _check_gateway(section: GatewaySection, source: Source) -> None:
    size = len(section.name.encode())
    if not 1 <= size <= MAX_INSTANCE_NAME or not section.name.isprintable():
        raise source.error(
            ("gateway", "name"), f"'name' must be 1 to {MAX_INSTANCE_NAME} bytes of printable text, not {size} bytes"
        )
    if section.name != section.name.strip():
        raise source.error(("gateway", "name"), f"'name' has blanks at its ends; write {section.name.strip()!r}")
    try:
        parse_url(section.listen)
    except ConfigError as problem:
        raise source.error(("gateway", "listen"), f"'listen': {problem}") from None
    for address in section.interfaces:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise source.error(
                ("gateway", "interfaces"), f"'interfaces' has {address[:80]!r}, which is no IP address of an interface"
            ) from None


def _device(name: str, devices: Table, source: Source) -> DeviceSection:
    path = ("devices", name)
    _check_device_name(name, source)
    table = _table(devices, path, source)
    driver = table.get("driver")
    if driver is None:
        raise source.error(path, "missing key 'driver'; name a driver, such as driver = \"scpi-multimeter\"")
    if not isinstance(driver, str) or not driver:
        raise source.error((*path, "driver"), f"'driver' must be the name of a driver, not {_found(driver)}")
    options = {key: value for key, value in table.items() if key != "driver"}
    return DeviceSection(name=name, driver=driver, options=options, source=source)


def _check_device_name(name: str, source: Source) -> None:
    shown = repr(name[:MAX_DEVICE_NAME])
    if len(name) > MAX_DEVICE_NAME:
        raise source.error(("devices", name), f"the device name {shown}... is longer than {MAX_DEVICE_NAME} characters")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        raise source.error(
            ("devices", name), f"{shown} is no device name; use letters, digits and _ after a letter, such as 'psu1'"
        )
    if name in RESERVED_NAMES or name.startswith("exposed_"):
        raise source.error(("devices", name), f"{shown} is a name the gateway uses; choose another, such as 'psu1'")


def _limits(table: Table, source: Source) -> Limits:
    for key, value in table.items():
        if isinstance(value, int | float) and not value < MAX_LIMIT:
            raise source.error(("limits", key), f"{key!r} must be below {MAX_LIMIT:g}: no limit can be switched off")
    return _struct(table, Limits, source, ("limits",))


# -- msgspec's errors in our words --------------------------------------------------------------------------------


def _refuse_unknown(table: Table, known: Iterable[str], source: Source, path: KeyPath, *, what: str = "key") -> None:
    known = list(known)
    for key in table:
        if key not in known:
            raise source.error((*path, key), f"unknown {what} {key[:MAX_DEVICE_NAME]!r}; {nearest(key, known)}")


def _struct(table: Table, struct: type[T], source: Source, path: KeyPath) -> T:
    described = msgspec.inspect.type_info(struct)
    if not isinstance(described, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
        raise TypeError(f"{struct!r} is neither a msgspec struct nor a dataclass")
    fields = {row.encode_name: row for row in described.fields}
    _refuse_unknown(table, fields, source, path)
    try:
        return msgspec.convert(table, struct, strict=True)
    except msgspec.ValidationError as problem:
        raise _in_our_words(str(problem), table, fields, source, path) from None


def _in_our_words(
    message: str, table: Table, fields: Mapping[str, msgspec.inspect.Field], source: Source, path: KeyPath
) -> ConfigError:
    """The ConfigError for one message of msgspec, which reads ``Expected `int`, got `str` - at `$.port` ``."""
    what, _, where = message.partition(" - at `$")
    inner = tuple(re.findall(r"[\w-]+|\.\.\.", where))
    if missing := re.match(r"Object missing required field `(.+)`", what):
        return source.error(path + inner, f"missing key {missing[1]!r}")
    if unknown := re.match(r"Object contains unknown field `(.+)`", what):
        return source.error((*path, *inner, unknown[1]), f"unknown key {unknown[1]!r}")
    if not inner:
        # A check of the struct's own, such as Limits': its words name the key.
        named = next((key for key in table if re.search(rf"\b{re.escape(key)}\b", what)), "")
        return source.error((*path, named), what)
    value: Any = table
    for part in inner:
        value = _member(value, part)
    key = ".".join(inner)
    choices = _choices(fields[inner[0]].type) if len(inner) == 1 else ()
    if choices:
        hint = f"; {nearest(value, choices)}" if isinstance(value, str) else ""
        return source.error((*path, *inner), f"{key!r} must be one of {', '.join(choices)}, not {_found(value)}{hint}")
    expected = re.sub(r"`([^`]+)`", lambda kind: _kinds(kind[1]), re.sub(r", got .*", "", what))
    if not expected.startswith("Expected "):
        return source.error((*path, *inner), f"{key!r}: {_first_lower(expected)}, found {_found(value)}")
    return source.error((*path, *inner), f"{key!r} must be {expected.removeprefix('Expected ')}, not {_found(value)}")


def _member(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    return value


def _choices(described: msgspec.inspect.Type) -> tuple[str, ...]:
    if isinstance(described, msgspec.inspect.LiteralType):
        return tuple(str(value) for value in described.values)
    if isinstance(described, msgspec.inspect.EnumType):
        return tuple(str(member.value) for member in described.cls)
    return ()


_KINDS: Final = {
    "str": "text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def _kinds(names: str) -> str:
    """msgspec's `int | null` as `a whole number`: TOML has no null, so it is never what to write."""
    return " or ".join(_KINDS.get(name, name) for name in names.split(" | ") if name != "null")


def _found(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f"the text {value[:60]!r}"
        case int() | float():
            # Above this, an int may have more digits than str() converts.
            return f"the number {value}" if abs(value) < 1e18 else "a number that large"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return f"{str(value)[:60]}"
