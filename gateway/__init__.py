"""Instruments as Python objects on the LAN, over the RPyC protocol.

conn = gateway.connect("bench")                  # by name on the LAN, or a URL such as tcp://pi.local:18871
conn.root.psu1.set_voltage(3.3)
print(conn.root.dmm1.voltage_dc)

with gateway.Server(MyService, "tcp://0.0.0.0:18871") as server:
    server.serve_forever()
"""

from gateway.client import connect, discover
from gateway.errors import GatewayError
from gateway.limits import Limits
from gateway.server.server import Server
from gateway.service.exposure import exposed, service
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
