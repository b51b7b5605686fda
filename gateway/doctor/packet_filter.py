"""Whether a packet would get past the machine's filter: rules of nft or iptables, walked as the kernel does.

    judge(from_nft(json_text), Packet(...)) -> Judgement(Fate.DROPPED, chain)

What a rule looks at and this module doesn't know makes the answer UNSURE, never wrong.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

MAX_RULES: Final = 20_000
MAX_DEPTH: Final = 16
"""Chains within chains; the kernel allows as many."""

Test = bool | None
"""Whether a rule's condition holds; None: it can't be told."""


class Fate(StrEnum):
    """What becomes of the packet."""

    ACCEPTED = "accepted"
    DROPPED = "dropped"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of something that comes in from the network over IPv4."""

    protocol: str
    """`tcp` or `udp`."""
    port: int
    interface: str = "eth0"
    destination: str = ""
    """Its address, where known."""

    def fact(self, name: str) -> Any:
        """`protocol`, `port`, `interface`, `destination` or `state`; None for what is not known."""
        if name == "state":
            return "new"
        return getattr(self, name, None) or None


@dataclass(frozen=True, slots=True)
class Condition:
    """`fact` is (not) one of `values`. A fact of "" is one that is not understood."""

    fact: str
    values: tuple[Any, ...] = ()
    negated: bool = False

    def holds(self, packet: Packet) -> Test:
        actual = packet.fact(self.fact)
        if actual is None:
            return None
        answers = [_equal(actual, value) for value in self.values]
        met: Test = True if True in answers else None if None in answers else False
        return met if met is None else met != self.negated


UNKNOWN: Final = Condition("")


@dataclass(frozen=True, slots=True)
class Rule:
    """If all conditions hold: `accept`, `drop`, `return`, or `jump` or `goto` the chain `target`."""

    conditions: tuple[Condition, ...]
    action: str
    target: str = ""


@dataclass(slots=True)
class Chain:
    """Rules, one after the other."""

    family: str
    table: str
    name: str
    policy: str = ""
    """`accept` or `drop` for a chain that packets enter first; empty for the others."""
    rules: list[Rule] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of a packet, and where that is decided."""

    fate: Fate
    chain: Chain | None = None


Chains = Mapping[tuple[str, str, str], Chain]


def judge(chains: Chains, packet: Packet) -> Judgement:
    """The fate of `packet`: dropped if any of the chains that it enters drops it."""
    unsure = Judgement(Fate.ACCEPTED)
    for chain in chains.values():
        if not chain.policy:
            continue
        fate, sure = _walk(chains, chain, packet, 0)
        if fate in ("drop", "") and (fate or chain.policy) == "drop":
            if sure:
                return Judgement(Fate.DROPPED, chain)
            unsure = Judgement(Fate.UNSURE, chain)
    return unsure


def _walk(chains: Chains, chain: Chain, packet: Packet, depth: int) -> tuple[str, bool]:
    """`accept`, `drop` or "" (the chain came to its end), and whether, if it is no `accept`, that is sure."""
    sure = True
    for rule in chain.rules:
        answers = [condition.holds(packet) for condition in rule.conditions]
        if False in answers or rule.action == "none":
            continue
        certain = None not in answers
        action = rule.action
        if action in ("jump", "goto"):
            inner = chains.get((chain.family, chain.table, rule.target))
            if inner is None or depth >= MAX_DEPTH:
                sure = False
                continue
            action, inner_sure = _walk(chains, inner, packet, depth + 1)
            sure = sure and inner_sure
            if not action:
                if rule.action == "goto" and certain:
                    return "", sure
                continue
        if certain:
            return ("" if action == "return" else action), sure
        # A packet that is perhaps dropped here and surely later is surely dropped.
        sure = sure and action == "drop"
    return "", sure


def _equal(actual: Any, value: Any) -> Test:
    if isinstance(value, tuple):  # a range of numbers
        return isinstance(actual, int) and value[0] <= actual <= value[1]
    if isinstance(value, ipaddress.IPv4Network):
        try:
            return ipaddress.ip_address(actual) in value
        except ValueError:
            return None
    if isinstance(value, str) and value.startswith("@"):
        return None  # a named set
    if isinstance(actual, str) and isinstance(value, str) and value.endswith("*"):
        return actual.startswith(value[:-1])
    return bool(actual == value)


# ---------------------------------------------------------------------------------------------- nft --json list ruleset

_FAMILIES: Final = ("ip", "inet")
_META: Final = {"iifname": "interface", "iif": "interface", "l4proto": "protocol"}
_ACTIONS: Final = {"accept": "accept", "drop": "drop", "reject": "drop", "return": "return"}
_IGNORED: Final = frozenset({"counter", "log", "comment", "mangle", "ct count"})


def from_nft(text: str) -> dict[tuple[str, str, str], Chain]:
    """The chains of `nft --json list ruleset`. Raises ValueError for what is no such text."""
    document = json.loads(text)
    items = document.get("nftables") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise ValueError("not the JSON of nft")
    chains: dict[tuple[str, str, str], Chain] = {}
    for item in items[:MAX_RULES]:
        row = item.get("chain") if isinstance(item, dict) else None
        if isinstance(row, dict) and row.get("family") in _FAMILIES:
            entered = row.get("hook") == "input" and row.get("type") == "filter"
            policy = str(row.get("policy") or "accept") if entered else ""
            name = str(row.get("name"))
            chains[row["family"], str(row.get("table")), name] = Chain(
                row["family"], str(row.get("table")), name, policy
            )
    for item in items[:MAX_RULES]:
        row = item.get("rule") if isinstance(item, dict) else None
        if isinstance(row, dict):
            chain = chains.get((str(row.get("family")), str(row.get("table")), str(row.get("chain"))))
            if chain is not None:
                chain.rules += _nft_rules(row.get("expr") or [])
    return chains


def _nft_rules(expressions: Iterable[Any]) -> list[Rule]:
    conditions: list[Condition] = []
    for expression in expressions:
        name, body = next(iter(expression.items())) if isinstance(expression, dict) and expression else ("", None)
        if name == "match" and isinstance(body, dict):
            conditions += _nft_conditions(body)
        elif name in _ACTIONS:
            return [Rule(tuple(conditions), _ACTIONS[name])]
        elif name in ("jump", "goto") and isinstance(body, dict):
            return [Rule(tuple(conditions), name, str(body.get("target")))]
        elif name == "vmap" and isinstance(body, dict):
            return _nft_map(tuple(conditions), body)
        elif name not in _IGNORED:
            conditions.append(UNKNOWN)
    return []


def _nft_map(conditions: tuple[Condition, ...], body: Mapping[str, Any]) -> list[Rule]:
    """`ct state vmap { established : accept, invalid : drop }` as a rule for each row."""
    data = body.get("data")
    rows = data.get("set") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        return [Rule((*conditions, UNKNOWN), "drop")]
    rules = []
    for row in rows:
        if isinstance(row, list) and len(row) == 2:
            match = {"op": "==", "left": body.get("key"), "right": row[0]}
            tests = (*conditions, *_nft_conditions(match))
            rules += [Rule(tests, each.action, each.target) for each in _nft_rules([row[1]])]
    return rules


def _nft_conditions(match: Mapping[str, Any]) -> list[Condition]:
    left, right, operator = match.get("left"), match.get("right"), match.get("op")
    if not isinstance(left, dict) or operator not in ("==", "!=", "in"):
        return [UNKNOWN]
    values, negated = _nft_values(right), operator == "!="
    if isinstance(payload := left.get("payload"), dict):
        protocol, name = str(payload.get("protocol")), payload.get("field")
        if name == "dport" and protocol in ("tcp", "udp", "th"):
            own = [] if protocol == "th" else [Condition("protocol", (protocol,))]
            return [*own, Condition("port", values, negated)]
        if (protocol, name) == ("ip", "daddr"):
            return [Condition("destination", values, negated)]
        if (protocol, name) == ("ip", "protocol"):
            return [Condition("protocol", values, negated)]
        if protocol in ("ip6", "icmp", "icmpv6"):
            return [Condition("protocol", (protocol,))]
        return [Condition("protocol", (protocol,)), UNKNOWN] if protocol in ("tcp", "udp") else [UNKNOWN]
    if isinstance(meta := left.get("meta"), dict) and meta.get("key") in _META:
        return [Condition(_META[meta["key"]], values, negated)]
    if isinstance(ct := left.get("ct"), dict) and ct.get("key") == "state":
        return [Condition("state", values, negated)]
    return [UNKNOWN]


def _nft_values(right: Any) -> tuple[Any, ...]:
    if isinstance(right, dict) and isinstance(right.get("set"), list):
        right = right["set"]
    rows = right if isinstance(right, list) else [right]
    return tuple(_nft_value(row) for row in rows)


def _nft_value(row: Any) -> Any:
    if isinstance(row, dict):
        if isinstance(row.get("elem"), dict):
            return _nft_value(row["elem"].get("val"))
        bounds, prefix = row.get("range"), row.get("prefix")
        if isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(bound, int) for bound in bounds):
            return tuple(bounds)
        if isinstance(prefix, dict):
            return _network(f"{prefix.get('addr')}/{prefix.get('len')}")
        return "@"
    return row if isinstance(row, int | str) else "@"


def _network(text: str) -> Any:
    try:
        return ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return "@"


# ----------------------------------------------------------------------------------------------------- iptables -S

_PORTS: Final = re.compile(r"(\d+)(?::(\d+))?")


def from_iptables(text: str) -> dict[tuple[str, str, str], Chain]:
    """The chains of `iptables -S`."""
    chains: dict[tuple[str, str, str], Chain] = {}
    for line in text.splitlines()[:MAX_RULES]:
        words = line.split()
        if len(words) >= 2 and words[0] in ("-P", "-N"):
            policy = words[2].lower() if words[0] == "-P" and words[1] == "INPUT" and len(words) > 2 else ""
            chains["ip", "filter", words[1]] = Chain("ip", "filter", words[1], policy)
        elif len(words) > 2 and words[0] == "-A":
            chain = chains.setdefault(("ip", "filter", words[1]), Chain("ip", "filter", words[1]))
            chain.rules += _iptables_rule(words[2:])
    return chains


def _iptables_rule(words: list[str]) -> list[Rule]:
    conditions: list[Condition] = []
    negated = False
    rest = iter(words)
    for word in rest:
        if word == "!":
            negated = True
            continue
        value = next(rest, "")
        if word in ("-j", "-g"):
            return [_iptables_action(tuple(conditions), word, value)]
        conditions += _iptables_conditions(word, value, negated)
        negated = False
    return []


def _iptables_action(conditions: tuple[Condition, ...], word: str, value: str) -> Rule:
    known = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return", "LOG": "none", "NFLOG": "none"}
    return (
        Rule(conditions, known[value])
        if value in known
        else Rule(conditions, "goto" if word == "-g" else "jump", value)
    )


def _iptables_conditions(word: str, value: str, negated: bool) -> list[Condition]:
    match word:
        case "-p":
            return [Condition("protocol", (value,), negated)]
        case "-i":
            return [Condition("interface", (value.replace("+", "*"),), negated)]
        case "-d":
            return [Condition("destination", (_network(value),), negated)]
        case "--dport" | "--dports":
            bounds = [_PORTS.fullmatch(part) for part in value.split(",")]
            values = tuple((int(b[1]), int(b[2] or b[1])) if b else "@" for b in bounds)
            return [Condition("port", values, negated)]
        case "--ctstate" | "--state":
            return [Condition("state", tuple(value.lower().split(",")), negated)]
        case "-m":
            # A module that only brings options that are understood, or are UNKNOWN by themselves.
            return [UNKNOWN] if value in ("addrtype", "recent", "set", "limit", "hashlimit", "mac") else []
        case "--comment":
            return []
        case _:
            return [UNKNOWN]
