"""Channel URLs: a text such as `tcp://bench3:18871` or `serial:///dev/ttyUSB0?baudrate=921600`, checked once.

    scheme://[user@][host][:port][/path][?option=value&...]       an IPv6 address stands in brackets: tcp://[fe80::1]:18871
    pipe:command argument ...                                     all after the colon is one command line

Each scheme is a module of this package, listed in `SCHEMES`; it says in its `SCHEME` which of these parts it takes and
which options. No scheme takes a password: `ssh://` works with keys. A URL that carries one is refused, and whatever
shows a URL shows `redacted(url)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any, Final, Generic, Protocol, TypeVar

from gateway.channels.base import Channel
from gateway.channels.listener import Listener
from gateway.errors import ConfigError
from gateway.limits import Limits

DEFAULT_PORT: Final = 18871
MAX_URL: Final = 4096
MAX_OPTIONS: Final = 32

SCHEMES: Final = {
    "tcp": "gateway.channels.tcp",
    "tls": "gateway.channels.tls",
    "unix": "gateway.channels.unix",
    "pipe": "gateway.channels.pipe",
    "ssh": "gateway.channels.ssh",
    "serial": "gateway.channels.serial",
    "rfc2217": "gateway.channels.rfc2217",
    "socket": "gateway.channels.socket_port",
    "usb": "gateway.channels.usb",
    "gadget": "gateway.channels.gadget",
}
"""Scheme -> the module that knows it; imported when first used."""

# As text: `re` compiles and keeps what is used, and a program that connects to one gateway needs few of them.
_SCHEME_AND_REST: Final = r"(?s)([A-Za-z][A-Za-z0-9+.-]*):(.*)"
_PLACE: Final = r"(?s)(?://(?P<authority>[^/?]*))?(?P<path>[^?]*)(?:\?(?P<query>.*))?"
_AUTHORITY: Final = r"(?:(?P<user>[^@:]*)@)?(?:\[(?P<literal>[^\[\]@]*)\]|(?P<host>[^:@\[\]]*))(?::(?P<port>[^:@]*))?"
# Strict on purpose: ssh hands user and host on to a shell where its config says ProxyCommand.
_HOST: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}"
_USER: Final = r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}"
_OPTION_NAME: Final = r"[a-z][a-z0-9_-]{0,31}"
_CONTROL: Final = r"[\x00-\x1f\x7f]"

_LOGIN_WORD: Final = r"(?s)(//[^:@/?]*):.*@"
_LOGIN: Final = r"//[^@/?]*@"
_HIDDEN_OPTION: Final = r"(?is)([?&;][^=&;]*(?:pass|pwd|token|secret|key|auth|cred)[^=&;]*=)[^&;]*"


# ------------------------------------------------------------------------------------------------------------- options


def flag(text: str) -> bool:
    """`true`, `yes`, `on`, `1` or the opposites."""
    word = text.lower()
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError("true or false")


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`, in decimal."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= 20 and low <= int(text) <= high):
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return read


def one_of(*words: str) -> Callable[[str], str]:
    """One of `words`, in any case."""

    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(" or ".join(words))
        return text.lower()

    return read


def text(value: str) -> str:
    """Any text but an empty one."""
    if not value:
        raise ValueError("not empty")
    return value


READ: Final = "read"
"""Key of a field's metadata: the function that reads the option's text, or raises ValueError saying what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may follow `?`: the fields' names are the options. A scheme adds its own."""

    compress: bool | None = field(default=None, metadata={READ: flag})
    """Deflate what gets smaller by it; None: the scheme decides."""


# ----------------------------------------------------------------------------------------------------------------- URL

O = TypeVar("O", bound=Options)  # noqa: E741 - O for options


@dataclass(frozen=True, slots=True)
class Scheme(Generic[O]):
    """What URLs of one scheme may hold."""

    options: type[O]
    takes: frozenset[str] = frozenset()
    """Of `user`, `host`, `port` and `path`; `command` alone for a URL that is a command line. `id`: the host is an id
    of the scheme's own, with a colon in it, and the scheme checks it."""
    default_port: int | None = None
    no_client: str = ""
    """Why nobody can connect to such a URL, where that is so."""
    no_server: str = ""
    """Why nobody can listen at one."""


@dataclass(frozen=True, slots=True, repr=False)
class ChannelUrl(Generic[O]):
    """A URL that was checked. `repr` and `str` are safe to show."""

    scheme: str
    options: O
    shown: str
    """The URL without secrets."""
    user: str | None = None
    host: str | None = None
    """A name or an address, without brackets; None where the URL has none."""
    port: int | None = None
    path: str = ""
    """Decoded; for `pipe:` the command line."""

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"ChannelUrl({self.shown!r})"


class SchemeModule(Protocol):
    """What a module that knows a scheme has: `connect` and `listen` only where the scheme allows them."""

    SCHEME: Scheme[Any]

    def check(self, url: ChannelUrl[Any]) -> None:
        """Raise ConfigError for what this scheme can't use in `url`."""

    def connect(self, url: ChannelUrl[Any], limits: Limits, timeout: float) -> Channel: ...

    def listen(self, url: ChannelUrl[Any], limits: Limits) -> Listener: ...


def scheme_module(scheme: str) -> SchemeModule:
    """The module that knows `scheme`, a key of `SCHEMES`."""
    module: Any = import_module(SCHEMES[scheme])
    return module  # type: ignore[no-any-return]


def is_url(text: str) -> bool:
    """Whether `text` is meant as a channel URL, and not as the bare name of a gateway. It may still be a wrong one."""
    scheme, colon, _ = text.strip().partition(":")
    return "://" in text or bool(colon and scheme.lower() in SCHEMES)


def parse_url(url: str) -> ChannelUrl[Any]:
    """Check `url` in every part and read its options.

    Raises ConfigError, in one line without secrets, that says which part is wrong and what it may be.
    """
    if len(url) > MAX_URL:
        raise ConfigError(f"a channel URL has at most {MAX_URL} characters, not {len(url)}")
    shown = redacted(url)
    if re.search(_CONTROL, url):
        raise ConfigError(f"{shown!r}: a channel URL has no control characters and no line breaks")
    parts = re.fullmatch(_SCHEME_AND_REST, url)
    if parts is None:
        raise ConfigError(f"{shown!r} is no channel URL; write one like tcp://host:{DEFAULT_PORT}")
    name, rest = parts[1].lower(), parts[2]
    if name not in SCHEMES:
        raise ConfigError(_unknown_scheme(shown, name, rest))
    module = scheme_module(name)
    scheme = module.SCHEME
    if scheme.takes == {"command"}:
        parsed = ChannelUrl(scheme=name, options=scheme.options(), shown=shown, path=rest.strip())
    else:
        parsed = _parse_place(name, scheme, rest, shown)
    module.check(parsed)
    return parsed


def url_to_connect(url: str | ChannelUrl[Any]) -> ChannelUrl[Any]:
    """As `parse_url`, for a URL that somebody connects to. Raises ConfigError where nobody can."""
    parsed = parse_url(url) if isinstance(url, str) else url
    if why := scheme_module(parsed.scheme).SCHEME.no_client:
        raise ConfigError(f"can't connect to {parsed.shown}: {why}")
    return parsed


def url_to_listen(url: str | ChannelUrl[Any]) -> ChannelUrl[Any]:
    """As `parse_url`, for a URL that somebody listens at. Raises ConfigError where nobody can."""
    parsed = parse_url(url) if isinstance(url, str) else url
    if why := scheme_module(parsed.scheme).SCHEME.no_server:
        raise ConfigError(f"can't listen at {parsed.shown}: {why}")
    return parsed


def _unknown_scheme(shown: str, name: str, rest: str) -> str:
    if rest.isdecimal():
        return f"{shown!r} has no scheme; write tcp://{shown}"
    near = _near(name, SCHEMES)
    hint = f"did you mean {near!r}? " if near else ""
    return f"{shown!r}: unknown scheme; {hint}known: {', '.join(SCHEMES)}"


def _parse_place(name: str, scheme: Scheme[O], rest: str, shown: str) -> ChannelUrl[O]:
    place = re.fullmatch(_PLACE, rest)
    if place is None or (place["authority"] is None and not place["path"].startswith("/")):
        raise ConfigError(f"{shown!r}: after {name}: comes //")
    authority, path = place["authority"] or "", _unquoted(place["path"])
    if ":" in authority.rpartition("@")[0]:
        raise ConfigError(f"{shown!r}: a channel URL holds no password; ssh:// works with keys")
    if "id" in scheme.takes:
        return ChannelUrl(
            scheme=name,
            options=_read_options(name, scheme.options, place["query"] or "", shown),
            shown=shown,
            host=authority,
            path=_checked_path(path, shown),
        )
    parts = re.fullmatch(_AUTHORITY, authority)
    if parts is None:
        raise ConfigError(f"{shown!r}: after // comes host:port, an IPv6 address in brackets: {name}://[::1]:1234")
    given = {"user": parts["user"], "host": parts["literal"] or parts["host"], "port": parts["port"], "path": path}
    for part, value in given.items():
        if value and part not in scheme.takes and not (part == "path" and value == "/"):
            raise ConfigError(f"{shown!r}: a {name} URL has no {part}")
    path = _checked_path(path, shown)
    return ChannelUrl(
        scheme=name,
        options=_read_options(name, scheme.options, place["query"] or "", shown),
        shown=shown,
        user=_checked_user(parts["user"], shown),
        host=_checked_literal(parts["literal"], shown) or _checked_host(parts["host"], shown),
        port=_checked_port(parts["port"], scheme.default_port, shown),
        path=path if "path" in scheme.takes else "",
    )


def _checked_path(path: str, shown: str) -> str:
    if re.search(_CONTROL, path) or "\ufffd" in path:
        raise ConfigError(f"{shown!r}: the path is text in UTF-8 without control characters")
    return path


def _checked_user(user: str | None, shown: str) -> str | None:
    if user is None:
        return None
    if not re.fullmatch(_USER, user):
        raise ConfigError(f"{shown!r}: a user name has letters, digits and _ . + - and begins with no . + -")
    return user


def _checked_host(host: str | None, shown: str) -> str | None:
    if not host:
        return None
    if not re.fullmatch(_HOST, host):
        raise ConfigError(f"{shown!r}: a host name has letters, digits and _ . - and does not begin with . or -")
    return host


def _checked_literal(literal: str | None, shown: str) -> str | None:
    if literal is None:
        return None
    address, percent, zone = literal.partition("%")
    zone = zone.removeprefix("25")  # RFC 6874 writes the percent sign itself as %25
    from ipaddress import IPv6Address

    try:
        IPv6Address(address)
        if percent and not re.fullmatch(_HOST, zone):
            raise ValueError(zone)
    except ValueError:
        raise ConfigError(f"{shown!r}: in brackets stands an IPv6 address, such as [::1] or [fe80::1%eth0]") from None
    return address + percent + zone


def _checked_port(port: str | None, default: int | None, shown: str) -> int | None:
    if port is None:
        return default
    try:
        return whole(0, 65535)(port)
    except ValueError as error:
        raise ConfigError(f"{shown!r}: a port is {error}") from None


def _read_options(name: str, kind: type[O], query: str, shown: str) -> O:
    known = {option.name: option for option in fields(kind)}
    pairs = [pair for pair in query.split("&") if pair]
    if len(pairs) > MAX_OPTIONS:
        raise ConfigError(f"{shown!r}: {len(pairs)} options are too many")
    values: dict[str, Any] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in known:
            raise ConfigError(_unknown_option(name, key, list(known), shown))
        if key in values:
            raise ConfigError(f"{shown!r}: option {key} is given twice")
        try:
            values[key] = known[key].metadata[READ](_unquoted(value, errors="strict"))
        except ValueError as error:
            problem = "text in UTF-8" if isinstance(error, UnicodeError) else str(error)
            raise ConfigError(f"{shown!r}: option {key} must be {problem}") from None
    return kind(**values)


def _unknown_option(name: str, key: str, known: list[str], shown: str) -> str:
    # What looks like no option name may be a piece of a password with a ? in it: it is not repeated.
    label = f"unknown option {key!r}" if re.fullmatch(_OPTION_NAME, key) else "unknown option"
    near = _near(key, known)
    hint = f"did you mean {near!r}? " if near else ""
    return f"{shown!r}: {label}; {hint}{name} URLs take: {', '.join(known)}"


def _unquoted(text: str, errors: str = "replace") -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text, errors=errors)


def _near(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, 1)), "")


def redacted(url: str) -> str:
    """`url` as it may be shown: no password, no option's value that sounds like a secret, no arguments of a command.

    Takes any text, also a wrong URL, and hides too much rather than too little.
    """
    scheme, _, rest = url.strip().partition(":")
    if scheme.lower() == "pipe":
        program, *arguments = rest.split(maxsplit=1) or [""]
        return f"pipe:{program}{' ...' if arguments else ''}"
    shown = re.sub(_LOGIN_WORD, r"\1:***@", url)
    if scheme.lower() != "ssh":
        shown = re.sub(_LOGIN, "//***@", shown)
    return re.sub(_HIDDEN_OPTION, r"\1***", shown)


def tcp_url(host: str, port: int) -> str:
    """`tcp://host:port`, with an IPv6 address in brackets."""
    return host_url("tcp", host, port)


def host_url(scheme: str, host: str, port: int) -> str:
    """`scheme://host:port`, with an IPv6 address in brackets."""
    from urllib.parse import quote

    literal = f"[{quote(host, safe=':')}]" if ":" in host else host
    return f"{scheme}://{literal}:{port}"
