"""The gateway's configuration: frozen structs, read from one TOML file and the folder `devices.d` beside it.

    [gateway]                            # all of it may be left out
    name = "bench-3"                     # what discovery shows; default: the host's name
    listen = "tcp://127.0.0.1:18871"
    insecure_lan = false                 # true: a tcp:// address of a network lets in anybody who reaches it
    advertise = true
    interfaces = ["192.168.1.20"]        # where to advertise; default: what `listen` is bound to
    log_level = "warning"

    [devices.psu1]                       # one table a device; its name is what clients say
    driver = "scpi-power-supply"         # an entry point's name, or "package.module:Class"
    port = "/dev/serial/by-id/usb-..."   # the rest belongs to the driver, which declares it in its `Options`,
    limits.voltage = [0, 12]             # or to every device: see `gateway.config.common`

    [hosts.bench2]                       # an instrument host: its devices are served as bench2.NAME
    url = "serial:///dev/serial/by-id/usb-...?baudrate=921600"

    [limits]                             # any field of `gateway.limits.Limits`
    connections = 32

A file `devices.d/ANY.toml` holds `[devices.NAME]` and `[hosts.NAME]` only. A wrong file is a `ConfigError` of one line
that begins with `FILE:LINE:` and says what to write instead; `examine` gives every mistake at once.
"""

from __future__ import annotations

import ipaddress
import keyword
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from gateway.channels import parse_url, url_to_connect, url_to_listen
from gateway.config.changes import Changes, DeviceChange, difference
from gateway.config.common import COMMON_KEYS, DeviceCommon, Match, option_clashes, read_common
from gateway.config.convert import Table, as_found, converted, nearest, nearest_word, unknown_keys
from gateway.config.files import MAX_FILE, config_files, read_file
from gateway.config.sections import (
    AUDIT_OFF,
    DEFAULT_LISTEN,
    RESETS,
    RESETTABLE,
    Config,
    DeviceSection,
    GatewaySection,
    HostSection,
)
from gateway.config.source import KeyPath, Source, read_tables
from gateway.errors import ConfigError
from gateway.limits import Limits

__all__ = [
    "COMMON_KEYS",
    "DEFAULT_LISTEN",
    "MAX_DEVICE_NAME",
    "MAX_FILE",
    "RESERVED_NAMES",
    "Changes",
    "Config",
    "DeviceChange",
    "DeviceCommon",
    "DeviceSection",
    "Examined",
    "GatewaySection",
    "HostSection",
    "KeyPath",
    "Match",
    "Source",
    "clashes",
    "default_path",
    "difference",
    "driver_options",
    "examine",
    "from_tables",
    "load",
    "name_pattern",
    "name_problem",
    "nearest",
    "nearest_word",
    "option_clashes",
    "option_problems",
    "parse",
    "with_port",
]

MAX_LIMIT: Final = 1e15
"""Above any useful limit, and small enough for every clock and allocation."""
MAX_INSTANCE_NAME: Final = 63
"""Bytes of a DNS label (RFC 6763 section 4.1.1), which an instance name has to fit in."""
MAX_DEVICE_NAME: Final = 40

RESERVED_NAMES: Final = frozenset(
    {"names", "device", "devices", "describe", "close", "get_service_name", "get_service_aliases"}
    | {"lease", "join_lease", "lease_status", "revoke_lease", "observers", "keeper"}
    | {"estop", "estop_reset", "estop_state", "test_safe", "host_info", "reset_host"}
    | {"root", "conn", "gateway", "help", "exit", "quit"}
)
"""What no device may be called: the names the root service answers itself, and those that `gateway shell` uses."""

T = TypeVar("T")


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """A config with all its mistakes."""

    config: Config
    """What could be read. With problems it is good for nothing but finding more of them."""
    problems: tuple[ConfigError, ...]
    """In the order of the files and lines. Their facts: `file`, `line`, `key`, `reason`, `nearest`."""


def default_path() -> Path:
    """Where a config lies when none is named: the user's own if it is there, else the machine's."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    own = home / "instrument-gateway" / "gateway.toml"
    return own if own.exists() else Path("/etc/instrument-gateway/gateway.toml")


def load(path: str | os.PathLike[str]) -> Config:
    """The config at `path`, with `devices.d` beside it. Raises ConfigError for its first mistake, which also says how
    many more there are.
    """
    found = examine(path)
    if len(found.problems) > 1:
        first, more = found.problems[0], len(found.problems) - 1
        raise ConfigError(f"{first}; and {more} more: gateway check {os.fspath(path)}", **first.facts)
    return _without_problems(found)


def examine(path: str | os.PathLike[str], *, may_be_empty: bool = False) -> Examined:
    """The config at `path`, with `devices.d` beside it, and every mistake in it. Never raises ConfigError.

    `may_be_empty`: a config without a device is no mistake.
    """
    problems: list[ConfigError] = []
    documents: list[tuple[Table, Source]] = []
    try:
        files = config_files(path)
    except ConfigError as problem:
        problems.append(problem)
        files = [os.fspath(path)]
    for name in files:
        try:
            documents.append(read_tables(read_file(name), name))
        except ConfigError as problem:
            problems.append(problem)
            # A device in the file that can't be read must not make the other files look wrong.
            documents.append(({}, Source(name)))
    return _examined(documents, problems, may_be_empty=may_be_empty)


def parse(data: bytes, *, file: str) -> Config:
    """The config in `data`; `file` is its name in errors. Raises ConfigError for its first mistake."""
    return _without_problems(_examined([read_tables(data, file)], []))


def from_tables(
    devices: Table,
    *,
    origin: str,
    gateway: Table | None = None,
    hosts: Table | None = None,
    may_be_empty: bool = False,
) -> Config:
    """A config of tables that come from code, such as a bench; `origin` is the place that errors name.

    `may_be_empty`: a config without a device is no mistake.
    """
    document = {"devices": dict(devices), "gateway": dict(gateway or {}), "hosts": dict(hosts or {})}
    return _without_problems(_examined([(document, Source(origin))], [], may_be_empty=may_be_empty))


def driver_options(section: DeviceSection, options: type[T]) -> T:
    """The section's options as the driver's `options` struct or dataclass.

    Raises ConfigError with file, line and key: an unknown or missing key, a wrong type, or what the struct refuses.
    """
    made, problems = converted(section.options, options, section.source, section.path, beside=COMMON_KEYS)
    if made is None:
        raise problems[0]
    return made


def option_problems(section: DeviceSection, options: type[Any]) -> list[ConfigError]:
    """Everything that is wrong with the section's options for a driver that takes `options`.

    A section with `match` needs no `port`, and its driver must take one.
    """
    if section.common.match is not None and "resource" not in section.options:
        section = with_port(section, "/dev/matched")
    return converted(section.options, options, section.source, section.path, beside=COMMON_KEYS)[1]


def with_port(section: DeviceSection, port: str) -> DeviceSection:
    """The section of a device with `match`, its port found: `port` becomes the driver's option of that name."""
    return msgspec.structs.replace(section, options={**section.options, "port": port})


def clashes(config: Config) -> list[ConfigError]:
    """One error for each device that says where it is by the same `match`, `port` or `resource` as one before it."""
    first: dict[str, DeviceSection] = {}
    problems = []
    for section in config.devices:
        match = section.common.match
        where = "match" if match is not None else "resource" if "resource" in section.options else "port"
        place = section.options.get(where)
        key = repr(match) if match is not None else place if isinstance(place, str) else None
        other = first.setdefault(key, section) if key is not None else section
        if other is not section:
            path = (*section.path, where)
            there = other.source.place((*other.path, where))
            problems.append(section.source.error(path, f"{other.name} ({there}) has the same {where!r}"))
    return problems


def _without_problems(found: Examined) -> Config:
    if found.problems:
        raise found.problems[0]
    return found.config


def _examined(
    documents: Sequence[tuple[Table, Source]], problems: list[ConfigError], *, may_be_empty: bool = False
) -> Examined:
    main, source = documents[0]
    problems += unknown_keys(main, _TABLES, source, (), what="table")
    for table, other in documents[1:]:
        problems += _out_of_place(table, source, other)
    gateway = _gateway(main, source, problems)
    limits = _limits(main, source, problems)
    tables = _Tables(documents, problems)
    devices = [_device(name, holder, where, problems) for name, holder, where in tables.rows("devices")]
    hosts = [_host(name, holder, where, problems) for name, holder, where in tables.rows("hosts")]
    if not (devices or hosts or problems or may_be_empty):
        problems.append(source.error((), "no [devices.NAME] table: nothing to serve"))
    order = {each.file: index for index, (_, each) in enumerate(documents)}
    problems.sort(key=lambda problem: (order.get(problem.file, -1), problem.line or 0))
    config = Config(
        gateway=gateway,
        devices=tuple(section for section in devices if section is not None),
        hosts=tuple(section for section in hosts if section is not None),
        limits=limits,
        source=source,
        files=tuple(order),
    )
    return Examined(config=config, problems=tuple(problems))


# -- what each table may hold -------------------------------------------------------------------------------------


_TABLES: Final = ("gateway", "devices", "hosts", "limits")


def _out_of_place(table: Table, main: Source, source: Source) -> list[ConfigError]:
    """What a file in `devices.d` has and must not have."""
    ours = [
        source.error((key,), f"[{key}] belongs into {main.file}; here are [devices.NAME] and [hosts.NAME] only")
        for key in ("gateway", "limits")
        if key in table
    ]
    rest = {key: value for key, value in table.items() if key not in _TABLES}
    return ours + unknown_keys(rest, ("devices", "hosts"), source, (), what="table")


class _Tables:
    """The tables `[devices.NAME]` and `[hosts.NAME]` of all files. A name counts once: later ones are problems."""

    def __init__(self, documents: Sequence[tuple[Table, Source]], problems: list[ConfigError]) -> None:
        self._rows: dict[str, list[tuple[str, Table, Source]]] = {"devices": [], "hosts": []}
        taken: dict[str, tuple[KeyPath, Source]] = {}
        for kind, rows in self._rows.items():
            for document, source in documents:
                holder = _table(document, (kind,), source, problems)
                for name in holder:
                    path = (kind, name)
                    if name in taken:
                        problems.append(_taken(path, source, *taken[name]))
                    elif wrong := name_problem(name, kind.removesuffix("s")):
                        problems.append(source.error(path, wrong))
                    else:
                        taken[name] = path, source
                        rows.append((name, holder, source))

    def rows(self, kind: str) -> list[tuple[str, Table, Source]]:
        """Name, the table that holds it, and where that stands."""
        return self._rows[kind]


def _taken(path: KeyPath, source: Source, first: KeyPath, where: Source) -> ConfigError:
    name, kind = path[-1], path[0].removesuffix("s")
    if path[0] == first[0]:
        return source.error(path, f"{name!r} is in {where.place(first)} already; a {kind} has one table")
    place = "" if where.file == source.file else f" ({where.place(first)})"
    return source.error(path, f"{name!r} is a device's name already{place}; choose another one for the host")


def _table(holder: Table, path: KeyPath, source: Source, problems: list[ConfigError]) -> Table:
    """The table at the last key of `path` in `holder`, empty where it is left out or is none."""
    found = holder.get(path[-1], {})
    if isinstance(found, dict):
        return found
    problems.append(source.error(path, f"{path[-1]!r} must be a table, [{'.'.join(path)}], not {as_found(found)}"))
    return {}


def _gateway(main: Table, source: Source, problems: list[ConfigError]) -> GatewaySection:
    made, wrong = converted(_table(main, ("gateway",), source, problems), GatewaySection, source, ("gateway",))
    problems += wrong
    if made is None:
        return GatewaySection()
    problems += _gateway_problems(made, source)
    return made


def _gateway_problems(section: GatewaySection, source: Source) -> Iterator[ConfigError]:
    size = len(section.name.encode())
    if not 1 <= size <= MAX_INSTANCE_NAME or not section.name.isprintable():
        yield source.error(
            ("gateway", "name"), f"'name' must be 1 to {MAX_INSTANCE_NAME} bytes of printable text, not {size} bytes"
        )
    elif section.name != section.name.strip():
        yield source.error(("gateway", "name"), f"'name' has blanks at its ends; write {section.name.strip()!r}")
    if wrong := _url_problem(section.listen, url_to_listen):
        yield source.error(("gateway", "listen"), f"'listen': {wrong}")
    if section.audit not in ("", AUDIT_OFF) and not os.path.isabs(section.audit):
        near = f"; did you mean {AUDIT_OFF!r}?" if section.audit.lower() in _MEANT_OFF else ""
        what = f"'audit' must be the whole path of a file, or {AUDIT_OFF!r}, not {section.audit[:80]!r}{near}"
        yield source.error(("gateway", "audit"), what)
    for address in section.interfaces:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            yield source.error(
                ("gateway", "interfaces"), f"'interfaces' has {address[:80]!r}, which is no IP address of an interface"
            )


_MEANT_OFF: Final = frozenset({"no", "none", "false", "of", "off"})


def _url_problem(url: str, check: Callable[[str], object]) -> str:
    try:
        check(url)
    except ConfigError as problem:
        return str(problem)
    return ""


def _device(name: str, devices: Table, source: Source, problems: list[ConfigError]) -> DeviceSection | None:
    path = ("devices", name)
    before = len(problems)
    table = _table(devices, path, source, problems)
    if len(problems) > before:
        return None
    driver = table.get("driver")
    if driver is None:
        what = "missing key 'driver'; name a driver, such as driver = \"scpi-multimeter\""
        problems.append(source.error(path, what))
    elif not isinstance(driver, str) or not driver:
        what = f"'driver' must be the name of a driver, not {as_found(driver)}"
        problems.append(source.error((*path, "driver"), what))
    common, wrong = read_common(table, source, path)
    problems += wrong
    if not isinstance(driver, str) or not driver:
        return None
    if common is None:
        # A stand-in, so that the driver's own options can be looked at too.
        common = DeviceCommon(match=Match() if "match" in table else None)
    options = {key: value for key, value in table.items() if key != "driver" and key not in COMMON_KEYS}
    return DeviceSection(name=name, driver=driver, options=options, source=source, common=common)


def _host(name: str, hosts: Table, source: Source, problems: list[ConfigError]) -> HostSection | None:
    path = ("hosts", name)
    before = len(problems)
    table = _table(hosts, path, source, problems)
    if len(problems) > before:
        return None
    problems += unknown_keys(table, ("url", "reset"), source, path)
    url, reset = table.get("url"), table.get("reset")
    if url is None:
        what = "missing key 'url'; say where the host serves, such as url = \"serial:///dev/ttyUSB0\""
        problems.append(source.error(path, what))
    elif not isinstance(url, str):
        problems.append(source.error((*path, "url"), f"'url' must be text in quotes, not {as_found(url)}"))
    elif wrong := _url_problem(url, url_to_connect):
        problems.append(source.error((*path, "url"), f"'url': {wrong}"))
    elif wrong := _reset_problem(reset, url):
        problems.append(source.error((*path, "reset"), f"'reset': {wrong}"))
    else:
        return HostSection(name=name, url=url, source=source, reset=reset)
    return None


def _reset_problem(reset: Any, url: str) -> str:
    """What is wrong with the way to reset a host; empty if nothing is."""
    if reset is None:
        return ""
    if not isinstance(reset, str) or reset not in RESETS:
        return f"{as_found(reset)} is no way to reset a board; {nearest(str(reset), RESETS)}"
    parsed = parse_url(url)
    if parsed.scheme not in RESETTABLE or parsed.options.framing != "link":
        return f"it takes the control lines of a serial port, so a url of {' or '.join(RESETTABLE)} with framing=link"
    return ""


_NAME: Final = r"[A-Za-z][A-Za-z0-9_]*"


def name_pattern() -> str:
    """The regular expression of a device's or host's name, but for the names that are taken."""
    return f"^{_NAME}$"


def name_problem(name: str, what: str = "device") -> str:
    """What is wrong with the name of a device or host; empty if it can be used."""
    shown = repr(name[:MAX_DEVICE_NAME])
    if len(name) > MAX_DEVICE_NAME:
        return f"the {what} name {shown}... is longer than {MAX_DEVICE_NAME} characters"
    if not re.fullmatch(_NAME, name) or keyword.iskeyword(name):
        return f"{shown} is no {what} name; use letters, digits and _ after a letter, such as {_EXAMPLES[what]!r}"
    if name in RESERVED_NAMES or name.startswith("exposed_"):
        return f"{shown} is a name the gateway uses; choose another, such as {_EXAMPLES[what]!r}"
    return ""


_EXAMPLES: Final = {"device": "psu1", "host": "bench2"}


def _limits(main: Table, source: Source, problems: list[ConfigError]) -> Limits:
    table = _table(main, ("limits",), source, problems)
    endless = [key for key, value in table.items() if isinstance(value, int | float) and value >= MAX_LIMIT]
    for key in endless:
        what = f"{key!r} must be below {MAX_LIMIT:g}: no limit can be switched off"
        problems.append(source.error(("limits", key), what))
    rest = {key: value for key, value in table.items() if key not in endless}
    made, wrong = converted(rest, Limits, source, ("limits",))
    problems += wrong
    return Limits() if made is None else made
