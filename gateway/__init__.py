"""Instruments as Python objects on the LAN, over the RPyC protocol.

conn = gateway.connect("bench")                  # by name on the LAN, or a URL such as tcp://pi.local:18871
conn.root.psu1.set_voltage(3.3)
print(conn.root.dmm1.voltage_dc)

with gateway.Server(MyService, "tcp://0.0.0.0:18871") as server:
    server.serve_forever()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from gateway.errors import GatewayError

# Not left for later: once anything has imported the package gateway.service, it would stand for the decorator.
from gateway.service.exposure import exposed, service

if TYPE_CHECKING:
    from gateway.client import connect, discover
    from gateway.limits import Limits
    from gateway.server.server import Server
    from gateway.service.service import Service, VoidService
    from gateway.sync.client import BgServingThread, async_, buffiter, connect_channel, connect_pair, restricted, timed
    from gateway.sync.config import DEFAULT_CONFIG
    from gateway.sync.connection import Connection, PingError
    from gateway.sync.result import AsyncResult, AsyncResultTimeout

__all__ = [
    "DEFAULT_CONFIG",
    "AsyncResult",
    "AsyncResultTimeout",
    "BgServingThread",
    "Connection",
    "GatewayError",
    "Limits",
    "PingError",
    "Server",
    "Service",
    "VoidService",
    "async_",
    "buffiter",
    "connect",
    "connect_channel",
    "connect_pair",
    "discover",
    "exposed",
    "restricted",
    "service",
    "timed",
]

_HOMES: Final = {
    "gateway.client": ("connect", "discover"),
    "gateway.limits": ("Limits",),
    "gateway.server.server": ("Server",),
    "gateway.service.service": ("Service", "VoidService"),
    "gateway.sync.client": (
        "BgServingThread",
        "async_",
        "buffiter",
        "connect_channel",
        "connect_pair",
        "restricted",
        "timed",
    ),
    "gateway.sync.config": ("DEFAULT_CONFIG",),
    "gateway.sync.connection": ("Connection", "PingError"),
    "gateway.sync.result": ("AsyncResult", "AsyncResultTimeout"),
}
"""Where the names live that are imported when first asked for: a command starts without what it does not use."""


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(home), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
