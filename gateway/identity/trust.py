"""The gateways that this user's computer has been paired with.

    ~/.config/instrument-gateway/trusted/bench/       mode 700; XDG_CONFIG_HOME
        gateway.json      {"name": "bench", "id": "3f2a91...", "host": "192.168.1.20", "port": 18871}
        ca.pem            the gateway's own CA: nobody else is believed to be `bench`
        client.pem client.key     what this computer shows

A folder is all that a client needs: `tls://192.168.1.20:18871?identity=FOLDER`, or its PEM files for a stock rpyc.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from gateway.errors import ConfigError, NotFound
from gateway.identity.places import locked, make_private, read_bounded, trusted_folder, write_private

FACTS: Final = "gateway.json"
CA: Final = "ca.pem"
CERTIFICATE: Final = "client.pem"
KEY: Final = "client.key"
MAX_NAME: Final = 63
MAX_TRUSTED: Final = 256

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FOLDER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a gateway. Raises ConfigError (also a ValueError) for what can't be."""

    name: str
    id: str
    """Stays when the gateway's name or address changes; see `gateway.discovery.stable_id`."""
    host: str
    """Where it was reached last: an address or a name."""
    port: int

    def __post_init__(self) -> None:
        if (
            not 1 <= len(self.name.encode("utf-8", "replace")) <= MAX_NAME
            or not self.name.isprintable()
            or self.name != self.name.strip()
        ):
            raise ConfigError(f"a gateway's name is 1 to {MAX_NAME} bytes of printable text, not {self.name[:80]!r}")
        if not _ID.fullmatch(self.id):
            raise ConfigError(f"a gateway's id is 1 to 64 letters, digits, '.', '_' or '-', not {self.id[:80]!r}")
        if not 1 <= self.port <= 65535 or not 1 <= len(self.host) <= 255:
            raise ConfigError(f"no address: {self.host[:80]!r}, port {self.port}")


@dataclass(frozen=True, slots=True)
class Trusted:
    """One gateway that was paired with."""

    facts: Facts
    folder: Path

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def url(self) -> str:
        """A URL that works, for as long as the gateway has this address."""
        return self.url_at(self.facts.host, self.facts.port)

    def url_at(self, host: str, port: int) -> str:
        """The same at another address: the gateway there has to prove that it is this one."""
        literal = f"[{host}]" if ":" in host else host
        return f"tls://{literal}:{port}?identity={quote(str(self.folder))}"


class TrustStore:
    """What is in a folder (default: `trusted_folder()`). Several processes may use it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or trusted_folder()

    def all(self) -> tuple[Trusted, ...]:
        """All gateways, by name. Raises ConfigError for one that can't be read."""
        if not self.folder.is_dir():
            return ()
        folders = [path for path in sorted(self.folder.iterdir()) if not path.name.startswith(".") and path.is_dir()]
        return tuple(_read(path) for path in folders[:MAX_TRUSTED])

    def named(self, name: str) -> Trusted | None:
        """The gateway that is trusted by this name; this very spelling goes before one that differs in case."""
        every = self.all()
        exact = [each for each in every if each.name == name]
        close = [each for each in every if each.name.casefold() == name.casefold()]
        return next(iter(exact or close), None)

    def with_id(self, id_: str) -> Trusted | None:
        """The gateway of that id, whatever it is called here."""
        return next((each for each in self.all() if each.facts.id == id_), None)

    def at(self, host: str, port: int) -> Trusted | None:
        """The gateway that was reached last at this address; a host name and its address are the same."""
        every = [each for each in self.all() if each.facts.port == port]
        exact = next((each for each in every if each.facts.host == host), None)
        if exact is not None or not every:
            return exact
        addresses = _addresses(host)
        return next((each for each in every if addresses & _addresses(each.facts.host)), None)

    def keep(self, facts: Facts, *, ca: bytes, certificate: bytes, key: bytes) -> Trusted:
        """Trust this gateway from now on. One of the same name and id is replaced.

        Raises ConfigError where another gateway has the name, or the files can't be written.
        """
        with locked(self.folder):
            there = self.named(facts.name)
            if there is not None and there.facts.id != facts.id:
                raise ConfigError(
                    f"another gateway (id {there.facts.id}) is trusted as {facts.name!r}; choose a name with --as, "
                    f"or remove {there.folder}"
                )
            folder = there.folder if there is not None else self.folder / _folder_name(facts)
            make_private(folder)
            for name, data in ((KEY, key), (CERTIFICATE, certificate), (CA, ca), (FACTS, msgspec.json.encode(facts))):
                write_private(folder / name, data)
        return Trusted(facts, folder)

    def moved(self, trusted: Trusted, host: str, port: int) -> Trusted:
        """Remember where this gateway, which has proved who it is, is now. Raises ConfigError."""
        facts = msgspec.structs.replace(trusted.facts, host=host, port=port)
        write_private(trusted.folder / FACTS, msgspec.json.encode(facts))
        return Trusted(facts, trusted.folder)

    def forget(self, name: str) -> Trusted:
        """Remove a gateway and this computer's key for it. Raises NotFound, ConfigError."""
        with locked(self.folder):
            trusted = self.named(name)
            if trusted is None:
                known = ", ".join(each.name for each in self.all()) or "none"
                raise NotFound(f"no gateway {name[:80]!r} is trusted; trusted: {known}")
            gone = trusted.folder.with_name(f".{trusted.folder.name}.{secrets.token_hex(4)}")
            try:
                trusted.folder.rename(gone)  # it is gone as a whole, or still there
                shutil.rmtree(gone)
            except OSError as problem:
                raise ConfigError(f"{trusted.folder}: can't remove it: {problem.strerror or problem}") from None
        return trusted


def _read(folder: Path) -> Trusted:
    data = read_bounded(folder / FACTS)
    if data is None:
        raise ConfigError(f"{folder}: holds no {FACTS}; remove the folder, and pair again with `gateway trust`")
    try:
        return Trusted(msgspec.json.decode(data, type=Facts), folder)
    except (msgspec.MsgspecError, ValueError) as problem:
        raise ConfigError(
            f"{folder / FACTS}: {problem}; remove the folder, and pair again with `gateway trust`"
        ) from None


def _folder_name(facts: Facts) -> str:
    """The gateway's name where that can be a file's, else its id."""
    return facts.name if _FOLDER.fullmatch(facts.name) else f"id-{facts.id}"


def _addresses(host: str) -> set[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return {host}
    return {str(address[0]) for *_, address in found}


def own_name() -> str:
    """What this computer calls itself at a gateway: `alice@laptop`."""
    try:
        user = os.environ.get("SUDO_USER") or os.environ.get("USER") or os.environ.get("LOGNAME") or ""
        host = socket.gethostname().partition(".")[0]
    except OSError:
        user, host = "", ""
    plain = "".join(char for char in (f"{user}@{host}" if user else host) if char.isprintable()).strip()
    return plain[:MAX_NAME] or "client"
