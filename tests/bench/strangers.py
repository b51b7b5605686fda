"""A thousand peers at the door of a TLS gateway who prove nothing: what they cost, and what a client notices of them.

    python tests/bench/strangers.py [--peers 1000] [--seconds 3] [--json]

The server runs in a process of its own and lets in more strangers than by default, so that all of them stay. Resident
memory is the server's; what the kernel holds for a socket comes on top.

    silent     they connect and say nothing
    halfway    they have sent a ClientHello, got the server's answer, and say no more
    rush       ever new ones come, each with a ClientHello and with no certificate that is good here
    default    silent ones again, with the default limits: more than may stay
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gateway
from gateway.limits import Limits
from tests.identity.kit import Pairing

ROOT: Final = Path(__file__).resolve().parents[2]
SERVER: Final = """
import resource, sys
import gateway
from gateway.limits import Limits

class Adder(gateway.Service):
    @gateway.exposed
    def add(self, one, other):
        return one + other

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
most = int(sys.argv[2])
limits = Limits(handshakes=most, handshakes_per_host=most, handshake_s=600) if most else Limits()
with gateway.Server(Adder, sys.argv[1], limits=limits) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


class Served:
    """The server's process."""

    def __init__(self, pairing: Pairing, strangers: int) -> None:
        words = [sys.executable, "-c", SERVER, pairing.listen_url, str(strangers)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.port = int(self.url.rpartition(":")[2])

    def resident(self) -> int:
        """Bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


def latencies(conn: gateway.Connection, seconds: float) -> list[float]:
    """Seconds of each call, one after another with a pause that lets the connection become idle."""
    end, pause, taken = monotonic() + seconds, threading.Event(), []
    while monotonic() < end:
        begin = perf_counter()
        conn.root.add(1, 2)
        taken.append(perf_counter() - begin)
        pause.wait(0.03)
    return sorted(taken)


def summary(taken: list[float]) -> dict[str, float]:
    return {
        "calls": len(taken),
        "median_ms": 1000 * taken[len(taken) // 2],
        "p99_ms": 1000 * taken[min(len(taken) - 1, len(taken) * 99 // 100)],
        "max_ms": 1000 * taken[-1],
    }


def connect_time(pairing: Pairing, served: Served) -> float:
    """Seconds until a new client has its first answer."""
    begin = perf_counter()
    with closing(gateway.connect(pairing.url_of(served.url))) as conn:
        conn.root.add(1, 2)
    return perf_counter() - begin


def knock(stack: ExitStack, served: Served, hello: bytes = b"") -> socket.socket:
    sock = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
    if hello:
        sock.sendall(hello)
    return sock


def client_hello() -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def standing(pairing: Pairing, peers: int, seconds: float, hello: bytes, most: int) -> dict[str, Any]:
    """Peers that stay at the door."""
    with ExitStack() as stack:
        served = stack.enter_context(closing(Served(pairing, most)))
        conn = stack.enter_context(closing(gateway.connect(pairing.url_of(served.url))))
        quiet = summary(latencies(conn, seconds))
        before = served.resident()
        crowd = [knock(stack, served, hello) for _ in range(peers)]
        for sock in crowd if hello else []:
            sock.settimeout(30)
            assert sock.recv(1)
        besieged = summary(latencies(conn, seconds))
        return {
            "alone": quiet,
            "besieged": besieged,
            "each_KiB": (served.resident() - before) / 1024 / peers,
            "new_client_ms": 1000 * connect_time(pairing, served),
        }


def rush(pairing: Pairing, stranger: Pairing, peers: int, seconds: float) -> dict[str, Any]:
    """Peers that come, go through a whole handshake, and are turned away, as fast as they can."""
    words = [sys.executable, __file__, "--rush"]
    with ExitStack() as stack:
        served = stack.enter_context(closing(Served(pairing, peers)))
        conn = stack.enter_context(closing(gateway.connect(pairing.url_of(served.url))))
        quiet = summary(latencies(conn, seconds))
        before = served.resident()
        crowd = subprocess.Popen(
            [*words, str(served.port), str(stranger.client)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert crowd.stdin is not None
        assert crowd.stdout is not None
        crowd.stdout.readline()
        besieged = summary(latencies(conn, seconds))
        new_client = connect_time(pairing, served)
        crowd.stdin.close()
        came = int(crowd.stdout.readline())
        crowd.wait(30)
        crowd.stdout.close()
        return {
            "alone": quiet,
            "besieged": besieged,
            "each_KiB": (served.resident() - before) / 1024 / max(1, came),
            "new_client_ms": 1000 * new_client,
            "came": came,
        }


def be_a_rush(port: int, folder: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(f"{folder}/client.pem", f"{folder}/client.key")
    over, came = threading.Event(), [0] * 8

    def come(mine: int) -> None:
        while not over.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                with context.wrap_socket(sock) as tls:
                    tls.recv(1)
            came[mine] += 1

    threads = [threading.Thread(target=come, args=(each,)) for each in range(len(came))]
    for thread in threads:
        thread.start()
    print("rushing", flush=True)
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    print(sum(came), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rush", nargs=2, metavar=("PORT", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rush:
        be_a_rush(int(given.rush[0]), given.rush[1])
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        pairing, stranger = Pairing(Path(folder) / "ours"), Pairing(Path(folder) / "others")
        rows = {
            "silent": standing(pairing, given.peers, given.seconds, b"", 2 * given.peers),
            "halfway": standing(pairing, given.peers, given.seconds, client_hello(), 2 * given.peers),
            "rush": rush(pairing, stranger, given.peers, given.seconds),
            "default": standing(pairing, given.peers, given.seconds, b"", 0),
        }
    if given.json:
        print(json.dumps({"peers": given.peers, "rows": rows}))
        return
    print(
        f"{given.peers} peers; limits by default: {Limits().handshakes} stay, {Limits().handshakes_per_host} of a host"
    )
    print(f"{'':10}{'call alone':>24}{'call besieged':>34}{'memory':>12}{'new client':>14}")
    for name, row in rows.items():
        alone, besieged = row["alone"], row["besieged"]
        print(
            f"{name:10}{alone['median_ms']:10.2f} ms, max {alone['max_ms']:5.1f}"
            f"{besieged['median_ms']:10.2f} ms, p99 {besieged['p99_ms']:5.1f}, max {besieged['max_ms']:5.1f}"
            f"{row['each_KiB']:8.1f} KiB{row['new_client_ms']:11.1f} ms"
            + (f"   {row['came']} came" if "came" in row else "")
        )


if __name__ == "__main__":
    main()
