"""Where a gateway may listen: nobody reaches instruments over a network without proof of who they are."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, Final

from gateway.channels import DEFAULT_PORT, ChannelUrl, parse_url
from gateway.errors import ConfigError

_MAX_NAMED: Final = 5


def listen_problem(url: str, *, insecure_lan: bool = False, hazardous: Sequence[str] = ()) -> str:
    """Why the gateway may not listen at `url`, in one line with the fix; empty if it may.

    Loopback, Unix sockets, pipes and serial lines need nothing, and `tls://` brings its own proof. Any other `tcp://`
    address takes `insecure_lan`, which does not go together with devices that are marked as hazardous (`hazardous` are
    their names). A URL that can't be parsed is somebody else's problem, and none here.
    """
    parsed = _open_to_all(url)
    if parsed is None:
        return ""
    secure = f"tls://{_shown_host(parsed)}:{parsed.port or DEFAULT_PORT}"
    if not insecure_lan:
        return (
            f"{parsed}: anybody on that network could use the instruments; listen at {secure} and pair the clients "
            f"(gateway pair), or say insecure_lan = true (--insecure-lan) if you want that"
        )
    if hazardous:
        names = ", ".join(hazardous[:_MAX_NAMED]) + (", ..." if len(hazardous) > _MAX_NAMED else "")
        return (
            f"{parsed}: insecure_lan is not for hazardous devices ({names}); listen at {secure} and pair the clients, "
            f"or take these devices out"
        )
    return ""


def listen_warning(url: str, *, insecure_lan: bool = False) -> str:
    """What to say in red at every start; empty where there is nothing to say."""
    parsed = _open_to_all(url)
    if parsed is None or not insecure_lan:
        return ""
    return (
        f"INSECURE: anybody who reaches {parsed} can use the instruments, and read and change what others send; "
        f"listen at tls://{_shown_host(parsed)}:{parsed.port or DEFAULT_PORT} and pair the clients instead"
    )


def _open_to_all(url: str) -> ChannelUrl[Any] | None:
    """The URL, if whoever reaches it is let in over a network."""
    try:
        parsed = parse_url(url)
    except ConfigError:
        return None
    return parsed if parsed.scheme == "tcp" and not _is_loopback(parsed.host) else None


def _is_loopback(host: str | None) -> bool:
    if host is None or host.lower() in {"localhost", "localhost.localdomain"}:
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False  # what a name stands for may change


def _shown_host(url: ChannelUrl[Any]) -> str:
    host = url.host or ""
    return f"[{host}]" if ":" in host else host
