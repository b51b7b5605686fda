"""What becomes of several sightings: each gateway once, and never two taken for one."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.discovery import FoundGateway, browse, resolve
from gateway.discovery.browser import merged
from gateway.errors import Ambiguous


def sighting(**more: Any) -> FoundGateway:
    facts = {"name": "bench", "source": "mdns", "addresses": ("10.0.0.5",), "port": 18871, "id": "a"} | more
    facts.setdefault("url", f"tcp://{facts['addresses'][0]}:{facts['port']}")
    return FoundGateway(**facts)


def test_a_gateway_seen_on_two_interfaces_is_listed_once() -> None:
    wired, wireless = sighting(addresses=("10.0.0.5", "10.0.1.5")), sighting(addresses=("10.0.1.5", "10.0.0.5"))
    assert merged([wired, wireless]) == [wired]


@pytest.mark.parametrize(
    "other",
    [
        {"port": 18872},
        {"id": "b"},
        {"name": "bench (2)"},
        {"addresses": ("10.0.1.5",)},
    ],
    ids=["another gateway of the machine", "another id", "another name", "a copied SD card"],
)
def test_gateways_that_share_only_some_of_it_are_two(other: dict[str, Any]) -> None:
    assert len(merged([sighting(), sighting(**other)])) == 2


def test_a_fixed_address_that_mdns_found_too_is_listed_once_with_its_facts() -> None:
    found = sighting(addresses=("10.0.0.5", "10.0.1.5"))
    assert merged([found, sighting(source="static", id=None, addresses=("10.0.1.5",))]) == [found]
    elsewhere = sighting(source="static", id=None, addresses=("10.9.9.9",))
    assert merged([found, elsewhere]) == [found, elsewhere]


def test_the_list_is_sorted_by_name() -> None:
    names = [gateway.name for gateway in merged([sighting(name=name, id=name) for name in ("b", "C", "a", "B")])]
    assert names == ["a", "B", "b", "C"]


def test_fixed_addresses_are_listed_with_what_their_urls_tell() -> None:
    static = {
        "six": "tls://[fd00::5]:18871",
        "ssh": "ssh://pi:secret@lab2",
        "pipe": "pipe:gateway stdio",
        "odd": "tcp://h:99999999",
    }
    found = {gateway.name: gateway for gateway in browse(0.1, [], static=static)}
    assert (found["six"].addresses, found["six"].port, found["six"].tls) == (("fd00::5",), 18871, True)
    assert found["ssh"].addresses == ("lab2",)
    assert found["ssh"].shown_url == "ssh://pi:***@lab2"
    assert found["ssh"].url == "ssh://pi:secret@lab2"
    assert (found["pipe"].addresses, found["pipe"].port) == ((), None)
    assert found["odd"].port is None


def test_two_fixed_addresses_that_differ_only_in_case_are_ambiguous_unless_spelled_exactly() -> None:
    static = {"Bench": "tcp://10.0.0.5:1", "bench": "ssh://pi:secret@lab2"}
    assert resolve("Bench", static=static, interfaces=[]) == "tcp://10.0.0.5:1"
    with pytest.raises(Ambiguous) as caught:
        resolve("BENCH", static=static, interfaces=[])
    assert "'Bench' at tcp://10.0.0.5:1, 'bench' at ssh://pi:***@lab2" in str(caught.value)
    assert caught.value.urls == ["tcp://10.0.0.5:1", "ssh://pi:***@lab2"]
