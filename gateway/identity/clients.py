"""The gateway's list of who may come in: paired clients, by the fingerprint of their certificates, with their roles.

    clients.json   {"clients": [{"name": "alice-laptop", "fingerprint": "9f2c...", "role": "operate",
                                 "devices": {"psu1": "observe"}, "added": "2026-03-01T10:00:00Z", "revoked": null}]}
    seen.json      {"9f2c...": "2026-03-02T08:30:00Z"}

A certificate of the CA that is not in the list lets nobody in. The file is looked at anew for every client that comes,
so what another process has written holds at once: `gateway clients revoke` and `gateway pair` need no running gateway,
and a running one need not be told. `watch` tells of those who were revoked meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

import msgspec

from gateway.errors import Ambiguous, ConfigError, NotFound, Unauthenticated
from gateway.identity.places import gateway_folder, locked, read_bounded, write_private
from gateway.identity.principal import Kind, Principal, Role

CLIENTS_FILE: Final = "clients.json"
SEEN_FILE: Final = "seen.json"
MAX_CLIENTS: Final = 1000
WATCH_S: Final = 0.5
SEEN_EVERY_S: Final = 60.0
"""So often at most it is written down who was here: a memory card wears out."""
MIN_PREFIX: Final = 8

_log: Final = logging.getLogger(__name__)


class Client(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the list."""

    name: str
    fingerprint: str
    role: str = "operate"
    """What it may do to a device that `devices` does not name: `observe`, `operate` or `admin`."""
    devices: dict[str, str] = {}
    added: datetime
    revoked: datetime | None = None

    def __post_init__(self) -> None:
        for word in (self.role, *self.devices.values()):
            Role.of(word)

    @property
    def principal(self) -> Principal:
        """Who this client is on a connection."""
        return Principal(
            name=self.name,
            kind=Kind.CERTIFICATE,
            default=Role.of(self.role),
            roles={device: Role.of(word) for device, word in self.devices.items()},
            fingerprint=self.fingerprint,
        )


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    clients: tuple[Client, ...] = ()


Revoked = Callable[[Client], None]


@dataclass(frozen=True, slots=True)
class _Known:
    """The file as it was read last."""

    stamp: tuple[int, ...]
    clients: tuple[Client, ...]


class Clients:
    """The list in a folder (default: `gateway_folder()`). Any thread may use it, and several processes."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or gateway_folder()
        self.on_revoked: list[Revoked] = []
        """Called, by `check`, with each client that was revoked since the last look."""
        self._path = self.folder / CLIENTS_FILE
        self._lock = threading.Lock()
        self._known = _Known((), ())
        self._checked: frozenset[str] = frozenset()
        self._seen: dict[str, datetime] = {}
        self._written_at = -SEEN_EVERY_S
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # -- asking -----------------------------------------------------------------------------------------------------

    def all(self) -> tuple[Client, ...]:
        """Every client, also the revoked ones, in the order they were added. Raises ConfigError for a broken file."""
        with self._lock:
            stamp = self._stamp()
            if stamp != self._known.stamp:
                self._known = _Known(stamp, self._read())
            return self._known.clients

    def admit(self, fingerprint: str) -> Client:
        """The client whose certificate has that fingerprint. Raises Unauthenticated, saying why, and ConfigError."""
        for client in self.all():
            if client.fingerprint == fingerprint:
                if client.revoked is not None:
                    raise Unauthenticated(f"{client.name} was revoked on {client.revoked:%Y-%m-%d}", client=client.name)
                return client
        raise Unauthenticated(f"a certificate that is not in the list of clients ({fingerprint[:16]}...)")

    def named(self, name: str) -> Client:
        """The client of that name, or whose fingerprint begins so (8 digits or more), which may be revoked.

        Raises NotFound, Ambiguous.
        """
        clients = self.all()
        matches = [client for client in clients if client.name == name and client.revoked is None]
        matches = matches or [client for client in clients if client.name == name]
        if not matches and len(name) >= MIN_PREFIX:
            matches = [client for client in clients if client.fingerprint.startswith(name.lower())]
        if len(matches) > 1:
            prints = ", ".join(client.fingerprint[:16] for client in matches)
            raise Ambiguous(f"{len(matches)} clients are called {name!r}: name one by its fingerprint: {prints}")
        if not matches:
            known = ", ".join(client.name for client in clients if client.revoked is None) or "none yet"
            raise NotFound(f"no client {name[:80]!r}; paired: {known}")
        return matches[0]

    def last_seen(self) -> Mapping[str, datetime]:
        """Fingerprint -> when that client came last, about to the minute."""
        found: dict[str, datetime] = {}
        data = read_bounded(self.folder / SEEN_FILE)
        if data is not None:
            try:
                found = msgspec.json.decode(data, type=dict[str, datetime])
            except msgspec.MsgspecError:
                _log.warning("%s is broken and is made anew", self.folder / SEEN_FILE)
        with self._lock:
            return {**found, **self._seen}

    # -- changing ---------------------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        fingerprint: str,
        *,
        role: Role = Role.OPERATE,
        devices: Mapping[str, Role] | None = None,
        now: datetime | None = None,
    ) -> Client:
        """Let in whoever has this certificate. A name that is taken gets a number. Raises ConfigError."""
        with locked(self.folder):
            clients = self._read()
            if len(clients) >= MAX_CLIENTS:
                raise ConfigError(f"{self._path}: {len(clients)} clients; remove revoked ones from the file first")
            made = Client(
                name=_free(name, {client.name for client in clients}),
                fingerprint=fingerprint,
                role=role.word,
                devices={device: each.word for device, each in (devices or {}).items()},
                added=_whole(now),
            )
            self._write((*clients, made))
        return made

    def revoke(self, name: str, *, now: datetime | None = None) -> Client:
        """Let that client in no more; the client as it is now. One that is revoked already stays as it is.

        A running gateway ends its connections within about a second. Raises NotFound, Ambiguous, ConfigError.
        """
        with locked(self.folder):
            wanted = self.named(name)
            if wanted.revoked is not None:
                return wanted
            revoked = msgspec.structs.replace(wanted, revoked=_whole(now))
            self._write(tuple(revoked if client == wanted else client for client in self._read()))
        return revoked

    def saw(self, client: Client, *, now: datetime | None = None) -> None:
        """Note that this client is here; written down by `check`."""
        with self._lock:
            self._seen[client.fingerprint] = _whole(now)

    # -- watching ---------------------------------------------------------------------------------------------------

    def check(self, now: float | None = None) -> None:
        """Tell `on_revoked` of those who were revoked since the last look, and write down who was here.

        `now` is `time.monotonic()`. Never raises: a broken file is logged, and lets nobody in meanwhile.
        """
        try:
            clients = self.all()
        except ConfigError as problem:
            _log.error("%s", problem)
            return
        revoked = frozenset(client.fingerprint for client in clients if client.revoked is not None)
        news, self._checked = revoked - self._checked, revoked
        for client in clients:
            if client.fingerprint in news:
                self._tell(client)
        self._write_seen(monotonic() if now is None else now)

    def watch(self, interval_s: float = WATCH_S) -> None:
        """Call `check` again and again, in a thread of its own, until `close`."""
        if self._thread is None:
            self.check()
            self._thread = threading.Thread(target=self._watch, args=(interval_s,), name="gateway-clients", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Watch no more; write down who was here. Idempotent."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._written_at = -SEEN_EVERY_S
        self._write_seen(monotonic())

    def _watch(self, interval_s: float) -> None:
        while not self._stop.wait(interval_s):
            self.check()

    def _tell(self, client: Client) -> None:
        for listener in self.on_revoked:
            try:
                listener(client)
            except Exception:  # noqa: BLE001 - the others have to be told all the same
                _log.exception("ending the connections of %s failed", client.name)

    # -- files ------------------------------------------------------------------------------------------------------

    def _stamp(self) -> tuple[int, ...]:
        try:
            facts = self._path.stat()
        except OSError:
            return ()
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    def _read(self) -> tuple[Client, ...]:
        data = read_bounded(self._path)
        if data is None:
            return ()
        try:
            return msgspec.json.decode(data, type=_File).clients
        except (msgspec.MsgspecError, ValueError) as problem:
            raise ConfigError(f"{self._path}: nobody is let in until this is mended: {problem}") from None

    def _write(self, clients: tuple[Client, ...]) -> None:
        write_private(self._path, msgspec.json.format(msgspec.json.encode(_File(clients=clients)), indent=2) + b"\n")

    def _write_seen(self, now: float) -> None:
        with self._lock:
            if not self._seen or now - self._written_at < SEEN_EVERY_S:
                return
            self._written_at = now
        seen: Any = self.last_seen()
        try:
            write_private(self.folder / SEEN_FILE, msgspec.json.encode(seen))
        except ConfigError as problem:
            _log.info("it is not written down which clients were here: %s", problem)
            return
        with self._lock:
            self._seen = {each: when for each, when in self._seen.items() if when > seen[each]}


def _free(name: str, taken: set[str]) -> str:
    """`name`, or with the first number that makes it one that nobody has."""
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _whole(now: datetime | None) -> datetime:
    return (now or datetime.now(UTC)).replace(microsecond=0)
