"""Who a connection's other end is: by its certificate, by the kernel, or by where it comes from."""

from __future__ import annotations

import ipaddress
import os
from typing import Final

from gateway.channels.base import Channel
from gateway.channels.link_channel import LinkChannel
from gateway.channels.listener import MAPPED_IPV4
from gateway.channels.unix import peer_credentials, user_name
from gateway.errors import Unauthenticated
from gateway.identity.clients import Clients
from gateway.identity.principal import Kind, Principal, Role, fingerprint

THIS_MACHINE: Final = Role.ADMIN
"""Whoever is on the gateway's own machine, or holds its cable, could do worse than to ask."""
ANYBODY: Final = Role.OPERATE
"""Over a network without proof: `insecure_lan`."""


def principal_of(channel: Channel, clients: Clients | None = None) -> Principal:
    """Who is at the other end of `channel`.

    `clients` is the gateway's list, without which nobody with a certificate is let in. Raises Unauthenticated for a
    client that is not in it (any more), and ConfigError for a list that is broken.
    """
    certificate = channel.certificate
    if certificate is not None:
        if clients is None:
            raise Unauthenticated("this gateway has no list of clients")
        client = clients.admit(fingerprint(certificate))
        clients.saw(client)
        return client.principal
    user = peer_credentials(channel)
    if user is not None:
        return Principal(name=user.user, kind=Kind.LOCAL, default=THIS_MACHINE)
    if isinstance(channel, LinkChannel) or not channel.ends_with_eof:
        return Principal(name="cable", kind=Kind.CABLE, default=THIS_MACHINE)
    address = _remote_address(channel)
    if address is None:  # a pipe: who started this process holds its other end
        return Principal(name=user_name(os.getuid()), kind=Kind.LOCAL, default=THIS_MACHINE)
    if address.is_loopback:
        return Principal(name=str(address), kind=Kind.LOOPBACK, default=THIS_MACHINE)
    return Principal(name=str(address), kind=Kind.NETWORK, default=ANYBODY)


def _remote_address(channel: Channel) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    endpoints = channel.endpoints
    remote = endpoints[1] if endpoints else None
    if not isinstance(remote, tuple) or not remote or not isinstance(remote[0], str):
        return None
    return ipaddress.ip_address(remote[0].partition("%")[0].removeprefix(MAPPED_IPV4))
