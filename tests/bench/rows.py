"""The workloads: one `Row` of the table each, run by the client process against one server.

A workload opens its own connection, so no row sees what another one left behind. A rate is measured in bursts: a burst
does some work and says how many units that was.
"""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlsplit

import wire
from implementations import Endpoints, Implementation, random_bytes

MIB: Final = 1024 * 1024
CALLS: Final = 20
"""Calls per burst: enough to hide the clock, few enough that a 40 ms stall per call still ends the row soon."""
DEPTH: Final = 100
THREADS: Final = 4
WARM_UP: Final = 0.2
"""Part of a row's time that is spent before the clock starts."""
TAPPED_CALLS: Final = 1000
"""Calls before, and again while bytes are counted; sequence numbers then have four digits on both sides."""

Burst = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a row is measured: the client's implementation, the server's endpoints, and for how long."""

    implementation: Implementation
    endpoints: Endpoints
    seconds: float
    directory: str

    def connect(self, endpoint: str) -> Any:
        return self.implementation.connect(endpoint, self.endpoints[endpoint])


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    title: str
    unit: str
    measure: Callable[[Site], float]
    more_is_better: bool = True
    mixed: bool = False
    """Measured with our client and a stock server, and the other way round, too."""
    alone: bool = False
    """Measured in new processes: after a free of 8 MiB malloc keeps its memory, which makes a later 1 MiB ten times
    faster."""


def rate(burst: Burst, seconds: float) -> float:
    """Units per second over at least `seconds`, after a warm-up of at least one burst."""
    gc.collect()
    _run(burst, seconds * WARM_UP)
    count, elapsed = _run(burst, seconds)
    return count / elapsed


def _run(burst: Burst, seconds: float) -> tuple[int, float]:
    count = 0
    start = perf_counter()
    while True:
        count += burst()
        elapsed = perf_counter() - start
        if elapsed >= seconds:
            return count, elapsed


def over(endpoint: str, prepare: Callable[[Implementation, Any], Burst]) -> Callable[[Site], float]:
    """The rate of what `prepare` makes of a new connection to `endpoint`."""

    def measure(site: Site) -> float:
        connection = site.connect(endpoint)
        try:
            return rate(prepare(site.implementation, connection), site.seconds)
        finally:
            connection.close()

    return measure


def root_method(_: Implementation, connection: Any) -> Burst:
    root = connection.root

    def burst() -> int:
        for _ in range(CALLS):
            root.method(1)
        return CALLS

    return burst


def cached_method(_: Implementation, connection: Any) -> Burst:
    method = connection.root.method

    def burst() -> int:
        for _ in range(CALLS):
            method(1)
        return CALLS

    return burst


def attribute(_: Implementation, connection: Any) -> Burst:
    root = connection.root

    def burst() -> int:
        for _ in range(CALLS):
            root.value  # noqa: B018 - reading it is the work
        return CALLS

    return burst


def pipelined(implementation: Implementation, connection: Any) -> Burst:
    method = implementation.asynchronous(connection.root.method)

    def burst() -> int:
        for result in [method(1) for _ in range(DEPTH)]:
            result.value  # noqa: B018 - waits for it, and raises what it raised
        return DEPTH

    return burst


def callback(_: Implementation, connection: Any) -> Burst:
    call_back = connection.root.call_back

    def echo(number: int) -> int:
        return number

    def burst() -> int:
        call_back(echo, CALLS)
        return CALLS

    return burst


def custom_object(_: Implementation, connection: Any) -> Burst:
    reading = connection.root.reading

    def burst() -> int:
        for _ in range(CALLS):
            reading()
        return CALLS

    return burst


def list_object(_: Implementation, connection: Any) -> Burst:
    numbers = connection.root.numbers

    def burst() -> int:
        for _ in range(CALLS):
            numbers(3)
        return CALLS

    return burst


def iteration(_: Implementation, connection: Any) -> Burst:
    numbers = connection.root.numbers(200)
    return lambda: sum(1 for _ in numbers)


def buffered_iteration(implementation: Implementation, connection: Any) -> Burst:
    numbers = connection.root.numbers(10_000)
    return lambda: sum(1 for _ in implementation.buffered(numbers))


def remote_error(_: Implementation, connection: Any) -> Burst:
    fail = connection.root.fail

    def burst() -> int:
        for _ in range(CALLS):
            try:
                fail()
            except ValueError:
                continue
            raise RuntimeError("the remote ValueError did not arrive")
        return CALLS

    return burst


def upload(mib: int) -> Callable[[Implementation, Any], Burst]:
    def prepare(_: Implementation, connection: Any) -> Burst:
        put, data = connection.root.put, random_bytes(mib * MIB)

        def burst() -> int:
            if put(data) != len(data):
                raise RuntimeError("the upload arrived with another length")
            return mib

        return burst

    return prepare


def download(mib: int) -> Callable[[Implementation, Any], Burst]:
    def prepare(_: Implementation, connection: Any) -> Burst:
        get, expected = connection.root.get, random_bytes(mib * MIB)
        if get(mib * MIB) != expected:
            raise RuntimeError("the download differs from what was sent")

        def burst() -> int:
            if len(get(mib * MIB)) != mib * MIB:
                raise RuntimeError("the download arrived with another length")
            return mib

        return burst

    return prepare


def opening(use: Callable[[Any], object]) -> Callable[[Site], float]:
    """Milliseconds to connect over TCP, `use` the root, and close."""

    def measure(site: Site) -> float:
        def burst() -> int:
            connection = site.connect("tcp")
            use(connection.root)
            connection.close()
            return 1

        return 1000 / rate(burst, site.seconds)

    return measure


def shared_by_threads(site: Site) -> float:
    """Cached calls per second of `THREADS` threads together, on one connection."""
    connection = site.connect("tcp")
    failures: list[BaseException] = []
    counts = [0] * THREADS
    begin = threading.Barrier(THREADS + 1)

    def work(index: int) -> None:
        try:
            burst = cached_method(site.implementation, connection)
            _run(burst, site.seconds * WARM_UP)
            begin.wait()
            counts[index] = _run(burst, site.seconds)[0]
        except BaseException as error:
            failures.append(error)
            begin.abort()

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(THREADS)]
    try:
        for thread in threads:
            thread.start()
        try:
            begin.wait()
        except threading.BrokenBarrierError:
            raise failures[0] from None
        start = perf_counter()
        for thread in threads:
            thread.join()
        elapsed = perf_counter() - start
    finally:
        connection.close()
    if failures:
        raise failures[0]
    return sum(counts) / elapsed


def bytes_per_call(site: Site) -> float:
    """Bytes on the wire, both directions, per `root.method(1)` over a Unix socket."""
    path = os.path.join(site.directory, f"relay-{os.getpid()}-{threading.get_native_id()}-{perf_counter():.6f}.sock")
    with wire.TappingRelay(path, urlsplit(site.endpoints["unix"]).path) as relay:
        connection = site.implementation.connect("unix", f"unix://{path}")
        try:
            root = connection.root
            for _ in range(TAPPED_CALLS):
                root.method(1)
            before = relay.up + relay.down
            for _ in range(TAPPED_CALLS):
                root.method(1)
            return (relay.up + relay.down - before) / TAPPED_CALLS
        finally:
            connection.close()


def floor(site: Site) -> float:
    """Round trips per second of raw blocking TCP sockets."""
    parts = urlsplit(site.endpoints["floor"])
    with socket.create_connection((parts.hostname, parts.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def burst() -> int:
            wire.ping_pong(sock, CALLS)
            return CALLS

        return rate(burst, site.seconds)


FLOOR: Final = "floor"
CACHED: Final = "cached"

ROWS: Final[dict[str, Row]] = {
    FLOOR: Row("raw TCP ping-pong 81/17 B (control)", "calls/s", floor),
    "root-method": Row("root.method(x)", "calls/s", over("tcp", root_method), mixed=True),
    CACHED: Row("cached method", "calls/s", over("tcp", cached_method), mixed=True),
    "attribute": Row("attribute get", "gets/s", over("tcp", attribute)),
    "pipelined-unix": Row(f"pipelined x{DEPTH}, Unix socket", "calls/s", over("unix", pipelined)),
    "pipelined-tcp": Row(f"pipelined x{DEPTH}, TCP with NODELAY", "calls/s", over("tcp-nodelay", pipelined)),
    "callback": Row("callback to the client, Unix socket", "calls/s", over("unix", callback), mixed=True),
    "callback-tcp": Row("callback to the client, TCP", "calls/s", over("tcp", callback), mixed=True),
    "custom-netref": Row("custom object returned, dropped", "objects/s", over("tcp", custom_object)),
    "list-netref": Row("list netref returned, dropped", "objects/s", over("tcp", list_object)),
    "iteration": Row("iterate a remote list, Unix socket", "items/s", over("unix", iteration)),
    "buffiter": Row("buffiter, 10 000 ints, Unix socket", "items/s", over("unix", buffered_iteration)),
    "exception": Row("ValueError raised and caught", "errors/s", over("tcp", remote_error)),
    "threads": Row(f"cached method, {THREADS} threads share", "calls/s", shared_by_threads),
    "connect-root": Row("connect, root, close", "ms", opening(lambda root: root), more_is_better=False),
    "connect-call": Row("connect, root.method(1), close", "ms", opening(lambda root: root.method(1)), False),
    "wire-bytes": Row("wire bytes per root.method(1)", "B", bytes_per_call, more_is_better=False),
    "up-1": Row("1 MiB up, Unix, uncompressed", "MiB/s", over("unix", upload(1)), alone=True),
    "down-1": Row("1 MiB down, Unix, uncompressed", "MiB/s", over("unix", download(1)), alone=True),
    "up-8": Row("8 MiB up, Unix, uncompressed", "MiB/s", over("unix", upload(8)), alone=True),
    "down-8": Row("8 MiB down, Unix, uncompressed", "MiB/s", over("unix", download(8)), alone=True),
    "up-1-defaults": Row("1 MiB up, TCP, as shipped", "MiB/s", over("tcp", upload(1)), alone=True),
    "down-1-defaults": Row("1 MiB down, TCP, as shipped", "MiB/s", over("tcp", download(1)), alone=True),
}
"""Name -> row, in the table's order."""
