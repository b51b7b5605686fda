"""A reading goes by value, and its error comes back as the class it was."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import BadRequest, DeviceError, DeviceUnavailable, LimitExceeded
from gateway.service.reading import Reading, failed_reading

GOOD = Reading(3.3, "V", 1700000000.5, "psu1", "voltage", "ACME,PSU,1,2", 7)


def test_a_reading_survives_being_a_tuple() -> None:
    assert Reading.from_tuple(GOOD.as_tuple()) == GOOD
    assert GOOD.checked() == 3.3


@pytest.mark.parametrize(
    "fields",
    [
        None,
        (),
        GOOD.as_tuple()[:-1],
        [*GOOD.as_tuple()],
        (1.0, 5, 1.0, "psu1", "voltage", None, None, None, None),
        (1.0, "V", "now", "psu1", "voltage", None, None, None, None),
        (1.0, "V", 1.0, "psu1", "voltage", None, "7", None, None),
    ],
)
def test_what_is_no_reading_is_refused(fields: Any) -> None:
    with pytest.raises(BadRequest):
        Reading.from_tuple(fields)


@pytest.mark.parametrize(
    "error", [DeviceUnavailable("psu1 is away"), LimitExceeded("frame", actual=2, allowed=1), DeviceError("-113")]
)
def test_an_error_comes_back_as_its_class(error: Exception) -> None:
    reading = Reading.from_tuple(failed_reading("psu1", "voltage", 1.0, error).as_tuple())
    with pytest.raises(type(error), match=str(error)):
        reading.checked()


def test_the_text_of_an_unexpected_error_stays_at_the_gateway() -> None:
    reading = failed_reading("psu1", "voltage", 1.0, ValueError("/etc/secret at 0x7f0012345678"))
    assert reading.error_code == "device-error"
    assert reading.error == "unexpected ValueError in psu1; the gateway's log has all of it"
