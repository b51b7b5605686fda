"""What commands show of leases: who has a device, for how long, who waits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def holder_of(lease: Mapping[str, Any]) -> str:
    """`alice: sweep.py on bench3` of what a gateway tells of a holder."""
    return f"{lease.get('principal')}: {lease.get('program')} on {lease.get('host')}"


def duration(seconds: Any) -> str:
    """`45 s`, `12 min`, `3 h 20 min`; empty where it is not known."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def plain(value: Any) -> Any:
    """The same without numbers for which JSON has no word: they are null."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    return value
