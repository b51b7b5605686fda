"""Channels over the reliable link, on real ttys: side by side, through resets and unplugging, and each with an end."""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from gateway.channels import Channel, Listener, Trunk, listen, open_channel, open_trunk
from gateway.channels.link_channel import LinkChannel
from gateway.errors import LimitExceeded, LinkDown, Unreachable
from gateway.limits import Limits
from hil import End, FaultPlan, PtyWire, check_channel

FAST = "baudrate=12000000"
LIMITS = Limits()
ROOT = Path(__file__).parents[2]
TYPED_ERROR_S = 0.2
BACK_S = 1.0
LATE = 3.0
"""What a loaded machine may take longer for than the issue's numbers, which the bench measures."""


@pytest.fixture
def wire() -> Iterator[PtyWire]:
    with PtyWire() as wire:
        yield wire


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


_given: list[Any] = []


def keep(channel: Any) -> Any:
    """Have the channel closed at the end of the test."""
    _given.append(channel)
    return channel


@pytest.fixture(autouse=True)
def everything_is_closed(nothing_leaks: None) -> Iterator[None]:
    yield
    while _given:
        _given.pop().close()


class Ends:
    """A trunk at one end of a wire and a listener at the other."""

    def __init__(self, wire: PtyWire, options: str = FAST, limits: Limits = LIMITS) -> None:
        self.wire = wire
        self.limits = limits
        self.trunk: Any = open_trunk(wire.channel_url(End.A, options), limits=limits)
        self.listener: Any = listen(wire.channel_url(End.B, options), limits=limits)

    def pair(self, timeout: float = 5.0) -> tuple[LinkChannel, LinkChannel]:
        """One more channel, and its other end."""
        here = keep(self.trunk.open(timeout))
        here.send(b"hello")
        there = accept(self.listener, timeout)
        assert there.recv_within(5) == b"hello"
        return here, there

    def close(self) -> None:
        self.trunk.close()
        self.listener.close()


@pytest.fixture
def ends(wire: PtyWire, stack: ExitStack) -> Ends:
    return stack.enter_context(closing(Ends(wire)))


def accept(listener: Listener, timeout: float = 5.0) -> Any:
    deadline = monotonic() + timeout
    while monotonic() < deadline:
        select.select([listener.fileno()], [], [], max(0.0, deadline - monotonic()))
        channel = listener.accept()
        if channel is not None:
            return keep(channel)
    pytest.fail(f"no channel within {timeout} s")


def in_thread(job: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run `job`; what it returned or raised is in the list once the thread has ended."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(job())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def wait_until(condition: Callable[[], bool], timeout: float = 5.0) -> None:
    deadline, pause = monotonic() + timeout, threading.Event()
    while not condition():
        assert monotonic() < deadline
        pause.wait(0.005)


def test_a_channel_over_the_link_passes_the_kits_conformance_suite() -> None:
    @contextmanager
    def make_pair() -> Iterator[tuple[Channel, Channel]]:
        with PtyWire() as wire, closing(Ends(wire)) as ends:
            here, there = ends.pair()
            with closing(here), closing(there):
                yield here, there

    check_channel(make_pair)


# -------------------------------------------------------------------------------------------------------- side by side


def test_channels_run_side_by_side_and_each_has_its_own_messages(ends: Ends) -> None:
    pairs = [ends.pair() for _ in range(5)]
    messages = [[random.Random(10 * n + i).randbytes(500 * i) for i in range(1, 8)] for n in range(5)]
    senders = [
        in_thread(lambda channel=here, batch=batch: [channel.send(each) for each in batch])
        for (here, _), batch in zip(pairs, messages, strict=True)
    ]
    for (_, there), batch in zip(pairs, messages, strict=True):
        assert [there.recv_within(10) for _ in batch] == batch
    for thread, _ in senders:
        thread.join()


def test_the_end_of_one_channel_leaves_the_others(ends: Ends) -> None:
    (first, served), (second, other) = ends.pair(), ends.pair()
    first.send(b"last")
    first.close()
    assert served.recv_within(5) == b"last"
    with pytest.raises(LinkDown, match="closed by the peer"):
        served.recv_within(5)
    second.send(b"still here")
    assert other.recv_within(5) == b"still here"


def test_a_closed_channels_number_is_used_again_for_ever(wire: PtyWire, stack: ExitStack) -> None:
    ends = stack.enter_context(closing(Ends(wire, f"{FAST}&streams=2")))
    assert ends.trunk.channels_at_most == 2
    for round_ in range(20):
        here, there = ends.pair()
        first, last = (here, there) if round_ % 2 else (there, here)
        first.close()
        with pytest.raises(LinkDown, match="closed by the peer"):
            last.recv_within(5)
        last.close()


def test_a_new_channel_waits_for_a_number_that_is_not_free_yet(wire: PtyWire, stack: ExitStack) -> None:
    ends = stack.enter_context(closing(Ends(wire, f"{FAST}&streams=1")))
    for _ in range(10):
        here, there = ends.pair()
        here.close()
        closer, _ = in_thread(there.close)  # until then the peer has the number
        ends.pair()[0].close()
        closer.join()


def test_one_channel_too_many_is_refused_and_harms_nothing(wire: PtyWire, stack: ExitStack) -> None:
    ends = stack.enter_context(closing(Ends(wire, f"{FAST}&streams=1")))
    here, there = ends.pair()
    with pytest.raises(LimitExceeded):
        ends.trunk.open(1.0)
    here.send(b"fine")
    assert there.recv_within(5) == b"fine"


def test_a_small_message_overtakes_another_channels_bulk(stack: ExitStack) -> None:
    wire = stack.enter_context(PtyWire(baud=230_400))
    ends = stack.enter_context(closing(Ends(wire, "baudrate=230400")))
    (bulk, bulk_there), (small, small_there) = ends.pair(), ends.pair()
    thread, _ = in_thread(lambda: bulk.send(random.Random(1).randbytes(60_000)))  # 2.6 s of line
    wait_until(lambda: wire.delivered(End.B) > 2000)
    small.send(b"overtakes")
    assert small_there.recv_within(5) == b"overtakes"
    assert not bulk_there.buffered
    assert len(bulk_there.recv_within(20) or b"") == 60_000
    thread.join()


def test_a_channel_that_nobody_reads_ends_and_lets_the_others_go_on(wire: PtyWire, stack: ExitStack) -> None:
    ends = stack.enter_context(closing(Ends(wire, FAST, replace(LIMITS, progress_s=0.5))))
    (bulk, unread), (small, small_there) = ends.pair(), ends.pair()
    noise = random.Random(1).randbytes(100_000)

    def flood() -> None:
        while True:
            bulk.send(noise)

    thread, outcome = in_thread(flood)
    wait_until(lambda: unread.held > 200_000)
    small.send(b"waits")
    assert small_there.recv_within(10) == b"waits"
    thread.join(10)
    assert isinstance(outcome[0], LinkDown)
    with pytest.raises(LinkDown, match="read nothing for"):
        while True:
            unread.recv_within(5)


def test_the_inbox_of_a_channel_that_nobody_reads_is_bounded(ends: Ends) -> None:
    here, there = ends.pair()
    noise = random.Random(1).randbytes(50_000)
    sent = threading.Event()
    thread, outcome = in_thread(lambda: [here.send(noise) for _ in range(20)] and sent.set())
    assert not sent.wait(1.5)  # 1.2 s are enough for all of them
    assert there.held < 400_000
    assert [there.recv_within(5) for _ in range(20)] == 20 * [noise]  # nothing is lost by waiting
    thread.join(5)
    assert outcome == [None]


class Budget:
    """An account as a server has one."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.held = 0

    def take(self, size: int) -> None:
        if self.held + size > self.allowed:
            raise LimitExceeded("in_flight", actual=self.held + size, allowed=self.allowed)
        self.held += size

    def give(self, size: int) -> None:
        self.held -= size


def test_large_messages_are_charged_until_they_are_taken(ends: Ends) -> None:
    here, there = ends.pair()
    budget = Budget(700_000)
    there.charge_to(budget)
    message = bytes(300_000)
    here.send(message)
    wait_until(lambda: there.buffered)
    assert budget.held == 300_000
    assert there.recv_within(5) == message
    assert budget.held == 0
    here.send(message)
    wait_until(lambda: there.buffered)
    there.close()
    assert budget.held == 0


def test_a_message_over_the_budget_ends_its_channel_alone(ends: Ends) -> None:
    (here, there), (other, other_there) = ends.pair(), ends.pair()
    there.charge_to(Budget(200_000))
    with suppress(LinkDown):  # the other side may have ended it before all of it was on its way
        here.send(bytes(300_000))
    with pytest.raises(LimitExceeded, match="in_flight"):
        there.recv_within(5)
    with pytest.raises(LinkDown, match="closed by the peer"):
        here.recv_within(5)
    other.send(b"fine")
    assert other_there.recv_within(5) == b"fine"


def test_an_interrupted_send_may_be_gone_on_from(ends: Ends) -> None:
    here, _ = ends.pair()
    here.send_many([b"a", b"b"])
    assert here.wrote_whole


def test_the_counters_can_be_read_on_a_channel_and_do_not_change_behind_ones_back(ends: Ends) -> None:
    here, there = ends.pair()
    before = here.counters
    here.send(bytes(1000))
    assert there.recv_within(5) == bytes(1000)
    assert before.messages_sent + 1 == here.counters.messages_sent
    assert there.counters.payload_received == 1000 + len(b"hello")
    assert here.counters.sessions == ends.listener.counters.sessions == ends.trunk.counters.sessions == 1


def test_damaged_bytes_cost_time_and_no_message(stack: ExitStack) -> None:
    wire = stack.enter_context(PtyWire(faults=FaultPlan(seed=3, flip=5e-4, drop=2e-4, duplicate=2e-4)))
    ends = stack.enter_context(closing(Ends(wire)))
    here, there = ends.pair()
    messages = [random.Random(n).randbytes(n * 37) for n in range(1, 60)]
    thread, _ = in_thread(lambda: [here.send(message) for message in messages])
    assert [there.recv_within(20) for _ in messages] == messages
    thread.join()
    assert here.counters.retransmissions > 0
    assert there.counters.crc_errors > 0


# ------------------------------------------------------------------------------------------------ nobody answers there


def test_a_line_on_which_nobody_answers_says_what_to_check(wire: PtyWire) -> None:
    before = monotonic()
    with pytest.raises(Unreachable, match=r"no link answered within 0\.[23] s.*same speed.*framing=link"):
        open_channel(wire.channel_url(End.A, FAST), timeout=0.3)
    assert 0.3 <= monotonic() - before < 0.3 + LATE
    open_port = open_channel(wire.channel_url(End.A, f"{FAST}&framing=raw"))  # it was given back
    open_port.close()


def test_a_peer_that_wants_to_connect_as_well_is_told_apart(wire: PtyWire) -> None:
    with closing(open_trunk(wire.channel_url(End.B, FAST))):
        with pytest.raises(Unreachable, match="both ends of the line want to open streams"):
            open_channel(wire.channel_url(End.A, FAST), timeout=1.0)


def test_a_port_that_is_not_there_is_an_error_at_once_for_a_channel_and_a_listener(tmp_path: Path) -> None:
    for use in (open_channel, listen):
        before = monotonic()
        with pytest.raises(Unreachable, match="there is no such port; is it plugged in"):
            use(f"serial://{tmp_path}/ttyUSB9")
        assert monotonic() - before < LATE


def test_a_trunk_waits_for_its_port_and_then_says_that_it_is_missing(tmp_path: Path) -> None:
    with closing(open_trunk(f"serial://{tmp_path}/ttyUSB9")) as trunk:
        before = monotonic()
        with pytest.raises(Unreachable, match="there is no such port; is it plugged in"):
            trunk.open(0.2)
        assert monotonic() - before >= 0.2


def test_a_trunk_takes_a_port_that_comes_later(wire: PtyWire, stack: ExitStack) -> None:
    wire.unplug(End.A)
    trunk = stack.enter_context(closing(open_trunk(wire.channel_url(End.A, FAST))))
    listener = stack.enter_context(closing(listen(wire.channel_url(End.B, FAST))))
    thread, outcome = in_thread(lambda: trunk.open(5.0))
    wire.replug(End.A)
    thread.join(5)
    keep(outcome[0]).send(b"late")
    assert accept(listener).recv_within(5) == b"late"


# ----------------------------------------------------------------------------------------------------- closing the line


def test_closing_a_channel_of_its_own_gives_the_port_back_and_tells_the_peer(wire: PtyWire, stack: ExitStack) -> None:
    listener = stack.enter_context(closing(listen(wire.channel_url(End.B, FAST))))
    for message in (b"one", b"two", b"three"):
        here = keep(open_channel(wire.channel_url(End.A, FAST)))
        here.send(message)
        before = monotonic()
        here.close()
        assert monotonic() - before < LATE
        there = accept(listener)
        assert there.recv_within(5) == message
        with pytest.raises(LinkDown, match="closed"):
            there.recv_within(5)
        there.close()


def test_a_port_with_a_link_on_it_is_open_once(ends: Ends) -> None:
    ends.pair()
    with pytest.raises(LinkDown, match="another program has the port open"):
        open_channel(ends.wire.channel_url(End.A, FAST))
    with pytest.raises(LinkDown, match="another program has the port open"):
        listen(ends.wire.channel_url(End.B, FAST))


def test_closing_the_trunk_ends_all_its_channels_on_both_sides(ends: Ends) -> None:
    pairs = [ends.pair() for _ in range(3)]
    before = monotonic()
    ends.trunk.close()
    for here, there in pairs:
        with pytest.raises(LinkDown, match="closed by this side"):
            here.recv_within(5)
        with pytest.raises(LinkDown, match="closed by the peer|the peer closed"):
            there.recv_within(5)
    assert monotonic() - before < LATE
    ends.trunk.close()
    with pytest.raises(LinkDown, match="closed by this side"):
        ends.trunk.open(1.0)


def test_a_trunk_that_waits_for_its_peer_can_be_closed(wire: PtyWire) -> None:
    trunk = open_trunk(wire.channel_url(End.A, FAST))
    thread, outcome = in_thread(lambda: trunk.open(30.0))
    trunk.close()
    thread.join(5)
    assert isinstance(outcome[0], LinkDown)
    assert "closed by this side" in str(outcome[0])


def test_a_listener_that_closes_leaves_its_channels_and_takes_no_more(ends: Ends) -> None:
    (here, there), waiting = ends.pair(), keep(ends.trunk.open(5.0))
    waiting.send(b"nobody has accepted this one")
    assert select.select([ends.listener.fileno()], [], [], 5.0)[0]
    ends.listener.close()
    ends.listener.close()
    assert ends.listener.closed
    assert ends.listener.accept() is None
    with pytest.raises(LinkDown, match="does not listen any more"):
        ends.listener.fileno()
    with pytest.raises(LinkDown, match="closed by the peer"):
        waiting.recv_within(5)
    late = keep(ends.trunk.open(5.0))
    late.send(b"too late")
    with pytest.raises(LinkDown, match="closed by the peer"):
        late.recv_within(5)
    there.send(b"still here")
    assert here.recv_within(5) == b"still here"
    there.close()
    with pytest.raises(LinkDown, match="closed"):
        here.recv_within(5)
    listen(ends.wire.channel_url(End.B, FAST)).close()  # the port was given back with the last channel


def test_what_was_sent_before_closing_arrives(ends: Ends) -> None:
    here, there = ends.pair()
    message = random.Random(1).randbytes(10_000)
    here.send(message)
    here.close()
    assert there.recv_within(5) == message


def test_a_process_that_forgets_to_close_tells_its_peer_all_the_same(wire: PtyWire, stack: ExitStack) -> None:
    listener = stack.enter_context(closing(listen(wire.channel_url(End.B, FAST))))
    url = wire.channel_url(End.A, FAST)
    forgetful = f"from gateway.channels import open_channel; c = open_channel({url!r}); c.send(b'x'); c.recv()"
    process = subprocess.Popen([sys.executable, "-c", forgetful], cwd=ROOT)
    there = accept(listener, 20.0)
    assert there.recv_within(5) == b"x"
    there.send(b"now end")
    process.wait(20)
    before = monotonic()
    with pytest.raises(LinkDown, match="closed"):
        there.recv_within(5)
    assert monotonic() - before < LATE


# --------------------------------------------------------------------------------------------------- unplugged, killed


@pytest.mark.parametrize("end", [End.A, End.B, None])
def test_an_unplugged_port_ends_its_channels_at_once_and_comes_back(ends: Ends, end: End | None) -> None:
    pairs = [ends.pair() for _ in range(3)]
    lost = [pair[0] if end is End.A else pair[1] for pair in pairs]
    waiting = [in_thread(channel.recv) for channel in lost]
    before = monotonic()
    ends.wire.unplug(end)
    for thread, outcome in waiting:
        thread.join(5)
        assert isinstance(outcome[0], LinkDown)
        assert "is gone: unplugged, or hung up" in str(outcome[0])
    assert monotonic() - before < TYPED_ERROR_S * LATE
    for channel in lost:
        with pytest.raises(LinkDown, match="is gone"):
            channel.send(b"x")
    ends.wire.replug(end, name="ttyACM7" if end is not None else None)
    before = monotonic()
    # The end that kept its port learns of it by the other's greeting: until then it opens channels of the old session.
    wait_until(lambda: ends.trunk.counters.resets > 0)
    here, there = ends.pair()
    there.send(b"back")
    assert here.recv_within(5) == b"back"
    assert monotonic() - before < BACK_S * LATE
    for old_here, old_there in pairs:  # at the end that was not unplugged as well
        for channel in (old_here, old_there):
            with pytest.raises(LinkDown):
                channel.recv_within(0)
    assert ends.trunk.counters.resets == 1


def test_a_hang_up_is_survived_like_unplugging(ends: Ends) -> None:
    here, _ = ends.pair()
    ends.wire.hang_up(End.A)
    with pytest.raises(LinkDown, match="is gone"):
        here.recv_within(5)
    ends.pair()


def test_unplugging_over_and_over_leaves_nothing_behind(ends: Ends) -> None:
    for round_ in range(5):
        here, _ = ends.pair()
        ends.wire.unplug(End.A if round_ % 2 else End.B)
        ends.wire.replug(End.A if round_ % 2 else End.B)
        with pytest.raises(LinkDown):
            here.recv_within(10)  # at the end that was not unplugged: once the other one greets it
    descriptors = len(os.listdir("/proc/self/fd"))
    assert descriptors < 200
    ends.pair()


def test_a_sender_that_waits_learns_of_the_loss(ends: Ends) -> None:
    here, _ = ends.pair()
    thread, outcome = in_thread(lambda: here.send(random.Random(1).randbytes(8_000_000)))
    wait_until(lambda: ends.wire.delivered(End.B) > 20_000)
    ends.wire.unplug(End.A)
    thread.join(5)
    assert isinstance(outcome[0], LinkDown)
    assert "is gone" in str(outcome[0])


def test_a_channel_of_its_own_ends_with_its_session_and_gives_the_port_back(wire: PtyWire, stack: ExitStack) -> None:
    listener = stack.enter_context(closing(listen(wire.channel_url(End.B, FAST))))
    here = keep(open_channel(wire.channel_url(End.A, FAST)))
    wire.hang_up(End.A)
    with pytest.raises(LinkDown, match="is gone"):
        here.recv_within(5)
    with closing(open_channel(wire.channel_url(End.A, FAST))) as again:  # though the first was not closed
        again.send(b"again")
        assert accept(listener).recv_within(5) == b"again"
    here.close()


def test_a_silent_peer_is_gone_after_four_keepalives(wire: PtyWire, stack: ExitStack) -> None:
    ends = stack.enter_context(closing(Ends(wire, f"{FAST}&keepalive=0.1")))
    here, _ = ends.pair()
    assert here.recv_within(1.0) is None  # a peer that has nothing to say is there all the same
    for end in End:
        wire.mute(end)
    before = monotonic()
    with pytest.raises(LinkDown, match=r"silent for 0\.4 s"):
        here.recv_within(10)
    assert monotonic() - before < 0.5 + LATE
    for end in End:
        wire.mute(end, mute=False)
    ends.pair()


ECHO = """
import sys
from gateway.channels import listen
import select
with __import__("contextlib").closing(listen(sys.argv[1])) as listener:
    print("ready", flush=True)
    live = []
    while True:
        select.select([listener.fileno(), *live], [], [])
        channel = listener.accept()
        if channel is not None:
            live.append(channel)
        for channel in live:
            message = channel.recv_within(0)
            if message is not None:
                channel.send(str(__import__("os").getpid()).encode())
"""


def start_echo(url: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", ECHO, url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    return process


def test_a_peer_that_was_killed_and_started_again_is_another_one(wire: PtyWire, stack: ExitStack) -> None:
    url = wire.channel_url(End.B, FAST)
    trunk = stack.enter_context(closing(open_trunk(wire.channel_url(End.A, FAST))))
    first = start_echo(url)
    try:
        old = keep(trunk.open(5.0))
        old.send(b"?")
        assert old.recv_within(5) == str(first.pid).encode()
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(10)
    second = start_echo(url)
    try:
        before = monotonic()
        with pytest.raises(LinkDown, match="the peer began anew"):
            old.recv_within(5)
        new = keep(trunk.open(5.0))
        new.send(b"?")
        assert new.recv_within(5) == str(second.pid).encode()
        assert monotonic() - before < BACK_S * LATE
    finally:
        second.kill()
        second.wait(10)


def test_a_peer_that_was_restarted_within_a_message_begins_with_a_whole_one(stack: ExitStack) -> None:
    wire = stack.enter_context(PtyWire(baud=115_200))
    listener = stack.enter_context(closing(listen(wire.channel_url(End.B, "baudrate=115200"))))
    here = keep(open_channel(wire.channel_url(End.A, "baudrate=115200")))
    thread, _ = in_thread(lambda: here.send(random.Random(1).randbytes(30_000)))
    there = accept_after(listener, lambda: wire.delivered(End.B) > 3000)
    wire.hang_up(End.A)
    thread.join(5)
    assert there is None  # no message was whole
    with closing(open_channel(wire.channel_url(End.A, "baudrate=115200"))) as again:
        again.send(b"whole")
        served = accept(listener)
        assert served.recv_within(5) == b"whole"


def accept_after(listener: Listener, condition: Callable[[], bool]) -> Channel | None:
    wait_until(condition)
    channel = listener.accept()
    return channel and keep(channel)


def test_a_listener_without_descriptors_refuses_one_channel_and_goes_on(ends: Ends) -> None:
    here, there = ends.pair()
    refused = keep(ends.trunk.open(5.0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    filler = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (filler[0] + 1, hard))
    try:
        with pytest.raises(LinkDown, match="no channel can be opened: Too many open files"):
            ends.trunk.open(5.0)
        refused.send(b"no descriptor for me")
        with pytest.raises(LinkDown, match="closed by the peer"):
            refused.recv_within(5)
        here.send(b"fine")
        assert there.recv_within(5) == b"fine"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(filler[0])
    ends.pair()


def test_every_stream_counts_as_a_host_of_its_own(ends: Ends) -> None:
    _, first = ends.pair()
    _, second = ends.pair()
    assert ends.listener.peer_host(first) == f"{ends.wire.by_id(End.B)} stream 0"
    assert ends.listener.peer_host(second) == f"{ends.wire.by_id(End.B)} stream 1"
    assert ends.listener.local_only
    assert ends.listener.url == ends.wire.channel_url(End.B, FAST)


def test_a_trunk_is_a_trunk(ends: Ends) -> None:
    assert isinstance(ends.trunk, Trunk)
    assert ends.trunk.channels_at_most == 64
    assert keep(ends.trunk.open(5.0)).ends_with_eof


def test_a_port_that_takes_no_data_is_an_error_that_names_flow_control(
    wire: PtyWire, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = stack.enter_context(closing(Ends(wire, FAST, replace(LIMITS, progress_s=0.2))))
    here, _ = ends.pair()
    port = ends.trunk._driver._port.fileno()
    write = os.write

    def held(fd: int, data: bytes) -> int:
        if fd == port:
            raise BlockingIOError
        return write(fd, data)

    monkeypatch.setattr(os, "write", held)
    here.send(b"x")
    with pytest.raises(LinkDown, match=r"took no data for 0\.2 s: does flow control hold it"):
        here.recv_within(5)
    monkeypatch.undo()
    ends.pair()


@pytest.mark.parametrize("framing", ["link", "raw"])
def test_both_framings_open_a_port_by_its_stable_name_after_it_came_back_under_another(
    wire: PtyWire, stack: ExitStack, framing: str
) -> None:
    options = f"{FAST}&framing={framing}"
    wire.unplug(End.A)
    wire.replug(End.A, name="ttyACM1")
    listener = stack.enter_context(closing(listen(wire.channel_url(End.B, options))))
    with closing(open_channel(wire.channel_url(End.A, options))) as here:
        here.send(b"found")
        assert accept(listener).recv_within(5) == b"found"


def test_small_peers_are_full_citizens(wire: PtyWire, stack: ExitStack) -> None:
    trunk = stack.enter_context(closing(open_trunk(wire.channel_url(End.A, FAST))))
    small = f"{FAST}&frame=64&window=1&streams=1&deflate=off"
    listener = stack.enter_context(closing(listen(wire.channel_url(End.B, small))))
    here = keep(trunk.open(5.0))
    assert trunk.channels_at_most == 1
    message = random.Random(1).randbytes(3000)
    here.send(message)
    there = accept(listener)
    assert there.recv_within(5) == message
    there.send(message)
    assert here.recv_within(5) == message
