"""The outgoing side: any thread may send, one at a time is inside the channel, and what is left behind is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.channels import memory_pair
from gateway.channels.base import Channel
from gateway.errors import LimitExceeded, LinkDown
from gateway.limits import Limits
from gateway.protocol.framing import joined, recycle
from gateway.protocol.peer import Peer
from gateway.sync.config import DEFAULT_CONFIG
from gateway.sync.outbox import FEW, Outbox
from tests.behaviour.conditions import eventually
from tests.protocol.proxies import KnownProxy


class Gated(Channel):
    """A channel whose sends wait until the gate is open."""

    def __init__(self, inner: Channel) -> None:
        self._inner = inner
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.inside = self.most = 0
        self.batches: list[int] = []
        self.error: BaseException | None = None

    def send(self, data: bytes) -> None:
        self.send_many([data])

    def send_many(self, messages: list[bytes]) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        self.batches.append(len(messages))
        try:
            assert self.gate.wait(10)
            if self.error is not None:
                raise self.error
            self._inner.send_many(messages)
        finally:
            self.inside -= 1

    def recv(self) -> bytes:
        return self._inner.recv()

    def poll(self, timeout: float | None) -> bool:
        return self._inner.poll(timeout)

    def close(self) -> None:
        self.gate.set()
        self._inner.close()

    @property
    def closed(self) -> bool:
        return self._inner.closed

    def fileno(self) -> int:
        return self._inner.fileno()


class Desk:
    """An outbox, its channel, and what is at the other end."""

    def __init__(self, limits: Limits) -> None:
        near, self.far = memory_pair(limits)
        self.channel = Gated(near)
        self.lost: list[BaseException] = []
        peer = Peer(None, lambda id_pack: KnownProxy(None, id_pack), lambda *died: None, DEFAULT_CONFIG, limits)
        self.outbox = Outbox(self.channel, peer, limits, self.lost.append)

    def arrived(self, count: int) -> list[bytes]:
        return [self.far.recv() for _ in range(count)]


@pytest.fixture
def desk() -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def desk(**limits: Any) -> Desk:
        desks.append(Desk(Limits(**limits)))
        return desks[-1]

    yield desk
    for each in desks:
        each.channel.close()
        each.far.close()


def blocked_sender(desk: Desk, message: bytes = b"first") -> threading.Thread:
    """A thread that is inside the channel until the gate opens."""
    desk.channel.gate.clear()
    desk.channel.entered.clear()
    sender = threading.Thread(target=desk.outbox.send, args=(message,))
    sender.start()
    assert desk.channel.entered.wait(5)
    return sender


def test_a_message_leaves_at_once(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.outbox.send(b"hello")
    assert one.arrived(1) == [b"hello"]


def test_messages_found_on_the_way_are_left_to_the_thread_that_sends_and_keep_their_order(
    desk: Callable[..., Desk],
) -> None:
    one = desk()
    sender = blocked_sender(one)
    for number in range(50):
        one.outbox.send(b"%d" % number)  # none of these waits
    one.channel.gate.set()
    sender.join(5)
    assert one.arrived(51) == [b"first", *(b"%d" % number for number in range(50))]
    assert one.channel.most == 1
    assert len(one.channel.batches) < 10, "they leave together"


def test_the_last_message_has_left_when_its_sender_returns_though_another_thread_was_sending(
    desk: Callable[..., Desk],
) -> None:
    one = desk()
    sender = blocked_sender(one)
    last = threading.Thread(target=one.outbox.send_last, args=(b"goodbye",))
    last.start()
    assert eventually(lambda: one.outbox._left)
    last.join(0.05)
    assert last.is_alive(), "what it left to the other thread has not left yet"
    one.channel.gate.set()
    last.join(5)
    assert not last.is_alive()
    one.channel.close()
    sender.join(5)
    assert one.arrived(2) == [b"first", b"goodbye"]


def test_threads_that_send_at_once_are_never_in_the_channel_together_and_lose_nothing(
    desk: Callable[..., Desk],
) -> None:
    one = desk()

    def work(number: int) -> None:
        for count in range(100):
            one.outbox.send(b"%d-%d" % (number, count))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    arrived = one.arrived(600)
    for thread in threads:
        thread.join(5)
    assert one.channel.most == 1
    for number in range(6):
        own = [message for message in arrived if message.startswith(b"%d-" % number)]
        assert own == [b"%d-%d" % (number, count) for count in range(100)], "the order of each thread is kept"


def test_a_release_is_noted_at_any_time_and_leaves_in_front_of_the_next_message(desk: Callable[..., Desk]) -> None:
    one = desk()
    sender = blocked_sender(one)
    one.outbox.releases.append((("a.B", 1, 2), 3))
    one.outbox.send(b"next")
    one.channel.gate.set()
    sender.join(5)
    first, release, following = one.arrived(3)
    assert (first, following) == (b"first", b"next")
    assert b"a.B" in release
    assert one.outbox.unanswered_releases == 1


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 1000])
def test_releases_leave_in_front_of_the_next_message_in_their_order(desk: Callable[..., Desk], count: int) -> None:
    one = desk()
    one.outbox.releases.extend(((f"a.B{number}.", 1, 2), 1) for number in range(count))
    one.outbox.send(b"next")
    *releases, following = one.arrived(count + 1)
    assert following == b"next"
    assert [b"a.B%d." % number in message for number, message in enumerate(releases)] == [True] * count
    assert one.outbox.unanswered_releases == count
    assert not one.outbox.releases
    if count <= FEW:
        assert one.channel.batches == [count + 1], "in one go"


def test_releases_that_leave_with_a_message_end_with_the_channel(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.channel.error = OSError("unplugged")
    one.outbox.releases.append((("a.B", 1, 2), 1))
    with pytest.raises(LinkDown, match="unplugged"):
        one.outbox.send(b"next")
    assert len(one.lost) == 1


def test_releases_leave_by_themselves_when_they_are_flushed(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.outbox.flush_releases()
    one.outbox.releases.extend(((f"a.B{number}", 1, 2), 1) for number in range(3))
    one.outbox.flush_releases()
    assert [b"a.B%d" % number in message for number, message in enumerate(one.arrived(3))] == [True] * 3


def test_a_message_that_no_frame_holds_is_refused_and_nothing_is_lost(desk: Callable[..., Desk]) -> None:
    one = desk(frame=1000)
    with pytest.raises(LimitExceeded, match="frame"):
        one.outbox.send(b"x" * 1001)
    one.outbox.send(b"x" * 1000)
    assert len(one.arrived(1)[0]) == 1000
    assert one.lost == []


def test_too_much_that_waits_for_a_peer_ends_the_connection(desk: Callable[..., Desk]) -> None:
    one = desk(in_flight_per_host=10_000)
    sender = blocked_sender(one)
    with pytest.raises(LinkDown, match="the peer does not read"):
        for _ in range(1000):
            one.outbox.send(b"x" * 100)
    assert [type(error) for error in one.lost] == [LinkDown]
    one.channel.gate.set()
    sender.join(5)


def test_a_large_message_too_many_is_refused_alone(desk: Callable[..., Desk]) -> None:
    one = desk(in_flight_per_host=200_000)
    sender = blocked_sender(one)
    one.outbox.send(b"x" * 150_000)
    with pytest.raises(LimitExceeded, match="in_flight_per_host"):
        one.outbox.send(b"y" * 150_000)
    one.outbox.send(b"small")
    one.channel.gate.set()
    sender.join(5)
    assert [message[:5] for message in one.arrived(3)] == [b"first", b"xxxxx", b"small"]
    assert one.lost == []
    assert eventually(lambda: one.outbox._waiting == 0)


@pytest.mark.parametrize(
    "error", [OSError("broken"), EOFError("ended"), LinkDown("gone")], ids=lambda e: type(e).__name__
)
def test_a_channel_that_fails_is_the_end_and_what_waits_is_dropped(desk: Callable[..., Desk], error: Exception) -> None:
    one = desk()
    one.channel.error = error
    with pytest.raises(LinkDown, match=str(error)):
        one.outbox.send(b"hello")
    assert one.lost == [error]
    assert not one.outbox._left
    assert not one.outbox._sending.locked()


def test_an_interrupt_inside_a_send_is_raised_and_leaves_no_lock_held(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.channel.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        one.outbox.send(b"hello")
    assert not one.outbox._sending.locked()


@pytest.mark.parametrize("keeps_nothing", [True, False])
def test_the_memory_of_a_large_message_serves_again_where_the_channel_keeps_nothing_of_it(
    desk: Callable[..., Desk], keeps_nothing: bool
) -> None:
    one = desk()
    one.channel.keeps_nothing = keeps_nothing
    recycle(bytearray(1))  # what other tests have left
    message = joined([b"head", bytes(500_000)])
    assert type(message) is bytearray
    reader = threading.Thread(target=one.far.recv)
    reader.start()
    one.outbox.send(message)
    reader.join(10)
    again = joined([b"other", bytes(499_999)])
    assert (again is message) == keeps_nothing
