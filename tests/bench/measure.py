"""Where a row is measured, and how a rate is: in bursts, each of which does some work and says how much that was."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from implementations import Endpoints, Implementation

WARM_UP: Final = 0.2
"""Part of a row's time that is spent before the clock starts."""

Burst = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a row is measured: the client's implementation, the server's endpoints, and for how long."""

    implementation: Implementation
    endpoints: Endpoints
    seconds: float
    directory: str

    def connect(self, endpoint: str) -> Any:
        return self.implementation.connect(endpoint, self.endpoints[endpoint])


def rate(burst: Burst, seconds: float) -> float:
    """Units per second over at least `seconds`, after a warm-up of at least one burst."""
    gc.collect()
    run(burst, seconds * WARM_UP)
    count, elapsed = run(burst, seconds)
    return count / elapsed


def run(burst: Burst, seconds: float) -> tuple[float, float]:
    count = 0.0
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


def once(endpoint: str, prepare: Callable[[Implementation, Any], Burst]) -> Callable[[Site], float]:
    """The rate of a single burst, without a warm-up: stock takes half a minute for one."""

    def measure(site: Site) -> float:
        connection = site.connect(endpoint)
        connection._config["sync_request_timeout"] = None
        try:
            burst = prepare(site.implementation, connection)
            begin = perf_counter()
            return burst() / (perf_counter() - begin)
        finally:
            connection.close()

    return measure
