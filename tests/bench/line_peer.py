"""The processes at the two ends of a measured serial line.

    python line_peer.py serve gateway|rpyc PORT OPTIONS
    python line_peer.py drive gateway|rpyc PORT OPTIONS

PORT is a tty's path; OPTIONS are those of a serial:// URL, and mean something to ours only. Both speak JSON lines on
stdin and stdout. A server says `{"ready"}` and ends when stdin does. A client answers each `{"do": NAME, ...}`, where
NAME is a function of `WORK`, with what that returns, or with `{"error"}`.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import tty
import zlib
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic, perf_counter, process_time, sleep
from typing import Any, Final

LOAD: Final = 32 * 1024
REOPEN_S: Final = 0.02
"""How often a client tries to connect to a line that is away."""


class PowerSupply:
    """An object by reference, as a device is."""

    def exposed_set_voltage(self, volts: float) -> None:
        """Volts."""


class Line:
    """What the line is loaded with."""

    def exposed_put(self, data: bytes) -> int:
        return zlib.crc32(data)

    def exposed_cpu_s(self) -> float:
        return process_time()


# -- ours ------------------------------------------------------------------------------------------------------------


def serve_gateway(port: str, options: str) -> None:
    exposable = importlib.import_module("gateway.service.exposure").Exposable
    devices = {"psu1": PowerSupply, "line": Line}
    served = {name: type(cls.__name__, (cls, exposable), {})() for name, cls in devices.items()}
    root = importlib.import_module("gateway.server.registry").GatewayService(served)
    server = importlib.import_module("gateway").Server(root, f"serial://{port}?{options}", strict=True)
    server.start()
    say({"ready": True})
    sys.stdin.read()
    server.close()


def connect_gateway(port: str, options: str) -> Any:
    return importlib.import_module("gateway").connect(f"serial://{port}?{options}")


# -- stock -----------------------------------------------------------------------------------------------------------


def stock_stream(port: str) -> Any:
    streams = importlib.import_module("rpyc.core.stream")
    fd = os.open(port, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    return streams.PipeStream(open(fd, "rb", buffering=0), open(os.dup(fd), "wb", buffering=0))


def serve_rpyc(port: str, options: str) -> None:
    rpyc = importlib.import_module("rpyc")
    stream = stock_stream(port)

    class Root(rpyc.Service):  # type: ignore[misc,name-defined]
        exposed_psu1 = PowerSupply()
        exposed_line = Line()

    say({"ready": True})
    conn = rpyc.utils.factory.connect_stream(stream, Root)
    conn.serve_all()


def connect_rpyc(port: str, options: str) -> Any:
    rpyc = importlib.import_module("rpyc")
    # Stock's own limit of 30 s would end a bulk transfer over a slow line.
    return rpyc.utils.factory.connect_stream(stock_stream(port), config={"sync_request_timeout": None})


# -- work ------------------------------------------------------------------------------------------------------------


def bulk(conn: Any, *, seconds: float, size: int) -> dict[str, float]:
    """Send messages of random bytes, each confirmed by a call's end, two at a time so that the line is never idle."""
    line = conn.root.line
    put = asynchronous(conn, line.put)
    put(b"").wait()
    server_cpu, cpu, start = line.cpu_s(), process_time(), perf_counter()
    waiting: list[Any] = []
    sent = 0
    while perf_counter() - start < seconds or sent == 0:
        block = random.randbytes(size)  # never the same twice: deflating would find it again
        waiting.append((put(block), zlib.crc32(block)))
        sent += 1
        if len(waiting) > 1:
            check(*waiting.pop(0))
    for result, checksum in waiting:
        check(result, checksum)
    elapsed = perf_counter() - start
    return {
        "bytes": sent * size,
        "elapsed_s": elapsed,
        "cpu_s": process_time() - cpu,
        "server_cpu_s": line.cpu_s() - server_cpu,
    }


def check(result: Any, checksum: int) -> None:
    if result.value != checksum:
        raise ValueError("a message arrived that was not sent")


def calls(conn: Any, *, count: int, size: int) -> dict[str, Any]:
    """Round trips of a call with `size` random bytes, one after the other."""
    echo = conn.root.line.put
    data = [random.Random(number).randbytes(size) for number in range(count + 3)]
    for each in data[:3]:
        echo(each)
    sleep(0.3)  # until the last acknowledgement has left too
    say({"begun": True})
    sys.stdin.readline()
    times = []
    for each in data[3:]:
        start = perf_counter()
        echo(each)
        times.append(perf_counter() - start)
    sleep(0.3)
    return {"times_s": times}


def set_voltage(conn: Any, *, count: int) -> dict[str, Any]:
    """The second and later `root.psu1.set_voltage(3.3)`."""
    root = conn.root
    for _ in range(3):
        root.psu1.set_voltage(3.3)
    sleep(0.3)
    say({"begun": True})
    sys.stdin.readline()
    for _ in range(count):
        root.psu1.set_voltage(3.3)
    sleep(0.3)
    return {}


def share(conn: Any, *, seconds: float, url: str) -> dict[str, Any]:
    """Round trips of small calls while another channel of the same line carries bulk."""
    conn.close()
    gateway, channels = importlib.import_module("gateway"), importlib.import_module("gateway.channels")
    trunk = channels.open_trunk(url)
    large, small = (gateway.connect_channel(trunk.open(10.0)).root.line for _ in range(2))
    small.put(b"")
    stop = Event()

    def load() -> None:
        while not stop.is_set():
            large.put(random.randbytes(LOAD))

    thread = Thread(target=load)
    thread.start()
    times = []
    until = monotonic() + seconds
    try:
        while monotonic() < until:
            sleep(random.uniform(0.0, 0.1))  # anywhere in the bulk
            start = perf_counter()
            small.put(b"")
            times.append(perf_counter() - start)
    finally:
        stop.set()
        thread.join()
    return {"times_s": times}


def until_lost(conn: Any, *, size: int) -> dict[str, Any]:
    """Call until it fails; when and how it did."""
    echo = conn.root.line.put
    echo(b"")
    say({"begun": True})
    try:
        while True:
            echo(bytes(size))
    except EOFError as error:
        return {"at_s": monotonic(), "error": type(error).__name__, "text": str(error)}


def asynchronous(conn: Any, method: Any) -> Callable[..., Any]:
    module = importlib.import_module(type(conn).__module__.partition(".")[0])
    made: Callable[..., Any] = module.async_(method)
    return made


WORK: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "bulk": bulk,
    "calls": calls,
    "set_voltage": set_voltage,
    "share": share,
    "until_lost": until_lost,
}


def drive(kind: str, port: str, options: str) -> None:
    connect = connect_gateway if kind == "gateway" else connect_rpyc
    conn = connect(port, options)
    begin = perf_counter()
    conn.root.line.put(b"")
    say({"ready": True, "first_s": perf_counter() - begin})
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["do"] == "reconnect":
                conn, tries = reconnect(connect, port, options)
                say({"at_s": monotonic(), "tries": tries})
            else:
                say(WORK[order.pop("do")](conn, **order))
        except Exception as error:
            say({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})


def reconnect(connect: Callable[[str, str], Any], port: str, options: str) -> tuple[Any, int]:
    """Try until a call succeeds over a new connection."""
    tries = 0
    while True:
        tries += 1
        try:
            conn = connect(port, options)
            conn.root.line.put(b"")
        except OSError:  # Unreachable is one
            sleep(REOPEN_S)
        else:
            return conn, tries


def say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(mode: str, kind: str, port: str, options: str) -> None:
    if mode == "serve":
        (serve_gateway if kind == "gateway" else serve_rpyc)(port, options)
    else:
        drive(kind, port, options)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
