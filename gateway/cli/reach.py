"""How a command gets to a gateway and to what is on it: `--gateway`, the connection, `DEVICE.MEMBER`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

import gateway
from gateway.cli.screen import Screen
from gateway.client import GATEWAY_VARIABLE, connect_to
from gateway.config import nearest
from gateway.errors import AccessDenied, Ambiguous, LinkDown, NotFound

if TYPE_CHECKING:
    from gateway.discovery import FoundGateway, Survey

BROWSE_S: Final = 2.0
CONNECT_S: Final = 10.0
ENVIRONMENT: Final = GATEWAY_VARIABLE

F = TypeVar("F", bound=Callable[..., Any])


def gateway_options(function: F) -> F:
    """Decorator: the options of every command that talks to a gateway; they arrive as `where` and `timeout`."""
    where = click.option(
        "--gateway",
        "where",
        metavar="NAME_OR_URL",
        envvar=ENVIRONMENT,
        help=f"Which gateway; default: {ENVIRONMENT}, else the only one that discovery finds.",
    )
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="How long an answer may take.",
    )
    return where(timeout(function))


@dataclass(frozen=True, slots=True)
class Reached:
    """A connection to a gateway."""

    conn: gateway.Connection
    where: str
    """The name or URL it was reached by."""
    url: str
    """The URL behind that name."""

    @property
    def root(self) -> Any:
        """The gateway's root service."""
        return self.conn.root

    def describe(self) -> dict[str, dict[str, Any]]:
        """Its devices by name. Raises NotFound where the other end is no gateway."""
        described: dict[str, dict[str, Any]] = self._ask_root()
        return described

    def describe_device(self, name: str) -> dict[str, Any]:
        """One device with its members, or an instrument host. Raises NotFound, with the nearest name."""
        devices = self.describe()
        known = {*devices, *(device["host"] for device in devices.values() if "host" in device)}
        if name not in known:
            raise NotFound(f"no device {name!r} at {self.where}; {nearest(name, known)}", device=name)
        described: dict[str, Any] = self._ask_root(name)
        return described

    def device(self, name: str) -> Any:
        """The device of that name, which may be `HOST.DEVICE`, or the board that is its own host."""
        return self.root.device(name) if "." in name else getattr(self.root, name)

    def _ask_root(self, *arguments: str) -> Any:
        try:
            return self.root.describe(*arguments)
        except (AccessDenied, AttributeError) as problem:
            raise NotFound(
                f"{self.where} speaks RPyC, but is no instrument gateway: it has no describe(); use it from Python"
            ) from problem


@dataclass(frozen=True, slots=True)
class Member:
    """`DEVICE.MEMBER` on a gateway."""

    device: str
    name: str
    row: Mapping[str, Any]
    """Its row of the exposure table, as `describe` gives it."""
    proxy: Any
    """The device."""

    @property
    def unit(self) -> str | None:
        """The unit of its value, where known."""
        unit: str | None = self.row.get("unit")
        return unit


@contextmanager
def reached(screen: Screen, where: str | None, timeout_s: float) -> Iterator[Reached]:
    """A connection to the gateway `where`, or to the only one there is. Raises NotFound, Ambiguous, LinkDown."""
    place = where or only_gateway(screen).url
    with screen.busy(f"connecting to {place}"):
        conn, url = _connect(place, timeout_s)
    try:
        yield Reached(conn, place, url)
    finally:
        conn.close()


def only_gateway(screen: Screen) -> FoundGateway:
    """The one gateway that discovery finds. Raises NotFound, Ambiguous."""
    from gateway.discovery import survey  # who names a URL does without the time this takes

    with screen.busy("looking for gateways"):
        seen = survey(BROWSE_S)
    if len(seen.gateways) == 1:
        return seen.gateways[0]
    if seen.gateways:
        listed = ", ".join(f"{found.name!r} at {found.shown_url}" for found in seen.gateways)
        raise Ambiguous(f"{len(seen.gateways)} gateways: {listed}; choose one with --gateway NAME_OR_URL")
    raise NotFound(nobody(seen))


def nobody(seen: Survey) -> str:
    """What to say where no gateway was found."""
    asked = f" on {', '.join(seen.asked)}" if seen.asked else ""
    trouble = f" (could not ask on {'; '.join(seen.troubles)})" if seen.troubles else ""
    return (
        f"no gateway answered within {BROWSE_S:g} s{asked}{trouble}; start one with `gateway demo` or "
        "`gateway serve CONFIG`, or name one with --gateway tcp://HOST:18871"
    )


def split_member(target: str) -> tuple[str, str]:
    """`psu1.voltage` as `("psu1", "voltage")`, `bench2.dmm1.voltage` as `("bench2.dmm1", "voltage")`.

    Raises click.UsageError.
    """
    device, _, member = target.rpartition(".")
    parts = device.split(".")
    if len(parts) > 2 or not all(part.isidentifier() for part in (*parts, member)):
        raise click.UsageError(f"{target!r} is not DEVICE.MEMBER, such as psu1.voltage")
    return device, member


def find_member(at: Reached, target: str) -> Member:
    """The member that `target` names. Raises NotFound with the nearest name of a device or member."""
    device, name = split_member(target)
    rows = {row["name"]: row for row in at.describe_device(device)["members"]}
    if name not in rows:
        raise NotFound(f"{device} has no {name!r}; {nearest(name, rows)}", device=device, member=name)
    return Member(device, name, rows[name], at.device(device))


def _connect(place: str, timeout_s: float) -> tuple[gateway.Connection, str]:
    try:
        return connect_to(place, config={"sync_request_timeout": timeout_s}, timeout=CONNECT_S)
    except LinkDown as problem:
        raise LinkDown(f"{problem}; `gateway list` shows those on the network") from problem
