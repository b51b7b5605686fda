"""The other process of a discovery test: `peer.py ROLE JSON`. Prints JSON lines; ends when its standard input does."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from typing import Any

from zeroconf import ServiceBrowser, ServiceInfo, Zeroconf

from gateway.discovery import SERVICE_TYPE, Advertisement, Advertiser, resolve, survey
from gateway.errors import GatewayError


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def advertise(wanted: dict[str, Any]) -> None:
    """Say each status as it comes; take lines `{"devices": n}` and `{"stop": true}`."""
    interfaces, retry_s = wanted.pop("interfaces", None), wanted.pop("retry_s", 15.0)
    facts = {"id": "0123456789abcdef", "version": "0.1.0", "port": 18871} | wanted
    facts["addresses"] = tuple(facts.get("addresses", ()))
    advertiser = Advertiser(Advertisement(**facts), interfaces, retry_s=retry_s)
    ended = threading.Event()

    def watch() -> None:
        told = ""
        while not ended.wait(0.02):
            if advertiser.status != told:
                told = advertiser.status
                say(status=told, name=advertiser.name)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with advertiser:
        for line in sys.stdin:
            told = json.loads(line)
            if "stop" in told:
                break
            advertiser.update(devices=told["devices"])
    ended.set()
    watcher.join()
    say(status=advertiser.status, name=advertiser.name)


def browse(wanted: dict[str, Any]) -> None:
    """Survey until every name of `names` is there; say what was found."""
    names, count = set(wanted["names"]), wanted.get("count", 1)

    def enough(found: list[Any]) -> bool:
        return len(found) >= count and names <= {gateway.name for gateway in found}

    found = survey(wanted["timeout_s"], wanted.get("interfaces"), until=enough, static={})
    say(
        found=[[gateway.name, gateway.url, list(gateway.addresses)] for gateway in found.gateways],
        asked=found.asked,
        troubles=found.troubles,
    )


def look_up(wanted: dict[str, Any]) -> None:
    try:
        say(url=resolve(wanted["name"], wanted["timeout_s"], static={}, interfaces=wanted.get("interfaces")))
    except GatewayError as problem:
        say(code=problem.code, message=str(problem))


def ask(wanted: dict[str, Any]) -> None:
    """Ask as a stock browser does, whose first question wants a unicast answer; say all names heard in the time."""
    heard: set[str] = set()

    def changed(name: str, **_: Any) -> None:
        heard.add(name.removesuffix(f".{SERVICE_TYPE}"))

    mdns = Zeroconf(interfaces=[wanted["interface"]])
    ServiceBrowser(mdns, SERVICE_TYPE, handlers=[changed])
    time.sleep(wanted["timeout_s"])
    mdns.close()
    say(heard=sorted(heard))


def hold(wanted: dict[str, Any]) -> None:
    """Hold UDP port 5353 and share it with nobody."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind((wanted.get("address", ""), 5353))
        say(held=True)
        sys.stdin.read()


def records(wanted: dict[str, Any]) -> None:
    """Register services with any TXT bytes, without asking whether their names are free."""
    mdns = Zeroconf(interfaces=[wanted.get("interface", "127.0.0.1")])
    for index, service in enumerate(wanted["services"]):
        kind = service.get("type", SERVICE_TYPE)
        info = ServiceInfo(
            kind,
            f"{service['name']}.{kind}",
            port=service.get("port", 18871),
            properties=bytes.fromhex(service["txt"]),
            server=service.get("server", f"peer{index}.local."),
            parsed_addresses=service.get("addresses", ["127.0.0.1"]),
        )
        mdns.register_service(info, cooperating_responders=True, strict=False)
    say(registered=True)
    sys.stdin.read()
    mdns.close()


def packets(wanted: dict[str, Any]) -> None:
    """Multicast each packet over and over from the interface."""
    ended = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            interface = socket.inet_aton(wanted.get("interface", "127.0.0.1"))
            out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
            while not ended.wait(0.05):
                for packet in wanted["packets"]:
                    out.sendto(bytes.fromhex(packet), ("224.0.0.251", 5353))

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(0.1)
    say(sending=True)
    sys.stdin.read()
    ended.set()
    sender.join()


ROLES = {
    "advertise": advertise,
    "browse": browse,
    "resolve": look_up,
    "hold": hold,
    "ask": ask,
    "records": records,
    "packets": packets,
}

if __name__ == "__main__":
    ROLES[sys.argv[1]](json.loads(sys.argv[2]))
