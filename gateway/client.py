"""Connecting by URL or by name, and finding what there is: the two things most programs begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.channels import is_url, open_channel
from gateway.limits import DEFAULT_LIMITS, Limits
from gateway.service.service import Service, VoidService
from gateway.sync.client import connect_channel
from gateway.sync.connection import Connection

if TYPE_CHECKING:
    from gateway.discovery import FoundGateway


def connect(
    url_or_name: str,
    service: Service | type[Service] = VoidService,
    config: dict[str, Any] | None = None,
    *,
    timeout: float = 10.0,
    limits: Limits | None = None,
    background: bool = True,
) -> Connection:
    """A connection to the server at a URL (`tcp://host:port`, `unix:///path`, `ssh://host`, `serial:///dev/ttyUSB0`,
    `pipe:command`), or to the gateway of that name on the LAN.

    `service` is what this side shows to the peer, `config` overrides keys of DEFAULT_CONFIG, `timeout` bounds finding
    and reaching the peer. Raises ConfigError for a wrong URL, NotFound or Ambiguous for a name, LinkDown if nobody
    answers.
    """
    if not is_url(url_or_name):
        from gateway.discovery import resolve

        url_or_name = resolve(url_or_name, timeout)
    bounds = limits or DEFAULT_LIMITS
    channel = open_channel(url_or_name, limits=bounds, timeout=timeout)
    return connect_channel(channel, service, config, limits=bounds, background=background)


def discover(timeout: float = 2.0) -> list[FoundGateway]:
    """The gateways that answer on the LAN within `timeout` seconds, and those with a fixed address in the user's
    config.
    """
    from gateway.discovery import browse

    return browse(timeout)
