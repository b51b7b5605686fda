"""What the gateway's side gives to a client that may come in: by pairing, or as files for one that can't pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError
from gateway.identity import ca, trust
from gateway.identity.ca import Authority
from gateway.identity.clients import Client, Clients
from gateway.identity.pairing import Request
from gateway.identity.places import make_private, write_private
from gateway.identity.principal import Role


@dataclass(slots=True, kw_only=True)
class Granter:
    """Grants what `gateway pair` was told to: `grant` is the `Issue` of a `GatewaySide`."""

    authority: Authority
    clients: Clients
    name: str
    id: str
    port: int
    """The gateway's name and id, and the port that it serves at."""
    role: Role = Role.OPERATE
    devices: Mapping[str, Role] = field(default_factory=dict)
    granted: Client | None = None
    """Who has been let in."""

    def grant(self, request: Request) -> Mapping[str, Any]:
        """Sign, and put the client in the list. Raises GatewayError."""
        issued = self.authority.issue(ca.requested_key(request.pem), request.name)
        self.granted = self.clients.add(request.name, issued.fingerprint, role=self.role, devices=self.devices)
        return {
            "name": self.name,
            "id": self.id,
            "port": self.port,
            "client": self.granted.name,
            "ca": self.authority.pem.decode(),
            "certificate": issued.certificate.decode(),
        }


def export(
    authority: Authority,
    clients: Clients,
    name: str,
    folder: Path,
    *,
    role: Role = Role.OPERATE,
    devices: Mapping[str, Role] | None = None,
) -> Client:
    """Let in a client that can't pair: its key and certificates are put into `folder`, to be carried to it.

    The files are those of `gateway.identity.trust`, which a stock rpyc takes too. Raises ConfigError where one of them
    is there already.
    """
    files = (trust.CA, trust.CERTIFICATE, trust.KEY)
    there = [folder / file for file in files if (folder / file).exists()]
    if there:
        raise ConfigError(f"{there[0]} is there already; choose another folder")
    key = ca.new_key()
    issued = authority.issue(key.public_key(), name)
    make_private(folder)
    for file, data in zip(files, (authority.pem, issued.certificate, ca.key_pem(key)), strict=True):
        write_private(folder / file, data)
    return clients.add(name, issued.fingerprint, role=role, devices=devices)
