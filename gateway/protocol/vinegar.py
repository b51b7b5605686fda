"""Vinegar: exceptions by value.

    EXCEPTION args = 1                                                        StopIteration
                   | "text"                                                   a legacy string
                   | ((module, class), args, ((attribute, value), ...), traceback text)

What is no brine value travels as its repr. `load` accepts anything a peer may send and never raises, never imports
unless told to, sets no attribute that begins with an underscore, and never builds an exception that would end the
caller's process (SystemExit, KeyboardInterrupt).
"""

from __future__ import annotations

import builtins
import importlib
import sys
from contextlib import suppress
from typing import Any, Final

from gateway.errors import BY_CODE, GatewayError
from gateway.limits import Limits
from gateway.protocol.brine import dumpable
from gateway.protocol.constants import EXC_STOP_ITERATION

RPYC_VERSION: Final = "6.0.2"
"""The version of RPyC whose wire we speak; a peer of another major version warns its user."""
TRACEBACK_DENIED: Final = "<traceback denied>"
VERSION_DENIED: Final = "<version denied>"
_ATTRIBUTES: Final = 64
_ARGUMENTS: Final = 64
_IGNORED: Final = frozenset({"args", "facts", "obj", "with_traceback", "add_note"})


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
    text = TRACEBACK_DENIED if traceback_text is None else traceback_text[-limits.exception_text :]
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
    facts = [(name, _value(fact, limits)) for name, fact in error.facts.items()]
    return [("code", error.code), ("retryable", error.retryable), *facts[:_ATTRIBUTES]]


def _attributes(error: BaseException, limits: Limits) -> list[tuple[str, object]]:
    attributes: list[tuple[str, object]] = []
    for name in dir(error):
        if name.startswith("_") or name in _IGNORED:
            continue
        try:
            value = getattr(error, name)
        except Exception:  # noqa: S112 - a property of the user's exception may fail: it just doesn't travel
            continue
        if not callable(value):
            attributes.append((name, _value(value, limits)))
    return attributes[:_ATTRIBUTES]


def _value(value: object, limits: Limits) -> object:
    if isinstance(value, str) and type(value) is not str:
        value = str.__str__(value)
    if type(value) is str:
        return value[: limits.exception_text].encode("utf-8", "backslashreplace").decode()
    if dumpable(value):
        return value
    try:
        return _value(repr(value), limits)
    except Exception:
        return f"<{type(value).__name__} without a repr>"


def load(payload: object, config: dict[str, Any], limits: Limits) -> Exception:
    """The exception to raise for what the peer sent, with the remote traceback as a note and as `_remote_tb`.

    `config`: `instantiate_custom_exceptions` and `import_custom_exceptions` of the seed decide whether classes other
    than builtins and ours are built.
    """
    if payload == EXC_STOP_ITERATION:
        return StopIteration()
    if isinstance(payload, str):
        return GenericException(payload[: limits.exception_text])
    match payload:
        case ((str(module), str(name)), tuple(args), tuple(attributes), str(text)):
            pass
        case _:
            return GenericException(f"the peer sent an exception that can't be read: {payload!r:.200}")
    module, name = module[: limits.exception_name], name[: limits.exception_name]
    pairs = [pair for pair in attributes[: _ATTRIBUTES + 3] if _is_pair(pair)]
    error = _build(module, name, args[:_ARGUMENTS], dict(pairs), config)
    for key, value in pairs:
        _set(error, key, value)
    _attach_traceback(error, text[-limits.exception_text :])
    return error


def _is_pair(pair: object) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)


def _build(module: str, name: str, args: tuple[Any, ...], facts: dict[str, Any], config: dict[str, Any]) -> Exception:
    code = facts.get("code")
    cls: type[Exception] | None = None
    if isinstance(code, str) and module in ("builtins", "gateway.errors"):
        cls = BY_CODE.get(code)
    if cls is None:
        cls = _find_class(module, name, config)
    if cls is not None:
        try:
            error = cls.__new__(cls)
            error.args = args
            if isinstance(error, GatewayError):
                error.facts = {}
        except Exception:  # noqa: S110 - a class that refuses an empty birth becomes the generic one below
            pass
        else:
            return error
    generic = GenericException(*args)
    generic.remote_class = f"{module}.{name}"
    return generic


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
        found = vars(sys.modules[module]).get(name) if module in sys.modules else None
    # Only Exception's family: a peer must not raise SystemExit or KeyboardInterrupt in its caller.
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _set(error: Exception, key: str, value: object) -> None:
    if key == "_remote_version":
        error._remote_version = value  # type: ignore[attr-defined]
    elif not key.startswith("_") and key not in _IGNORED:
        if isinstance(error, GatewayError):
            if key not in ("code", "retryable"):
                error.facts[key] = value
            return
        if value is None and hasattr(error, key):
            return  # a builtin's own default: setting it would change what OSError shows
        with suppress(Exception):  # a read-only or typed attribute keeps its own value
            setattr(error, key, value)


def _attach_traceback(error: Exception, text: str) -> None:
    version = getattr(error, "_remote_version", VERSION_DENIED)
    if isinstance(version, str) and version != VERSION_DENIED and version.split(".")[0] != RPYC_VERSION.split(".")[0]:
        text += f"\nWARNING: Remote is on RPyC {version} and local is on RPyC {RPYC_VERSION}.\n\n"
    error._remote_tb = text  # type: ignore[attr-defined]
    if text != TRACEBACK_DENIED:
        hops = text.count("========= Remote Traceback ") + 1
        error.add_note(f"\n========= Remote Traceback ({hops}) =========\n{text}")
