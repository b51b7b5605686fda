"""A gateway's stable id: the same after a restart, a new name or a new address.

It is made once from the machine's id and kept in a small state file. Where no file can be written (a read-only root,
which is common on a Pi) the same id is made again from the machine's id, so both ways agree.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import uuid
from pathlib import Path
from typing import Final

STATE_FILE: Final = "gateway-id"
SYSTEM_STATE: Final = Path("/var/lib/instrument-gateway")
MACHINE_ID: Final = Path("/etc/machine-id")

_ID: Final = re.compile(r"[0-9a-f]{16}")
_MACHINE_ID: Final = re.compile(r"[0-9a-f]{32}")
_MAX_FILE: Final = 256

log = logging.getLogger("gateway.discovery")


def state_path() -> Path:
    """Where the id is kept when no path is given.

    The first of: the directory systemd made for the service (`StateDirectory=`), /var/lib/instrument-gateway for root
    where it is writable, the user's state directory (`XDG_STATE_HOME`, else ~/.local/state).
    """
    systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if systemd:
        return Path(systemd) / STATE_FILE
    if hasattr(os, "geteuid") and os.geteuid() == 0 and _writable(SYSTEM_STATE):
        return SYSTEM_STATE / STATE_FILE
    home = os.environ.get("XDG_STATE_HOME", "")
    state = Path(home) if os.path.isabs(home) else Path.home() / ".local" / "state"
    return state / "instrument-gateway" / STATE_FILE


def stable_id(path: Path | None = None, *, machine_id: Path = MACHINE_ID) -> str:
    """The gateway's id, 16 hex digits, from the state file at `path` (default: `state_path()`).

    Never raises: without the file, or with one that holds something else, which is left alone, the id is derived from
    `machine_id`. The machine's id itself can't be found out from it, as machine-id(5) asks.
    """
    path = state_path() if path is None else path
    kept = _kept(path)
    if kept is not None:
        return kept
    made = _derived(path, machine_id)
    return _keep(path, made)


def _writable(directory: Path) -> bool:
    there = directory if directory.exists() else directory.parent
    return os.access(there, os.W_OK | os.X_OK)


def _kept(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE).decode("ascii", "replace").strip()
    except OSError:
        return None
    if _ID.fullmatch(text):
        return text
    log.warning("%s holds no gateway id; using one made from the machine's id (remove the file to have it kept)", path)
    return None


def _derived(path: Path, machine_id: Path) -> str:
    """From the machine and the path, so that two gateways of one machine with two state files differ."""
    try:
        key = machine_id.read_text(encoding="ascii")[:_MAX_FILE].strip()
    except (OSError, ValueError):
        key = ""
    if not _MACHINE_ID.fullmatch(key):
        node = uuid.getnode()
        # The multicast bit marks a number that Python made up because no network card has an address.
        key = secrets.token_hex(16) if node >> 40 & 1 else f"{node:012x}"
    about = f"instrument-gateway\0{path.absolute()}"
    return hmac.new(key.encode(), about.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:16]


def _keep(path: Path, made: str) -> str:
    """Write the id unless somebody has by now; the id that counts."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_text(made + "\n", encoding="ascii")
            os.link(draft, path)  # whole or not at all, and never over another's file
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError:
        return _kept(path) or made
    except OSError as problem:
        log.info("the gateway's id is not kept in %s: %s", path, problem.strerror or problem)
    return made
