"""Checks of the numbers that callers give, before anything reaches the hardware."""

from __future__ import annotations

from gateway.errors import OutOfRange


def number_between(what: str, value: float, lowest: float, highest: float, unit: str) -> float:
    """`value` as a float when it lies between the two, both included.

    Raises TypeError for what is not a number (a bool is none), OutOfRange otherwise, for NaN too.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number of {unit}, not {type(value).__name__}")
    if not lowest <= value <= highest:
        shown = f"{value:g}" if isinstance(value, float) or abs(value) < 10**20 else "a number far outside"
        raise OutOfRange(
            f"{what} must be from {lowest:g} to {highest:g} {unit}, not {shown}",
            lowest=lowest,
            highest=highest,
            unit=unit,
        )
    return float(value)


def count_between(what: str, value: int, lowest: int, highest: int) -> int:
    """`value` when it is an int between the two, both included. Raises TypeError or OutOfRange otherwise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not lowest <= value <= highest:
        # A number of a thousand digits is not repeated in the message.
        shown = str(value) if abs(value) < 10**20 else "a number far outside"
        raise OutOfRange(f"{what} must be from {lowest} to {highest}, not {shown}", lowest=lowest, highest=highest)
    return int(value)
