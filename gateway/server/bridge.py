"""The bridge: instrument hosts behind a gateway, and their devices as the gateway's own.

    host = Host("bench2", "serial:///dev/ttyUSB0?framing=link")
    host.start()                     # connects, now or when the host comes; reconnects for ever
    conn.root.bench2.dmm1.voltage    # through GatewayService; DeviceUnavailable while the host is away

A host's devices keep their tables, signatures, units and documentation. A device that was there once stays listed:
while its host is away its calls raise DeviceUnavailable and nothing is done, and when the host is back the same object
works again, also for clients that never noticed. A call that is on its way when the line is lost ends as
OutcomeUnknown: nobody sends a call twice.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any, Final

from gateway.channels import Trunk, open_trunk, parse_url
from gateway.config import name_problem
from gateway.errors import CallTimeout, ConfigError, DeviceError, DeviceUnavailable, GatewayError, LinkDown
from gateway.limits import DEFAULT_LIMITS, Limits
from gateway.server.border import ANSWER_S, Border, answer
from gateway.server.described import MAX_DEVICES, READ, Summary, members, row_of
from gateway.server.fair_lane import FairLane
from gateway.server.ledger import Ledger
from gateway.server.relay import HostRelay
from gateway.server.session import Session
from gateway.service import permit
from gateway.service.exposure import Exposable, Exposure, Kind
from gateway.sync.connection import Connection
from gateway.sync.netref import BaseNetref
from gateway.sync.workers import WORKERS

_log: Final = logging.getLogger(__name__)

PAUSE_S: Final = 0.2
"""Between two attempts to reach a host."""
HEARTBEAT_S: Final = 1.0
OPEN_S: Final = 1.0
"""A channel opens within this time, or the host counts as away: short, so that one that comes back is found soon."""
START_S: Final = 15.0
"""The same where a program has to be started for it."""
STARTS_A_PROGRAM: Final = frozenset({"pipe", "ssh"})
REFRESH_S: Final = 1.0
"""How long `describe` waits for the states of a host's devices before it tells the last known ones."""
FRESH_S: Final = 0.5
CLOSE_S: Final = 2.0

ABSENCES: Final = 16
"""Absences of a host that are remembered."""

AWAY: Final = "unavailable"
"""The state of a device whose host is away."""


class BridgedDevice(HostRelay):
    """A device of a host. It outlives the line: each call takes the way there is at that time."""

    host: Host

    def __init__(self, host: Host, summary: Summary, rows: Mapping[str, Exposure], pending: int) -> None:
        self.host = host
        # A host that is one device is called as itself.
        self.name = self.what = host.name if summary.sole else f"{host.name}.{summary.name}"
        self.own_name = summary.name
        self.rows = _with_own_transaction(rows)
        self.take_over(summary)
        self.gateway_lane = FairLane(self.name, pending)

    def take_over(self, summary: Summary) -> None:
        """What its host told of it last."""
        self.summary = summary
        self.safe_state = summary.safe_state
        self.gateway_identity = summary.identity

    def exposures(self) -> Mapping[str, Exposure]:
        return self.rows

    def own_transaction(self) -> Any:
        """Among the clients of this gateway: for the host they are all one."""
        visit = permit.current()
        entered = visit.transaction() if visit is not None else None
        return contextlib.nullcontext() if entered is None else entered

    def make_safe(self) -> None:
        """Have its host make it safe, where it shows no `make_safe` of its own. Raises GatewayError."""
        border, _ = self.reach()
        said = answer(border.conn, border.conn.root, "test_safe", (self.own_name,), ANSWER_S)
        outcome = said.get("outcome") if type(said) is dict else "verified" if said is True else said
        if outcome != "verified":
            raise DeviceError(
                f"{self.name}: {self.host.name} says of its safe state: {outcome!r:.60}", device=self.name
            )

    def secure_at_host(self) -> None:
        """Have the host make it safe, which breaks off what runs there, and so the call that waits for it here.

        Does not wait. The gateway's own attempt follows in its turn, and says how it went.
        """
        WORKERS.submit(self._secure_at_host)

    def _secure_at_host(self) -> None:
        try:
            _, proxy = self.reach()
            proxy.____conn__.root.test_safe(self.own_name)
        except GatewayError as error:
            _log.debug("%s: its host does not make it safe: %s", self.name, error)

    def reach(self) -> tuple[Border, BaseNetref]:
        return self.host.reach(self.own_name)

    def absence(self) -> dict[str, str]:
        """`{"since", "problem"}` while it can't be reached, else empty."""
        return self.host.absence(self.own_name)

    def seen_from(self, border: Border) -> Any:
        return border.device(self.own_name)


def _with_own_transaction(rows: Mapping[str, Exposure]) -> Mapping[str, Exposure]:
    row = rows.get("transaction")
    return rows if row is None else {**rows, "transaction": replace(row, attribute="own_transaction")}


class HostNode(Exposable):
    """A host as a client sees it: its devices are its attributes."""

    def __init__(self, host: Host) -> None:
        self.name = host.name
        self._host = host

    def exposures(self) -> Mapping[str, Exposure]:
        return _NodeTable(self._host)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith(READ):
            return self._host.device(attribute.removeprefix(READ))
        raise AttributeError(attribute)


class _NodeTable(Mapping[str, Exposure]):
    """The devices of a host. While that is not known it may have others: who asks for one gets DeviceUnavailable."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def __getitem__(self, name: str) -> Exposure:
        device = self._host.devices.get(name)
        if device is None and (self._host.is_known or name_problem(name)):
            raise KeyError(name)
        doc, driver = (device.summary.doc, device.summary.driver) if device is not None else ("", "Device")
        return row_of(name, Kind.PROPERTY, signature=f"-> {driver}", doc=doc)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._host.devices))

    def __len__(self) -> int:
        return len(self._host.devices)


@dataclass(frozen=True, slots=True)
class Absence:
    """A time in which a host could not be reached."""

    since: datetime
    until: datetime
    why: str


class Host:
    """An instrument host, and the thread that keeps the way to it. Not connected until `start`.

    `reset`: how the control lines of its serial port reset it. Raises ConfigError for a wrong `url`.
    """

    def __init__(self, name: str, url: str, limits: Limits | None = None, *, reset: str | None = None) -> None:
        self.name = name
        self.url = parse_url(url)
        self.resets_by = reset
        self.node = HostNode(self)
        self.devices: dict[str, BridgedDevice] = {}
        """All that were seen so far, by their name at the host."""
        self.on_known: Callable[[BridgedDevice], object] = lambda device: None
        """Called with each device that was not known before, before anybody else gets hold of it."""
        self.on_back: Callable[[BridgedDevice, str], object] = lambda device, why: None
        """Called with each known device when its host is there again, and why it was away. Must not wait."""
        self.on_listed: Callable[[], object] = lambda: None
        """Called when there are other devices than before."""
        self.absences: deque[Absence] = deque(maxlen=ABSENCES)
        """Since it was reached first, the latest last."""
        self._reached_before = False
        self._limits = limits or DEFAULT_LIMITS
        self._ledger = Ledger(self._limits)
        self._trunk: Trunk | None = None
        self._open_s = START_S if self.url.scheme in STARTS_A_PROGRAM else OPEN_S
        self._session: Session | None = None
        self._changed = Event()
        """There may be other devices than before."""
        self._fresh_at = 0.0
        self._since = datetime.now(UTC)
        self._why = "not connected yet"
        self._told = ""
        self._closing = Event()
        self._reached = Event()
        self._lock = Lock()
        self._thread: Thread | None = None

    # -- for clients ------------------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether it can be reached now."""
        session = self._session
        return session is not None and not session.ended.is_set()

    @property
    def is_known(self) -> bool:
        """Whether it can be reached, and all its devices are known."""
        return self.is_up and self._reached.is_set()

    @property
    def sole(self) -> BridgedDevice | None:
        """The device that this host is; None for one that has devices, or is not known yet."""
        devices = list(self.devices.values())
        return devices[0] if len(devices) == 1 and devices[0].summary.sole else None

    def reset(self) -> None:
        """Reset it by the control lines of its port. Raises ConfigError where that can't be done, LinkDown where its
        port is not there.
        """
        if self.resets_by is None:
            raise ConfigError(
                f"how {self.name} can be reset is not in the config; put such as reset = 'dtr' into [hosts.{self.name}]"
            )
        if self._trunk is None:
            raise LinkDown(f"{self.name} is not connected")
        _log.warning("%s is being reset by %s", self.name, self.resets_by)
        self._trunk.reset(self.resets_by, OPEN_S)

    def line(self) -> dict[str, Any] | None:
        """What its serial line has carried so far, by the names in `gateway.link.Counters`; None without the link."""
        counters = getattr(self._trunk, "counters", None)
        return None if counters is None else asdict(counters)

    def device(self, name: str) -> BridgedDevice:
        """The device that the host calls `name`. Raises KeyError, or DeviceUnavailable where the host may have it."""
        found = self.devices.get(name)
        if found is None and not self.is_known and not name_problem(name):
            raise self.unavailable(f"{self.name}.{name}")
        return self.devices[name]

    def reach(self, device: str) -> tuple[Border, BaseNetref]:
        """The way to a device, and its proxy. Raises DeviceUnavailable; then nothing was done."""
        what = f"{self.name}.{device}"
        session = self._session
        if session is None or session.ended.is_set():
            raise self.unavailable(what)
        if device not in session.devices:
            raise DeviceUnavailable(
                f"{what}: {self.name} does not serve it any more; nothing was done", device=what, host=self.name
            )
        try:
            return session.reach(device)
        except GatewayError as error:
            if session.ended.is_set():
                raise self.unavailable(what) from None
            raise DeviceUnavailable(
                f"{what}: {self.name} does not give it ({error}); nothing was done", device=what, host=self.name
            ) from None

    def unavailable(self, what: str) -> DeviceUnavailable:
        if self.is_up:
            return DeviceUnavailable(
                f"{what}: the way to it at {self.name} is just being made; nothing was done",
                device=what,
                host=self.name,
            )
        why, since = self._absence()
        return DeviceUnavailable(
            f"{what}: {self.name} has been away since {_shown(since)} ({why}); nothing was done",
            device=what,
            host=self.name,
            since=_shown(since),
        )

    def suspect(self, conn: Connection) -> bool:
        session = self._session
        if session is None or session.control.conn is not conn:
            return False
        session.check()
        return session.ended.is_set()

    # -- for describe() ---------------------------------------------------------------------------------------------

    def absence(self, device: str | None = None) -> dict[str, str]:
        """`{"since", "problem"}` while it, or that device of it, can't be reached; else empty."""
        session = self._session
        if session is None or session.ended.is_set():
            why, since = self._absence()
        elif device is not None and device not in session.devices:
            why, since = f"{self.name} does not serve it any more", session.began_at
        else:
            return {}
        return {"since": _shown(since), "problem": why}

    def refresh(self) -> None:
        """Learn in which state the devices are now, unless that was just asked or takes too long."""
        session = self._session
        if session is None or monotonic() < self._fresh_at + FRESH_S:
            return
        with contextlib.suppress(GatewayError):
            if session.refresh(REFRESH_S):
                self._changed.set()
            self._take_over(session)
        self._fresh_at = monotonic()

    def wait_up(self, timeout_s: float) -> bool:
        """Wait until all its devices are known; whether they are."""
        return self._reached.wait(timeout_s) and self.is_known

    def _absence(self) -> tuple[str, datetime]:
        session = self._session
        with self._lock:
            why, since = self._why, self._since
        if session is not None and session.ended.is_set():  # just now
            why, since = session.reason, session.ended_at
        return why, since

    # -- the thread -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to reach the host; does not wait for it. Idempotent."""
        if self._thread is None:
            with contextlib.suppress(ImportError):
                # Arrays of the host's devices are to arrive as arrays, and no peer's word imports it: see `copies`.
                # Now, and not in the thread: connections must not meet it half imported.
                importlib.import_module("numpy")
            self._trunk = open_trunk(self.url, limits=self._limits)
            self._thread = Thread(target=self._run, args=(self._trunk,), name=f"gateway-host-{self.name}", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Leave the host and stop looking for it, within about two seconds. Idempotent."""
        self._closing.set()
        self._changed.set()
        session = self._session
        if session is not None:
            session.close()
        if self._trunk is not None:
            self._trunk.close()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _run(self, trunk: Trunk) -> None:
        while not self._closing.is_set():
            try:
                session = Session(self, trunk, self._limits, self._ledger, open_s=self._open_s)
            except Exception as error:
                if not isinstance(error, GatewayError | OSError):
                    _log.exception("%s: unexpected error; trying again", self.name)
                self._be_away(str(error) or type(error).__name__)
                self._closing.wait(PAUSE_S)
            else:
                self._attend(session)

    def _attend(self, session: Session) -> None:
        """Have this session until it ends."""
        self._reached.clear()
        self._session = session
        self._changed.set()
        self._told = ""
        self._be_back(session)
        self._take_over(session)
        _log.info("%s is there, with %d devices", self.name, len(session.devices))
        try:
            while not self._closing.is_set() and not session.ended.is_set():
                if self._changed.is_set():
                    self._changed.clear()
                    self._learn(session)
                    self._reached.set()
                if not session.ended.wait(HEARTBEAT_S):
                    session.check()
        except Exception as error:
            session.end(f"{type(error).__name__}: {error}")
            _log.exception("%s: unexpected error; connecting anew", self.name)
        session.end("closed by this side")
        self._be_away(session.reason, session.ended_at)
        self._session = None

    def _learn(self, session: Session) -> None:
        """Ask for the members of each device: those of a new one before it is listed, the others' may have changed."""
        for name, summary in session.devices.items():
            try:
                rows = members(session.describe(name), self._limits)
            except LinkDown:
                return  # and the session is over
            except CallTimeout:
                self._changed.set()  # the line is busy: ask again in a while
                continue
            except GatewayError as error:
                _log.warning("%s.%s can't be served: %s", self.name, name, error)
                continue
            device = self.devices.get(name)
            if device is not None:
                device.rows = _with_own_transaction(rows)
            elif len(self.devices) < MAX_DEVICES:
                kind = type(summary.driver, (BridgedDevice,), {"__module__": "gateway.bridged"})
                device = kind(self, summary, rows, self._limits.pending_calls)
                self.on_known(device)
                self.devices = {**self.devices, name: device}
                self.on_listed()

    def _be_back(self, session: Session) -> None:
        """Note how long it was away, and see to the devices: nobody knows what became of them meanwhile."""
        if self._reached_before:
            with self._lock:
                self.absences.append(Absence(self._since, session.began_at, self._why))
            for name in session.devices.keys() & self.devices.keys():
                device = self.devices[name]
                was, now = device.summary.identity, session.devices[name].identity
                if was != now:
                    _log.warning("%s is another one than before: %s, and was %s", device.name, now, was)
                device.take_over(session.devices[name])
                self.on_back(device, f"{self.name} was away: {self._why}")
        self._reached_before = True

    def _take_over(self, session: Session) -> None:
        for name, summary in session.devices.items():
            if name in self.devices:
                self.devices[name].take_over(summary)

    def _be_away(self, why: str, since: datetime | None = None) -> None:
        with self._lock:
            self._why = why
            self._since = since or self._since
        if why != self._told and not self._closing.is_set():
            self._told = why
            _log.warning("%s is away: %s", self.name, why)


def _shown(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
