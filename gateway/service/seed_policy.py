"""The seed's attribute policy: RPyC's own rules, decided by the connection's config.

| key | lets through |
|---|---|
| allow_exposed_attrs | names that begin with `exposed_prefix`, and plain names of which a prefixed one exists |
| allow_safe_attrs | the names in `safe_attrs` |
| allow_public_attrs | names without a leading underscore |
| allow_all_attrs | every name |
| allow_getattr, allow_setattr, allow_delattr | the operation at all |

A class may take the decision over by `_rpyc_getattr`, `_rpyc_setattr`, `_rpyc_delattr`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from gateway.limits import Limits
from gateway.protocol.netref import BUILTIN_CLASSES, IdPack, Methods, Netref, methods_of
from gateway.service.exposure import EXPOSED_PREFIX
from gateway.service.policy import COMPARISONS, Policy, bounded_items, raise_locally


class SeedPolicy(Policy):
    """RPyC's rules for one connection. `config` is looked at on every call: `on_connect` may change it."""

    copies = False

    def __init__(self, config: dict[str, Any], limits: Limits) -> None:
        self._config = config
        self._limits = limits

    def get(self, obj: Any, name: str) -> Any:
        cls = type(obj)
        hook = getattr(cls, "_rpyc_getattr", None)
        if hook is not None and not isinstance(obj, Netref):  # as in `_hook`
            return hook(obj, name)
        candidates = self._candidates(name, "allow_getattr")
        failure: AttributeError | None = None
        for attribute in candidates:
            if hasattr(cls, attribute):  # nearly always; `_has` would say so too
                return getattr(obj, attribute)
            there = _has(obj, attribute)
            if there is not False:
                try:
                    return getattr(obj, attribute)
                except AttributeError as error:
                    if there:
                        raise
                    failure = failure or error
        if name not in candidates:
            raise self._denial(name, "allow_getattr")
        raise failure or AttributeError(f"{type(obj).__name__!r} object has no attribute {name!r}")

    def set(self, obj: Any, name: str, value: Any) -> None:
        hook = _hook(obj, "_rpyc_setattr")
        if hook:
            hook(obj, name, value)
        else:
            setattr(obj, self._allowed(obj, name, "allow_setattr"), value)

    def delete(self, obj: Any, name: str) -> None:
        hook = _hook(obj, "_rpyc_delattr")
        if hook:
            hook(obj, name)
        else:
            delattr(obj, self._allowed(obj, name, "allow_delattr"))

    def call(self, obj: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return obj(*args, **kwargs)

    def call_attr(self, obj: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.get(obj, name)(*args, **kwargs)

    def repr_of(self, obj: Any) -> str:
        return repr(obj)

    def str_of(self, obj: Any) -> str:
        return str(obj)

    def hash_of(self, obj: Any) -> int:
        return hash(obj)

    def compare(self, obj: Any, other: Any, operator: str) -> Any:
        if operator not in COMPARISONS:
            raise AttributeError(f"{operator!r} is no comparison")
        if _hook(obj, "_rpyc_getattr") and operator in ("__eq__", "__ne__"):
            # The object decides about its own attributes, and identity gives none of them away.
            return (obj is other) == (operator == "__eq__")
        if _hook(obj, "_rpyc_getattr"):
            return self.get(obj, operator)(other)
        cls = type(obj)
        return getattr(cls, self._allowed(cls, operator, "allow_getattr"))(obj, other)

    def dir_of(self, obj: Any) -> tuple[str, ...]:
        return tuple(dir(obj))

    def methods(self, obj: Any) -> Methods:
        if isinstance(obj, Netref):
            return type(obj).____methods__
        return tuple(entry for entry in methods_of(obj) if self._shows(obj, entry[0]))

    def _shows(self, obj: Any, name: str) -> bool:
        """Our clients call an exposed method of the table without asking for it first: list what may be called."""
        if not name.startswith(EXPOSED_PREFIX) or _hook(obj, "_rpyc_getattr"):
            return True
        try:
            return bool(self._allowed(obj, name, "allow_getattr"))
        except AttributeError:
            return False

    def pickled(self, obj: Any, protocol: int) -> bytes:
        if not self._config["allow_pickle"]:
            raise ValueError("pickling is disabled: the config of this side has allow_pickle off")
        from pickle import dumps  # not for the many programs that never do this

        return dumps(obj, protocol)

    def take(self, obj: Any, count: int) -> tuple[Any, ...]:
        return bounded_items(itertools.islice(obj, count), count, self._limits)

    def slice_of(self, obj: Any, attempt: str, fallback: str, bounds: slice, args: tuple[Any, ...]) -> Any:
        try:
            return self.get(obj, attempt)(bounds, *args)
        except Exception:
            stop = 2**63 - 1 if bounds.stop is None else bounds.stop
            return self.get(obj, fallback)(bounds.start, stop, *args)

    def exit_context(self, obj: Any, error: Any) -> Any:
        leave = self.get(obj, "__exit__")
        if error is None:
            return leave(None, None, None)
        return raise_locally(error, leave)

    def is_instance(self, cls: Any, other: Any, id_pack: IdPack) -> bool:
        if other is not None:
            return isinstance(other, cls)
        builtin = BUILTIN_CLASSES.get(id_pack[0])
        return builtin is not None and isinstance(cls, type) and issubclass(builtin, cls)

    def result(self, value: Any) -> Any:
        return value

    def shows_traceback(self) -> bool:
        return bool(self._config["include_local_traceback"])

    def _allowed(self, obj: Any, name: str, permission: str) -> str:
        """The attribute that `name` stands for. Raises AttributeError where no rule lets it through."""
        candidates = self._candidates(name, permission)
        for attribute in candidates:
            there = _has(obj, attribute)
            if there or (there is None and hasattr(obj, attribute)):
                return attribute
        if name in candidates:
            return name
        raise self._denial(name, permission)

    def _candidates(self, name: str, permission: str) -> tuple[str, ...]:
        """The attributes that `name` may stand for, the best first; a prefixed one must exist to count."""
        config = self._config
        if not config[permission]:
            raise self._denial(name, permission)
        allowed = (
            (config["allow_safe_attrs"] and name in config["safe_attrs"])
            or (config["allow_public_attrs"] and name[:1] != "_")
            or config["allow_all_attrs"]
        )
        if not config["allow_exposed_attrs"]:
            return (name,) if allowed else ()
        prefix = config["exposed_prefix"]
        return (name, prefix + name) if allowed or name.startswith(prefix) else (prefix + name,)

    def _denial(self, name: str, permission: str) -> AttributeError:
        return AttributeError(
            f"cannot access {name!r}: the server's config lets only exposed names through"
            if self._config[permission]
            else f"cannot access {name!r}: the server's config has {permission} off"
        )


def _hook(obj: Any, name: str) -> Callable[..., Any] | None:
    # Looked up on the class, as special methods are. A proxy of a third party is no place for its peer's hooks.
    hook = getattr(type(obj), name, None)
    return hook if hook is not None and not isinstance(obj, Netref) else None


def _has(obj: Any, name: str) -> bool | None:
    """Whether the attribute is there, without running a property: a property may be a reading of the hardware.

    None where only asking for it can tell: a class that makes its attributes up, a proxy of a third party.
    """
    cls = type(obj)
    if hasattr(cls, name):
        return True
    if isinstance(obj, Netref):
        return None
    try:
        if name in object.__getattribute__(obj, "__dict__"):
            return True
    except AttributeError:
        pass
    makes_up = hasattr(cls, "__getattr__") or getattr(cls, "__getattribute__", None) is not object.__getattribute__
    return None if makes_up else False
