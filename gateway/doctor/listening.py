"""The gateway's own port: free, or taken by whom."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator
from typing import Final

from gateway.doctor.findings import Finding, ok, problem
from gateway.doctor.processes import holders_of_sockets
from gateway.doctor.sockets import Address, listening
from gateway.doctor.subject import Subject
from gateway.doctor.system import System

FIRST_FREE: Final = 1024
"""Ports below take a right that the service does not have."""


def listen(system: System, subject: Subject) -> Iterator[Finding]:
    """Whether a gateway can listen where the config says, or does already."""
    if subject.tcp is None:
        yield ok(f"{subject.listen}: no TCP port is needed")
        return
    host, port = subject.tcp
    address = _address(host)
    if address is None:
        yield problem(
            f"{subject.listen}: the name {host} has no address",
            f"getent hosts {host}",
            "# write an IP address into `listen`",
        )
        return
    if port < FIRST_FREE and subject.user.uid != 0:
        yield problem(
            f"{subject.listen}: a port below {FIRST_FREE} takes root", '# in the config: listen = "tcp://ADDRESS:18871"'
        )
        return
    others = [bound for bound in listening(system, port) if bound.meets(address)]
    if others:
        holders = holders_of_sockets(system, [bound.inode for bound in others])
        if holders.found and all(process.is_gateway for process in holders.found):
            yield ok(f"{subject.listen}: the gateway listens there: {holders.named}")
        else:
            yield problem(f"{subject.listen}: the port is taken by {holders.named}", *holders.fixes)
    else:
        yield _try(subject, address, port)


def _try(subject: Subject, address: Address, port: int) -> Finding:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((str(address), port))
        except OSError as failure:
            if failure.errno == errno.EADDRNOTAVAIL:
                return problem(
                    f"{subject.listen}: no interface of this computer has that address",
                    "ip -br addr    # shows the addresses",
                    "# write one of them into `listen`, or 0.0.0.0 for all",
                )
            return problem(f"{subject.listen}: can't listen there: {failure.strerror}", f"ss -ltnp 'sport = :{port}'")
    who = "only this computer can connect" if subject.is_local else "free"
    return ok(f"{subject.listen}: {who}")


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.ip_address(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, ValueError, UnicodeError):
        return None
