"""This computer's own firewall: does it let mDNS and the gateway's port in?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.discovery.interfaces import GROUP, PORT
from gateway.doctor.findings import Finding, ok, problem, skipped, warning
from gateway.doctor.packet_filter import Chain, Chains, Fate, Packet, from_iptables, from_nft, judge
from gateway.doctor.subject import Subject
from gateway.doctor.system import SUDO, System

DEFAULT_INTERFACE: Final = "eth0"


def firewall(system: System, subject: Subject) -> Iterator[Finding]:
    """Whether packets from the network get through to the gateway."""
    if subject.is_local:
        yield ok("only this computer can connect, so no firewall is in the way")
        return
    chains = _read(system)
    if chains is None:
        if system.uid == 0:
            yield ok("no firewall: neither nft nor iptables is installed")
        else:
            yield skipped("the firewall's rules can't be read without root", SUDO)
        return
    blocked = False
    for packet, what in _packets(subject):
        judgement = judge(chains, packet)
        chain = judgement.chain
        if judgement.fate is Fate.ACCEPTED or chain is None:
            continue
        blocked = True
        shown = f"{packet.protocol.upper()} port {packet.port}, {what}"
        where = f"the chain {chain.family} {chain.table} {chain.name}"
        if judgement.fate is Fate.DROPPED:
            yield problem(f"the firewall drops {shown} ({where})", *_fixes(chains, chain, packet))
        else:
            yield warning(f"the firewall may drop {shown} ({where})", *_fixes(chains, chain, packet))
    if not blocked:
        yield ok("the firewall lets the gateway through")


def _packets(subject: Subject) -> Iterator[tuple[Packet, str]]:
    if subject.advertise:
        yield Packet("udp", PORT, DEFAULT_INTERFACE, GROUP), "by which clients find the gateway (mDNS)"
    if subject.tcp is not None:
        host, port = subject.tcp
        known = host if host.replace(".", "").isdigit() and host != "0.0.0.0" else ""  # noqa: S104
        yield Packet("tcp", port, DEFAULT_INTERFACE, known), "where clients connect"


def _read(system: System) -> Chains | None:
    """The chains of nft, else of iptables; None if neither can be read."""
    output = system.tool("nft", "--json", "list", "ruleset")
    if output is not None and output.code == 0:
        try:
            return from_nft(output.out)
        except ValueError:
            pass
    output = system.tool("iptables", "-S")
    return from_iptables(output.out) if output is not None and output.code == 0 else None


def _fixes(chains: Chains, chain: Chain, packet: Packet) -> tuple[str, ...]:
    """For the program that keeps the rules, since it overwrites what is changed behind its back."""
    rule = f"{packet.protocol} dport {packet.port} accept"
    if any(name.startswith("ufw") for _, _, name in chains):
        return (f"sudo ufw allow {packet.port}/{packet.protocol}",)
    if any(table == "firewalld" for _, table, _ in chains):
        return (
            f"sudo firewall-cmd --permanent --add-port={packet.port}/{packet.protocol} && sudo firewall-cmd --reload",
        )
    if (chain.family, chain.table, chain.name) == ("ip", "filter", "INPUT"):
        return (
            f"sudo iptables -I INPUT -p {packet.protocol} --dport {packet.port} -j ACCEPT",
            "sudo netfilter-persistent save    # to keep it (package iptables-persistent)",
        )
    return (
        f"sudo nft insert rule {chain.family} {chain.table} {chain.name} {rule}",
        f"# to keep it, write `{rule}` into that chain in /etc/nftables.conf",
    )
