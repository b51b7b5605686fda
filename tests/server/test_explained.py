"""An explanation agrees with what becomes of the call: the two are held against each other, rule by rule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from gateway.config.common import DeviceCommon
from gateway.errors import AccessDenied, DeviceUnavailable, GatewayError, NotFound, NotLeased, OutOfRange
from gateway.identity.principal import Role
from gateway.server.explained import Explanation, Verdict, explain_call
from tests.server.kept import Bench, Box

FREE = DeviceCommon(lease=False, limits={"level": (0.0, 12.0), "ramp.stop": (1.0, 2.0)})
CALLS: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = [
    (device, member, args, kwargs)
    for device in ("box1", "box2", "box3")
    for member, args, kwargs in (
        ("level", (), {}),
        ("level", (5.0,), {}),
        ("level", (12.5,), {}),
        ("set_level", (12.5,), {}),
        ("set_level", (), {"volts": 12.5}),
        ("set_level", (12.0,), {}),
        ("ramp", (0.0, 2.5), {}),
        ("ramp", (0.0,), {"stop": 1.5}),
        ("identify", (), {}),
        ("calibrate", (), {}),
        ("make_safe", (), {}),
        ("count", (), {}),
    )
]
ERRORS = {"role": AccessDenied, "in use": DeviceUnavailable, "lease": NotLeased, "limits": OutOfRange}


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        boxes = Box("box1"), Box("box2"), Box("box3")
        yield Bench(stack, *boxes, box2=FREE, box3=DeviceCommon(disabled="on repair"))


def expected(found: Explanation) -> type[GatewayError] | None:
    """What a call without a lease must raise: that of the first rule that does not simply allow it."""
    return next((ERRORS[rule.rule] for rule in found.rules if rule.verdict is not Verdict.ALLOWED), None)


def made(device: Any, member: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> GatewayError | None:
    """What making the call raises."""
    try:
        if member == "level":
            setattr(device, member, *args) if args else device.level
        else:
            getattr(device, member)(*args, **kwargs)
    except GatewayError as error:
        return error
    return None


@pytest.mark.parametrize("role", Role)
def test_what_is_explained_is_what_happens(bench: Bench, role: Role) -> None:
    bench.doorman.take_for("alice", role, box2=Role.OPERATE)
    conn = bench.connect()
    assert bench.doorman.principal is not None
    for device, member, args, kwargs in CALLS:
        found = explain_call(bench.keeper.stations[device], bench.doorman.principal, member, args, kwargs)
        error, wanted = made(getattr(conn.root, device), member, args, kwargs), expected(found)
        shown = f"{role}: {found}: {error!r}"
        assert (error is None) == (wanted is None), shown
        assert wanted is None or isinstance(error, wanted), shown
        refusals = [rule.why for rule in found.rules if rule.verdict is Verdict.REFUSED]
        assert found.is_allowed is (not refusals)
        if refusals and not isinstance(error, NotLeased):
            assert str(error).startswith(refusals[0]), shown


def test_explaining_does_nothing_to_the_device(bench: Bench) -> None:
    bench.doorman.take_for("alice", Role.ADMIN)
    bench.connect()
    assert bench.doorman.principal is not None
    before = bench.box2.what()
    for device, member, args, kwargs in CALLS:
        explain_call(bench.keeper.stations[device], bench.doorman.principal, member, args, kwargs)
    assert bench.box2.what() == before


def test_what_is_not_exposed_can_not_be_explained(bench: Bench) -> None:
    bench.doorman.take_for("alice", Role.ADMIN)
    bench.connect()
    assert bench.doorman.principal is not None
    for member in ("note", "_wait", "nothing"):
        with pytest.raises(NotFound, match=rf"box1 exposes no '{member}'"):
            explain_call(bench.keeper.stations["box1"], bench.doorman.principal, member, (), {})
