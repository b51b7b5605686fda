"""The handlers that reach an object: each turns the checked arguments of a request into one question to the policy.

They raise what the object raises and what the policy refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gateway.protocol.constants import Handler

HANDLERS: Final[dict[Handler, Callable[..., Any]]] = {
    Handler.GETATTR: lambda policy, obj, name: policy.result(policy.get(obj, name)),
    Handler.SETATTR: lambda policy, obj, name, value: policy.set(obj, name, value),
    Handler.DELATTR: lambda policy, obj, name: policy.delete(obj, name),
    Handler.CALL: lambda policy, obj, args, kwargs: policy.result(policy.call(obj, args, kwargs)),
    Handler.CALLATTR: lambda policy, obj, name, args, kwargs: policy.result(policy.call_attr(obj, name, args, kwargs)),
    Handler.REPR: lambda policy, obj: policy.repr_of(obj),
    Handler.STR: lambda policy, obj: policy.str_of(obj),
    Handler.HASH: lambda policy, obj: policy.hash_of(obj),
    Handler.CMP: lambda policy, obj, other, operator: policy.result(policy.compare(obj, other, operator)),
    Handler.DIR: lambda policy, obj: policy.dir_of(obj),
    Handler.PICKLE: lambda policy, obj, protocol: policy.pickled(obj, protocol),
    Handler.BUFFITER: lambda policy, obj, count: policy.result(policy.take(obj, count)),
    Handler.OLDSLICING: lambda policy, obj, attempt, fallback, start, stop, args: policy.result(
        policy.slice_of(obj, attempt, fallback, slice(start, stop), args)
    ),
    Handler.CTXEXIT: lambda policy, obj, error: policy.exit_context(obj, error),
}
"""PING, CLOSE, GETROOT, DEL, INSPECT, INSTANCECHECK and HELLO belong to the connection and are answered by it."""
