"""Changing one key of a config file, and nothing else in it: comments, order and blanks stay as they are.

The line is found, changed, and the whole text parsed again: unless exactly this key has changed, nothing is written.
"""

from __future__ import annotations

import copy
import json
import os
import re
import stat
import tempfile
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.config.convert import nearest
from gateway.config.files import config_files, read_file
from gateway.config.source import KeyPath, Mark, Source, marks, read_tables
from gateway.errors import ConfigError, NotFound

MAX_REASON: Final = 500

_ASSIGNED: Final = re.compile(r"""["']?\bdisabled["']?\s*=\s*("(?:[^"\\]|\\.)*"|'[^']*')""")


@dataclass(frozen=True, slots=True)
class Edited:
    """What was done to a config."""

    file: str
    line: int
    """Where the key stands, or stood."""
    changed: bool
    """False: it was like that already, and nothing was written."""


def disable(path: str | os.PathLike[str], device: str, reason: str) -> Edited:
    """Set `disabled = REASON` in the table of `device`, in whichever file of the config at `path` that stands.

    Raises NotFound if no file has the device, ConfigError for a reason that is none, a file that can't be read or
    written, or a table that can't be edited safely.
    """
    if not reason.strip() or len(reason) > MAX_REASON or not reason.isprintable():
        raise ConfigError(f"a reason is one line of 1 to {MAX_REASON} printable characters")
    return _edit(path, device, reason)


def enable(path: str | os.PathLike[str], device: str) -> Edited:
    """Take `disabled` out of the table of `device`. Raises as `disable`."""
    return _edit(path, device, None)


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file at `path`, or make it: afterwards it has all of `data`, or is as it was. Mode and owner stay.

    Raises ConfigError if it can't be written.
    """
    target = os.path.realpath(path)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=os.path.dirname(target))
    except OSError as problem:
        raise ConfigError(f"{path}: cannot write beside it: {problem.strerror or problem}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _keep_rights(file.fileno(), target)
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(os.path.dirname(target))
    except OSError as problem:
        raise ConfigError(f"{path}: cannot write it: {problem.strerror or problem}") from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def toml_text(value: str) -> str:
    """`value` as a TOML string in double quotes."""
    # JSON's escapes are TOML's; only DEL needs one in TOML and not in JSON.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _keep_rights(descriptor: int, target: str) -> None:
    try:
        old = os.stat(target)
    except FileNotFoundError:
        os.fchmod(descriptor, 0o644)
        return
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
    with suppress(PermissionError):
        os.fchown(descriptor, old.st_uid, old.st_gid)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _edit(path: str | os.PathLike[str], device: str, reason: str | None) -> Edited:
    file, tables, source = _holder(path, device)
    table: KeyPath = ("devices", device)
    wanted = copy.deepcopy(tables)
    current = wanted["devices"][device].pop("disabled", None)
    if reason is not None:
        wanted["devices"][device]["disabled"] = reason
    if current == reason:
        return Edited(file, source.line((*table, "disabled")) or 1, changed=False)
    raw = Path(file).read_bytes().decode("utf-8")
    marked = list(marks(raw.removeprefix("\ufeff")))
    line, text = _with_line(raw, marked, table, None if reason is None else f"disabled = {toml_text(reason)}")
    if not line or _parsed(text) != wanted:
        by_hand = "take out its key 'disabled'" if reason is None else f"write disabled = {toml_text(reason)} into it"
        raise source.error(table, f"this table can't be edited safely; {by_hand} by hand")
    write_file(file, text.encode("utf-8"))
    return Edited(file, line, changed=True)


def _holder(path: str | os.PathLike[str], device: str) -> tuple[str, dict[str, Any], Source]:
    """The file that has the device's table."""
    known: list[str] = []
    for file in config_files(path):
        tables, source = read_tables(read_file(file), file)
        devices = tables.get("devices")
        if isinstance(devices, dict):
            if isinstance(devices.get(device), dict):
                return file, tables, source
            known += devices
    raise NotFound(f"no device {device[:80]!r} in {os.fspath(path)}; {nearest(device, known)}")


def _with_line(raw: str, marked: list[Mark], table: KeyPath, new: str | None) -> tuple[int, str]:
    """The line to change, from 1, and the text with it changed: `new` in place of what the key's line says, or added to
    the table, or the key's line taken out (None). Line 0 where no such line is found.
    """
    lines = raw.splitlines(keepends=True)
    key = next((mark for mark in marked if not mark.table and mark.path == (*table, "disabled")), None)
    if key is not None:
        old = lines[key.line - 1]
        # A function, since `new` may have backslashes. What can't be found is left, and then seen not to have changed.
        lines[key.line - 1] = "" if new is None else _ASSIGNED.sub(lambda _: new, old, count=1)
        return key.line, "".join(lines)
    header = next((mark for mark in marked if mark.table and mark.path == table), None)
    if header is not None and new is not None:
        old = lines[header.line - 1]
        end = old[len(old.rstrip("\r\n")) :] or "\n"
        lines[header.line - 1 : header.line] = [old.rstrip("\r\n") + end, new + end]
        return header.line + 1, "".join(lines)
    # psu1.driver = "..." within [devices], or devices.psu1.driver = "..." at the top.
    dotted = next((mark for mark in marked if not mark.table and mark.path[:2] == table and len(mark.path) == 3), None)
    if dotted is not None and new is not None:
        old = lines[dotted.line - 1]
        end = old[len(old.rstrip("\r\n")) :] or "\n"
        prefix = old[: old.index("=")].rpartition(".")[0]
        lines.insert(dotted.line - 1, f"{prefix}.{new}{end}")
        return dotted.line, "".join(lines)
    return 0, raw


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, ValueError, RecursionError):
        return None
