"""The structs of a config."""

from __future__ import annotations

import socket
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from gateway.config.common import DeviceCommon
from gateway.config.source import KeyPath, Source
from gateway.limits import Limits

DEFAULT_LISTEN: Final = "tcp://127.0.0.1:18871"
AUDIT_OFF: Final = "off"
Reset: TypeAlias = Literal["dtr", "rts", "esp32", "break"]
RESETS: Final[tuple[str, ...]] = get_args(Reset)
"""The names in `gateway.channels.port_reset`, which takes long to import."""
RESETTABLE: Final = ("serial", "rfc2217")
"""Schemes of URLs with control lines."""


class GatewaySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[gateway]`."""

    name: str = msgspec.field(default_factory=lambda: socket.gethostname().partition(".")[0] or "gateway")
    """The instance name that discovery shows, at most 63 bytes."""
    listen: str = DEFAULT_LISTEN
    """The URL to listen at. Port 0 takes a free one."""
    insecure_lan: bool = False
    """Whether anybody who reaches a `tcp://` address of a network is let in: see `listen_problem`."""
    estop_unless: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    """A condition over readings, such as `panel.active`: the emergency stop is pressed as soon as it does not hold."""
    advertise: bool = True
    interfaces: tuple[str, ...] = ()
    """Addresses of the interfaces to advertise on; empty: those that `listen` is bound to."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    audit: str = ""
    """The file of the audit log, an absolute path; empty: beside the gateway's id; `off`: there is none."""


class DeviceSection(msgspec.Struct, frozen=True, kw_only=True):
    """One table `[devices.NAME]`. `options` are raw until the driver is known: see `driver_options`."""

    name: str
    driver: str
    options: dict[str, Any]
    """The driver's own, without the common keys."""
    source: Source
    common: DeviceCommon = DeviceCommon()
    """What every device may say."""

    @property
    def path(self) -> KeyPath:
        """The table's key path in the file."""
        return ("devices", self.name)


class HostTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a table `[hosts.NAME]` holds."""

    url: str
    """Where the host serves, as a channel URL."""
    reset: Reset | None = None
    """How to reset the board at the other end of a serial line, for `gateway firmware reset`."""


class HostSection(msgspec.Struct, frozen=True, kw_only=True):
    """One table `[hosts.NAME]`: an instrument host."""

    name: str
    url: str
    """Where the host serves, as a channel URL."""
    source: Source
    reset: str | None = None
    """How it can be reset, if that was said."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One whole config: the file and what lies in `devices.d` beside it."""

    gateway: GatewaySection
    devices: tuple[DeviceSection, ...]
    """In the files' order."""
    hosts: tuple[HostSection, ...]
    """In the files' order."""
    limits: Limits
    source: Source
    """The file itself. A device or host has a source of its own, which may be another file."""
    files: tuple[str, ...] = ()
    """All that were read, the file itself first."""
