"""Drivers: one file per kind of device, each with a simulated counterpart in `devices.simulators`."""

from __future__ import annotations

from devices.base import Device, DeviceOptions, State

__all__ = ["Device", "DeviceOptions", "State"]
