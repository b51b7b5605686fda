"""Instruments that say on the network that they are there, on the loopback interface."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.discovery import FoundInstrument, browse_instruments
from gateway.discovery.instruments import identity_of, merged

LOOPBACK = ["127.0.0.1"]


def txt(**facts: str) -> str:
    items = [f"{key}={value}".encode() for key, value in facts.items()]
    return b"".join(bytes([len(item)]) + item for item in items).hex()


FACTS = {"txtvers": "1", "Manufacturer": "ACME", "Model": "Scope,7", "SerialNumber": "S1", "FirmwareVersion": "1.0"}


@pytest.mark.multicast
def test_an_instrument_is_found_with_its_port_and_what_its_records_say(peer: Callable[..., Any]) -> None:
    name = f"scope {secrets.token_hex(4)}"
    advertising = peer(
        "records",
        services=[
            {"type": "_scpi-raw._tcp.local.", "name": name, "port": 5025, "txt": txt()},
            {"type": "_lxi._tcp.local.", "name": name, "port": 80, "txt": txt(**FACTS)},
            {"type": "_lxi._tcp.local.", "name": f"{name} bad", "port": 80, "txt": "ff00ff"},
        ],
    )
    assert advertising.said(lambda line: "registered" in line)
    for _ in range(5):  # a multicast answer may come a second late
        found = browse_instruments(2.0, LOOPBACK)
        mine = [each for each in found.found if each.name == name]
        if mine and mine[0].identity:
            break
    assert mine == [FoundInstrument(name=name, address="127.0.0.1", port=5025, identity="ACME,Scope 7,S1,1.0")]
    assert found.troubles == ()


def test_an_interface_that_is_not_there_is_a_trouble() -> None:
    found = browse_instruments(0.1, ["203.0.113.9"])
    assert found.found == ()
    assert found.troubles == ("203.0.113.9: no interface of this machine has that address",)


def test_a_web_page_completes_what_the_port_of_the_same_address_says() -> None:
    page = FoundInstrument(name="a", address="10.0.0.5", port=None, identity="ACME,Scope,1,1.0")
    port = FoundInstrument(name="a", address="10.0.0.5", port=5025)
    other = FoundInstrument(name="b", address="10.0.0.6", port=None, identity="ACME,DMM,1,1.0")
    assert merged([page, port, other, port]) == (
        FoundInstrument(name="a", address="10.0.0.5", port=5025, identity="ACME,Scope,1,1.0"),
        other,
    )


@given(st.dictionaries(st.binary(max_size=20) | st.sampled_from([b"Model", b"manufacturer"]), st.binary() | st.none()))
def test_whatever_records_say_an_identity_is_printable_and_short(records: dict[bytes, bytes | None]) -> None:
    identity = identity_of(records)
    assert identity == "" or (identity.isprintable() and identity.count(",") == 3 and len(identity) < 300)
