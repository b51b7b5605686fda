"""Whether what `safe`, `limits` and `cache` name is there: a limit on a name that no driver has holds nothing.

The names are those of the driver's exposure table, which is built from its class: no driver object is needed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.config.convert import nearest, nearest_word
from gateway.config.sections import DeviceSection
from gateway.config.source import KeyPath
from gateway.errors import ConfigError
from gateway.service.exposure import Exposable, Exposure, Kind, exposure_table


def member_problems(section: DeviceSection, driver: Any) -> list[ConfigError]:
    """One error for each row of `safe`, `limits` and `cache` that names no member that can be set, limited or polled.

    `driver` is the driver's class. Of one that tells its members at run time only, nothing is known here.
    """
    if getattr(driver, "exposures", Exposable.exposures) is not Exposable.exposures:
        return []
    return list(_problems(section, driver, exposure_table(driver)))


def _problems(section: DeviceSection, driver: Any, table: Mapping[str, Exposure]) -> Iterator[ConfigError]:
    properties = {name: row for name, row in table.items() if row.kind is Kind.PROPERTY}
    settable = {name for name, row in properties.items() if row.settable}
    for name in section.common.safe:
        if name not in settable:
            yield _error(
                section, ("safe", name), _not(name, settable, properties, "a property that can be set"), settable
            )
    for name in section.common.cache:
        if name not in properties:
            yield _error(section, ("cache", name), _not(name, properties, (), "a property"), properties)
    for name in section.common.limits:
        method, dot, parameter = name.partition(".")
        row = table.get(method)
        if not dot:
            if name not in settable:
                what = "a property that can be set; a method's parameter is written METHOD.PARAMETER"
                yield _error(section, ("limits", name), _not(name, settable, properties, what), settable)
        elif row is None or row.kind is Kind.PROPERTY:
            methods = {other for other, each in table.items() if each.kind is not Kind.PROPERTY}
            yield _error(section, ("limits", name), _not(method, methods, properties, "a method"), methods)
        elif (parameters := _parameters(driver, row)) is not None and parameter not in parameters:
            told = f"{method!r} has no parameter {parameter!r}; {nearest(parameter, parameters)}"
            yield _error(section, ("limits", name), told, parameters, parameter)


def _not(name: str, known: Iterable[str], readable: Iterable[str], what: str) -> str:
    if name in readable:
        return f"{name!r} can't be set"
    return f"{name!r} is not {what}; {nearest(name, known)}"


def _error(
    section: DeviceSection, key: tuple[str, str], told: str, known: Iterable[str], word: str | None = None
) -> ConfigError:
    table, name = key
    written: KeyPath = (*section.path, table, name)
    path = written if written in section.source.lines else (*section.path, table, *name.split("."))
    near = nearest_word(name.partition(".")[0] if word is None else word, known)
    return section.source.error(path, f"'{table}.{name}': {told}", nearest=near)


def _parameters(driver: Any, row: Exposure) -> list[str] | None:
    """The names of a method's parameters; None where they can't be told, or may be any."""
    try:
        parameters = list(inspect.signature(getattr(driver, row.attribute)).parameters.values())
    except (AttributeError, TypeError, ValueError):
        return None
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return [each.name for each in parameters if each.kind is not each.VAR_POSITIONAL and each.name != "self"]
