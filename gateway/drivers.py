"""Drivers: the gateway imports none. A config names one, and it is looked up: by entry point, or by its dotted name."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Protocol

from gateway.config import DeviceSection, nearest, nearest_word, option_clashes
from gateway.errors import ConfigError

DRIVERS: Final = "gateway.drivers"

_DRIVER_PARTS: Final = ("Options", "open", "close", "make_safe", "identify", "state")

log = logging.getLogger(__name__)


class Driver(Protocol):
    """What a driver's class gives: `devices.base.Device` is the one to derive from."""

    Options: type[Any]

    def __call__(self, name: str, options: Any) -> Instrument: ...


class Instrument(Protocol):
    """What the gateway needs of a device beside its exposure table."""

    name: str
    gateway_identity: str

    @property
    def state(self) -> str: ...
    def open(self) -> None: ...
    def close(self) -> None: ...
    def make_safe(self) -> None: ...
    def identify(self) -> str: ...


def load_driver(name: str) -> Driver:
    """The driver's class: an entry point of `gateway.drivers`, or `package.module:Class`.

    Raises ConfigError when there is none, when its module can't be imported, or when it is no driver.
    """
    found = _dotted(name) if ":" in name else entry_point(DRIVERS, name, "driver")
    missing = [part for part in _DRIVER_PARTS if not hasattr(found, part)]
    if not inspect.isclass(found) or missing:
        lacks = f"has no {missing[0]!r}" if missing else "is no class"
        raise ConfigError(f"driver {name!r} {lacks}; a driver is a subclass of devices.Device", driver=name)
    driver: Any = found
    try:
        clashing = option_clashes(driver.Options)
    except (TypeError, NameError) as problem:
        raise ConfigError(f"driver {name!r}: its Options: {problem}", driver=name) from None
    if clashing:
        raise ConfigError(f"driver {name!r} has an option {clashing[0]!r}, which is a key of every device", driver=name)
    return driver  # type: ignore[no-any-return]


def installed_drivers() -> dict[str, Driver]:
    """Every driver of the group `gateway.drivers` that can be loaded, by name. One that can't be is logged."""
    drivers: dict[str, Driver] = {}
    for point in entry_points(group=DRIVERS):
        try:
            drivers[point.name] = load_driver(point.name)
        except ConfigError as problem:
            log.warning("left out: %s", problem)
    return drivers


def load_drivers(sections: Iterable[DeviceSection]) -> dict[str, Driver]:
    """The driver of each section, by the device's name. Raises ConfigError that names the file and the line."""
    drivers: dict[str, Driver] = {}
    found: dict[str, Driver] = {}  # looking an entry point up takes long
    for section in sections:
        try:
            driver = found.get(section.driver) or load_driver(section.driver)
        except ConfigError as problem:
            raise section.source.error((*section.path, "driver"), str(problem)) from problem
        drivers[section.name] = found[section.driver] = driver
    return drivers


def entry_point(group: str, name: str, what: str) -> Any:
    """What the entry point `name` of that group leads to; errors call it a `what`. Raises ConfigError."""
    known = {point.name: point for point in entry_points(group=group)}
    if name not in known:
        near = nearest_word(name, known)
        raise ConfigError(f"unknown {what} {name[:80]!r}; {nearest(name, known)}", name=name, nearest=near)
    return _imported(known[name].load, what, name)


def _dotted(name: str) -> Any:
    point = EntryPoint(name=name, value=name, group=DRIVERS)
    if not point.pattern.match(name):
        raise ConfigError(f"driver {name[:80]!r} is neither a driver's name nor package.module:Class")
    module = _imported(lambda: importlib.import_module(point.module), "driver", name)
    found: Any = module
    for part in point.attr.split("."):
        if not hasattr(found, part):
            classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
            raise ConfigError(f"driver {name!r}: {point.module} has no {part!r}; {nearest(part, classes)}")
        found = getattr(found, part)
    return found


def _imported(load: Callable[[], Any], what: str, name: str) -> Any:
    try:
        return load()
    except ImportError as problem:
        raise ConfigError(f"{what} {name!r} can't be imported: {problem}; install what is missing") from problem
    except Exception as problem:
        raise ConfigError(f"{what} {name!r} can't be imported: {type(problem).__name__}: {problem}") from problem
