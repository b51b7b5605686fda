"""The composition root: a config becomes a running gateway. The only place that knows every layer.

    with build(config.load("bench.toml")) as running:      # opens the devices, reaches the hosts, serves, advertises
        running.url, running.advertised, running.devices
                                                           # withdraws, closes the server, makes every device safe
Drivers and benches are not imported but looked up: by entry point, or a driver by its dotted name.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import msgspec

from gateway import config as configuration
from gateway.channels import Channel, listen, parse_url
from gateway.config import (
    Config,
    DeviceSection,
    Examined,
    GatewaySection,
    driver_options,
    nearest,
    option_problems,
)
from gateway.config.changes import Changes, DeviceChange, difference
from gateway.config.common import DeviceCommon
from gateway.config.listening import listen_problem
from gateway.config.members import member_problems
from gateway.config.sections import AUDIT_OFF, HostSection
from gateway.discovery import Advertisement, Advertiser, addresses_for, interfaces_for, stable_id
from gateway.discovery.identity import state_path
from gateway.drivers import Driver, Instrument, entry_point, load_driver, load_drivers
from gateway.errors import Busy, ConfigError, GatewayError, NotFound
from gateway.identity.clients import Clients
from gateway.plugged import PluggedDevices
from gateway.server import Server
from gateway.server.admission import Admission
from gateway.server.audit import AuditLog
from gateway.server.bridge import Host
from gateway.server.errand import Errand
from gateway.server.interlock import Interlock
from gateway.server.interlock_fit import interlock_problems
from gateway.server.reception import Reception
from gateway.server.registry import GatewayService
from gateway.server.safety import Outcome
from gateway.server.station import Station
from gateway.sync.connection import Connection
from gateway.sync.lane import Lane

BENCHES: Final = "gateway.benches"
DISTRIBUTION: Final = "instrument-gateway"
AUDIT_FILE: Final = "audit.jsonl"
LAST_CALL_S: Final = 1.0
"""A call that still runs when the gateway ends has so long to come to its end."""
SAFE_AT_START_S: Final = 5.0
CLOSE_S: Final = 15.0
"""A driver that has not let go of its device by then is left behind."""

_CHANGED: Final = "its config was changed"

log = logging.getLogger("gateway.app")


class Left(StrEnum):
    """How a device was left when the gateway closed."""

    RUNNING = "running"
    """The gateway has not closed yet."""
    SAFE = "safe"
    """In its safe state, as far as its driver can tell."""
    UNREACHED = "unreached"
    """It was not open: nothing is known about it."""
    UNSAFE = "unsafe"
    """Making it safe failed: somebody should look at it."""


@dataclass(slots=True)
class ServedDevice:
    """One device of a running gateway."""

    name: str
    driver: str
    instrument: Instrument
    identity: str = ""
    problem: str = ""
    """Why it could not be opened; empty if it could."""
    left: Left = Left.RUNNING
    """How `Gateway.close` left it."""

    @property
    def state(self) -> str:
        """As the driver tells it: `open`, `closed` or `faulty`."""
        return str(self.instrument.state)


def version() -> str:
    """The version of the installed distribution."""
    try:
        return distribution_version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def check_config(path: str) -> Examined:
    """The config at `path` and every mistake in it, also in the options of its drivers. Touches no hardware: drivers
    are imported, and none is made.
    """
    found = configuration.examine(path)
    problems = [*found.problems, *configuration.clashes(found.config)]
    drivers: dict[str, Driver] = {}
    for section in found.config.devices:
        try:
            driver = load_driver(section.driver)
        except ConfigError as problem:
            nearest_driver = problem.facts.get("nearest")
            problems.append(section.source.error((*section.path, "driver"), str(problem), nearest=nearest_driver))
        else:
            drivers[section.name] = driver
            problems += option_problems(section, driver.Options)
            problems += member_problems(section, driver)
    problems += interlock_problems(found.config, drivers)
    order = {name: index for index, name in enumerate(found.config.files)}
    problems.sort(key=lambda problem: (order.get(problem.file, -1), problem.line or 0))
    return Examined(config=found.config, problems=tuple(problems))


def closed_station(config: Config, device: str) -> Station:
    """The device of that name with its rules, made but not opened: nothing is asked of any hardware.

    Raises NotFound, and ConfigError as `build` does.
    """
    sections = {section.name: section for section in config.devices}
    if device not in sections:
        raise NotFound(f"the config has no device {device!r:.80}; {nearest(device, sections)}", device=device)
    section = sections[device]
    if section.common.match is not None:
        section = configuration.with_port(section, "/dev/matched")
    instrument: Any = _device(section, load_drivers([section])[device]).instrument
    instrument.gateway_lane = Lane(device, config.limits.pending_calls)
    return Station(device, instrument, section.common)


def _host(section: HostSection, config: Config) -> Host:
    return Host(section.name, section.url, config.limits, reset=section.reset)


# -- a running gateway --------------------------------------------------------------------------------------------


class Gateway:
    """Devices, instrument hosts, the server that serves both and their advertisement, from `start` to `close`."""

    def __init__(
        self,
        config: Config,
        devices: Iterable[ServedDevice],
        audit: AuditLog | None = None,
        *,
        as_host: bool = False,
        plugged: PluggedDevices | None = None,
    ) -> None:
        self.config = config
        self.audit = audit
        self._plugged = plugged
        self.devices = tuple(devices)
        self.hosts = tuple(_host(section, config) for section in config.hosts)
        instruments = {device.name: device.instrument for device in self.devices}
        commons = {section.name: section.common for section in config.devices}
        self.service = GatewayService(instruments, config.limits, self.hosts, commons, as_host=as_host)
        self.keeper = self.service.keeper
        if audit is not None:
            self.write_down(audit)
        if config.gateway.estop_unless is not None:
            self._stop_unless(config.gateway.estop_unless)
        self._admission = _admission(config.gateway.listen)
        self._server: Server | None = None
        self._advertiser: Advertiser | None = None
        self._not_advertised = "not advertised: not started"
        self.why = "the gateway starts"
        """Why devices are made safe at the start."""

    def _stop_unless(self, condition: str) -> None:
        try:
            self.keeper.stop_unless(condition)
        except ConfigError as problem:
            raise self.config.source.error(("gateway", "estop_unless"), str(problem)) from problem

    @property
    def name(self) -> str:
        """The instance name: as advertised, else as in the config."""
        return (self._advertiser.name if self._advertiser else None) or self.config.gateway.name

    @property
    def url(self) -> str:
        """Where clients connect, with the real port."""
        return self.config.gateway.listen if self._server is None else self._server.url

    @property
    def local_only(self) -> bool:
        """Whether only this machine can connect."""
        return self._server is None or self._server.local_only

    @property
    def advertises(self) -> bool:
        """Whether it is meant to be advertised and can be."""
        return self._advertiser is not None

    @property
    def advertised(self) -> bool:
        """Whether browsers can see it now."""
        return self._advertiser is not None and self._advertiser.name is not None

    @property
    def advert_status(self) -> str:
        """One line on the advertisement: the name and the interfaces, or why there is none."""
        return self._not_advertised if self._advertiser is None else self._advertiser.status

    def write_down(self, audit: AuditLog) -> None:
        """Have what is done written into this log, which is closed with the gateway. Before `start`."""
        self.audit = audit
        self.keeper.write_down(audit)

    def open_devices(self) -> None:
        """Open every device, side by side. One that can't be opened is logged, keeps its `problem`, and is served too:
        its next call tries again. The hosts are looked for from now on, and nothing waits for them.
        """
        for host in self.hosts:
            host.start()
        if self._plugged is not None:
            self._plugged.start(self.keeper, {device.name: device.instrument for device in self.devices})
        _side_by_side(self._open, self.devices)
        self.keeper.start()

    def _open(self, device: ServedDevice) -> None:
        """Open a device, and bring it to its safe state: nobody knows how it was left."""
        station = self.keeper.stations[device.name]
        if station.common.disabled is not None:
            device.problem = f"disabled: {station.common.disabled}"
            return
        if station.absence is not None:
            device.problem = f"missing: {station.absence[0]}"
            return
        _open(device)
        if not device.problem:
            with suppress(GatewayError):  # it goes on, and is reported
                self.keeper.safety.secure_now(station, self.why, SAFE_AT_START_S)
        else:
            self.keeper.safety.owe(station, self.why, device.problem)

    def start(self) -> None:
        """Open the devices, serve them, advertise. Raises what listening raises; then everything is closed again."""
        # Looked at before any device is touched: a gateway that was started twice must not disturb the first one's.
        self._check_place()
        try:
            self.open_devices()
            self._server = self._make_server()
            self._server.start()
            self._admission.start()
            self._advertise()
        except BaseException:
            self.close()
            raise

    def serve_channel(self, channel: Channel) -> Connection:
        """Serve one peer over `channel` instead of listening; the devices should be open. `close` as after `start`."""
        self._server = self._make_server()
        return self._server.serve_channel(channel)

    def wait_advertised(self, timeout_s: float) -> bool:
        """Wait until browsers can see it; whether they can. Returns at once if it is not to be advertised."""
        return self._advertiser is not None and self._advertiser.wait(timeout_s)

    def close(self) -> None:
        """Withdraw, close the server, make every device safe and let go of it, leave the hosts. Idempotent.

        Never raises: what went wrong is logged, and told by each device's `left`.
        """
        if self._advertiser is not None:
            self._advertiser.close()
        if self._server is not None:
            self._server.close()
        for device in _side_by_side(self._close, [each for each in self.devices if each.left is Left.RUNNING], CLOSE_S):
            device.left = Left.UNSAFE
            log.error("%s may not be in its safe state: its driver hangs for %g s now", device.name, CLOSE_S)
        self.keeper.close()
        if self._plugged is not None:
            self._plugged.stop()
        self._admission.close()
        if self.audit is not None:
            self.audit.close()
        leaving = [Thread(target=host.close, name=f"gateway-leaving-{host.name}") for host in self.hosts]
        for thread in leaving:
            thread.start()
        for thread in leaving:
            thread.join()

    def _close(self, device: ServedDevice, why: str = "the gateway ends") -> None:
        """Make a device safe and let go of it."""
        station = self.keeper.stations[device.name]
        if station.safe_state and device.state == "open" and hasattr(device.instrument, "let_go"):
            _let_call_end(device.instrument)
            report = None
            with suppress(GatewayError):  # its driver hangs
                report = self.keeper.safety.secure_now(station, why, CLOSE_S)
            device.instrument.let_go()
            failed = report is None or report.outcome is Outcome.FAILED
            device.left = Left.UNSAFE if failed else Left.SAFE
        else:
            _close(device)

    # -- another config ---------------------------------------------------------------------------------------------

    def reload(self, config: Config) -> Changes:
        """Serve what `config` says, without touching what it says as before. What changed, and what takes a restart.

        Raises GatewayError for what can't be served; then nothing has changed. Devices that are taken out, and those
        whose options differ, are made safe, and who had them loses the lease.
        """
        changes = difference(self.config, config)
        again = [change.new for change in changes.changed if _reopens(change)]
        made = {device.name: device for device in self._checked(config, changes, again)}
        moved = [new for _, new in changes.hosts_changed]
        hosts = [_host(section, config) for section in (*changes.hosts_added, *moved)]
        # From here on nothing is refused any more.
        served = {device.name: device for device in self.devices}
        other = {name for name in made.keys() & served.keys() if not _are_alike(made[name], served[name])}
        self._take_out([served[name] for name in (*(section.name for section in changes.removed), *other)])
        self._take_out_hosts([*(section.name for section in changes.hosts_removed), *(host.name for host in hosts)])
        sections = {section.name: section for section in config.devices}
        for name, device in made.items():
            if name not in served or name in other:
                self.service.add_device(name, device.instrument, sections[name].common)
                served[name] = device
        for host in hosts:
            self.service.add_host(host)
            host.start()
        self.hosts = (*self.hosts, *hosts)
        self.devices = tuple(served[name] for name in sections)
        for name, device in made.items():
            self.keeper.withdraw(name, "it is being opened" if device is served[name] else _CHANGED)
        if self._plugged is not None:
            instruments = {device.name: device.instrument for device in self.devices}
            self._plugged.replace(config, instruments, apart_from=made.keys())

        def work(device: ServedDevice) -> None:
            if device.name in made:
                self._open_anew(device, sections[device.name], is_new=device is made[device.name])
            else:
                self._follow(device.name, sections[device.name].common)

        for change in changes.changed:
            if change.only_for_people:
                self.keeper.follow(change.name, change.new.common)
        names = [change.name for change in changes.changed if not change.only_for_people and change.name not in made]
        for device in _side_by_side(work, [served[name] for name in (*made, *names)], CLOSE_S):
            log.error("%s: its driver hangs for %g s now; its new config holds when that ends", device.name, CLOSE_S)
        self.keeper.poll()
        self.config = config
        if self._advertiser is not None:
            self._advertiser.update(devices=len(self.devices))
        return changes

    def _checked(self, config: Config, changes: Changes, again: list[DeviceSection]) -> list[ServedDevice]:
        """The devices that `changes` adds, and those to be opened anew. Raises for all that can't be served."""
        _check_listen(config)
        _check_listen(msgspec.structs.replace(config, gateway=self.config.gateway))
        self._check_stop_input(config)
        sections = [*changes.added, *again]
        if self._plugged is not None:
            self._plugged.prepare(config)
            sections = [self._plugged.placed(section) for section in sections]
        made = make_devices(sections)
        for section, device in zip(sections, made, strict=True):
            self.service.check_device(section.name, device.instrument, section.common)
        for change in changes.changed:
            if change.new not in again:
                self.keeper.check_fit(change.name, change.new.common)
        return made

    def _check_stop_input(self, config: Config) -> None:
        condition = self.config.gateway.estop_unless
        names = {section.name for section in config.devices}
        for device, prop in () if condition is None else Interlock(condition).readings:
            if device not in names and "." not in device:
                what = f"the emergency stop depends on {device}.{prop}: {device} can be taken out by a restart only"
                raise config.source.error(("devices",), what)

    def _take_out(self, devices: list[ServedDevice]) -> None:
        """Make devices safe, let go of them, and serve them no more."""
        why = "it was taken out of the config"
        for device in devices:
            self.keeper.withdraw(device.name, why)
        for device in _side_by_side(lambda each: self._close(each, why), devices, CLOSE_S):
            log.error("%s may not be in its safe state: its driver hangs for %g s now", device.name, CLOSE_S)
        for device in devices:
            self.service.remove_device(device.name)

    def _take_out_hosts(self, names: list[str]) -> None:
        leaving = [host for host in self.hosts if host.name in names]
        for host in leaving:
            self.service.remove_host(host.name)
        self.hosts = tuple(host for host in self.hosts if host not in leaving)

    def _open_anew(self, device: ServedDevice, section: DeviceSection, *, is_new: bool) -> None:
        """Open a device as its config says now, and make it safe. It was withdrawn. Its object stays the same: clients
        have it.
        """
        station = self.keeper.stations[device.name]
        if not is_new:
            self._close(device, _CHANGED)

        def open_it() -> None:
            if not is_new:
                instrument: Any = device.instrument
                instrument.close()  # it is closed, unless it was plugged in just now
                placed = section if self._plugged is None else self._plugged.placed(section)
                instrument.__init__(section.name, driver_options(placed, type(instrument).Options))
                self.keeper.follow(section.name, section.common)
            device.left, device.problem, device.identity = Left.RUNNING, "", ""
            if section.common.disabled is not None:
                device.problem = f"disabled: {section.common.disabled}"
            elif missing := self._plugged is not None and self._plugged.absence(device.name):
                device.problem = f"missing: {missing[0]}"
            else:
                _open(device)

        errand = Errand(station.lane, open_it)
        errand.start_first()
        try:
            errand.result(CLOSE_S)
            if not device.problem:
                self.keeper.safety.secure_now(station, _CHANGED, SAFE_AT_START_S)
        except Exception as problem:  # noqa: BLE001 - whatever a driver raises, the others go on
            log.error("%s can't be used as its config says now: %s", device.name, _reason(problem))
        station.absence = self._plugged.absence(device.name) if self._plugged is not None else None

    def _follow(self, name: str, common: DeviceCommon) -> None:
        """Keep a device as its config says now. It stays open, and is made safe."""
        self.keeper.follow(name, common)
        if not self.keeper.custody.take_away(name, _CHANGED):
            with suppress(Busy):
                self.keeper.safety.secure_now(self.keeper.stations[name], _CHANGED, SAFE_AT_START_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _check_place(self) -> None:
        url = parse_url(self.config.gateway.listen)
        if url.scheme in {"tcp", "tls"}:
            try:
                listen(url, limits=self.config.limits).close()
            except ConfigError as problem:
                raise self.config.source.error(("gateway", "listen"), str(problem)) from problem

    def _make_server(self) -> Server:
        reception = Reception(self.keeper, self._admission, self.audit)
        listen = self.config.gateway.listen
        return Server(self.service, listen, limits=self.config.limits, strict=True, introduce=reception.introduce)

    def _advertise(self) -> None:
        section, url = self.config.gateway, parse_url(self.url)
        if not section.advertise:
            self._not_advertised = "not advertised: switched off in the config"
        elif url.scheme not in {"tcp", "tls"} or url.host is None or url.port is None:
            self._not_advertised = f"not advertised: a {url.scheme} URL can't be; clients need the URL"
        else:
            advertisement = Advertisement(
                name=section.name,
                port=url.port,
                id=stable_id(),
                version=version(),
                devices=len(self.devices),
                tls=url.scheme == "tls",
                addresses=addresses_for(url.host),
            )
            self._advertiser = Advertiser(advertisement, list(section.interfaces) or interfaces_for(url.host))
            self._advertiser.start()


def build(config: Config, audit: AuditLog | None = None, *, as_host: bool = False) -> Gateway:
    """The gateway of a config, not started yet: use it as a context manager. `audit` is closed with it; `as_host` for
    an instrument host, whose one client is a gateway.

    Raises ConfigError, with file and line, for an unknown driver, an option that the driver does not take, common keys
    that do not fit the device, and an address at which nobody should listen without proof of who comes.
    """
    _check_listen(config)
    plugged = PluggedDevices(config)
    devices = make_devices(plugged.placed(section) for section in config.devices)
    for problem in interlock_problems(config, load_drivers(config.devices)):
        raise problem
    return Gateway(config, devices, audit, as_host=as_host, plugged=plugged)


def make_devices(sections: Iterable[DeviceSection], drivers: Mapping[str, Driver] | None = None) -> list[ServedDevice]:
    """A device of each section, not opened. `drivers` are what `load_drivers` gave for them, if it was asked already.

    Raises ConfigError for a driver or an option that is wrong.
    """
    chosen = list(sections)
    known = load_drivers(chosen) if drivers is None else drivers
    return [_device(section, known[section.name]) for section in chosen]


def audit_path(section: GatewaySection) -> Path | None:
    """Where a gateway keeps its audit log; None where it has none."""
    if section.audit == AUDIT_OFF:
        return None
    return Path(section.audit) if section.audit else state_path().with_name(AUDIT_FILE)


def stop_path(section: GatewaySection) -> Path:
    """Where a gateway of that name keeps its emergency stop over a restart."""
    return state_path().with_name(f"estop-{quote(section.name, safe='')}.json")


def open_audit(section: GatewaySection) -> AuditLog | None:
    """The audit log for `build`; None where the config wants none. What is wrong with it is logged."""
    path = audit_path(section)
    if path is None:
        return None
    audit = AuditLog(path)
    for strange in audit.found:
        log.warning("the audit log %s: %s", path, strange)
    if audit.problem:
        log.error("%s", audit.problem)
    return audit


def _check_listen(config: Config) -> None:
    section = config.gateway
    hazardous = [device.name for device in config.devices if device.common.hazardous]
    problem = listen_problem(section.listen, insecure_lan=section.insecure_lan, hazardous=hazardous)
    if problem:
        raise config.source.error(("gateway", "listen"), problem)


def _are_alike(one: ServedDevice, other: ServedDevice) -> bool:
    """Whether both are driven by the same class."""
    return type(one.instrument) is type(other.instrument)


def _reopens(change: DeviceChange) -> bool:
    """Whether the device has to be opened anew, or not to be opened any more."""
    return change.reopens or "disabled" in change.keys


def _admission(listen_url: str) -> Admission:
    url = parse_url(listen_url)
    if url.scheme != "tls":
        return Admission()
    folder = getattr(url.options, "identity", None)
    return Admission(Clients(Path(folder) if folder else None))


@contextmanager
def run_bench(name: str, /, **gateway: Any) -> Iterator[Gateway]:
    """The bench of that name (entry point group `gateway.benches`) runs; yields a gateway for it, not started yet.

    `gateway` are keys of the config's table `[gateway]`. Raises ConfigError for an unknown bench.
    """
    open_bench = entry_point(BENCHES, name, "bench")
    with open_bench() as tables:
        yield build(configuration.from_tables(tables, origin=f"bench {name}", gateway=gateway))


def _device(section: DeviceSection, driver: Driver) -> ServedDevice:
    options = driver_options(section, driver.Options)
    for problem in member_problems(section, driver):
        raise problem
    try:
        instrument = driver(section.name, options)
    except Exception as problem:
        raise section.source.error((*section.path, "driver"), f"{section.driver}: {_reason(problem)}") from problem
    return ServedDevice(section.name, section.driver, instrument)


def _open(device: ServedDevice) -> None:
    try:
        device.instrument.open()
        device.identity = device.instrument.identify()
        device.instrument.gateway_identity = device.identity
        device.problem = ""
    except Exception as problem:  # noqa: BLE001 - whatever a driver raises, the other devices are served
        device.problem = _reason(problem)
        log.warning("%s is not available: %s", device.name, device.problem)


def _close(device: ServedDevice) -> None:
    _let_call_end(device.instrument)
    reached = device.state == "open"
    try:
        device.instrument.close()
        device.left = Left.SAFE if reached else Left.UNREACHED
    except Exception as problem:  # noqa: BLE001 - the other devices have to be made safe all the same
        device.left = Left.UNSAFE
        log.error("%s may not be in its safe state: %s", device.name, _reason(problem))


def _let_call_end(instrument: Instrument) -> None:
    """Wait until nobody is in the device's lane, but not for a call that may hang: being safe goes first."""
    lane = getattr(instrument, "gateway_lane", None)
    deadline = time.monotonic() + LAST_CALL_S
    while lane is not None and lane.owner is not None and time.monotonic() < deadline:
        time.sleep(0.01)


def _reason(problem: BaseException) -> str:
    text = " ".join(str(problem).split())
    return text if isinstance(problem, GatewayError) and text else f"{type(problem).__name__}: {text}"


def _side_by_side(
    work: Callable[[ServedDevice], None], devices: Iterable[ServedDevice], timeout_s: float | None = None
) -> list[ServedDevice]:
    """Do `work` for each device in a thread of its own; gives those for which it was not done within `timeout_s`."""
    # Daemon threads: a driver that hangs must not keep the process from ending.
    threads = [
        (device, Thread(target=work, args=(device,), name=f"gateway-{device.name}", daemon=True)) for device in devices
    ]
    for _, thread in threads:
        thread.start()
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    for _, thread in threads:
        thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
    return [device for device, thread in threads if thread.is_alive()]
