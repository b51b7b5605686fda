"""From a gateway's name to the URL to connect to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.discovery.browser import FoundGateway, Survey, survey
from gateway.discovery.static import ENVIRONMENT, gateways_file, static_gateways
from gateway.errors import Ambiguous, NotFound

GRACE_S: Final = 0.25
"""After the name was seen, so long is waited for a second one on another network."""
OTHER_CASE_GRACE_S: Final = 1.0
"""The same after a name that differs in case, for the one in exactly this spelling."""
MAX_LISTED: Final = 10


def resolve(
    name: str,
    timeout_s: float = 3.0,
    static: Mapping[str, str] | None = None,
    *,
    interfaces: Sequence[str] | None = None,
) -> str:
    """The URL of the gateway called `name`; see `locate`."""
    return locate(name, timeout_s, static, interfaces=interfaces).url


def locate(
    name: str,
    timeout_s: float = 3.0,
    static: Mapping[str, str] | None = None,
    *,
    interfaces: Sequence[str] | None = None,
) -> FoundGateway:
    """The gateway called `name`.

    A fixed address (`static`, by default `static_gateways()`) is taken at once; otherwise the network is browsed until
    the name is seen, at most `timeout_s`. A name in exactly this spelling goes before one that differs in case.
    Raises Ambiguous, NotFound, and ConfigError for bad configuration.
    """
    fixed = static_gateways() if static is None else static
    if name in fixed:
        return FoundGateway(name=name, url=fixed[name], source="static", tls=fixed[name].startswith("tls:"))
    first_seen: dict[bool, float] = {}

    def enough(found: list[FoundGateway]) -> bool:
        now = time.monotonic()
        for gateway in _matches(found, name):
            first_seen.setdefault(gateway.name == name, now)
        return now - first_seen.get(True, now) >= GRACE_S or now - first_seen.get(False, now) >= OTHER_CASE_GRACE_S

    seen = survey(timeout_s, interfaces, until=enough, static=fixed)
    matches = _matches(seen.gateways, name)
    if len(matches) > 1:
        raise Ambiguous(
            f"{len(matches)} gateways are named {name!r}: {_listed(matches)}; connect by URL, or name one of them "
            f"apart in its config",
            name=name,
            urls=[gateway.shown_url for gateway in matches],
        )
    if not matches:
        raise NotFound(_not_found(name, timeout_s, seen), name=name, seen=[gateway.name for gateway in seen.gateways])
    return matches[0]


def _matches(gateways: Sequence[FoundGateway], name: str) -> list[FoundGateway]:
    exact = [gateway for gateway in gateways if gateway.name == name]
    return exact or [gateway for gateway in gateways if gateway.name.casefold() == name.casefold()]


def _listed(gateways: Sequence[FoundGateway]) -> str:
    shown = [f"{gateway.name!r} at {gateway.shown_url}" for gateway in gateways[:MAX_LISTED]]
    if len(gateways) > MAX_LISTED:
        shown.append(f"{len(gateways) - MAX_LISTED} more")
    return ", ".join(shown)


def _not_found(name: str, timeout_s: float, seen: Survey) -> str:
    shown = name if len(name) <= 80 else f"{name[:80]}..."
    asked = f" on {', '.join(seen.asked)}" if seen.asked else ""
    parts = [f"no gateway named {shown!r} answered within {timeout_s:g} s{asked}"]
    parts.append(f"seen: {_listed(seen.gateways)}" if seen.gateways else "none was seen")
    if seen.troubles:
        parts.append(f"could not ask on {', '.join(seen.troubles)}")
    parts.append(
        f"give its URL (tcp://HOST:18871), or name it in {ENVIRONMENT} or {gateways_file()}; "
        f"a firewall must let UDP port 5353 pass"
    )
    return "; ".join(parts)
