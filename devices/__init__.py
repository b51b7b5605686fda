"""Drivers: one file per kind of device, each with a simulated counterpart in `devices.simulators`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devices.base import Device, DeviceOptions, State

__all__ = ["Device", "DeviceOptions", "State"]


def __getattr__(name: str) -> Any:
    # On first use: a simulator's process is in this package too, and starts faster without the drivers.
    if name in __all__:
        return getattr(import_module("devices.base"), name)
    raise AttributeError(f"module 'devices' has no attribute {name!r}")
