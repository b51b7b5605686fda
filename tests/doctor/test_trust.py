"""Certificates, keys and the clock."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.doctor import Verdict
from gateway.doctor.certificate import validity
from gateway.doctor.subject import IDENTITY_FOLDER
from gateway.systemd.accounts import User
from gateway.systemd.tools import Output

LAN = "tcp://192.0.2.7:18871"
# Self-signed, EC P-256, 2026-11-25 23:01:29 to 2036-11-22 and, with a date of four digits, to 2056-11-17 23:01:29.
SHORT = """\
-----BEGIN CERTIFICATE-----
MIIBdjCCARugAwIBAgIUbn+NyxRH2mCzkSyouHLAf5B549EwCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFYmVuY2gwHhcNMjYxMTI1MjMwMTI5WhcNMzYxMTIyMjMwMTI5
WjAQMQ4wDAYDVQQDDAViZW5jaDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHYV
3Tnq6QFf0EeEJVbhLiy0JWZHpGvTM5HeFR1Ik4aroW029UObc4WBr/MulslAu69K
3OKC2+iXc52viaB6H1ajUzBRMB0GA1UdDgQWBBRDHPb4y2U76Ij2QWdTXKAoJu9A
ozAfBgNVHSMEGDAWgBRDHPb4y2U76Ij2QWdTXKAoJu9AozAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQCPUOJHJf14M6fZJOyYcT0pKS8zFlUMBSUK
Iw+VQLCOqgIhAKx8ZlgS7Xiiokf2l7QqUhcd9n2cCRF2i3VVKteNW+ZN
-----END CERTIFICATE-----
"""
LONG = """\
-----BEGIN CERTIFICATE-----
MIIBdjCCAR2gAwIBAgIUOtlBD0lU8bl3ep42k0MzyCjNVwUwCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFYmVuY2gwIBcNMjYxMTI1MjMwMTI5WhgPMjA1NjExMTcyMzAx
MjlaMBAxDjAMBgNVBAMMBWJlbmNoMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
dhXdOerpAV/QR4QlVuEuLLQlZkeka9Mzkd4VHUiThquhbTb1Q5tzhYGv8y6WyUC7
r0rc4oLb6Jdzna+JoHofVqNTMFEwHQYDVR0OBBYEFEMc9vjLZTvoiPZBZ1NcoCgm
70CjMB8GA1UdIwQYMBaAFEMc9vjLZTvoiPZBZ1NcoCgm70CjMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgfC+jC8LpconIi/Uij3WK3sjo32bwMTrw
56imPj5cTmQCIEnuDwJitrY3ZBJ1nZ6npqtqORJuI+YHW42KKlfzNZeK
-----END CERTIFICATE-----
"""


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_the_two_ends_of_a_certificate_are_read() -> None:
    assert validity(f"# bench\n{SHORT}{LONG}").not_before == at("2026-11-25T23:01:29")
    assert validity(SHORT).not_after == at("2036-11-22T23:01:29")
    assert validity(LONG).not_after == at("2056-11-17T23:01:29")


@pytest.mark.parametrize("text", ["", "hello", SHORT[:200], "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        validity(text)


@pytest.mark.parametrize("cut", range(0, 360, 7))
def test_a_certificate_that_is_cut_off_or_damaged_never_does_more_than_be_refused(cut: int) -> None:
    lines = SHORT.splitlines()
    body = "".join(lines[1:-1])
    damaged = body[:cut] + "A" * 4 + body[cut + 4 :]
    with suppress(ValueError):
        validity(f"{lines[0]}\n{damaged}\n{lines[-1]}\n")
    with pytest.raises(ValueError):
        validity(f"{lines[0]}\n{body[: cut // 8 * 4]}\n{lines[-1]}\n")


@pytest.fixture
def trusted(machine: Any) -> Any:
    """A machine with a certificate and its key, on a good day."""
    machine.wants(listen=LAN, user=User("root", 0, frozenset({0})))
    machine.write(f"{IDENTITY_FOLDER}/server.pem", SHORT)
    machine.write(f"{IDENTITY_FOLDER}/server.key", "secret", mode=0o600)
    machine.now = at("2030-01-01")
    return machine


def test_good_certificates_are_well(trusted: Any) -> None:
    trusted.is_well("tls")


def test_without_certificates_only_a_gateway_on_the_network_is_warned_of(machine: Any) -> None:
    machine.is_well("tls")
    machine.wants(listen=LAN)
    machine.one("tls", Verdict.WARNING)


@pytest.mark.parametrize(
    ("day", "verdict", "said"),
    [
        ("2026-01-01", Verdict.PROBLEM, "not valid before 2026-11-25, and the clock says 2026-01-01"),
        ("2036-11-10", Verdict.WARNING, "expires on 2036-11-22"),
        ("2037-01-01", Verdict.PROBLEM, "expired on 2036-11-22"),
    ],
)
def test_a_certificate_is_judged_by_the_clock(trusted: Any, day: str, verdict: Verdict, said: str) -> None:
    trusted.now = at(day)
    assert said in trusted.one("tls", verdict).what


def test_a_key_that_others_can_read_is_told(trusted: Any) -> None:
    (trusted.root / IDENTITY_FOLDER.lstrip("/") / "server.key").chmod(0o644)
    assert trusted.one("tls", Verdict.PROBLEM).fix == (f"sudo chmod 600 {IDENTITY_FOLDER}/server.key",)


def test_a_key_that_is_missing_and_a_certificate_that_is_none_are_told(trusted: Any) -> None:
    (trusted.root / IDENTITY_FOLDER.lstrip("/") / "server.key").unlink()
    assert "its key server.key is missing" in trusted.one("tls", Verdict.PROBLEM).what
    trusted.write(f"{IDENTITY_FOLDER}/server.key", "secret", mode=0o600)
    trusted.write(f"{IDENTITY_FOLDER}/server.pem", "")
    assert "no certificate" in trusted.one("tls", Verdict.PROBLEM).what


def test_files_that_the_gateways_user_cannot_read_are_told(trusted: Any) -> None:
    trusted.wants(user=User("instrument-gateway", 950, frozenset({950})))
    assert trusted.one("tls", Verdict.PROBLEM).fix == (f"sudo chown instrument-gateway {IDENTITY_FOLDER}/server.key",)


ASK = ("timedatectl", "show", "--property=NTPSynchronized", "--value")


def test_the_clock_is_synchronised_if_timesyncd_or_the_kernel_says_so(machine: Any) -> None:
    machine.one("clock", Verdict.SKIPPED)
    machine.answers[ASK] = Output(0, "no\n")
    assert machine.one("clock", Verdict.WARNING).fix[0] == "sudo timedatectl set-ntp true"
    machine.answers[ASK] = Output(0, "yes\n")
    machine.is_well("clock")
    del machine.answers[ASK]
    machine.write("/run/systemd/timesync/synchronized")
    machine.is_well("clock")


def test_a_clock_that_lives_in_the_past_is_told_whatever_else_is_said(machine: Any) -> None:
    machine.write("/run/systemd/timesync/synchronized")
    machine.now = 3600.0
    assert "the clock says 1970-01-01" in machine.one("clock", Verdict.PROBLEM).what
