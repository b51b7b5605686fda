"""What is examined: the places a config names, and the user who has to reach them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Final

from gateway.channels import parse_url
from gateway.config import Config
from gateway.doctor.system import System
from gateway.errors import ConfigError, NotFound
from gateway.systemd.accounts import User
from gateway.systemd.install import STATE_FOLDER, UNIT_FILE
from gateway.systemd.unit import CONFIG, setting

IDENTITY_FOLDER: Final = f"{STATE_FOLDER}/identity"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device hangs: a path, or what its USB adapter is known by. What is empty may be anything."""

    device: str
    """Its name in the config."""
    path: str = ""
    serial_number: str = ""
    vid_pid: str = ""
    """`0403:6001`, in lower case."""

    def __str__(self) -> str:
        facts = (self.path, self.vid_pid, self.serial_number and f"serial number {self.serial_number}")
        return f"{self.device} ({', '.join(filter(None, facts))})"


@dataclass(frozen=True, slots=True)
class Subject:
    """One gateway, as far as the machine has to do with it."""

    user: User
    """Who runs, or will run, the gateway."""
    is_service: bool = False
    """Whether it is the user of the installed service."""
    config: str = CONFIG
    """The config's path."""
    trouble: str = ""
    """Why the config can't be used; empty if it can."""
    places: tuple[Place, ...] = ()
    listen: str = "tcp://127.0.0.1:18871"
    advertise: bool = True
    interfaces: tuple[str, ...] = ()
    """Addresses of the interfaces to advertise on; empty: those that `listen` is bound to."""
    identity: str = IDENTITY_FOLDER
    """The folder of the certificates and keys."""
    state: str = STATE_FOLDER
    """The folder of what the gateway writes."""

    @property
    def tcp(self) -> tuple[str, int] | None:
        """The host and port it listens at; None if that is no TCP port, or any that is free."""
        try:
            url = parse_url(self.listen)
        except ConfigError:
            return None
        return (url.host or "0.0.0.0", url.port) if url.scheme in ("tcp", "tls") and url.port else None  # noqa: S104

    @property
    def is_local(self) -> bool:
        """Whether only this computer can connect."""
        if self.tcp is None:
            return not self.listen.startswith(("tcp:", "tls:"))
        try:
            return ipaddress.ip_address(self.tcp[0]).is_loopback
        except ValueError:
            return self.tcp[0] == "localhost"


def subject_of(system: System, *, config: str, user: str | None, load: Callable[[str], Config]) -> Subject:
    """The gateway to examine. `load` gives the config of a path, or raises ConfigError, which becomes `trouble`.

    Without `user` it is the one of the installed service, else who asks. Raises NotFound for an unknown user.
    """
    unit = system.word(UNIT_FILE)
    service_user = setting(unit, "User")
    # Under sudo it is not root who will run the gateway.
    asking = system.environ.get("SUDO_USER", "") if system.uid == 0 else ""
    name = user or service_user or asking
    groups = tuple(setting(unit, "SupplementaryGroups").split()) if name == service_user else ()
    found = system.user(name, groups) if name else system.current_user()
    if found is None and user:
        raise NotFound(f"no user {user!r} on this system")
    begun = Subject(
        user=found or User(name, -1, frozenset()),
        is_service=bool(name) and name == service_user,
        config=config,
    )
    if not system.exists(config):
        return replace(begun, trouble=f"{config}: no such file")
    try:
        return described(begun, load(str(system.path(config))))
    except ConfigError as problem:
        return replace(begun, trouble=str(problem))


def described(subject: Subject, config: Config) -> Subject:
    """`subject` with what `config` names."""
    places = [place for section in config.devices if (place := place_of(section.name, section.options)) is not None]
    places += [place for section in config.hosts if (place := _place_of_url(section.name, section.url)) is not None]
    section = config.gateway
    if (own := _place_of_url("gateway", section.listen)) is not None:
        places.append(own)
    return replace(
        subject,
        places=tuple(places),
        listen=section.listen,
        advertise=section.advertise,
        interfaces=section.interfaces,
    )


def place_of(device: str, options: Mapping[str, Any]) -> Place | None:
    """The place that a device's options name in `port` or `match`; None if they name none."""
    match = options.get("match")
    if isinstance(match, Mapping):
        facts = {key: str(match.get(key) or "") for key in ("path", "serial_number", "vid_pid")}
        return Place(device, **(facts | {"vid_pid": facts["vid_pid"].lower()})) if any(facts.values()) else None
    port = options.get("port")
    if not isinstance(port, str) or not port:
        return None
    return Place(device, path=port) if PurePosixPath(port).is_absolute() else _place_of_url(device, port)


def _place_of_url(device: str, text: str) -> Place | None:
    try:
        url = parse_url(text)
    except ConfigError:
        return None
    if url.scheme != "serial":
        return None
    options: Any = url.options
    vid, pid = getattr(options, "vid", None), getattr(options, "pid", None)
    vid_pid = f"{vid:04x}:{pid:04x}" if vid is not None and pid is not None else ""
    place = Place(device, url.path if len(url.path) > 1 else "", getattr(options, "serial_number", "") or "", vid_pid)
    return place if place != Place(device) else None
