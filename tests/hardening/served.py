"""The server under attack, in a process of its own: `python -m tests.hardening.served strict|seed '{"progress_s": 1}'`.

Prints its URL, serves until its standard input ends. Idle workers leave at once, so that a test needn't wait for them.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

import gateway
from gateway import Limits, exposed
from gateway.server.registry import GatewayService
from gateway.service.exposure import Exposable
from gateway.sync import workers

IDLE_S = 0.5
SECRET = "the-secret-of-psu1"


class Supply(Exposable):
    """A power supply, as far as a client can tell."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.secret = SECRET
        self._voltage = 1.5
        self.kept: list[Any] = []

    @property
    @exposed(unit="V")
    def voltage(self) -> float:
        """What is set."""
        return self._voltage

    @voltage.setter
    def voltage(self, volts: float) -> None:
        self._voltage = float(volts)

    @exposed(access="control")
    def set_voltage(self, volts: float) -> None:
        """Set it."""
        self._voltage = float(volts)

    @exposed(access="read")
    def waveform(self, size: int) -> bytes:
        """`size` bytes of samples."""
        return b"\x55" * size

    @exposed(access="read")
    def echo(self, value: Any) -> Any:
        return value

    @exposed(access="read")
    def ask(self, callback: Any) -> Any:
        """What the client's function says."""
        return callback()

    @exposed(access="control")
    def hold(self, seconds: float, ballast: Any = None) -> int:
        """A measurement that takes long."""
        time.sleep(seconds)
        return 1

    @exposed(access="control")
    def keep(self, value: Any) -> None:
        self.kept.append(value)

    @exposed(access="read")
    def readings(self) -> Iterator[int]:
        """Never ends."""
        number = 0
        while True:
            yield number
            number += 1

    @exposed(access="control")
    def fail(self) -> None:
        raise FileNotFoundError(2, f"{self!r} at 0x7f1234567890 has no calibration", "/etc/bench/psu1/calibration.toml")

    def burn(self) -> None:
        """Not exposed."""
        raise RuntimeError("reached")


class Bench(gateway.Service):
    """The same by RPyC's own rules."""

    def __init__(self) -> None:
        self.supply = Supply("psu1")

    def exposed_supply(self) -> Supply:
        return self.supply

    def exposed_add(self, a: Any, b: Any) -> Any:
        return a + b

    def exposed_echo(self, value: Any) -> Any:
        return value

    def exposed_ask(self, callback: Any) -> Any:
        return callback()

    def exposed_hold(self, seconds: float, ballast: Any = None) -> int:
        time.sleep(seconds)
        return 1

    def exposed_waveform(self, size: int) -> bytes:
        return b"\x55" * size

    def exposed_numbers(self) -> Iterator[int]:
        return iter(range(10**9))

    def exposed_callable(self) -> Any:
        return self.exposed_echo


def serve(profile: str, limits: Limits) -> None:
    workers.IDLE_S = IDLE_S  # type: ignore[misc]
    devices = {name: Supply(name) for name in ("psu1", "psu2")}
    strict = profile == "strict"
    root: Any = GatewayService(devices, limits) if strict else Bench()
    with gateway.Server(root, "tcp://127.0.0.1:0", limits=limits, strict=strict) as server:
        print(server.url, flush=True)
        for line in sys.stdin:
            print(json.dumps(ANSWERS[line.strip()](server)), flush=True)


ANSWERS = {
    "connections": lambda server: server.connections,
    "collect": lambda server: gc.collect(),
}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    serve(sys.argv[1], Limits(**json.loads(sys.argv[2])))
