"""Principals: what the other end of a connection is called, how that is known, and what it may do.

Roles are observe < operate < admin. A client has one for all devices and may have others for some of them. A member of
a device needs an access: `read` is permitted from observe on, `control` from operate on, `admin` for admins only. What
is not marked needs `control`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from gateway.errors import ConfigError


class Role(IntEnum):
    """What a principal may do to a device; each may all that the lower ones may."""

    OBSERVE = 1
    OPERATE = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """As it is written in files and on the command line."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Role:
        """The role of that name. Raises ConfigError."""
        for role in cls:
            if role.word == word:
                return role
        raise ConfigError(f"no role {word[:40]!r}; a role is {', '.join(role.word for role in cls)}")


NEEDED: Final[Mapping[str, Role]] = MappingProxyType(
    {"read": Role.OBSERVE, "control": Role.OPERATE, "admin": Role.ADMIN}
)
"""Access of a member -> the least role that has it."""


class Kind(StrEnum):
    """How it is known who a principal is."""

    LOCAL = "local"
    """A user of this machine, told by the kernel: a Unix socket, a pipe, or ssh."""
    LOOPBACK = "loopback"
    """Some program of this machine, over TCP."""
    CERTIFICATE = "certificate"
    """A paired client that has shown it has its key."""
    CABLE = "cable"
    """Whoever is at the other end of a serial line."""
    NETWORK = "network"
    """Anybody who reached the port: `insecure_lan`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who a peer is."""

    name: str
    """A client's name, a user's, or an address."""
    kind: Kind
    default: Role
    """What it may do to a device that `roles` does not name."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Device -> what it may do to that one."""
    fingerprint: str = ""
    """Of its certificate; empty without one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", MappingProxyType(dict(self.roles)))

    def role(self, device: str) -> Role:
        """What it may do to the device of that name; one of an instrument host, `bench2.dmm1`, goes by its host too."""
        host = device.partition(".")[0]
        return self.roles.get(device, self.roles.get(host, self.default))

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate in DER, in hex: what a client is known by."""
    return sha256(certificate).hexdigest()


def explain(principal: Principal, device: str, access: str | None) -> tuple[bool, str]:
    """Whether `principal` may use a member of `device` that needs `access` (None: not marked), and by which rule.

    The text is one line: `alice's laptop is operate on psu1 (default role); control needs operate: allowed`.
    """
    unmarked = access is None
    access = access or "control"
    needed = NEEDED.get(access, Role.ADMIN)  # what nobody knows is not for everybody
    role = principal.role(device)
    allowed = role >= needed
    named = device if device in principal.roles else device.partition(".")[0]
    source = f"role for {named}" if named in principal.roles else "default role"
    what = f"{access} (the member is not marked)" if unmarked else access
    verdict = "allowed" if allowed else "refused"
    return allowed, f"{principal.name} is {role.word} on {device} ({source}); {what} needs {needed.word}: {verdict}"
