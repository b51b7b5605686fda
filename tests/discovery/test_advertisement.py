"""Advertisement and TXT record: what we send is read back, and nothing else is."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.discovery import Advertisement
from gateway.discovery.advertisement import MAX_NAME, numbered
from gateway.errors import ConfigError

GOOD = {"name": "bench 3", "port": 18871, "id": "3f2a91c0", "version": "0.1.0", "devices": 3, "tls": True}


def connectable(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not ip.is_unspecified and not ip.is_multicast


plain = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\ufffd"), min_size=1)
adverts = st.builds(
    Advertisement,
    name=plain.filter(lambda text: len(text.encode()) <= MAX_NAME),
    port=st.integers(1, 65535),
    id=st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    version=plain.filter(lambda text: len(text) <= 64 and len(text.encode()) <= 200),
    devices=st.integers(0, 100_000),
    tls=st.booleans(),
    addresses=st.lists(st.ip_addresses().filter(connectable).map(str), max_size=16).map(tuple),
)


def txt(*items: bytes) -> bytes:
    return b"".join(bytes([len(item)]) + item for item in items)


def read(text: bytes) -> Advertisement:
    return Advertisement.from_records(name="bench", port=1, txt=text)


@given(adverts)
def test_what_is_advertised_is_read_back(sent: Advertisement) -> None:
    read_back = Advertisement.from_records(name=sent.name, port=sent.port, txt=sent.txt, addresses=sent.addresses)
    assert read_back == sent


def test_the_record_is_the_one_that_is_documented() -> None:
    assert Advertisement(**GOOD).txt == txt(b"id=3f2a91c0", b"version=0.1.0", b"devices=3", b"tls=1")


@given(st.binary(max_size=1500), st.text(max_size=80), st.integers())
def test_no_record_makes_anything_but_an_advertisement_or_a_value_error(text: bytes, name: str, port: int) -> None:
    with contextlib.suppress(ValueError):
        made = Advertisement.from_records(name=name, port=port, txt=text)
        assert Advertisement.from_records(name=name, port=port, txt=made.txt) == made


@given(st.data())
def test_a_damaged_record_makes_nothing_but_an_advertisement_or_a_value_error(data: st.DataObject) -> None:
    good = bytearray(Advertisement(**GOOD).txt)
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        read(bytes(good))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "no 'id'"),
        (txt(b"version=1", b"devices=1", b"tls=0"), "no 'id'"),
        (txt(b"id=a", b"devices=1", b"tls=0"), "no 'version'"),
        (txt(b"id=a", b"version=1", b"tls=0"), "no 'devices'"),
        (txt(b"id=a", b"version=1", b"devices=1"), "no 'tls'"),
        (txt(b"id=a", b"version=1", b"devices=-1", b"tls=0"), "no count"),
        (txt(b"id=a", b"version=1", b"devices=+1", b"tls=0"), "no count"),
        (txt(b"id=a", b"version=1", b"devices=1_0", b"tls=0"), "no count"),
        (txt(b"id=a", b"version=1", b"devices=\xd9\xa1", b"tls=0"), "no count"),
        (txt(b"id=a", b"version=1", b"devices=999999", b"tls=0"), "count of devices"),
        (txt(b"id=a", b"version=1", b"devices=1", b"tls=yes"), "neither 0 nor 1"),
        (txt(b"id", b"version=1", b"devices=1", b"tls=0"), "id is 1 to 64"),
        (txt(b"id=a b", b"version=1", b"devices=1", b"tls=0"), "id is 1 to 64"),
        (txt(b"id=a\n", b"version=1", b"devices=1", b"tls=0"), "id is 1 to 64"),
        (txt(b"id=a", b"version=\xff", b"devices=1", b"tls=0"), "utf-8"),
        (txt(b"id=a", b"version=\x1b[0m", b"devices=1", b"tls=0"), "printable"),
        (txt(b"id=a", b"version=\xe2\x80\xae1", b"devices=1", b"tls=0"), "printable"),
        (txt(b"id=a", b"version=1", b"devices=1", b"tls=0") + b"\x09id", "cut off"),
        (txt(b"id=a", b"version=1", b"devices=1", b"tls=0", *[b"x" * 250] * 6), "1300 is the limit"),
    ],
)
def test_a_record_that_we_would_not_send_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(text)


def test_keys_of_later_versions_are_skipped_and_the_first_of_two_counts() -> None:
    text = txt(b"ID=first", b"later=\xff\xfe", b"\xff=1", b"=", b"", b"id=second", b"version=1", b"devices=1", b"tls=0")
    assert read(text).id == "first"


@pytest.mark.parametrize(
    ("fact", "why"),
    [
        ({"name": ""}, "1 to 63 bytes"),
        ({"name": "ä" * 32}, "has 64"),
        ({"name": "a\x1b[2Jb"}, "printable"),
        ({"name": "bench\u202egnp"}, "printable"),
        ({"name": "bench\ufffd"}, "printable"),
        ({"name": " bench"}, "blanks"),
        ({"port": 0}, "1 to 65535"),
        ({"port": 65536}, "1 to 65535"),
        ({"port": True}, "1 to 65535"),
        ({"id": ""}, "id is"),
        ({"version": "1" * 65}, "version is"),
        ({"devices": -1}, "count of devices"),
        ({"addresses": ("bench.local",)}, "no IP address"),
        ({"addresses": ("0.0.0.0",)}, "can connect to"),
        ({"addresses": ("224.0.0.1",)}, "can connect to"),
        ({"addresses": ("10.0.0.1",) * 17}, "at most 16"),
    ],
)
def test_a_fact_that_no_record_can_carry_is_a_config_error(fact: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Advertisement(**{**GOOD, **fact})  # type: ignore[arg-type]


def test_a_number_is_added_to_a_taken_name_within_63_bytes() -> None:
    assert numbered("bench", 1) == "bench"
    assert numbered("bench", 2) == "bench (2)"
    assert numbered("b" * 63, 2) == "b" * 59 + " (2)"
    assert numbered("ä" * 31, 12) == "ä" * 29 + " (12)"
