"""A pytest plugin and its parts for tests with hardware in the loop: wires, faults, boards and benches.

    from hil import End, FaultPlan, Flip, PtyWire, check_device

Fixtures and options are in `hil.plugin`. Nothing here is loaded before it is used: every pytest run of an environment
that has this package loads the plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hil.channel_checks import check_channel
    from hil.conformance import NotConformant
    from hil.device_checks import check_device, check_table
    from hil.faults import (
        Bytes,
        Delay,
        Drop,
        Duplicate,
        End,
        FaultPlan,
        Flip,
        Garble,
        HangUp,
        Insert,
        Seconds,
        Unplug,
    )
    from hil.instrument import SimulatedInstrument
    from hil.memory import MemoryWire, VirtualClock
    from hil.processes import GatewayFailed, GatewayProcess
    from hil.pty_wire import PtyWire, Tapped
    from hil.quirks import Quirk
    from hil.wires import RealWire, Rfc2217Wire, SocketWire

_HOMES: Final = {
    "hil.channel_checks": ("check_channel",),
    "hil.device_checks": ("check_device", "check_table"),
    "hil.conformance": ("NotConformant",),
    "hil.faults": (
        "Bytes",
        "Delay",
        "Drop",
        "Duplicate",
        "End",
        "FaultPlan",
        "Flip",
        "Garble",
        "HangUp",
        "Insert",
        "Seconds",
        "Unplug",
    ),
    "hil.instrument": ("SimulatedInstrument",),
    "hil.memory": ("MemoryWire", "VirtualClock"),
    "hil.processes": ("GatewayFailed", "GatewayProcess"),
    "hil.pty_wire": ("PtyWire", "Tapped"),
    "hil.quirks": ("Quirk",),
    "hil.wires": ("RealWire", "Rfc2217Wire", "SocketWire"),
}
_HOME_OF: Final = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Bytes",
    "Delay",
    "Drop",
    "Duplicate",
    "End",
    "FaultPlan",
    "Flip",
    "Garble",
    "GatewayFailed",
    "GatewayProcess",
    "HangUp",
    "Insert",
    "MemoryWire",
    "NotConformant",
    "PtyWire",
    "Quirk",
    "RealWire",
    "Rfc2217Wire",
    "Seconds",
    "SimulatedInstrument",
    "SocketWire",
    "Tapped",
    "Unplug",
    "VirtualClock",
    "check_channel",
    "check_device",
    "check_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'hil' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value
