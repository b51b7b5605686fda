"""Roles and what they permit, as a table."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.identity.principal import Kind, Principal, Role, explain
from gateway.service.exposure import Access

ALICE = Principal(
    name="alice",
    kind=Kind.CERTIFICATE,
    default=Role.OPERATE,
    roles={"psu1": Role.OBSERVE, "laser1": Role.ADMIN, "bench2": Role.OBSERVE, "bench2.dmm1": Role.ADMIN},
)


@pytest.mark.parametrize(
    ("device", "role"),
    [
        ("dmm1", Role.OPERATE),
        ("psu1", Role.OBSERVE),
        ("laser1", Role.ADMIN),
        ("bench2.psu1", Role.OBSERVE),
        ("bench2.dmm1", Role.ADMIN),
        ("bench3.psu1", Role.OPERATE),
    ],
)
def test_a_device_has_its_own_role_or_its_host_s_or_the_default(device: str, role: Role) -> None:
    assert ALICE.role(device) is role


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("access", ["read", "control", "admin", None, "something new"])
def test_a_role_permits_what_it_and_the_lower_ones_permit(role: Role, access: str | None) -> None:
    needed = {"read": Role.OBSERVE, "control": Role.OPERATE, None: Role.OPERATE}.get(access, Role.ADMIN)
    principal = Principal(name="a", kind=Kind.LOCAL, default=role)
    allowed, rule = explain(principal, "psu1", access)
    assert allowed == (role >= needed)
    assert rule.endswith(": allowed" if allowed else ": refused")


def test_every_access_that_a_member_can_have_is_known() -> None:
    for access in Access:
        assert explain(ALICE, "laser1", access)[0]


@pytest.mark.parametrize(
    ("device", "access", "rule"),
    [
        ("psu1", "control", "alice is observe on psu1 (role for psu1); control needs operate: refused"),
        ("psu1", "read", "alice is observe on psu1 (role for psu1); read needs observe: allowed"),
        ("dmm1", "admin", "alice is operate on dmm1 (default role); admin needs admin: refused"),
        (
            "bench2.psu1",
            None,
            "alice is observe on bench2.psu1 (role for bench2); "
            "control (the member is not marked) needs operate: refused",
        ),
    ],
)
def test_the_rule_is_named(device: str, access: str | None, rule: str) -> None:
    assert explain(ALICE, device, access)[1] == rule


def test_a_principal_does_not_change() -> None:
    given = {"psu1": Role.OBSERVE}
    principal = Principal(name="a", kind=Kind.LOCAL, default=Role.ADMIN, roles=given)
    given["psu1"] = Role.ADMIN
    assert principal.role("psu1") is Role.OBSERVE
    roles: Any = principal.roles
    with pytest.raises(TypeError):
        roles["psu1"] = Role.ADMIN
    with pytest.raises(dataclasses.FrozenInstanceError):
        principal.default = Role.ADMIN  # type: ignore[misc]


def test_a_role_is_one_of_three_words() -> None:
    assert [Role.of(role.word) for role in Role] == list(Role)
    with pytest.raises(ConfigError, match="no role 'boss'; a role is observe, operate, admin"):
        Role.of("boss")
