"""Real multicast on the loopback interface, and nowhere else, between processes."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.discovery import Advertisement, Advertiser, FoundGateway, browse, browser, resolve, survey
from gateway.discovery import advertiser as advertiser_module
from gateway.errors import ConfigError, NotFound
from tests.leftovers import Before

pytestmark = pytest.mark.multicast

LOOPBACK = ["127.0.0.1"]
PATIENCE_S = 15.0
NOWHERE = ["203.0.113.9"]
"""An address of RFC 5737, which no machine has."""
NO_SUCH_ADDRESS = "203.0.113.9: no interface of this machine has that address"

Peers = Callable[..., Any]


def only(name: str, found: list[FoundGateway]) -> list[FoundGateway]:
    return [gateway for gateway in found if gateway.name == name]


def browse_until(enough: Callable[[list[FoundGateway]], bool]) -> list[FoundGateway]:
    return browse(PATIENCE_S, LOOPBACK, until=enough, static={})


def facts(name: str, **more: Any) -> Advertisement:
    return Advertisement(**{"name": name, "port": 18871, "id": "cafe", "version": "0.1.0"} | more)


def txt(*items: bytes) -> str:
    return b"".join(bytes([len(item)]) + item for item in items).hex()


GOOD = (b"id=feed", b"version=1", b"devices=2", b"tls=1")
HOSTILE = {
    "huge": txt(*GOOD, *[b"pad%d=" % number + b"x" * 200 for number in range(30)]),
    "not UTF-8": txt(b"id=feed", b"version=\xff\xfe", b"devices=2", b"tls=0"),
    "no id": txt(b"version=1", b"devices=2", b"tls=0"),
    "negative": txt(b"id=feed", b"version=1", b"devices=-2", b"tls=0"),
    "a big count": txt(b"id=feed", b"version=1", b"devices=" + b"9" * 200, b"tls=0"),
    "cut off": txt(*GOOD) + "40",
    "an escape": txt(b"id=feed", b"version=\x1b[2J", b"devices=2", b"tls=0"),
    "empty": "",
}


@dataclass
class Network:
    """Peers that are started together, so that their probing times pass side by side."""

    name: str
    gateway: Any
    pair: tuple[Any, Any]
    """Two gateways that start at the same moment under one name, `{name} pair`."""
    older: Any
    newer: Any
    """Two whose names another one takes without asking: `{name} older` by a younger one, `{name} newer` by an older."""
    taken: Future[Any]
    """The one who does."""


@pytest.fixture(scope="module")
def network(lasting_peer: Peers, aside: ThreadPoolExecutor) -> Network:
    name = f"bench {secrets.token_hex(4)}"

    def gateway(suffix: str, **wanted: Any) -> Any:
        return lasting_peer("advertise", name=f"{name}{suffix}", interfaces=LOOPBACK, **wanted)

    services = [{"name": f"{name} {why}", "txt": text} for why, text in HOSTILE.items()]
    services += [
        {"name": f"{name} port", "txt": txt(*GOOD), "port": 0},
        {"name": f"{name} nowhere", "txt": txt(*GOOD), "addresses": ["0.0.0.0"]},
        {"name": f"{name} crowd", "txt": txt(*GOOD), "addresses": [f"10.0.0.{host}" for host in range(1, 60)]},
        {"name": f"{name} good", "txt": txt(*GOOD, b"later=\xff", b"ID=second")},
    ]
    older, newer = gateway(" older"), gateway(" newer")
    first = gateway("", port=18999, id="feed", devices=3, version="1.2.3")
    pair = gateway(" pair", port=18001), gateway(" pair", port=18002)
    lasting_peer("records", services=services)
    # As gateways do that come in with a second network. A gateway's host name has the time of its start in it.
    bold = [
        {"name": f"{name} older", "txt": txt(*GOOD, b"bold"), "server": "zzz.local.", "port": 7},
        {"name": f"{name} newer", "txt": txt(*GOOD, b"bold"), "server": "0.local.", "port": 7},
    ]

    def take_names() -> Any:
        assert (older.advertised(), newer.advertised()) == (f"{name} older", f"{name} newer")
        peer = lasting_peer("records", services=bold)
        peer.said()
        return peer

    return Network(name, first, pair, older, newer, aside.submit(take_names))


def test_a_gateway_of_another_process_is_found_with_its_facts_and_gone_when_it_stops(network: Network) -> None:
    name = network.name
    (found,) = only(name, browse_until(lambda seen: bool(only(name, seen))))
    assert found == FoundGateway(
        name=name,
        url="tcp://127.0.0.1:18999",
        source="mdns",
        addresses=("127.0.0.1",),
        port=18999,
        id="feed",
        version="1.2.3",
        devices=3,
    )
    assert resolve(name.upper(), 2.0, static={}, interfaces=LOOPBACK) == "tcp://127.0.0.1:18999"

    network.gateway.tell(devices=4)
    steps: list[str] = []

    def gone(seen: list[FoundGateway]) -> bool:
        mine = only(name, seen)
        if not steps and [one.devices for one in mine] == [4]:
            steps.append("updated")
            network.gateway.tell(stop=True)
        return bool(steps) and not mine

    began = time.monotonic()
    assert only(name, browse_until(gone)) == []
    assert steps == ["updated"]
    assert time.monotonic() - began < PATIENCE_S, "no goodbye was heard"


def test_two_that_start_together_under_one_name_end_with_two_names(network: Network) -> None:
    name = f"{network.name} pair"
    wanted = {name, f"{name} (2)"}
    found = browse_until(lambda seen: wanted <= {one.name for one in seen})
    both = {one.name: one.port for one in found if one.name in wanted}
    assert sorted(both.values()) == [18001, 18002]
    renamed = network.pair[both[f"{name} (2)"] - 18001]
    line = renamed.said(lambda line: line["name"] == f"{name} (2)")
    assert f"the name '{name}' is taken by another gateway" in line["status"]


def test_hostile_records_are_skipped_and_the_others_are_found(network: Network) -> None:
    wanted = {f"{network.name} crowd", f"{network.name} good"}
    found = browse_until(lambda seen: wanted <= {one.name for one in seen})
    mine = {one.name: one for one in found if one.name.startswith(f"{network.name} ")}
    gateways = {f"{network.name} {who}" for who in ("pair", "pair (2)", "older", "newer", "newer (2)")}
    assert mine.keys() - gateways == wanted
    assert len(mine[f"{network.name} crowd"].addresses) == 16
    assert mine[f"{network.name} good"].url == "tls://127.0.0.1:18871"


def test_a_name_held_twice_is_settled_by_who_was_there_first(network: Network) -> None:
    other = network.taken.result(PATIENCE_S)
    newer = network.newer.said(lambda line: line["name"] == f"{network.name} newer (2)")
    assert f"the name '{network.name} newer' is taken by another gateway" in newer["status"]
    # The other's goodbye takes our entry out of every cache; it comes back.
    other.stop()
    name = f"{network.name} older"
    found = browse_until(lambda seen: [one.port for one in only(name, seen)] == [18871])
    assert [one.port for one in only(name, found)] == [18871]


def test_a_name_that_too_many_have_is_said(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advertiser_module, "MAX_SAME_NAME", 0)
    with Advertiser(facts(f"{network.name} older"), LOOPBACK, retry_s=0.05) as advertiser:
        assert not advertiser.wait(0.3)
        assert "0 gateways are named" in advertiser.status
        assert "give this one a name of its own in its config" in advertiser.status


def test_packets_that_are_no_answers_do_no_harm(peer: Peers, a_name: str) -> None:
    def label(text: bytes) -> bytes:
        return bytes([len(text)]) + text

    kind = label(b"_instrument-gw") + label(b"_tcp") + label(b"local") + b"\0"

    def pointer(alias: bytes) -> str:
        head = bytes.fromhex("0000 8400 0000 0001 0000 0000")
        return (head + kind + bytes.fromhex("000c 0001 00001194") + len(alias).to_bytes(2, "big") + alias).hex()

    sent = [
        pointer(label(b"\xff\xfe\x80") + kind),  # a name that is not UTF-8
        pointer(label(b"\x1b[31mred") + kind),
        pointer(label(a_name.encode() + b" alone") + kind),  # a pointer and nothing behind it
        pointer(label(b"evil") + label(b"_http") + label(b"_tcp") + label(b"local") + b"\0"),
        pointer(b"\xc0\x0c"),  # points to the type itself
        pointer(b"\xc0\xff"),
        "00" * 12,
        "ff" * 40,
    ]
    peer("packets", packets=sent).said()
    peer("advertise", name=a_name, interfaces=LOOPBACK)
    found = browse_until(lambda seen: bool(only(a_name, seen)))
    assert not [one for one in found if "alone" in one.name or "red" in one.name or "evil" in one.name]


def test_nothing_of_an_advertiser_or_a_browser_is_left_behind(a_name: str) -> None:
    browse(0.2, LOOPBACK, static={})  # what is made once and kept is made now
    before = Before()
    with Advertiser(facts(a_name), [*NOWHERE, *LOOPBACK]) as advertiser:
        assert advertiser.wait(PATIENCE_S)
        assert advertiser.status == f"advertised as '{a_name}' on 127.0.0.1, port 18871; not on {NO_SUCH_ADDRESS}"
        assert browse_until(lambda seen: bool(only(a_name, seen)))
    advertiser.close()
    advertiser.start()  # not after close
    assert advertiser.status == "not advertised: closed"
    assert advertiser.name is None
    for _ in range(3):
        started = Advertiser(facts(a_name), LOOPBACK)
        started.start()
        started.start()
        began = time.monotonic()
        started.close()
        assert time.monotonic() - began < 2.0, "closing waits for the announcement"
    Advertiser(facts(a_name), LOOPBACK).close()
    assert before.added() == []


def test_an_interface_that_is_not_there_is_said_and_not_raised(a_name: str) -> None:
    with Advertiser(facts(a_name), NOWHERE, retry_s=0.05) as advertiser:
        assert not advertiser.wait(0.3)
        assert advertiser.status == f"not advertised: {NO_SUCH_ADDRESS}; trying again every 0.05 s"
        advertiser.update(devices=2)
    seen = survey(0.1, NOWHERE, static={})
    assert (seen.gateways, seen.asked, seen.troubles) == ((), (), (NO_SUCH_ADDRESS,))


def test_no_interface_at_all_is_said_and_the_fixed_addresses_are_listed(a_name: str) -> None:
    with Advertiser(facts(a_name), []) as advertiser:
        assert not advertiser.wait(0.2)
        assert advertiser.status.startswith("not advertised: there is no network interface to use")
    began = time.monotonic()
    (fixed,) = browse(5.0, [], static={"far": "tcp://10.0.0.5:18871"})
    assert (fixed.name, fixed.source, fixed.addresses, fixed.port) == ("far", "static", ("10.0.0.5",), 18871)
    assert time.monotonic() - began < 2.0, "there is nobody to wait for"


def test_a_name_that_does_not_answer_is_an_error_that_says_what_to_do(a_name: str) -> None:
    with pytest.raises(NotFound) as caught:
        resolve(a_name, 0.2, static={"far": "ssh://pi:secret@far"}, interfaces=[*LOOPBACK, *NOWHERE])
    text = str(caught.value)
    assert f"no gateway named '{a_name}' answered within 0.2 s on 127.0.0.1" in text
    assert "'far' at ssh://pi:***@far" in text
    assert f"could not ask on {NO_SUCH_ADDRESS}" in text
    assert "INSTRUMENT_GATEWAYS" in text
    assert "UDP port 5353" in text
    assert "\n" not in text
    assert "far" in caught.value.seen


def test_the_number_of_gateways_kept_is_bounded(
    network: Network, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(browser, "MAX_GATEWAYS", 2)
    counts: list[int] = []

    def enough(seen: list[FoundGateway]) -> bool:
        counts.append(len(seen))
        return "more than 2 gateways" in caplog.text

    assert len(browse_until(enough)) == 2
    assert max(counts) == 2


def test_an_interrupted_browse_leaves_nothing_behind() -> None:
    browse(0.1, LOOPBACK, static={})
    before = Before()
    main = threading.get_ident()

    sent = threading.Event()

    def enough(_: list[FoundGateway]) -> bool:
        if not sent.is_set():
            sent.set()
            signal.pthread_kill(main, signal.SIGINT)
        return False

    with pytest.raises(KeyboardInterrupt):
        browse(PATIENCE_S, LOOPBACK, until=enough, static={})
    assert before.added() == []


def test_what_until_raises_comes_out_of_browse() -> None:
    def enough(_: list[FoundGateway]) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        browse(1.0, LOOPBACK, until=enough, static={})


def test_an_impossible_update_is_refused(a_name: str) -> None:
    with pytest.raises(ConfigError, match="count of devices"):
        Advertiser(facts(a_name), LOOPBACK).update(devices=-1)
