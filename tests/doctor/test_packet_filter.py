"""The walk through the rules: what nft and iptables print, and the fate of a packet."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.doctor.packet_filter import Fate, Packet, from_iptables, from_nft, judge

MDNS = Packet("udp", 5353, "eth0", "224.0.0.251")
GATEWAY = Packet("tcp", 18871)


def dport(protocol: str, right: Any) -> dict[str, Any]:
    return {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": "dport"}}, "right": right}}


def meta(key: str, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": right}}


ESTABLISHED = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}
STATES = {
    "vmap": {
        "key": {"ct": {"key": "state"}},
        "data": {
            "set": [["invalid", {"drop": None}], ["established", {"accept": None}], ["related", {"accept": None}]]
        },
    }
}
GROUP = {
    "match": {
        "op": "==",
        "left": {"payload": {"protocol": "ip", "field": "daddr"}},
        "right": {"prefix": {"addr": "224.0.0.0", "len": 4}},
    }
}
ACCEPT, DROP, REJECT = {"accept": None}, {"drop": None}, {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}
COUNTER = {"counter": {"packets": 0, "bytes": 0}}
LIMIT = {"limit": {"rate": 5, "burst": 5, "per": "second"}}


def nft(*rules: list[Any], policy: str = "accept", **chains: list[list[Any]]) -> Any:
    """A ruleset with one chain for what comes in, and `chains` beside it."""
    place = {"family": "inet", "table": "filter"}
    items: list[dict[str, Any]] = [
        {"metainfo": {"json_schema_version": 1}},
        {"table": {"family": "inet", "name": "filter"}},
    ]
    items += [{"chain": {**place, "name": name}} for name in chains]
    items.append({"chain": {**place, "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": policy}})
    for name, expressions in [*chains.items(), ("input", list(rules))]:
        items += [{"rule": {**place, "chain": name, "expr": expression}} for expression in expressions]
    return from_nft(json.dumps({"nftables": items}))


@pytest.mark.parametrize(
    ("chains", "packet", "fate"),
    [
        (nft(), MDNS, Fate.ACCEPTED),
        (nft(policy="drop"), MDNS, Fate.DROPPED),
        (nft([dport("udp", 5353), ACCEPT], policy="drop"), MDNS, Fate.ACCEPTED),
        (nft([dport("udp", 5353), ACCEPT], policy="drop"), GATEWAY, Fate.DROPPED),
        (nft([dport("tcp", 5353), ACCEPT], policy="drop"), MDNS, Fate.DROPPED),
        (nft([dport("th", 5353), ACCEPT], policy="drop"), MDNS, Fate.ACCEPTED),
        (nft([dport("tcp", {"set": [22, {"range": [18000, 19000]}]}), ACCEPT], policy="drop"), GATEWAY, Fate.ACCEPTED),
        (nft([dport("tcp", {"set": [22, {"range": [8000, 9000]}]}), ACCEPT], policy="drop"), GATEWAY, Fate.DROPPED),
        (nft([ESTABLISHED, ACCEPT], [meta("iifname", "lo"), ACCEPT], policy="drop"), MDNS, Fate.DROPPED),
        (nft([STATES], policy="drop"), MDNS, Fate.DROPPED),
        (nft([STATES]), MDNS, Fate.ACCEPTED),
        (nft([meta("iifname", "eth*"), ACCEPT], policy="drop"), MDNS, Fate.ACCEPTED),
        (nft([meta("iifname", "eth0", "!="), ACCEPT], policy="drop"), MDNS, Fate.DROPPED),
        (nft([meta("l4proto", {"set": ["udp", "icmp"]}), ACCEPT], policy="drop"), MDNS, Fate.ACCEPTED),
        (nft([GROUP, ACCEPT], policy="drop"), MDNS, Fate.ACCEPTED),
        (nft([COUNTER, REJECT]), MDNS, Fate.DROPPED),
        (nft([dport("udp", "@open"), ACCEPT], policy="drop"), MDNS, Fate.UNSURE),
        (nft([LIMIT, COUNTER, ACCEPT], policy="drop"), MDNS, Fate.UNSURE),
        (nft([LIMIT, DROP], policy="drop"), MDNS, Fate.DROPPED),
        (nft([LIMIT, DROP]), MDNS, Fate.ACCEPTED),
        (nft([{"jump": {"target": "open"}}], [DROP], open=[[dport("udp", 5353), ACCEPT]]), MDNS, Fate.ACCEPTED),
        (nft([{"jump": {"target": "open"}}], [DROP], open=[[dport("udp", 53), ACCEPT]]), MDNS, Fate.DROPPED),
        (nft([{"jump": {"target": "open"}}], [DROP], open=[[LIMIT, ACCEPT]]), MDNS, Fate.UNSURE),
        (nft([{"goto": {"target": "open"}}], [ACCEPT], policy="drop", open=[]), MDNS, Fate.DROPPED),
        (nft([{"jump": {"target": "open"}}], [DROP], open=[[{"return": None}], [ACCEPT]]), MDNS, Fate.DROPPED),
        (nft([{"jump": {"target": "gone"}}], [DROP]), MDNS, Fate.UNSURE),
        (nft([{"jump": {"target": "round"}}], [DROP], round=[[{"jump": {"target": "round"}}]]), MDNS, Fate.UNSURE),
        (nft([], [{}], [{"new word": 1}, DROP]), MDNS, Fate.ACCEPTED),
    ],
)
def test_the_fate_of_a_packet_by_nft(chains: Any, packet: Packet, fate: Fate) -> None:
    assert judge(chains, packet).fate is fate


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nftables": 7}', "not json"])
def test_what_is_no_output_of_nft_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_nft(text)


UFW = """\
-P INPUT DROP
-P FORWARD DROP
-P OUTPUT ACCEPT
-N ufw-user-input
-A INPUT -j ufw-user-input
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
"""


@pytest.mark.parametrize(
    ("text", "packet", "fate"),
    [
        ("-P INPUT ACCEPT\n", MDNS, Fate.ACCEPTED),
        (UFW, MDNS, Fate.DROPPED),
        (UFW + "-A ufw-user-input -p udp -m udp --dport 5353 -j ACCEPT\n", MDNS, Fate.ACCEPTED),
        (UFW + "-A ufw-user-input -p tcp -m multiport --dports 80,18000:19000 -j ACCEPT\n", GATEWAY, Fate.ACCEPTED),
        ("-P INPUT ACCEPT\n-A INPUT -p tcp -j REJECT --reject-with tcp-reset\n", GATEWAY, Fate.DROPPED),
        ("-P INPUT ACCEPT\n-A INPUT ! -i lo -p tcp -j DROP\n", GATEWAY, Fate.DROPPED),
        ("-P INPUT DROP\n-A INPUT -d 224.0.0.251/32 -p udp -j ACCEPT\n", MDNS, Fate.ACCEPTED),
        ("-P INPUT DROP\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n", MDNS, Fate.DROPPED),
        ("-P INPUT DROP\n-A INPUT -m limit --limit 3/min -j ACCEPT\n", MDNS, Fate.UNSURE),
        ("-P INPUT DROP\n-A INPUT -m limit --limit 3/min -j LOG\n", MDNS, Fate.DROPPED),
        ("-P INPUT DROP\n-A INPUT -s 10.0.0.0/8 -j ACCEPT\n", MDNS, Fate.UNSURE),
        ("nonsense\n-A\n-P INPUT\n", MDNS, Fate.ACCEPTED),
    ],
)
def test_the_fate_of_a_packet_by_iptables(text: str, packet: Packet, fate: Fate) -> None:
    assert judge(from_iptables(text), packet).fate is fate
