"""The two implementations that are compared, behind one thin adapter each, and the service that both serve.

Endpoints, by name:
    tcp          loopback TCP, everything as shipped
    tcp-nodelay  the same with TCP_NODELAY on both ends (rpyc leaves it off; ours always has it on)
    unix         Unix socket; rpyc's compression off, which is otherwise zlib level 1 above 3000 bytes
    large        the same, with room for messages of 64 MiB
    device       the same, ours under the device policy
    floor        `wire.serve_floor`, the same for both
"""

from __future__ import annotations

import importlib
import random
import socket
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

Endpoints = dict[str, str]
"""Name -> URL."""


CONNECTIONS: Final = 1000
"""As many as a client of the benchmark may open at once."""


class Implementation(Protocol):
    """What the workloads need of an implementation, in one vocabulary."""

    module: str
    version: str

    def serve(self, directory: str) -> Endpoints:
        """Serve `bench_service` from daemon threads on every endpoint but `floor`."""

    def connect(self, endpoint: str, url: str) -> Any:
        """Open a connection to an endpoint that either implementation serves."""

    def asynchronous(self, method: Any) -> Callable[..., Any]:
        """The method as one that returns a result to wait for, with `.value`."""

    def buffered(self, iterable: Any) -> Iterable[Any]:
        """The remote iterable, read in blocks."""

    def numbers(self, connection: Any, kind: str, count: int) -> Any:
        """So many numbers of a device, by value: a `list` of ints, a `tuple` of floats, a `dict` of floats.

        Stock has no way but to iterate a remote list, so that is the anchor of all three.
        """

    def array(self, connection: Any, count: int) -> Any:
        """So many floats of a device as an array, without pickle."""


class Reading:
    """A custom class, of which each call returns a new instance by reference."""

    def exposed_volts(self) -> float:
        """Volts."""
        return 1.5

    def exposed_amperes(self) -> float:
        """Amperes."""
        return 0.1

    def exposed_at(self) -> float:
        """Seconds."""
        return 0.0


@cache
def random_bytes(count: int) -> bytes:
    """Bytes that do not compress; the same ones in every process."""
    return random.Random(count).randbytes(count)


def bench_service(base: type) -> Any:
    """The service under measurement, on an implementation's own `Service` class."""

    class BenchService(base):  # type: ignore[misc]
        exposed_value = 42

        def exposed_method(self, x: int) -> int:
            return x

        def exposed_put(self, data: bytes) -> int:
            return len(data)

        def exposed_get(self, count: int) -> bytes:
            return random_bytes(count)

        def exposed_call_back(self, callback: Callable[[int], int], count: int) -> None:
            for number in range(count):
                callback(number)

        def exposed_reading(self) -> Reading:
            return Reading()

        def exposed_numbers(self, count: int) -> list[int]:
            return list(range(count))

        def exposed_fail(self) -> None:
            raise ValueError("no such range")

        def exposed_block(self, seconds: float) -> None:
            time.sleep(seconds)

        def exposed_array_bytes(self, count: int) -> bytes:
            return floats(count).tobytes()  # type: ignore[no-any-return]

    return BenchService


@cache
def samples(kind: str, count: int) -> Any:
    """Numbers in a container of the kind."""
    if kind == "list":
        return list(range(count))
    values = [number / 7 for number in range(count)]
    return tuple(values) if kind == "tuple" else {f"channel{number}": value for number, value in enumerate(values)}


@cache
def floats(count: int) -> Any:
    """An array of numbers that do not compress."""
    numpy = importlib.import_module("numpy")
    return numpy.frombuffer(random_bytes(8 * count), dtype="u8") / 2.0**64


class Gateway:
    """Ours."""

    module = "gateway"

    def __init__(self) -> None:
        self._gateway = importlib.import_module("gateway")
        self.version = getattr(self._gateway, "__version__", "development")

    def serve(self, directory: str) -> Endpoints:
        service = bench_service(self._gateway.Service)
        server = self._gateway.Server
        servers = {
            "tcp": server(service, "tcp://127.0.0.1:0", limits=self._many()),
            "unix": server(service, f"unix://{directory}/gateway.sock"),
            "large": server(service, f"unix://{directory}/large.sock", limits=self._large()),
            "device": server(self._device(), f"unix://{directory}/device.sock", strict=True),
        }
        for server in servers.values():
            server.start()
        _forever.extend(servers.values())
        return {name: server.url for name, server in servers.items()} | {"tcp-nodelay": servers["tcp"].url}

    def _many(self) -> Any:
        return self._gateway.Limits(connections_per_host=CONNECTIONS, connections=CONNECTIONS)

    def _large(self) -> Any:
        size = 65 * 1024 * 1024
        return self._gateway.Limits(frame=size, inflated=size, in_flight_per_host=4 * size, in_flight=8 * size)

    def _device(self) -> Any:
        exposed = self._gateway.exposed(access="read")

        class Device(self._gateway.Service):  # type: ignore[misc, name-defined]
            @exposed  # type: ignore[misc]
            def method(self, x: int) -> int:
                return x

            @exposed  # type: ignore[misc]
            def samples(self, kind: str, count: int) -> Any:
                return samples(kind, count)

            @exposed  # type: ignore[misc]
            def waveform(self, count: int) -> Any:
                return floats(count)

        return Device

    def connect(self, endpoint: str, url: str) -> Any:
        return self._gateway.connect(url, limits=self._large() if endpoint == "large" else None)

    def asynchronous(self, method: Any) -> Callable[..., Any]:
        return self._gateway.async_(method)  # type: ignore[no-any-return]

    def buffered(self, iterable: Any) -> Iterable[Any]:
        return self._gateway.buffiter(iterable)  # type: ignore[no-any-return]

    def numbers(self, connection: Any, kind: str, count: int) -> Any:
        return connection.root.samples(kind, count)

    def array(self, connection: Any, count: int) -> Any:
        return connection.root.waveform(count)


class Rpyc:
    """Stock rpyc: its ThreadedServer and its own ways to connect."""

    module = "rpyc"

    def __init__(self) -> None:
        self._rpyc = importlib.import_module("rpyc")
        self._server = importlib.import_module("rpyc.utils.server")
        self._factory = importlib.import_module("rpyc.utils.factory")
        self.version = importlib.import_module("rpyc.version").__version__

    def serve(self, directory: str) -> Endpoints:
        service: Any = bench_service(self._rpyc.Service)

        class Uncompressed(service):  # type: ignore[misc]
            def _connect(self, channel: Any, config: dict[str, Any]) -> Any:
                channel.compress = False
                return super()._connect(channel, config)

        path = f"{directory}/rpyc.sock"
        plain = self._server.ThreadedServer(service, hostname="127.0.0.1")
        nodelay = self._server.ThreadedServer(service, hostname="127.0.0.1")
        # Linux hands a listener's TCP_NODELAY down to the sockets it accepts.
        nodelay.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        unix = self._server.ThreadedServer(Uncompressed(), socket_path=path)
        for server in (plain, nodelay, unix):
            server._start_in_thread()
        _forever.extend((plain, nodelay, unix))
        return {
            "tcp": f"tcp://127.0.0.1:{plain.port}",
            "tcp-nodelay": f"tcp://127.0.0.1:{nodelay.port}",
            **dict.fromkeys(("unix", "large", "device"), f"unix://{path}"),
        }

    def connect(self, endpoint: str, url: str) -> Any:
        parts = urlsplit(url)
        if endpoint == "tcp":
            return self._rpyc.connect(parts.hostname, parts.port)
        if endpoint == "tcp-nodelay":
            stream = self._rpyc.SocketStream.connect(parts.hostname, parts.port, nodelay=True)
            return self._factory.connect_stream(stream)
        stream = self._rpyc.SocketStream.unix_connect(parts.path)
        return self._factory.connect_channel(self._rpyc.Channel(stream, compress=False))

    def asynchronous(self, method: Any) -> Callable[..., Any]:
        return self._rpyc.async_(method)  # type: ignore[no-any-return]

    def buffered(self, iterable: Any) -> Iterable[Any]:
        return self._rpyc.buffiter(iterable)  # type: ignore[no-any-return]

    def numbers(self, connection: Any, kind: str, count: int) -> Any:
        return list(self._rpyc.buffiter(connection.root.numbers(count)))

    def array(self, connection: Any, count: int) -> Any:
        return importlib.import_module("numpy").frombuffer(connection.root.array_bytes(count))


IMPLEMENTATIONS: dict[str, Callable[[], Implementation]] = {"gateway": Gateway, "rpyc": Rpyc}

_forever: list[Any] = []
"""Servers, kept until the process ends."""
