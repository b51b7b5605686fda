"""`gateway serve [CONFIG]`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol

import click
from msgspec.structs import replace

from gateway import config as configuration
from gateway.app import Gateway, build, open_audit, stop_path
from gateway.channels import parse_url
from gateway.cli.main import config_path, subcommand
from gateway.cli.running import Attendant, Stop, announce, log_to_stderr, run, wait_advertised
from gateway.cli.screen import Screen
from gateway.config import Config
from gateway.config.listening import listen_warning
from gateway.errors import GatewayError
from gateway.server.stop_file import StopFile
from gateway.supervision import Alone, Ended, Restart, can_supervise, supervise
from gateway.systemd import Notifier

_log: Final = logging.getLogger("gateway.serve")


class Overseer(Attendant, Protocol):
    """What the command needs of a `Tether` and of `Alone`."""

    restart: Restart | None

    def take_over(self, gateway: Gateway) -> None: ...
    def watch(self, gateway: Gateway) -> None: ...
    def serving(self, status: str, url: str) -> None: ...
    def reloading(self) -> AbstractContextManager[None]: ...


@subcommand("serve")
@click.argument("config", type=click.Path(), required=False)
@click.option("--config", "named", type=click.Path(), help="The same as CONFIG.")
@click.option("--insecure-lan", is_flag=True, help="As insecure_lan = true in the config: let in whoever comes.")
@click.option("--no-supervise", is_flag=True, help="Run as one process, which nobody restarts.")
@click.pass_context
def command(
    ctx: click.Context, screen: Screen, config: str | None, named: str | None, insecure_lan: bool, no_supervise: bool
) -> None:
    """Serve the instruments that the file CONFIG names, until SIGTERM or Ctrl-C. SIGHUP reads the config again.

    Without CONFIG: the user's own gateway.toml if there is one, else /etc/instrument-gateway/gateway.toml. The files in
    the folder devices.d beside it count too.

    Every device is brought to its safe state at the end. A device that can't be opened is reported and tried again at
    its next call; the others are served meanwhile. A second process watches over the gateway: if that dies or hangs, it
    makes the devices safe and restarts it.

    JSON, once it serves: {"name", "url", "local_only", "advertised", "advert_status", "devices": [{"name", "driver",
    "state", "identity", "problem"}]}.
    """
    path = config_path(config, named)

    def read() -> Config:
        found = configuration.load(path)
        return replace(found, gateway=replace(found.gateway, insecure_lan=True)) if insecure_lan else found

    settings = read()
    log_to_stderr(screen, settings.gateway.log_level)
    notifier = Notifier.take()
    overseer: Overseer = Alone(notifier)
    if can_supervise() and not no_supervise:
        outcome = supervise(settings, read, notifier)
        if isinstance(outcome, Ended):
            ctx.exit(outcome.code)
        # Here goes on the worker.
        overseer, settings = outcome
    before = overseer.restart.url if overseer.restart is not None else ""
    ctx.exit(_serve(screen, _at(before, settings), lambda: _at(before, read()), overseer))


def _serve(screen: Screen, settings: Config, read: Callable[[], Config], overseer: Overseer) -> int:
    warning = listen_warning(settings.gateway.listen, insecure_lan=settings.gateway.insecure_lan)
    if warning:
        screen.note(warning, style="bold red")
    gateway = build(settings)  # a mistake in the config is told before anything is opened
    audit = open_audit(settings.gateway)
    if audit is not None:
        gateway.write_down(audit)
    overseer.take_over(gateway)
    StopFile(stop_path(settings.gateway)).keep(gateway.keeper.safety)

    def start() -> None:
        gateway.start()
        overseer.watch(gateway)
        overseer.serving(_status(gateway), gateway.url)

    def body(stop: Stop) -> None:
        if overseer.restart is None:
            wait_advertised(screen, gateway, stop)
            if not stop.is_set:
                announce(screen, gateway)
        while not stop.wait():
            if stop.take_reload():
                _reload(gateway, read, overseer)

    return run(screen, gateway, body, start, overseer)


def _reload(gateway: Gateway, read: Callable[[], Config], overseer: Overseer) -> None:
    try:
        with overseer.reloading():
            changes = gateway.reload(read())
    except GatewayError as problem:
        _log.error("the config was not taken up, and nothing has changed: %s", " ".join(str(problem).split()))
        return
    if changes.log_level is not None:
        logging.getLogger().setLevel(changes.log_level.upper())
    if changes.restart:
        _log.warning("the config was read again; this takes effect at the next start: %s", ", ".join(changes.restart))
    parts = {
        "added": [*(section.name for section in changes.added), *(host.name for host in changes.hosts_added)],
        "taken out": [*(section.name for section in changes.removed), *(host.name for host in changes.hosts_removed)],
        "changed": [*(change.name for change in changes.changed), *(new.name for _, new in changes.hosts_changed)],
    }
    told = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)
    _log.info("the config was read again: %s", told or "no device differs")


def _at(url: str, settings: Config) -> Config:
    """The config with the port that the gateway had before, where it says that any will do."""
    if not url or parse_url(settings.gateway.listen).port != 0:
        return settings
    return replace(settings, gateway=replace(settings.gateway, listen=url))


def _status(gateway: Gateway) -> str:
    there = sum(device.state == "open" for device in gateway.devices)
    return f"serving {there} of {len(gateway.devices)} devices at {gateway.url}"
