"""A gateway and a client that have been paired, as files in a folder."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from gateway.identity import ca, trust
from gateway.identity.clients import Client, Clients
from gateway.identity.places import make_private, write_private
from gateway.identity.principal import Role


class Pairing:
    """One gateway's identity in `folder/gateway`, and clients of it in `folder/NAME`; the first one is `client`."""

    def __init__(self, folder: Path, name: str = "client", *, port: int = 18871) -> None:
        self.folder = folder
        self.port = port
        self.gateway = folder / "gateway"
        self.authority = ca.Authority.open(self.gateway)
        self.clients = Clients(self.gateway)
        self.client = self.add(name)

    def add(self, name: str, *, role: Role = Role.OPERATE, **devices: Role) -> Path:
        """Pair one more client; the folder with its files."""
        key = ca.new_key()
        issued = self.authority.issue(key.public_key(), name)
        self.clients.add(name, issued.fingerprint, role=role, devices=devices)
        own = self.folder / name
        make_private(own)
        write_private(own / trust.KEY, ca.key_pem(key))
        write_private(own / trust.CERTIFICATE, issued.certificate)
        write_private(own / trust.CA, self.authority.pem)
        return own

    def entry(self, name: str = "client") -> Client:
        """The client's line of the list."""
        return self.clients.named(name)

    @property
    def listen_url(self) -> str:
        """Listens at any free port."""
        return f"tls://127.0.0.1:0?identity={quote(str(self.gateway))}"

    def url_of(self, url: str, own: Path | None = None) -> str:
        """The listener's URL as a client with the files in `own` uses it."""
        return f"{url}?identity={quote(str(own or self.client))}"
