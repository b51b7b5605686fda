"""usb:// in one process: which device is meant, what is said where it can't be had, and what happens at its end."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

import pytest

import gateway
from gateway.channels import Channel, open_channel, parse_url
from gateway.channels import usb_session as session
from gateway.errors import Ambiguous, ConfigError, GatewayError, LinkDown, OutcomeUnknown, Unreachable
from gateway.server.bridge import Host
from gateway.server.registry import GatewayService
from gateway.systemd.udev import user_rule
from hil.channel_checks import CHECKS, SIZES
from hil.conformance import Job
from hil.usb.function import COMING, GOING, RpycFunction
from hil.usb.in_process import Bus
from hil.usb.model import Endpoint, Interface, UsbModel
from tests.leftovers import Before
from tests.server.bridged import wait_until
from tests.usb.softhost import SoftHost, numbers_once

URL = "usb://1209:0001"
CLOSE_S = 0.2


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def bus(stack: ExitStack) -> Bus:
    bus = Bus()
    stack.enter_context(bus.installed())
    return bus


@pytest.fixture
def function(bus: Bus) -> RpycFunction:
    function = RpycFunction()
    bus.plug(function)
    return function


def opened(stack: ExitStack, function: RpycFunction, url: str = URL) -> tuple[Channel, Channel]:
    here = open_channel(url, timeout=5.0)
    there = function.channels.get(timeout=5.0)
    stack.callback(here.close)
    stack.callback(there.close)
    return here, there


# -- the URL ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("usb://1209", "after usb:// comes VID:PID"),
        ("usb://12:34", "after usb:// comes VID:PID"),
        ("usb://1209:00g1", "after usb:// comes VID:PID"),
        ("usb://1209:0001/a/b", "no further /"),
        ("usb://1209:0001?path=here", "a place such as 1-1.2"),
        ("usb://1209:0001?speed=fast", "unknown option 'speed'"),
        ("usb://1209:0001?detach=maybe", "true or false"),
        ("gadget://x", "after gadget:// comes VID:PID"),
        ("gadget://1209:0001/with%20space", "printable ASCII"),
        ("gadget://1209:0001/A?udc=../x", "without a /"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_url(url)


# -- which device ----------------------------------------------------------------------------------------------------


def test_a_device_is_found_by_serial_number_place_and_interface(stack: ExitStack, bus: Bus) -> None:
    first, second = RpycFunction("A1"), RpycFunction("B2")
    place = f"1-{bus.plug(first).address}"
    bus.plug(second)
    for url, model in (
        (f"{URL}/B2", second),
        (f"{URL}/A1", first),
        (f"{URL}?path={place}", first),
        (f"{URL}/B2?interface=RPyC", second),
    ):
        here, there = opened(stack, model, url)
        here.send(b"who are you")
        assert there.recv_within(5.0) == b"who are you"
        here.close()


def test_two_devices_that_fit_are_both_named(bus: Bus) -> None:
    for name in ("A1", "B2"):
        bus.plug(RpycFunction(name))
    with pytest.raises(Ambiguous, match=r"2 USB devices are 1209:0001: at 1-2, at 1-3; add the serial number"):
        open_channel(URL)


def test_no_device_says_what_there_is(bus: Bus, function: RpycFunction) -> None:
    with pytest.raises(Unreachable, match=r"no USB device is 1209:0002; is it plugged in\? There is: 1209:0001"):
        open_channel("usb://1209:0002")
    with pytest.raises(Unreachable, match="serial number OTHER"):
        open_channel(f"{URL}/OTHER")


def test_a_device_that_is_none_of_ours_is_refused(bus: Bus) -> None:
    other = UsbModel(interfaces=(Interface(0, 0xFF, 0, 0, (Endpoint(0x81), Endpoint(0x02))),))
    bus.plug(other)
    with pytest.raises(ConfigError, match="no RPyC function; on the other end runs: gateway host --usb"):
        open_channel(URL)
    like = UsbModel(
        vid=0x1209,
        pid=0x0009,
        interfaces=(Interface(0, session.CLASS, session.SUBCLASS, 0, (Endpoint(0x81), Endpoint(0x02))),),
    )
    bus.plug(like)
    with pytest.raises(ConfigError, match="no RPyC function"):
        open_channel("usb://1209:0009")


def test_without_permission_the_rule_is_told(bus: Bus, function: RpycFunction) -> None:
    bus.forbidden = True
    for url in (URL, f"{URL}/HIL0001"):
        with pytest.raises(ConfigError) as caught:
            open_channel(url)
        assert user_rule("1209", "0001") in str(caught.value)
        assert "sudo gateway udev 1209:0001" in str(caught.value)


def test_a_kernel_driver_is_sent_away_only_if_told(stack: ExitStack, bus: Bus, function: RpycFunction) -> None:
    address = bus.plugs[0].address
    bus.grabbed.add((address, 0))
    with pytest.raises(ConfigError, match=r"a kernel driver has its interface 0; add \?detach=on"):
        open_channel(URL)
    opened(stack, function, f"{URL}?detach=on")
    assert not bus.grabbed


def test_a_device_that_somebody_has_is_taken(stack: ExitStack, bus: Bus, function: RpycFunction) -> None:
    opened(stack, function)
    with pytest.raises(Unreachable, match="another program has it"):
        open_channel(URL)


def test_a_device_that_is_configured_is_not_configured_again(stack: ExitStack, function: RpycFunction) -> None:
    here, _ = opened(stack, function)
    here.close()
    opened(stack, function)
    assert [setup.request for setup in function.requests if setup.kind == 0 and setup.request == 9] == [9]


def test_a_device_that_does_not_answer_is_given_up(bus: Bus, function: RpycFunction) -> None:
    function.asleep.add(COMING)
    with pytest.raises(Unreachable, match="does not answer"):
        open_channel(URL, timeout=0.2)
    assert not bus.claimed()
    assert not bus.handles


# -- transfers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 503, 506, 507, 512, 1024 - 6, 65536 - 6, 65536, 131072 - 6, 131072, 400_000])
def test_messages_that_end_with_a_packet_arrive(stack: ExitStack, function: RpycFunction, size: int) -> None:
    here, there = opened(stack, function)
    for sender, receiver in ((here, there), (there, here)):
        sender.send(bytes(size))
        assert receiver.recv_within(5.0) == bytes(size)


def test_a_sender_waits_for_a_device_that_takes_nothing_for_now(stack: ExitStack, function: RpycFunction) -> None:
    here, there = opened(stack, function)
    function.asleep.add(GOING)
    sender = threading.Thread(target=here.send, args=(b"late",))
    sender.start()
    assert there.recv_within(0.1) is None
    function.asleep.clear()
    function.tell()
    assert there.recv_within(5.0) == b"late"
    sender.join()


def test_what_an_earlier_session_left_is_thrown_away(stack: ExitStack, bus: Bus, function: RpycFunction) -> None:
    here, there = opened(stack, function)
    function.asleep.add(COMING)
    there.send(b"of the first session")
    bus.handles[0].claimed.clear()  # as if the client's process had died
    function.tell()
    wait_until(lambda: not bus.handles, "the thread that read has left")
    here.close()
    function.asleep.clear()
    again, other = opened(stack, function)
    with pytest.raises(LinkDown, match="began anew"):
        there.recv()
    other.send(b"of the second")
    assert again.recv_within(5.0) == b"of the second"


# -- the end ---------------------------------------------------------------------------------------------------------


def test_unplugging_is_told_to_who_reads_and_who_sends(stack: ExitStack, bus: Bus, function: RpycFunction) -> None:
    here, there = opened(stack, function)
    caught: list[BaseException] = []

    def read() -> None:
        try:
            here.recv()
        except LinkDown as error:
            caught.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    begin = monotonic()
    bus.unplug(function)
    reader.join(5.0)
    assert monotonic() - begin < 1.0
    assert "is gone: unplugged" in str(caught[0])
    with pytest.raises(LinkDown, match="is gone"):
        here.send(b"x")
    with pytest.raises(LinkDown, match="unplugged"):
        there.recv()


@pytest.mark.parametrize("how", ["idle", "hung"])
def test_closing_is_quick_also_where_the_device_hangs(
    stack: ExitStack, bus: Bus, function: RpycFunction, how: str
) -> None:
    here, _ = opened(stack, function)
    if how == "hung":
        function.asleep |= {COMING, GOING}
        sender = Job(lambda: here.send(bytes(100_000)))
        stack.callback(lambda: sender.wait(5.0, "the sender"))
    begin = monotonic()
    here.close()
    assert monotonic() - begin < CLOSE_S + 0.3, "0.2 s, and what a busy machine takes"
    wait_until(lambda: not bus.handles, "the device is given back")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("turned", [False, True], ids=["host", "device"])
def test_it_is_a_channel(usb_pair: Any, check: Any, turned: bool) -> None:
    with usb_pair() as ends:
        check(ends[::-1] if turned else ends, SIZES)


# -- a host behind a gateway -----------------------------------------------------------------------------------------


class Served:
    """A gateway in front of a host that is plugged in, and a client of it."""

    def __init__(self, stack: ExitStack) -> None:
        self.host = Host("pi", URL)
        stack.callback(self.host.close)
        self.host.start()
        service = GatewayService({}, hosts=[self.host])
        stack.callback(service.keeper.close)
        self.front = stack.enter_context(gateway.Server(service, "tcp://127.0.0.1:0", strict=True))
        self.conn = gateway.connect(self.front.url)
        stack.callback(self.conn.close)


def test_a_host_is_used_through_a_gateway_and_found_again_after_a_replug(stack: ExitStack, bus: Bus) -> None:
    soft = SoftHost(stack)
    bus.plug(soft.function)
    served = Served(stack)
    assert served.host.wait_up(10.0)
    box = served.conn.root.pi.box
    assert box.count(1) == 1
    assert box.echo(bytes(300_000)) == bytes(300_000)
    waiting = gateway.async_(box.block)(2)
    assert soft.box.entered.wait(10.0)
    bus.unplug(soft.function)
    with pytest.raises(OutcomeUnknown):
        _ = waiting.value
    with pytest.raises(GatewayError):
        box.count(3)
    soft.box.release.set()
    bus.plug(soft.function)
    wait_until(lambda: served.host.is_up, "the gateway found it again")
    assert box.count(4) == 3
    assert soft.box.calls == [1, 2, 4]


def test_a_thousand_replugs_leave_nothing_behind_and_no_call_runs_twice(stack: ExitStack, bus: Bus) -> None:
    soft = SoftHost(stack)
    bus.plug(soft.function)
    number = 0

    def cycle() -> None:
        nonlocal number
        conn = gateway.connect(URL)
        number += 1
        conn.root.box.count(number)
        number += 1
        waiting = gateway.async_(conn.root.box.count)(number)
        bus.unplug(soft.function)
        with suppress(OutcomeUnknown, LinkDown):
            _ = waiting.value
        conn.close()
        bus.plug(soft.function)

    for _ in range(20):
        cycle()
    gc.collect()
    wait_until(lambda: not bus.handles, "all devices are given back")
    before = Before()
    for _ in range(1000):
        cycle()
    wait_until(lambda: not bus.handles, "all devices are given back")
    assert not bus.claimed()
    gc.collect()
    wait_until(lambda: not [each for each in before.added() if "gateway-worker" not in each], "\n".join(before.added()))
    assert numbers_once(soft.box)
    assert set(range(1, number, 2)) <= set(soft.box.calls)
