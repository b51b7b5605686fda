"""Vinegar: exceptions by value.

    EXCEPTION args = 1                                                        StopIteration
                   | "text"                                                   a legacy string
                   | ((module, class), args, ((attribute, value), ...), traceback text)

What is no brine value, or a large one, travels as its repr. `load` accepts anything a peer may send and never raises,
never imports unless told to, sets no attribute that begins with an underscore, and never builds an exception that would
end the caller's process (SystemExit, KeyboardInterrupt) or that shows memory when it is printed.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from contextlib import suppress
from functools import cache
from typing import Any, Final

from gateway.errors import BY_CODE, GatewayError
from gateway.limits import Limits
from gateway.protocol import brine
from gateway.protocol.constants import EXC_STOP_ITERATION

RPYC_VERSION: Final = "6.0.2"
"""The version of RPyC whose wire we speak; a peer of another major version warns its user."""
TRACEBACK_DENIED: Final = "<traceback denied>"
VERSION_DENIED: Final = "<version denied>"
_ATTRIBUTES: Final = 64
_ARGUMENTS: Final = 64
_VERSION_MAX: Final = 64
_IGNORED: Final = frozenset({"args", "facts", "obj", "with_traceback", "add_note"})
_RESERVED: Final = frozenset({"code", "retryable"})
"""Of the attributes of an error of ours: what its class says, no fact can say otherwise."""
_PLACES: Final = frozenset(
    "encoding object start end reason msg filename lineno offset text end_lineno end_offset print_file_and_line".split()
)
"""Attributes in which UnicodeError and SyntaxError point at a place, and which Python trusts when it shows them."""


class GenericException(Exception):
    """An exception of a class that this side does not build; `remote_class` is `"module.Class"` as the peer said it."""

    remote_class: str = ""

    def __str__(self) -> str:
        text = super().__str__()
        return f"{self.remote_class}: {text}" if text else self.remote_class


def dump(error: BaseException, traceback_text: str | None, version: str | None, limits: Limits) -> object:
    """The brine value for `error`. None for `traceback_text` or `version` means denied.

    An error of ours goes as its nearest builtin class with `code` and its facts, so that a stock peer can catch it.
    """
    if type(error) is StopIteration:
        return EXC_STOP_ITERATION
    attributes = _facts(error, limits) if isinstance(error, GatewayError) else _attributes(error, limits)
    attributes.append(("_remote_version", VERSION_DENIED if version is None else version))
    text = TRACEBACK_DENIED if traceback_text is None else _text(traceback_text[-limits.exception_text :], limits)
    return (
        _class_name(type(error)),
        tuple(_value(argument, limits) for argument in error.args[:_ARGUMENTS]),
        tuple(attributes),
        text,
    )


def _class_name(cls: type) -> tuple[str, str]:
    if issubclass(cls, GatewayError):
        cls = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    return cls.__module__, cls.__name__


def _facts(error: GatewayError, limits: Limits) -> list[tuple[str, object]]:
    facts = [(name, _value(fact, limits)) for name, fact in error.facts.items() if name not in _RESERVED]
    return [("code", error.code), ("retryable", error.retryable), *facts[:_ATTRIBUTES]]


def _attributes(error: BaseException, limits: Limits) -> list[tuple[str, object]]:
    attributes: list[tuple[str, object]] = []
    cls: type = type(error)
    # `dir` takes longer than all the rest, and the classes of this module are what they are.
    names = {**_builtin_attributes(cls), **vars(error)} if cls.__module__ == "builtins" else dir(error)
    for name in names:
        if name.startswith("_") or name in _IGNORED:
            continue
        try:
            value = getattr(error, name)
        except Exception:  # noqa: S112 - a property of the user's exception may fail: it just doesn't travel
            continue
        if not callable(value):
            attributes.append((name, _value(value, limits)))
    return attributes[:_ATTRIBUTES]


@cache
def _builtin_attributes(cls: type) -> dict[str, None]:
    """The names of the data attributes that instances of a builtin exception class have, in order."""
    return dict.fromkeys(name for name in dir(cls) if not name.startswith("_") and not callable(getattr(cls, name)))


def _value(value: object, limits: Limits) -> object:
    if isinstance(value, str) and type(value) is not str:
        value = str.__str__(value)
    if type(value) is str:
        return _text(value, limits)
    try:
        if len(brine.dump(value, limits)) <= limits.exception_text:
            return value
    except (brine.NotBrine, brine.Unencodable):
        pass
    try:
        return _value(repr(value), limits)
    except Exception:
        return f"<{type(value).__name__} without a repr>"


def _text(text: str, limits: Limits) -> str:
    """As much of a text as may travel, and all of it encodable."""
    text = text[: limits.exception_text]
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


_PLACED: Final = (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError)


def is_remote(error: BaseException) -> bool:
    """Whether `load` built it: a peer raised it."""
    return "_remote_tb" in vars(error)


def load(payload: Any, config: dict[str, Any], limits: Limits) -> Exception:
    """The exception to raise for what the peer sent, with the remote traceback as a note and as `_remote_tb`.

    `config`: `instantiate_custom_exceptions` and `import_custom_exceptions` of the seed decide whether classes other
    than builtins and ours are built.
    """
    if payload == EXC_STOP_ITERATION:
        return StopIteration()
    if isinstance(payload, str):
        return GenericException(payload[: limits.exception_text])
    if not _is_readable(payload):
        return GenericException(f"the peer sent an exception that can't be read: {payload!r:.200}")
    (module, name), args, attributes, text = payload
    module, name = module[: limits.exception_name], name[: limits.exception_name]
    pairs = [(pair[0], _kept(pair[1], limits)) for pair in attributes[: _ATTRIBUTES + 3] if _is_pair(pair, limits)]
    error = _build(module, name, tuple(_kept(arg, limits) for arg in args[:_ARGUMENTS]), dict(pairs), config)
    for key, value in pairs:
        _set(error, key, value)
    _attach_traceback(error, text[-limits.exception_text :])
    return error


def _is_readable(payload: Any) -> bool:
    """Whether it is `((module, name), args, attributes, traceback text)`."""
    # Not `match`, which would take half of the time of `load`.
    try:
        (module, name), args, attributes, text = payload
    except (TypeError, ValueError):
        return False
    return type(module) is type(name) is type(text) is str and type(args) is type(attributes) is tuple


def _kept(value: object, limits: Limits) -> object:
    """As much of a received value as an exception keeps: it may be held for long."""
    kind = type(value)
    if kind is str or kind is bytes:
        return value[: limits.exception_text]  # type: ignore[index]
    if kind is tuple or kind is frozenset or kind is slice:
        try:
            if len(brine.dump(value, limits)) > limits.exception_text:
                return f"<a {kind.__name__} that is too large for an exception>"
        except brine.Unencodable:
            return f"<a {kind.__name__} that can't be kept>"
    return value


def _is_pair(pair: object, limits: Limits) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and len(pair[0]) <= limits.name


def _build(module: str, name: str, args: tuple[Any, ...], facts: dict[str, Any], config: dict[str, Any]) -> Exception:
    code = facts.get("code")
    cls: type[Exception] | None = None
    if isinstance(code, str) and module in ("builtins", "gateway.errors"):
        cls = BY_CODE.get(code)
    if cls is None:
        cls = _find_class(module, name, config)
    if cls is not None:
        try:
            return _instance(cls, args)
        except Exception:  # noqa: S110 - a class that refuses these arguments becomes the generic one below
            pass
    generic = GenericException(*args)
    generic.remote_class = f"{module}.{name}"
    return generic


def _instance(cls: type[Exception], args: tuple[Any, ...]) -> Exception:
    """An exception of that class, made without running its own `__init__`. May raise anything."""
    # One of our classes can be of two builtin families; only OSError's own __new__ makes an object of its size.
    error = OSError.__new__(cls) if issubclass(cls, OSError) else cls.__new__(cls)
    if isinstance(error, _PLACED):
        # Python reads memory at these numbers, however far outside the text they point.
        *_, text, start, end, _ = args
        if not 0 <= start < end <= len(text):
            raise ValueError("a place outside the text")
        builtin = next(base for base in cls.__mro__ if base.__module__ == "builtins")
        builtin.__init__(error, *args)  # type: ignore[misc]
    elif isinstance(error, SyntaxError):
        SyntaxError.__init__(error, *args[:1])
    error.args = args
    if isinstance(error, GatewayError):
        error.facts = {}
    return error


def _find_class(module: str, name: str, config: dict[str, Any]) -> type[Exception] | None:
    found: object = None
    if module == "builtins":
        found = getattr(builtins, name, None)
    elif config["instantiate_custom_exceptions"]:
        if config["import_custom_exceptions"] and module not in sys.modules:
            try:
                importlib.import_module(module)
            except Exception:
                return None
        found = getattr(sys.modules.get(module), "__dict__", {}).get(name)
    # Only Exception's family: a peer must not raise SystemExit or KeyboardInterrupt in its caller.
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _set(error: Exception, key: str, value: object) -> None:
    if key == "_remote_version":
        vars(error)[key] = value[:_VERSION_MAX] if isinstance(value, str) else value
    elif not key.startswith("_") and key not in _IGNORED:
        if isinstance(error, GatewayError):
            if key not in _RESERVED:
                error.facts[key] = value
            return
        if key in _PLACES and isinstance(error, UnicodeError | SyntaxError):
            return
        if value is None and hasattr(error, key):
            return  # a builtin's own default: setting it would change what OSError shows
        with suppress(Exception):  # a read-only or typed attribute keeps its own value
            setattr(error, key, value)


def _attach_traceback(error: Exception, text: str) -> None:
    # Written past the class, which may forbid setting attributes.
    attributes = vars(error)
    version = attributes.get("_remote_version", VERSION_DENIED)
    if isinstance(version, str) and version != VERSION_DENIED and version.split(".")[0] != RPYC_VERSION.split(".")[0]:
        text += f"\nWARNING: Remote is on RPyC {version} and local is on RPyC {RPYC_VERSION}.\n\n"
    attributes["_remote_tb"] = text
    if text != TRACEBACK_DENIED:
        hops = text.count("========= Remote Traceback ") + 1
        attributes["__notes__"] = [f"\n========= Remote Traceback ({hops}) =========\n{text}"]
