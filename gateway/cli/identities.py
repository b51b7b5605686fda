"""What the commands about identity share: `--role`, `--device`, `--identity`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.errors import ConfigError
from gateway.identity.principal import Role

F = TypeVar("F", bound=Callable[..., Any])


def role_options(function: F) -> F:
    """Decorator: what a client may do; it arrives as `role` and `devices`."""
    role = click.option(
        "--role",
        type=click.Choice([role.word for role in Role]),
        default=Role.OPERATE.word,
        show_default=True,
        help="What the client may do: read (observe), control (operate), or everything (admin).",
    )
    devices = click.option(
        "--device",
        "devices",
        multiple=True,
        metavar="NAME=ROLE",
        help="Another role for one device; may be given several times.",
    )
    return role(devices(function))


def identity_option(function: F) -> F:
    """Decorator: the folder with the gateway's CA and list of clients; it arrives as `identity`."""
    return click.option(
        "--identity",
        type=click.Path(file_okay=False),
        metavar="FOLDER",
        help="The gateway's CA and list of clients; default: where the gateway itself keeps them.",
    )(function)


def roles_of(role: str, devices: tuple[str, ...]) -> tuple[Role, Mapping[str, Role]]:
    """The options' values. Raises ConfigError."""
    own: dict[str, Role] = {}
    for each in devices:
        name, equals, word = each.partition("=")
        if not name or not equals:
            raise ConfigError(f"--device {each!r} is not NAME=ROLE, such as psu1=observe")
        own[name] = Role.of(word)
    return Role.of(role), own


def folder_of(identity: str | None) -> Path | None:
    """The option's value as a path."""
    return None if identity is None else Path(identity)
