"""The error tree: codes that stay, builtins that stock clients can catch, facts that read like attributes."""

from __future__ import annotations

import copy
import pickle

import pytest

from gateway import errors
from gateway.errors import BY_CODE, GatewayError

# What clients match on: a change here breaks their programs.
CODES = {
    "gateway-error": (GatewayError, Exception, False),
    "protocol-error": (errors.ProtocolError, GatewayError, False),
    "bad-request": (errors.BadRequest, TypeError, False),
    "limit-exceeded": (errors.LimitExceeded, errors.ProtocolError, False),
    "link-down": (errors.LinkDown, EOFError, True),
    "unreachable": (errors.Unreachable, ConnectionError, True),
    "outcome-unknown": (errors.OutcomeUnknown, EOFError, False),
    "access-denied": (errors.AccessDenied, AttributeError, False),
    "unauthenticated": (errors.Unauthenticated, PermissionError, False),
    "not-leased": (errors.NotLeased, PermissionError, False),
    "lease-conflict": (errors.LeaseConflict, errors.NotLeased, True),
    "lease-lost": (errors.LeaseLost, errors.NotLeased, False),
    "out-of-range": (errors.OutOfRange, ValueError, False),
    "interlocked": (errors.Interlocked, errors.OutOfRange, True),
    "busy": (errors.Busy, RuntimeError, True),
    "call-timeout": (errors.CallTimeout, TimeoutError, False),
    "device-unavailable": (errors.DeviceUnavailable, ConnectionError, True),
    "device-missing": (errors.DeviceMissing, errors.DeviceUnavailable, True),
    "emergency-stop": (errors.EmergencyStop, errors.DeviceUnavailable, False),
    "device-error": (errors.DeviceError, RuntimeError, False),
    "config-error": (errors.ConfigError, ValueError, False),
    "not-found": (errors.NotFound, LookupError, False),
    "ambiguous": (errors.Ambiguous, LookupError, False),
}


def test_each_code_stands_for_its_class() -> None:
    assert {code: cls for code, (cls, _, _) in CODES.items()}.items() <= BY_CODE.items()


def test_every_public_error_of_the_tree_has_a_code_of_its_own() -> None:
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, GatewayError)]
    assert {cls.code for cls in classes} == set(CODES)
    assert len({cls.code for cls in classes}) == len(classes)


@pytest.mark.parametrize("code", CODES)
def test_an_error_can_be_caught_as_its_nearest_builtin_and_says_whether_to_try_again(code: str) -> None:
    cls, builtin, retryable = CODES[code]
    assert issubclass(cls, builtin)
    assert issubclass(cls, GatewayError)
    assert (cls.code, cls.retryable) == (code, retryable)


def test_facts_read_like_attributes_and_the_message_is_the_text() -> None:
    error = errors.OutOfRange("psu1: 99 V is over 30 V", device="psu1", volts=99)
    assert str(error) == "psu1: 99 V is over 30 V"
    assert (error.device, error.volts, error.facts) == ("psu1", 99, {"device": "psu1", "volts": 99})
    with pytest.raises(AttributeError, match="'OutOfRange' has no attribute 'amps'"):
        error.amps  # noqa: B018


def test_an_error_without_a_message_is_one() -> None:
    assert str(errors.Busy()) == ""
    assert errors.Busy().facts == {}


def test_a_limit_tells_its_name_and_both_numbers() -> None:
    error = errors.LimitExceeded("frame", actual=20, allowed=16)
    assert str(error) == "frame: 20 is over the limit of 16"
    assert (error.what, error.actual, error.allowed) == ("frame", 20, 16)


def test_an_error_that_was_half_made_has_no_attributes_and_no_endless_search() -> None:
    half_made = errors.Busy.__new__(errors.Busy)
    with pytest.raises(AttributeError):
        half_made.device  # noqa: B018


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_survives_being_copied(duplicate: object) -> None:
    error = errors.DeviceError("-222", number=-222)
    again = duplicate(error)  # type: ignore[operator]
    assert (type(again), str(again), again.number) == (errors.DeviceError, "-222", -222)
