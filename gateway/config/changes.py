"""What differs between two configs: what a gateway has to do when its config is read again. Pure.

changes = difference(running, load(path))
changes.added, changes.removed, changes.changed, changes.unchanged      devices
changes.restart                                                         what only a restart brings about
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from gateway.config.common import DeviceCommon
from gateway.config.sections import Config, DeviceSection, GatewaySection, HostSection
from gateway.limits import Limits

FOR_PEOPLE: Final = frozenset({"owner", "notes"})
"""Keys that only say something: a change of these touches nothing."""
REOPENS: Final = frozenset({"driver", "match"})
"""Keys for whose change the device is let go and made anew; so do all options of its driver."""


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """One device that is in both configs and differs."""

    old: DeviceSection
    new: DeviceSection
    keys: frozenset[str]
    """Which keys of its table differ."""

    @property
    def name(self) -> str:
        return self.new.name

    @property
    def only_for_people(self) -> bool:
        """Whether nothing but words differ, so that the device need not be touched."""
        return self.keys <= FOR_PEOPLE

    @property
    def reopens(self) -> bool:
        """Whether it has to be made safe, closed, and made anew: its driver, an option of that, or its port differ."""
        return any(key in REOPENS or key not in DeviceCommon.__struct_fields__ for key in self.keys)


@dataclass(frozen=True, slots=True)
class Changes:
    """From an old config to a new one. Each device and host is in exactly one of its lists."""

    added: tuple[DeviceSection, ...]
    removed: tuple[DeviceSection, ...]
    changed: tuple[DeviceChange, ...]
    unchanged: tuple[DeviceSection, ...]
    """As they stand in the new config: their places in the files may differ."""
    hosts_added: tuple[HostSection, ...]
    hosts_removed: tuple[HostSection, ...]
    hosts_changed: tuple[tuple[HostSection, HostSection], ...]
    """Old and new."""
    hosts_unchanged: tuple[HostSection, ...]
    restart: tuple[str, ...]
    """Keys that take effect at the next start only, such as `gateway.listen`; sorted."""
    log_level: str | None
    """The new level, if it differs."""

    def __bool__(self) -> bool:
        """Whether anything differs."""
        lists = (self.added, self.removed, self.changed, self.hosts_added, self.hosts_removed, self.hosts_changed)
        return any(lists) or bool(self.restart) or self.log_level is not None


def difference(old: Config, new: Config) -> Changes:
    """What leads from `old` to `new`. Neither is touched; where in a file something stands makes no difference."""
    devices = {section.name: section for section in old.devices}
    hosts = {section.name: section for section in old.hosts}
    both = [section for section in new.devices if section.name in devices]
    keys = {section.name: _changed_keys(devices[section.name], section) for section in both}
    return Changes(
        added=tuple(section for section in new.devices if section.name not in devices),
        removed=tuple(section for section in old.devices if section.name not in {each.name for each in new.devices}),
        changed=tuple(
            DeviceChange(devices[section.name], section, keys[section.name])
            for section in new.devices
            if keys.get(section.name)
        ),
        unchanged=tuple(section for section in new.devices if section.name in keys and not keys[section.name]),
        hosts_added=tuple(section for section in new.hosts if section.name not in hosts),
        hosts_removed=tuple(section for section in old.hosts if section.name not in {each.name for each in new.hosts}),
        hosts_changed=tuple(
            (hosts[section.name], section)
            for section in new.hosts
            if section.name in hosts and _differs(hosts[section.name], section)
        ),
        hosts_unchanged=tuple(
            section for section in new.hosts if section.name in hosts and not _differs(hosts[section.name], section)
        ),
        restart=_restart(old, new),
        log_level=new.gateway.log_level if new.gateway.log_level != old.gateway.log_level else None,
    )


def _differs(old: HostSection, new: HostSection) -> bool:
    return (old.url, old.reset) != (new.url, new.reset)


def _changed_keys(old: DeviceSection, new: DeviceSection) -> frozenset[str]:
    before, after = _table(old), _table(new)
    return frozenset(key for key in before.keys() | after.keys() if not _same(before.get(key), after.get(key)))


def _table(section: DeviceSection) -> dict[str, Any]:
    common = {key: getattr(section.common, key) for key in DeviceCommon.__struct_fields__}
    return {"driver": section.driver, **section.options, **common}


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    # 1 and true are the same to Python, and not to a driver.
    return repr(old) == repr(new)


def _restart(old: Config, new: Config) -> tuple[str, ...]:
    keys = [
        f"gateway.{name}"
        for name in GatewaySection.__struct_fields__
        if name != "log_level" and getattr(old.gateway, name) != getattr(new.gateway, name)
    ]
    keys += [
        f"limits.{row.name}"
        for row in dataclasses.fields(Limits)
        if getattr(old.limits, row.name) != getattr(new.limits, row.name)
    ]
    return tuple(sorted(keys))
