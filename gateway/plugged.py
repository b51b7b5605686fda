"""Plugged: devices of a running gateway that leave and come back.

A device whose port is gone is missing: its calls are refused, with since when and why. One that returns is opened again
and made safe before anybody can call it. Its driver opens a link of the gateway's own, which leads to wherever the
device is plugged in, so the same object goes on working.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from gateway.config import Config, DeviceSection, with_port
from gateway.errors import GatewayError
from gateway.hardware import Event, HotPlug, Left, Plugged, Returned, entries_of
from gateway.server.errand import Errand
from gateway.server.keeper import Keeper
from gateway.server.station import Station
from gateway.sync.workers import WORKERS

_log: Final = logging.getLogger(__name__)

REOPEN_S: Final = 10.0
"""Opening a device and asking who it is may take so long."""


class PluggedDevices:
    """The devices of `config` that are on ports of this machine, and the watch over them.

    Raises ConfigError where the links to the ports can't be made.
    """

    def __init__(self, config: Config) -> None:
        entries = entries_of(config)
        self._plugs = HotPlug(entries, self._happened) if entries else None
        self._keeper: Keeper | None = None
        self._instruments: Mapping[str, Any] = {}

    def placed(self, section: DeviceSection) -> DeviceSection:
        """The section of a device, with the port that its driver is to open."""
        if section.common.match is None or self._plugs is None:
            return section
        return with_port(section, self._plugs.port(section.name))

    def start(self, keeper: Keeper, instruments: Mapping[str, Any]) -> None:
        """Look, mark what is not there as missing, and go on watching. Before the devices are opened."""
        self._keeper, self._instruments = keeper, instruments
        if self._plugs is None:
            return
        self._plugs.start()
        for name in self._plugs.presences:
            station = keeper.stations.get(name)
            if station is not None:
                station.absence = self.absence(name)
                if station.absence is not None:
                    _log.warning("%s is missing: %s", name, station.absence[0])

    def absence(self, name: str) -> tuple[str, datetime] | None:
        """Why a device is not there, and since when; None for one that is, or that has no place on this machine."""
        presence = self._plugs.presence(name) if self._plugs is not None else None
        if presence is None or presence.state is Plugged.PRESENT:
            return None
        return presence.reason, datetime.fromtimestamp(presence.since, UTC)

    def stop(self) -> None:
        """Watch no more. Idempotent."""
        if self._plugs is not None:
            self._plugs.stop()

    def prepare(self, config: Config) -> None:
        """Be able to say where the devices of another config will be. Raises ConfigError as at first."""
        if self._plugs is None and entries_of(config):
            self._plugs = HotPlug((), self._happened)
            if self._keeper is not None:
                self._plugs.start()

    def replace(self, config: Config, instruments: Mapping[str, Any], *, apart_from: Collection[str] = ()) -> None:
        """Go on with the devices of another config. `apart_from`: somebody else opens these, and asks for `absence`."""
        self._instruments = instruments
        if self._plugs is not None:
            for event in self._plugs.replace(entries_of(config)):
                if event.name not in apart_from:
                    self._happened(event)

    def _happened(self, event: Event) -> None:
        """In the watcher's thread, which must not wait for a device."""
        station = self._keeper.stations.get(event.name) if self._keeper is not None else None
        if station is None:
            return
        if isinstance(event, Left):
            station.absence = event.reason, datetime.fromtimestamp(event.at, UTC)
            _log.warning("%s is missing: %s", event.name, event.reason)
        else:
            WORKERS.submit(self._welcome, station, event)

    def _welcome(self, station: Station, event: Returned) -> None:
        """Open a device that has come back, and make it safe; only then can it be called."""
        instrument = self._instruments.get(station.name)
        if instrument is None or self._keeper is None:
            return
        errand = Errand(station.lane, lambda: _reopen(instrument))
        errand.start_first()
        try:
            identity = errand.result(REOPEN_S)
            self._keeper.safety.secure_now(station, f"it returned after {event.away_s:.1f} s", REOPEN_S)
        except GatewayError as problem:
            _log.error("%s is plugged in again, but can't be used: %s", station.name, problem)
        else:
            _log.info("%s is there again: %s", station.name, identity)
        station.absence = None  # a call finds out by itself what is wrong with it


def _reopen(instrument: Any) -> str:
    instrument.resume()
    instrument.distrust()
    instrument.open()
    instrument.gateway_identity = identity = str(instrument.identify())
    return identity
