"""The errors a user of the gateway can meet: one flat tree.

    GatewayError
     |- ProtocolError        the peer broke the protocol; the connection ends
     |   |- BadRequest       ... or one request that no peer sends; only that is refused (also a TypeError)
     |   `- LimitExceeded    a number from outside is over its bound
     |- LinkDown             the other end is gone (also an EOFError)
     |   |- Unreachable      ... or was never there (also a ConnectionError)
     |   `- OutcomeUnknown   ... and it went under a call, which may or may not have run
     |- AccessDenied         the policy refused a name (also an AttributeError)
     |- Unauthenticated      nobody gets in here without proof of who they are (also a PermissionError)
     |- NotLeased            the call needs a lease that the caller does not have (also a PermissionError)
     |   |- LeaseConflict    ... because somebody else has it
     |   `- LeaseLost        ... any more
     |- OutOfRange           a value the device must not be given (also a ValueError)
     |   `- Interlocked      ... for as long as another reading is as it is
     |- Busy                 a queue is full; nothing was done (also a RuntimeError)
     |- CallTimeout          no answer in time (also a TimeoutError)
     |- DeviceUnavailable    the device can't be reached; nothing was done (also a ConnectionError)
     |   |- DeviceMissing    ... because it is not plugged in, or can't be told from another one
     |   `- EmergencyStop    ... because somebody pressed the emergency stop, until it is reset
     |- DeviceError          the instrument itself reported an error (also a RuntimeError)
     |- ConfigError          a config file, flag or URL is wrong (also a ValueError)
     |- NotFound             no such gateway or device (also a LookupError)
     `- Ambiguous            several match (also a LookupError)

Each class has a stable kebab-case `code` and says by `retryable` whether the same call may be made again. Over the wire
an error travels as its nearest builtin with `code` and its facts as attributes, so a stock RPyC client meets an
`AttributeError` or a `TimeoutError`; our own client turns `code` back into the class.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final


class GatewayError(Exception):
    """Base of all: a one-line message, a `code`, and the facts it was made of as attributes."""

    code: ClassVar[str] = "gateway-error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.facts: dict[str, Any] = facts

    def __getattr__(self, name: str) -> Any:
        # Only called for what is not there: the facts read like attributes.
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")


class ProtocolError(GatewayError):
    """The peer sent bytes that no RPyC peer sends."""

    code = "protocol-error"


class LimitExceeded(ProtocolError):
    """A length, count or depth from outside is over its bound.

    `what` names the bound (a field of `gateway.limits.Limits`), `actual` and `allowed` are the two numbers.
    """

    code = "limit-exceeded"

    def __init__(self, what: str, *, actual: int | float, allowed: int | float) -> None:
        super().__init__(f"{what}: {actual} is over the limit of {allowed}", what=what, actual=actual, allowed=allowed)


class BadRequest(ProtocolError, TypeError):
    """One request is malformed: its arguments are not what the handler takes. Only this request is refused."""

    code = "bad-request"


class LinkDown(GatewayError, EOFError):
    """The connection is closed or lost. The message says why."""

    code = "link-down"
    retryable = True


class AccessDenied(GatewayError, AttributeError):
    """The policy refused. `rule` names the rule; the text reads the same for hidden and for missing names."""

    code = "access-denied"


class Unauthenticated(GatewayError, PermissionError):
    """The peer has not proved who it is, or its certificate was revoked."""

    code = "unauthenticated"


class NotLeased(GatewayError, PermissionError):
    """Controlling `device` takes a lease, and the caller has none; nothing was executed."""

    code = "not-leased"


class LeaseConflict(NotLeased):
    """Somebody else has the lease of `device`: `holder` says who. Nothing was executed."""

    code = "lease-conflict"
    retryable = True


class LeaseLost(NotLeased):
    """The caller's lease of `device` has ended: `by` says through whom, `why` for what reason. Nothing was executed."""

    code = "lease-lost"


class OutOfRange(GatewayError, ValueError):
    """A setting outside what the device may be given."""

    code = "out-of-range"


class Interlocked(OutOfRange):
    """An interlock of `device` does not permit it now: `term` is the part of its condition that fails."""

    code = "interlocked"
    retryable = True


class Busy(GatewayError, RuntimeError):
    """A queue is full or its owner waits for the caller; nothing was executed."""

    code = "busy"
    retryable = True


class CallTimeout(GatewayError, TimeoutError):
    """No answer within the call's time."""

    code = "call-timeout"


class DeviceUnavailable(GatewayError, ConnectionError):
    """The device is not there or does not answer; nothing was executed."""

    code = "device-unavailable"
    retryable = True


class DeviceMissing(DeviceUnavailable):
    """`device` is not plugged in, or can't be told from another one: `reason`. `since`: ISO 8601, UTC."""

    code = "device-missing"


class EmergencyStop(DeviceUnavailable):
    """The gateway's emergency stop is latched: `by` says by whom, `since` since when. Nothing was executed."""

    code = "emergency-stop"
    retryable = False


class Unreachable(LinkDown, ConnectionError):
    """Nobody answers at that address: no connection came about."""

    code = "unreachable"


class OutcomeUnknown(LinkDown):
    """The link broke after the call left and before its answer came: the call may or may not have run."""

    code = "outcome-unknown"
    retryable = False


class DeviceError(GatewayError, RuntimeError):
    """The instrument's own error, such as an entry of the SCPI error queue (`number`, `text`)."""

    code = "device-error"


class ConfigError(GatewayError, ValueError):
    """A config file, flag, environment variable or URL that can't be used, with where and what to do."""

    code = "config-error"


class NotFound(GatewayError, LookupError):
    """Nothing of that name."""

    code = "not-found"


class Ambiguous(GatewayError, LookupError):
    """Several things of that name; the message lists them."""

    code = "ambiguous"


def _tree(root: type[GatewayError]) -> dict[str, type[GatewayError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


BY_CODE: Final = _tree(GatewayError)
"""`code` -> class, for the client that turns a code from the wire back into its class."""
