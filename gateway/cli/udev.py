"""`gateway udev VID:PID`: let people open a USB device."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import click

from gateway.cli.main import subcommand
from gateway.cli.screen import Screen
from gateway.errors import ConfigError
from gateway.systemd.tools import run_tool
from gateway.systemd.udev import user_rule

RULES: Final = Path("/etc/udev/rules.d/70-instruments.rules")
_ID: Final = re.compile(r"([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4})")
_TOLD: Final = (
    ("udevadm", "control", "--reload"),
    ("udevadm", "trigger", "--action=change", "--subsystem-match=usb"),
)


@subcommand("udev")
@click.argument("device", metavar="VID:PID")
@click.option("--print", "only_print", is_flag=True, help="Print the rule, and write nothing.")
@click.option("--file", "path", type=click.Path(path_type=Path), default=RULES, help=f"Where to; default: {RULES}.")
def command(screen: Screen, device: str, only_print: bool, path: Path) -> None:
    """Write the udev rule by which the group plugdev, and whoever sits at this machine, may open the USB device
    VID:PID, and tell udev. Takes root. What the rule is for can be seen with `gateway ports`.

    JSON: {"rule", "file", "changed", "loaded"}.
    """
    found = _ID.fullmatch(device)
    if found is None:
        raise ConfigError(f"{device!r:.40} is no VID:PID: four hexadecimal digits each, such as 1209:0001")
    rule = user_rule(found[1].lower(), found[2].lower())
    if only_print:
        screen.document({"rule": rule, "file": None, "changed": False, "loaded": False})
        screen.line(rule)
        return
    changed = _write(path, rule)
    loaded = changed and all(_tell(*words) for words in _TOLD)
    screen.document({"rule": rule, "file": str(path), "changed": changed, "loaded": loaded})
    screen.line(f"{path}: {rule}" if changed else f"{path} has this rule already: nothing was changed")
    if changed and not loaded:
        screen.line("no udev runs here that could be told; where one does, plug the device in again", style="dim")


def _write(path: Path, rule: str) -> bool:
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if rule in text.splitlines():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{rule}\n"
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(whole, encoding="utf-8")
        os.chmod(fresh, 0o644)
        os.replace(fresh, path)
    except PermissionError:
        raise ConfigError(
            f"{path} can't be written by this user; run it with sudo, or see the rule with --print"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return True


def _tell(*words: str) -> bool:
    said = run_tool(*words)
    return said is not None and said.code == 0
