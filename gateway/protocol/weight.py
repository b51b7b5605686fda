"""The weight of arguments: how much memory they take while a call waits for its turn."""

from __future__ import annotations

from collections.abc import Iterable
from sys import getsizeof
from typing import Any, Final

_CONTAINERS: Final = frozenset({tuple, list, set, frozenset, dict})
_VALUES: Final = frozenset({str, bytes, bytearray, int, float, complex, bool, type(None)})
_OTHER: Final = 256
"""For a proxy or an object of ours. They are asked nothing."""
_LOOKED_AT: Final = 1000
_PER_BYTE: Final = 96
"""What bytes can be blown up by: a tuple of an empty tuple is 2 of them there and 72 here, and it is encoded again."""


def weight(args: Iterable[Any], size: int) -> int:
    """Bytes of memory that `args`, decoded from a message of `size` bytes, take: about, and rather too many.

    Arguments of many small containers are not counted but taken for the worst that `size` bytes can be.
    """
    total = looked_at = 0
    pending: list[Any] = [args]
    while pending:
        container = pending.pop()
        looked_at += 1
        if looked_at > _LOOKED_AT:
            return total + _PER_BYTE * size
        total += getsizeof(container)
        for item in container.values() if type(container) is dict else container:
            kind = type(item)
            if kind in _CONTAINERS:
                pending.append(item)
            elif kind in _VALUES:
                total += getsizeof(item)
            else:
                total += item.nbytes if kind.__module__ == "numpy" else _OTHER
    return total
