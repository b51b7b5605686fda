"""Discovery between machines: network namespaces joined by cables that these tests make and remove.

one ── 10.77.1.0/24 ── client ── 10.77.2.0/24 ── two
                         └────── fd77:3::/64 ─── six
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

pytestmark = pytest.mark.multicast

PATIENCE_S = 12.0
RETRY_S = 0.3
TXT = b"".join(bytes([len(item)]) + item for item in (b"id=0", b"version=1", b"devices=0", b"tls=0")).hex()

Peers = Callable[..., Any]


@dataclass
class World:
    """Everything is started at once, so that all probing times pass side by side."""

    client: list[str]
    """What to put before a command that runs on the client."""
    one: list[str]
    strangers: Future[dict[str, Any]]
    """What a stock browser on the client hears after all of `one` is advertised."""
    shut_out: Future[tuple[str, dict[str, Any], str]]
    """An advertiser where another program holds the port: its status, a look-up's answer there, its name afterwards."""
    unplugged: Future[list[str]]
    """An advertiser on a machine without a network: its statuses before, with loopback, and with a cable."""


@pytest.fixture(scope="module")
def world(namespaces: Any, lasting_peer: Peers, aside: ThreadPoolExecutor) -> World:
    client, one, two, six, held, dark, beside = (namespaces.make() for _ in range(7))
    for namespace in (client, one, two, held):
        namespaces.loopback_up(namespace)
    namespaces.join(client, "10.77.1.1/24", one, "10.77.1.2/24")
    namespaces.join(client, "10.77.2.1/24", two, "10.77.2.2/24")
    namespaces.join(client, "fd77:3::1/64", six, "fd77:3::2/64")

    def inside(namespace: str, role: str, **wanted: Any) -> Any:
        return lasting_peer(role, prefix=namespaces.inside(namespace), **wanted)

    holder = inside(held, "hold")
    bench = inside(one, "advertise", name="bench")
    secret = inside(one, "advertise", name="secret", interfaces=["127.0.0.1"], port=18872)
    inside(two, "advertise", name="bench")
    inside(six, "advertise", name="six")
    unplugged = inside(dark, "advertise", name="dark", retry_s=RETRY_S)
    lures = [
        {"name": "lure", "txt": TXT, "addresses": ["127.0.0.1"]},
        {"name": "mixed", "txt": TXT, "addresses": ["127.0.0.1", "10.99.9.9", "10.77.1.2"]},
    ]
    inside(one, "records", interface="10.77.1.2", services=lures)

    def listen_in() -> dict[str, Any]:
        assert (bench.advertised(), secret.advertised()) == ("bench", "secret")
        return inside(client, "ask", interface="10.77.1.1", timeout_s=2.0).said()

    def hold_port() -> tuple[str, dict[str, Any], str]:
        holder.said()
        shut_out = inside(held, "advertise", name="held", retry_s=RETRY_S)
        status = shut_out.said(lambda line: "5353" in line["status"])["status"]
        answer = inside(held, "resolve", name="held", timeout_s=1.0).said()
        holder.stop()
        return status, answer, shut_out.advertised()

    def plug_in() -> list[str]:
        statuses = [unplugged.said(lambda line: "no network" in line["status"])["status"]]
        namespaces.loopback_up(dark)
        statuses.append(unplugged.said(lambda line: line["name"] == "dark")["status"])
        namespaces.join(dark, "10.77.9.1/24", beside, "10.77.9.2/24")
        statuses.append(unplugged.said(lambda line: line["name"] == "dark" and "10.77" in line["status"])["status"])
        return statuses

    return World(
        namespaces.inside(client),
        namespaces.inside(one),
        aside.submit(listen_in),
        aside.submit(hold_port),
        aside.submit(plug_in),
    )


def test_gateways_are_found_on_every_network_of_the_client(world: World, peer: Peers) -> None:
    line = peer("browse", prefix=world.client, names=["bench", "six", "mixed"], count=4, timeout_s=PATIENCE_S).said()
    assert [found for found in line["found"] if found[0] != "mixed"] == [
        ["bench", "tcp://10.77.1.2:18871", ["10.77.1.2"]],
        ["bench", "tcp://10.77.2.2:18871", ["10.77.2.2"]],
        ["six", "tcp://[fd77:3::2]:18871", ["fd77:3::2"]],
    ]
    assert line["troubles"] == []
    assert sorted(line["asked"]) == ["10.77.1.1", "10.77.2.1", "127.0.0.1", "fd77:3::1"]


def test_a_loopback_address_heard_from_another_machine_is_not_taken_for_our_own(world: World, peer: Peers) -> None:
    line = peer("browse", prefix=world.client, names=["mixed"], timeout_s=PATIENCE_S, interfaces=["10.77.1.1"]).said()
    found = {name: addresses for name, _, addresses in line["found"]}
    assert found["mixed"] == ["10.77.1.2", "10.99.9.9"], "the address on our own network comes first"
    assert "lure" not in found


def test_a_gateway_bound_to_loopback_is_found_there_and_tells_no_other_network(world: World, peer: Peers) -> None:
    line = peer("browse", prefix=world.one, names=["bench", "secret"], count=2, timeout_s=PATIENCE_S).said()
    found = [found for found in line["found"] if found[0] in {"bench", "secret"}]
    assert found == [
        ["bench", "tcp://10.77.1.2:18871", ["10.77.1.2"]],
        ["secret", "tcp://127.0.0.1:18872", ["127.0.0.1"]],
    ]
    heard = world.strangers.result(PATIENCE_S)["heard"]
    assert "bench" in heard
    assert "secret" not in heard


def test_a_port_that_another_program_holds_is_said_and_the_gateway_comes_when_it_is_free(world: World) -> None:
    status, answer, name = world.shut_out.result(PATIENCE_S)
    assert status.startswith("not advertised: 127.0.0.1: UDP port 5353 is held by another program")
    assert status.endswith("trying again every 0.3 s")
    assert answer["code"] == "not-found"
    assert "could not ask on 127.0.0.1: UDP port 5353 is held" in answer["message"]
    assert name == "held"


def test_without_a_network_it_waits_for_one_and_takes_each_that_comes(world: World) -> None:
    assert world.unplugged.result(PATIENCE_S) == [
        "not advertised: there is no network interface to use; trying again every 0.3 s",
        "advertised as 'dark' on 127.0.0.1, port 18871",
        "advertised as 'dark' on 127.0.0.1, 10.77.9.1, port 18871",
    ]


def test_a_name_on_two_networks_is_ambiguous_and_both_are_listed(world: World, peer: Peers) -> None:
    line = peer("resolve", prefix=world.client, name="bench", timeout_s=PATIENCE_S).said()
    assert line["code"] == "ambiguous"
    assert "2 gateways are named 'bench'" in line["message"]
    assert "'bench' at tcp://10.77.1.2:18871, 'bench' at tcp://10.77.2.2:18871" in line["message"]
    alone = peer("resolve", prefix=world.client, name="bench", timeout_s=PATIENCE_S, interfaces=["10.77.2.1"]).said()
    assert alone == {"url": "tcp://10.77.2.2:18871"}
