"""Connecting by URL or by name, and finding what there is: the two things most programs begin with."""

from __future__ import annotations

import logging
import os
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from gateway.channels import DEFAULT_PORT, Channel, is_url, open_channel, parse_url
from gateway.errors import ConfigError, GatewayError, LinkDown, NotFound, Unauthenticated
from gateway.limits import DEFAULT_LIMITS, Limits
from gateway.service.service import Service, VoidService
from gateway.sync.client import connect_channel
from gateway.sync.connection import Connection
from gateway.sync.leasing import LEASE_VARIABLE, join

if TYPE_CHECKING:
    from gateway.discovery import FoundGateway
    from gateway.identity.trust import Trusted

LAST_PLACE_S: Final = 2.0
"""A gateway that was paired with is tried for so long at its last address, at least."""
BROWSE_S: Final = 3.0
GATEWAY_VARIABLE: Final = "INSTRUMENT_GATEWAY"
"""Environment variable with the URL or name of the gateway to use; a lease's token is for that one only."""

_log: Final = logging.getLogger(__name__)


def connect(
    url_or_name: str,
    service: Service | type[Service] = VoidService,
    config: dict[str, Any] | None = None,
    *,
    timeout: float = 10.0,
    limits: Limits | None = None,
    background: bool = True,
) -> Connection:
    """A connection to the server at a URL (`tcp://host:port`, `tls://host:port`, `unix:///path`, `ssh://host`,
    `serial:///dev/ttyUSB0`, `pipe:command`), or to the gateway of that name: one that this computer was paired with, or
    one on the LAN.

    `service` is what this side shows to the peer, `config` overrides keys of DEFAULT_CONFIG, `timeout` bounds finding
    and reaching the peer. In a program that `gateway lease` runs, the connection uses the lease of that command.
    Raises ConfigError for a wrong URL, NotFound or Ambiguous for a name, Unauthenticated where
    the gateway can't prove who it is or this computer was never paired with it, LinkDown if nobody answers.
    """
    return connect_to(url_or_name, service, config, timeout=timeout, limits=limits, background=background)[0]


def connect_to(
    url_or_name: str,
    service: Service | type[Service] = VoidService,
    config: dict[str, Any] | None = None,
    *,
    timeout: float = 10.0,
    limits: Limits | None = None,
    background: bool = True,
) -> tuple[Connection, str]:
    """`connect`, and the URL at which the peer was reached."""
    bounds = limits or DEFAULT_LIMITS
    if is_url(url_or_name):
        channel, url = open_channel(url_or_name, limits=bounds, timeout=timeout), url_or_name
    else:
        channel, url = _reach(url_or_name, bounds, timeout)
    conn = connect_channel(channel, service, config, limits=bounds, background=background)
    token = os.environ.get(LEASE_VARIABLE)
    if token and _is_at(os.environ.get(GATEWAY_VARIABLE, ""), url_or_name, url, channel):
        _use_lease(conn, token)
    return conn, url


def _is_at(place: str, asked: str, url: str, channel: Channel) -> bool:
    """Whether the gateway that was reached is the one at `place`."""
    if place in (asked, url):
        return True
    if not is_url(place):
        return False
    there, ends = parse_url(place), channel.endpoints
    reached = ends[1] if ends is not None else None
    return isinstance(reached, tuple) and there.port is not None and reached[:2] == (there.host, there.port)


def _use_lease(conn: Connection, token: str) -> None:
    """Whether there is such a lease or not, what needs none can be done."""
    try:
        join(conn, token)
    except (GatewayError, AttributeError) as problem:
        _log.warning("the lease in %s is not used: %s", LEASE_VARIABLE, problem)


def _reach(name: str, limits: Limits, timeout: float) -> tuple[Channel, str]:
    """A channel to the gateway called `name`, and its URL.

    A fixed address goes first: the user has written it. Then a gateway that this computer was paired with under this
    name, which is believed only where it proves who it is, whatever discovery says. Then discovery.
    """
    from gateway.discovery import locate, static_gateways
    from gateway.identity.trust import TrustStore

    fixed = static_gateways()
    trusted = TrustStore().named(name) if name not in fixed else None
    if trusted is not None:
        return _reach_trusted(trusted, limits, timeout)
    found = locate(name, timeout, fixed)
    if found.tls and found.id is not None:
        trusted = TrustStore().with_id(found.id)
        if trusted is None:
            raise Unauthenticated(
                f"{name!r} at {found.shown_url} lets in paired computers only; run `gateway pair` there, and "
                f"`gateway trust {name}` here"
            )
        return _open_trusted(trusted, found, limits, timeout)
    return open_channel(found.url, limits=limits, timeout=timeout), found.url


def _reach_trusted(trusted: Trusted, limits: Limits, timeout: float) -> tuple[Channel, str]:
    """Where it was last, or else where discovery sees its id."""
    begin = monotonic()
    try:
        patience_s = min(timeout, max(LAST_PLACE_S, timeout / 3))
        return open_channel(trusted.url, limits=limits, timeout=patience_s), trusted.url
    except (LinkDown, NotFound, Unauthenticated) as problem:
        found = _seen(trusted, max(0.0, timeout - (monotonic() - begin)))
        if found is None:
            raise
        _log.info("%s: %s; trying %s", trusted.name, problem, found.url)
    return _open_trusted(trusted, found, limits, max(LAST_PLACE_S, timeout - (monotonic() - begin)))


def _seen(trusted: Trusted, timeout: float) -> FoundGateway | None:
    """The gateway of that id, at another address than the last one."""
    from gateway.discovery import browse

    def wanted(found: list[FoundGateway]) -> list[FoundGateway]:
        last = trusted.facts.host, trusted.facts.port
        return [
            each
            for each in found
            if each.tls and each.id == trusted.facts.id and (each.addresses[0], each.port) != last
        ]

    found = browse(min(timeout, BROWSE_S), until=lambda found: bool(wanted(found)), static={}) if timeout > 0 else []
    return next(iter(wanted(found)), None)


def _open_trusted(trusted: Trusted, found: FoundGateway, limits: Limits, timeout: float) -> tuple[Channel, str]:
    host, port = found.addresses[0], found.port or DEFAULT_PORT
    url = trusted.url_at(host, port)
    channel = open_channel(url, limits=limits, timeout=timeout)
    if (host, port) != (trusted.facts.host, trusted.facts.port):
        from gateway.identity.trust import TrustStore

        try:
            TrustStore().moved(trusted, host, port)
        except ConfigError as problem:
            _log.info("the new address of %s is not kept: %s", trusted.name, problem)
    return channel, url


def discover(timeout: float = 2.0) -> list[FoundGateway]:
    """The gateways that answer on the LAN within `timeout` seconds, and those with a fixed address in the user's
    config.
    """
    from gateway.discovery import browse

    return browse(timeout)
