"""Gateways with a fixed address, for networks that carry no multicast.

    INSTRUMENT_GATEWAYS="bench=tcp://10.0.0.5:18871,lab2=ssh://pi@lab2"

    ~/.config/instrument-gateway/gateways.toml:
        [gateways]
        bench = "tcp://10.0.0.5:18871"

The environment wins over the file. What can't be used is a ConfigError that names the place, the key and the fix.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.discovery.advertisement import check_name
from gateway.errors import ConfigError

ENVIRONMENT: Final = "INSTRUMENT_GATEWAYS"
TABLE: Final = "gateways"
MAX_FILE: Final = 64 * 1024
MAX_ENTRIES: Final = 256
MAX_URL: Final = 1024

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:")
_HOST_AND_PORT: Final = {"tcp", "tls"}


def gateways_file() -> Path:
    """The user's file of fixed addresses (`XDG_CONFIG_HOME`, else ~/.config); it need not exist."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    config = Path(home) if os.path.isabs(home) else Path.home() / ".config"
    return config / "instrument-gateway" / "gateways.toml"


def static_gateways(environ: Mapping[str, str] | None = None, path: Path | None = None) -> dict[str, str]:
    """Name -> URL from `environ` (default: the process's) and the file at `path` (default: `gateways_file()`).

    Raises ConfigError for an entry or a file that can't be used; a file that is not there is no error.
    """
    environ = os.environ if environ is None else environ
    path = gateways_file() if path is None else path
    return _from_file(path) | _from_environment(environ.get(ENVIRONMENT, ""))


def without_password(url: str) -> str:
    """The URL as it may be shown: `ssh://pi:***@lab2`."""
    return re.sub(r"(?<=://)([^/@:]*):[^/]*@", r"\1:***@", url, count=1)


def _from_environment(text: str) -> dict[str, str]:
    if not text.strip():
        return {}
    items = text.split(",")
    if len(items) > MAX_ENTRIES:
        raise ConfigError(f"{ENVIRONMENT}: {len(items)} entries; at most {MAX_ENTRIES} are read")
    found: dict[str, str] = {}
    for number, item in enumerate(items, 1):
        name, equals, url = (part.strip() for part in item.partition("="))
        if not equals:
            shown = without_password(item.strip())[:80]
            raise ConfigError(
                f"{ENVIRONMENT}: entry {number}, {shown!r}, is not NAME=URL; "
                f"write entries like bench=tcp://10.0.0.5:18871, comma between",
                key=ENVIRONMENT,
            )
        if name in found:
            raise ConfigError(f"{ENVIRONMENT}: {name!r} is there twice; keep one", key=name)
        found[name] = _checked(name, url, f"{ENVIRONMENT}: entry {number}")
    return found


def _from_file(path: Path) -> dict[str, str]:
    document = _document(path)
    for key in document:
        if key != TABLE:
            near = f"; did you mean [{TABLE}]?" if difflib.get_close_matches(key, [TABLE]) else ""
            raise ConfigError(f"{path}: unknown key {key!r}, only the table [{TABLE}] belongs here{near}", key=key)
    entries = document.get(TABLE, {})
    if not isinstance(entries, dict):
        raise ConfigError(f'{path}: {TABLE} is a table: write [{TABLE}] and below it lines NAME = "URL"', key=TABLE)
    if len(entries) > MAX_ENTRIES:
        raise ConfigError(f"{path}: [{TABLE}] has {len(entries)} entries; at most {MAX_ENTRIES} are read", key=TABLE)
    return {name: _checked(name, url, f"{path}: [{TABLE}] {name}") for name, url in entries.items()}


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise ConfigError(f"{path}: cannot read it: {problem.strerror or problem}") from None
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path}: larger than {MAX_FILE} bytes, which no list of gateways is")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"{path}: not valid TOML: {problem}") from None


def _checked(name: str, url: object, where: str) -> str:
    """`url`, if a connection could be tried with it. The scheme itself is judged by whoever connects."""
    try:
        check_name(name)
    except ConfigError as problem:
        raise ConfigError(f"{where}: {problem}", key=name) from None
    if not isinstance(url, str):
        raise ConfigError(f'{where}: a URL is text, such as "tcp://10.0.0.5:18871", not {url!r}', key=name)
    shown = without_password(url)[:80]
    if not 1 <= len(url) <= MAX_URL or not url.isprintable() or (" " in url and not url.startswith("pipe:")):
        raise ConfigError(f"{where}: {shown!r} is no URL; write one such as tcp://10.0.0.5:18871", key=name)
    if not _SCHEME.match(url) or ("://" not in url and not url.startswith("pipe:")):
        raise ConfigError(f"{where}: {shown!r} has no scheme; write tcp://{shown}", key=name)
    scheme = url.partition(":")[0]
    if scheme in _HOST_AND_PORT:
        _check_host_and_port(url, f"{where}: {shown!r}", name)
    return url


def _check_host_and_port(url: str, where: str, name: str) -> None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as problem:
        raise ConfigError(f"{where}: {problem}", key=name) from None
    if not host:
        raise ConfigError(f"{where} has no host; write tcp://HOST:PORT", key=name)
    if port == 0:
        raise ConfigError(
            f"{where}: port 0 is nowhere to connect to; write the gateway's port, by default 18871", key=name
        )
