"""Folders and files that nobody else may read, and where they are.

    gateway   $STATE_DIRECTORY/identity, /var/lib/instrument-gateway/identity,
              ~/.local/state/instrument-gateway/identity    (XDG_STATE_HOME)
    client    ~/.config/instrument-gateway/trusted/NAME         (XDG_CONFIG_HOME)

Folders have mode 700, files 600. What root makes in a folder of the gateway's user belongs to that user: `sudo gateway
pair` must not lock the gateway out of its own files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError

SYSTEM_STATE: Final = Path("/var/lib/instrument-gateway")
FOLDER: Final = "identity"
LOCK: Final = ".lock"
MAX_FILE: Final = 1024 * 1024
_OTHERS: Final = 0o077


def gateway_folder() -> Path:
    """Where a gateway's identity is kept when nothing else is said; it need not exist.

    The first of: the folder that systemd made for the service (`StateDirectory=`), /var/lib/instrument-gateway for root
    where it is writable, the user's state folder (`XDG_STATE_HOME`, else ~/.local/state).
    """
    systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if systemd:
        return Path(systemd) / FOLDER
    there = SYSTEM_STATE if SYSTEM_STATE.exists() else SYSTEM_STATE.parent
    if os.geteuid() == 0 and os.access(there, os.W_OK | os.X_OK):
        return SYSTEM_STATE / FOLDER
    home = os.environ.get("XDG_STATE_HOME", "")
    state = Path(home) if os.path.isabs(home) else Path.home() / ".local" / "state"
    return state / "instrument-gateway" / FOLDER


def trusted_folder() -> Path:
    """Where this user's trusted gateways are kept; it need not exist."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    config = Path(home) if os.path.isabs(home) else Path.home() / ".config"
    return config / "instrument-gateway" / "trusted"


def make_private(folder: Path) -> None:
    """Make the folder, mode 700, where it is not there. Raises ConfigError."""
    with _explained(folder, "can't make the folder"):
        for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
            with contextlib.suppress(FileExistsError):
                missing.mkdir(mode=0o700)
                _give_to_owner_of(missing.parent, missing)


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 600, whole or not at all. Raises ConfigError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with _explained(path, "can't write it"):
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            _give_to_owner_of(path.parent, draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def read_bounded(path: Path) -> bytes | None:
    """What is in the file; None where there is none. Raises ConfigError for one that can't be read or is too large."""
    with _explained(path, "can't read it"):
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            return None
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path}: larger than {MAX_FILE} bytes, which no such file is", file=str(path))
    return data


def check_secret(path: Path) -> None:
    """Raise ConfigError where others than its owner may read the file, or where it can't be looked at."""
    with _explained(path, "can't look at it"):
        mode = path.stat().st_mode
    if mode & _OTHERS:
        raise ConfigError(
            f"{path}: others may read this key (mode {mode & 0o777:o}); run: chmod 600 {path}", file=str(path)
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process at a time is in here for this folder, which is made if it is not there. Raises ConfigError."""
    make_private(folder)
    with _explained(folder, "can't lock it"):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _give_to_owner_of(folder, folder / LOCK)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _give_to_owner_of(holder: Path, made: Path) -> None:
    if os.geteuid() == 0:
        owner = holder.stat()
        os.chown(made, owner.st_uid, owner.st_gid)


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        hint = "; run it as the gateway's user, or with sudo" if isinstance(problem, PermissionError) else ""
        raise ConfigError(f"{path}: {what}: {problem.strerror or problem}{hint}", file=str(path)) from None
