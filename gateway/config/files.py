"""Which files make a config: one file, and every `*.toml` in the folder `devices.d` beside it, by name.

/etc/instrument-gateway/gateway.toml        everything may be in here
/etc/instrument-gateway/devices.d/psu1.toml [devices.NAME] and [hosts.NAME] only
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError
from gateway.limits import MIB

MAX_FILE: Final = MIB
MAX_FILES: Final = 256
"""Files in `devices.d`."""
FOLDER: Final = "devices.d"


def devices_folder(path: str | os.PathLike[str]) -> Path:
    """The folder `devices.d` that belongs to the config at `path`."""
    return Path(path).parent / FOLDER


def config_files(path: str | os.PathLike[str]) -> list[str]:
    """The files of the config at `path`, itself first, then those of its folder by name. Hidden files don't count.

    Raises ConfigError for a folder that can't be read or has more than `MAX_FILES`.
    """
    name = os.fspath(path)
    folder = os.path.join(os.path.dirname(name), FOLDER)
    try:
        found = sorted(each for each in os.listdir(folder) if each.endswith(".toml") and not each.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        found = []
    except OSError as problem:
        raise _unreadable(folder, f"cannot read it: {problem.strerror or problem}") from None
    if len(found) > MAX_FILES:
        raise _unreadable(folder, f"has {len(found)} files; at most {MAX_FILES} are read")
    return [name, *(os.path.join(folder, each) for each in found)]


def read_file(name: str) -> bytes:
    """What is in the file. Raises ConfigError: no such file, unreadable, or over 1 MiB."""
    try:
        with open(name, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise _unreadable(name, "no such file; write one like examples/bench.toml") from None
    except OSError as problem:
        raise _unreadable(name, f"cannot read it: {problem.strerror or problem}") from None
    if len(data) > MAX_FILE:
        raise _unreadable(name, f"larger than {MAX_FILE} bytes, which no config is")
    return data


def _unreadable(name: str, reason: str) -> ConfigError:
    return ConfigError(f"{name}: {reason}", file=name, line=None, key="", reason=reason, nearest=None)
