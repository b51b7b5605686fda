"""Reading: what a property of a device was, when, and under whom.

It travels as a plain tuple, in the order of its fields, so that every client gets it by value and in one message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from gateway.errors import BY_CODE, BadRequest, DeviceError, GatewayError

_FIELDS = 9
_TEXTS = (str, type(None))


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of `device.property`, or the error that came instead of it: then `error_code` is not None."""

    value: Any
    unit: str | None
    time_s: float
    """When it was read: seconds since 1970-01-01 UTC, by the gateway's clock."""
    device: str
    property: str
    identity: str | None = None
    """What the device says it is, such as its answer to `*IDN?`."""
    lease: int | None = None
    """The fencing number of the lease that the device was under; None: it was free."""
    error_code: str | None = None
    """The stable code of the error, such as `device-unavailable`."""
    error: str | None = None
    """The error in one line."""

    def checked(self) -> Any:
        """The value. Raises the error that came instead of it, as the class its code names."""
        if self.error_code is None:
            return self.value
        cls = BY_CODE.get(self.error_code, DeviceError)
        error = cls.__new__(cls)
        GatewayError.__init__(error, self.error or self.error_code, device=self.device)
        raise error

    def as_tuple(self) -> tuple[Any, ...]:
        """`(value, unit, time_s, device, property, identity, lease, error_code, error)`."""
        return (
            self.value,
            self.unit,
            self.time_s,
            self.device,
            self.property,
            self.identity,
            self.lease,
            self.error_code,
            self.error,
        )

    @classmethod
    def from_tuple(cls, fields: Any) -> Self:
        """The reading that `as_tuple` gave elsewhere. Raises BadRequest for anything else."""
        if type(fields) is tuple and len(fields) == _FIELDS:
            _, unit, time_s, device, name, identity, lease, error_code, error = fields
            if (
                type(time_s) in (float, int)
                and type(device) is str
                and type(name) is str
                and type(lease) in (int, type(None))
                and all(type(text) in _TEXTS for text in (unit, identity, error_code, error))
            ):
                return cls(*fields)
        raise BadRequest(f"a reading is a tuple of {_FIELDS} fields, not {type(fields).__name__}")


def failed_reading(device: str, name: str, time_s: float, error: Exception) -> Reading:
    """The reading that stands for an error.

    What is no GatewayError is told by its builtin name only: its text may hold what no client should see.
    """
    if isinstance(error, GatewayError):
        return Reading(None, None, time_s, device, name, error_code=error.code, error=str(error) or error.code)
    builtin = next(base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins")
    text = f"unexpected {builtin} in {device}; the gateway's log has all of it"
    return Reading(None, None, time_s, device, name, error_code=DeviceError.code, error=text)
