"""The seed's configuration dictionary: its keys, its defaults, its meaning.

| key | default | meaning |
|---|---|---|
| allow_safe_attrs | True | let the names in `safe_attrs` through |
| allow_exposed_attrs | True | let names through that begin with `exposed_prefix` |
| allow_public_attrs | False | let names without a leading underscore through |
| allow_all_attrs | False | let every name through |
| safe_attrs | a set | the names considered safe |
| exposed_prefix | "exposed_" | |
| allow_getattr, allow_setattr, allow_delattr | True, False, False | the operation at all |
| allow_pickle | False | pickle our objects for the peer, and unpickle what the peer made of its own |
| include_local_traceback | True | send tracebacks with exceptions |
| include_local_version | True | send the version of RPyC that we speak with exceptions |
| instantiate_custom_exceptions | False | build exceptions of classes other than the builtins |
| import_custom_exceptions | False | import modules for that |
| instantiate_oldstyle_exceptions | False | of no effect on Python 3 |
| propagate_SystemExit_locally | False | a SystemExit in a handler ends this side instead of being sent |
| propagate_KeyboardInterrupt_locally | True | the same for KeyboardInterrupt |
| log_exceptions | True | log what handlers raise, where there is a `logger` |
| logger | None | a `logging.Logger` |
| connid, credentials, endpoints | None | run time: the connection's name, who it is, (local, remote) addresses |
| sync_request_timeout | 30 | seconds a call waits for its answer; None: for ever |
| before_closed | None | called with the peer's root before `close` closes |
| close_catchall | False | `close` swallows what goes wrong on the way |
| bind_threads | False | tie requests and replies to threads; the environment's RPYC_BIND_THREADS=true turns it on |
"""

from __future__ import annotations

import os
from typing import Any, Final

SAFE_ATTRS: Final = frozenset(
    """__abs__ __add__ __and__ __bool__ __cmp__ __contains__ __delitem__ __delslice__ __div__ __divmod__ __doc__
    __enter__ __eq__ __exit__ __float__ __floordiv__ __format__ __ge__ __getitem__ __getslice__ __gt__ __hash__ __hex__
    __iadd__ __iand__ __idiv__ __ifloordiv__ __ilshift__ __imod__ __imul__ __index__ __int__ __invert__ __ior__ __ipow__
    __irshift__ __isub__ __iter__ __itruediv__ __ixor__ __le__ __len__ __length_hint__ __long__ __lshift__ __lt__
    __mod__ __mul__ __ne__ __neg__ __new__ __next__ __nonzero__ __oct__ __or__ __pos__ __pow__ __radd__ __rand__
    __rdiv__ __rdivmod__ __repr__ __rfloordiv__ __rlshift__ __rmod__ __rmul__ __ror__ __rpow__ __rrshift__ __rshift__
    __rsub__ __rtruediv__ __rxor__ __setitem__ __setslice__ __str__ __sub__ __truediv__ __xor__ next""".split()
)

DEFAULT_CONFIG: Final[dict[str, Any]] = {
    "allow_safe_attrs": True,
    "allow_exposed_attrs": True,
    "allow_public_attrs": False,
    "allow_all_attrs": False,
    "safe_attrs": set(SAFE_ATTRS),
    "exposed_prefix": "exposed_",
    "allow_getattr": True,
    "allow_setattr": False,
    "allow_delattr": False,
    "include_local_traceback": True,
    "include_local_version": True,
    "instantiate_custom_exceptions": False,
    "import_custom_exceptions": False,
    "instantiate_oldstyle_exceptions": False,
    "propagate_SystemExit_locally": False,
    "propagate_KeyboardInterrupt_locally": True,
    "log_exceptions": True,
    "allow_pickle": False,
    "connid": None,
    "credentials": None,
    "endpoints": None,
    "logger": None,
    "sync_request_timeout": 30,
    "before_closed": None,
    "close_catchall": False,
    "bind_threads": os.environ.get("RPYC_BIND_THREADS") == "true",
}
"""What a connection uses unless its own `config` says otherwise."""

NESTED_CALLBACKS: Final = "nested_callbacks"
"""Ours, default False: run a call of the peer inside the thread that waits for the peer's answer, as stock RPyC does.
"""
