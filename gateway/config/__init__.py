"""The gateway's configuration: frozen structs, read from one TOML file.

    [gateway]                            # all of it may be left out
    name = "bench-3"                     # what discovery shows; default: the host's name
    listen = "tcp://127.0.0.1:18871"
    insecure_lan = false                 # true: a tcp:// address of a network lets in anybody who reaches it
    advertise = true
    interfaces = ["192.168.1.20"]        # where to advertise; default: what `listen` is bound to
    log_level = "warning"

    [devices.psu1]                       # one table a device; its name is what clients say
    driver = "scpi-power-supply"         # an entry point's name, or "package.module:Class"
    port = "/dev/serial/by-id/usb-..."   # the rest belongs to the driver, which declares it in its `Options`

    [hosts.bench2]                       # an instrument host: its devices are served as bench2.NAME
    url = "serial:///dev/serial/by-id/usb-...?baudrate=921600"

    [limits]                             # any field of `gateway.limits.Limits`
    connections = 32

A wrong file is a `ConfigError` of one line that begins with `FILE:LINE:` and says what to write instead.
"""

from __future__ import annotations

import ipaddress
import keyword
import os
import re
import socket
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from gateway.channels import parse_url
from gateway.config.convert import Table, as_found, nearest, refuse_unknown, to_struct
from gateway.config.source import KeyPath, Source, read_tables
from gateway.errors import ConfigError
from gateway.limits import MIB, Limits

__all__ = [
    "DEFAULT_LISTEN",
    "MAX_DEVICE_NAME",
    "RESERVED_NAMES",
    "Config",
    "DeviceSection",
    "GatewaySection",
    "HostSection",
    "KeyPath",
    "Source",
    "default_path",
    "driver_options",
    "from_tables",
    "load",
    "name_problem",
    "nearest",
    "parse",
]

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


class GatewaySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[gateway]`."""

    name: str = msgspec.field(default_factory=lambda: socket.gethostname().partition(".")[0] or "gateway")
    """The instance name that discovery shows, at most 63 bytes."""
    listen: str = DEFAULT_LISTEN
    """The URL to listen at. Port 0 takes a free one."""
    insecure_lan: bool = False
    """Whether anybody who reaches a `tcp://` address of a network is let in: see `listen_problem`."""
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


class HostSection(msgspec.Struct, frozen=True, kw_only=True):
    """One table `[hosts.NAME]`: an instrument host."""

    name: str
    url: str
    """Where the host serves, as a channel URL."""
    source: Source


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One whole file."""

    gateway: GatewaySection
    devices: tuple[DeviceSection, ...]
    """In the file's order."""
    hosts: tuple[HostSection, ...]
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
    return _config(*read_tables(data, file))


def from_tables(devices: Table, *, origin: str, gateway: Table | None = None, hosts: Table | None = None) -> Config:
    """A config of tables that come from code, such as a bench; `origin` is the place that errors name."""
    document = {"devices": dict(devices), "gateway": dict(gateway or {}), "hosts": dict(hosts or {})}
    return _config(document, Source(origin))


def _config(document: Table, source: Source) -> Config:
    refuse_unknown(document, ("gateway", "devices", "hosts", "limits"), source, (), what="table")
    gateway = to_struct(_table(document, ("gateway",), source), GatewaySection, source, ("gateway",))
    _check_gateway(gateway, source)
    devices = _table(document, ("devices",), source)
    hosts = _table(document, ("hosts",), source)
    if not devices and not hosts:
        raise source.error((), "no [devices.NAME] table: nothing to serve")
    return Config(
        gateway=gateway,
        devices=tuple(_device(name, devices, source) for name in devices),
        hosts=tuple(_host(name, hosts, devices, source) for name in hosts),
        limits=_limits(_table(document, ("limits",), source), source),
        source=source,
    )


def driver_options(section: DeviceSection, options: type[T]) -> T:
    """The section's options as the driver's `options` struct or dataclass.

    Raises ConfigError with file, line and key: an unknown or missing key, a wrong type, or what the struct refuses.
    """
    return to_struct(section.options, options, section.source, section.path)


# -- what each table may hold -------------------------------------------------------------------------------------


def _table(holder: Table, path: KeyPath, source: Source) -> Table:
    """The table at the last key of `path` in `holder`, empty where it is left out."""
    found = holder.get(path[-1], {})
    if not isinstance(found, dict):
        raise source.error(path, f"{path[-1]!r} must be a table, [{'.'.join(path)}], not {as_found(found)}")
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
    _check_name(path, source)
    table = _table(devices, path, source)
    driver = table.get("driver")
    if driver is None:
        raise source.error(path, "missing key 'driver'; name a driver, such as driver = \"scpi-multimeter\"")
    if not isinstance(driver, str) or not driver:
        raise source.error((*path, "driver"), f"'driver' must be the name of a driver, not {as_found(driver)}")
    options = {key: value for key, value in table.items() if key != "driver"}
    return DeviceSection(name=name, driver=driver, options=options, source=source)


def _host(name: str, hosts: Table, devices: Table, source: Source) -> HostSection:
    path = ("hosts", name)
    _check_name(path, source)
    if name in devices:
        raise source.error(path, f"{name!r} is a device's name already; choose another one for the host")
    table = _table(hosts, path, source)
    refuse_unknown(table, ("url",), source, path)
    url = table.get("url")
    if url is None:
        raise source.error(
            path, "missing key 'url'; say where the host serves, such as url = \"serial:///dev/ttyUSB0\""
        )
    if not isinstance(url, str):
        raise source.error((*path, "url"), f"'url' must be text in quotes, not {as_found(url)}")
    try:
        parse_url(url)
    except ConfigError as problem:
        raise source.error((*path, "url"), f"'url': {problem}") from None
    return HostSection(name=name, url=url, source=source)


def _check_name(path: KeyPath, source: Source) -> None:
    problem = name_problem(path[-1], path[0].removesuffix("s"))
    if problem:
        raise source.error(path, problem)


def name_problem(name: str, what: str = "device") -> str:
    """What is wrong with the name of a device or host; empty if it can be used."""
    shown = repr(name[:MAX_DEVICE_NAME])
    if len(name) > MAX_DEVICE_NAME:
        return f"the {what} name {shown}... is longer than {MAX_DEVICE_NAME} characters"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        return f"{shown} is no {what} name; use letters, digits and _ after a letter, such as {_EXAMPLES[what]!r}"
    if name in RESERVED_NAMES or name.startswith("exposed_"):
        return f"{shown} is a name the gateway uses; choose another, such as {_EXAMPLES[what]!r}"
    return ""


_EXAMPLES: Final = {"device": "psu1", "host": "bench2"}


def _limits(table: Table, source: Source) -> Limits:
    for key, value in table.items():
        if isinstance(value, int | float) and not value < MAX_LIMIT:
            raise source.error(("limits", key), f"{key!r} must be below {MAX_LIMIT:g}: no limit can be switched off")
    return to_struct(table, Limits, source, ("limits",))
