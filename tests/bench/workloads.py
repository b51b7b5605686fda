"""The workloads: calls and transfers by the client process against one server.

Each opens its own connection, so no row sees what another one left behind.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from statistics import quantiles
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlsplit

import wire
from implementations import Implementation, random_bytes
from measure import WARM_UP, Burst, Site, rate, run

MIB: Final = 1024 * 1024
CALLS: Final = 20
"""Calls per burst: enough to hide the clock, few enough that a 40 ms stall per call still ends the row soon."""
DEPTH: Final = 100
BULK: Final = 8_000_000
"""Bytes of an array of a million floats."""


def floor(site: Site) -> float:
    """Round trips per second of raw blocking TCP sockets."""
    parts = urlsplit(site.endpoints["floor"])
    with socket.create_connection((parts.hostname, parts.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def burst() -> int:
            wire.ping_pong(sock, CALLS)
            return CALLS

        return rate(burst, site.seconds)


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


def shared_by(count: int) -> Callable[[Site], float]:
    """Cached calls per second of `count` threads together, on one connection."""
    return lambda site: _shared_by_threads(site, count)


def _shared_by_threads(site: Site, count: int) -> float:
    connection = site.connect("tcp")
    failures: list[BaseException] = []
    counts = [0.0] * count
    begin = threading.Barrier(count + 1)

    def work(index: int) -> None:
        try:
            burst = cached_method(site.implementation, connection)
            run(burst, site.seconds * WARM_UP)
            begin.wait()
            counts[index] = run(burst, site.seconds)[0]
        except BaseException as error:
            failures.append(error)
            begin.abort()

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(count)]
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


def slowest(site: Site) -> float:
    """Microseconds within which 99 of 100 cached calls are back."""
    connection = site.connect("tcp")
    try:
        method, times = connection.root.method, []
        run(cached_method(site.implementation, connection), site.seconds * WARM_UP)
        end = perf_counter() + site.seconds
        while (begin := perf_counter()) < end:
            method(1)
            times.append(perf_counter() - begin)
        return 1e6 * quantiles(times, n=100)[98]
    finally:
        connection.close()


def numbers(kind: str) -> Callable[[Implementation, Any], Burst]:
    count = 10_000

    def prepare(implementation: Implementation, connection: Any) -> Burst:
        def burst() -> int:
            if len(implementation.numbers(connection, kind, count)) != count:
                raise RuntimeError("another number of numbers arrived")
            return count

        return burst

    return prepare


def array(implementation: Implementation, connection: Any) -> Burst:
    def burst() -> float:
        if implementation.array(connection, BULK // 8).nbytes != BULK:
            raise RuntimeError("the array arrived with another length")
        return BULK / MIB

    return burst


def floor_bulk(site: Site) -> float:
    """MiB per second from a raw Unix socket into one buffer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(urlsplit(site.endpoints["bulk"]).path)
        whole = memoryview(bytearray(BULK))

        def burst() -> float:
            sock.sendall(b"!")
            came = 0
            while came < BULK:
                came += sock.recv_into(whole[came:])
            return BULK / MIB

        return rate(burst, site.seconds)
