"""The conformance suite of channels: whatever carries the protocol has to keep these promises.

    check_channel(make_pair)      # make_pair() -> context manager of two joined channels

Each check gets a pair of its own and raises `NotConformant` with what was done and what came of it.
"""

from __future__ import annotations

import random
import select
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from time import monotonic
from typing import Final

from gateway.channels.base import Channel
from gateway.errors import LinkDown
from hil.conformance import Job, outcome, require, shown

Pair = tuple[Channel, Channel]
MakePair = Callable[[], AbstractContextManager[Pair]]

SIZES: Final = (1, 2, 63, 64, 65, 511, 512, 4096, 20_000)
PATIENCE_S: Final = 30.0
SLACK_S: Final = 2.0
"""What a wait with a timeout may take longer, on a busy machine."""


def check_channel(make_pair: MakePair, *, sizes: Iterable[int] = SIZES) -> None:
    """Run all checks. `sizes` are those of the messages: the wire may be too slow for large ones."""
    for check in CHECKS:
        with make_pair() as pair:
            check(pair, tuple(sizes))


def messages_arrive_whole_and_in_order(pair: Pair, sizes: tuple[int, ...]) -> None:
    messages = [random.Random(size).randbytes(size) for size in sizes]
    for sender, receiver in (pair, pair[::-1]):
        job = Job(lambda sender=sender: [sender.send(message) for message in messages])  # type: ignore[misc]
        _receive(receiver, messages)
        _, error = job.wait(PATIENCE_S, "send()")
        require(error is None, f"send() raised: {shown(error)}")


def every_byte_value_passes(pair: Pair, sizes: tuple[int, ...]) -> None:
    message = bytes(range(256)) + bytes(64) + b"\x7e\x7d\x11\x13\xff" * 20
    pair[0].send(message)
    _receive(pair[1], [message])


def both_directions_work_at_once(pair: Pair, sizes: tuple[int, ...]) -> None:
    messages = [random.Random(number).randbytes(1 + number * 37 % 600) for number in range(40)]
    senders = [Job(lambda end=end: [end.send(message) for message in messages]) for end in pair]  # type: ignore[misc]
    other = Job(lambda: _receive(pair[1], messages))
    _receive(pair[0], messages)
    for job in (other, *senders):
        _, error = job.wait(PATIENCE_S, "a direction of its own")
        require(error is None, f"with both directions busy: {shown(error)}")


def many_messages_in_one_go_keep_their_order(pair: Pair, sizes: tuple[int, ...]) -> None:
    messages = [b"%d" % number for number in range(200)]
    job = Job(lambda: pair[0].send_many(messages))
    _receive(pair[1], messages)
    _, error = job.wait(PATIENCE_S, "send_many()")
    require(error is None, f"send_many() raised: {shown(error)}")


def waiting_ends_at_its_timeout(pair: Pair, sizes: tuple[int, ...]) -> None:
    for timeout in (0.0, 0.1):
        for name in ("recv_within", "poll"):
            begin = monotonic()
            came, error = outcome(lambda name=name, timeout=timeout: getattr(pair[0], name)(timeout))  # type: ignore[misc]
            took = monotonic() - begin
            require(error is None and not came, f"{name}({timeout:g}) with nothing sent gave {came!r}, {shown(error)}")
            require(timeout <= took < timeout + SLACK_S, f"{name}({timeout:g}) took {took:.3f} s")


def what_came_is_seen_by_poll_and_the_descriptor(pair: Pair, sizes: tuple[int, ...]) -> None:
    require(not select.select([pair[0].fileno()], [], [], 0)[0], "fileno() is readable though nothing was sent")
    pair[1].send(b"x")
    seen = pair[0].buffered or bool(select.select([pair[0].fileno()], [], [], PATIENCE_S)[0])
    require(seen, "a message was sent, but fileno() did not become readable")
    require(pair[0].poll(PATIENCE_S), "a message was sent, but poll() did not see it")
    _receive(pair[0], [b"x"])


def closing_wakes_a_receiver_and_says_why(pair: Pair, sizes: tuple[int, ...]) -> None:
    job = Job(pair[0].recv)
    threading.Event().wait(0.05)  # so that it is inside recv, most likely; the check holds if it is not
    pair[0].close()
    _, error = job.wait(SLACK_S, "recv() on a channel that another thread closed")
    require(isinstance(error, LinkDown), f"recv() on a closed channel has to raise LinkDown: {shown(error)}")
    require(str(error), "the LinkDown of a closed channel has no text: say who closed")


def a_closed_channel_refuses_everything_and_closes_again(pair: Pair, sizes: tuple[int, ...]) -> None:
    channel = pair[0]
    require(not channel.closed, "a new channel says that it is closed")
    channel.close()
    _, error = outcome(channel.close)
    require(error is None, f"a second close() raised: {shown(error)}")
    require(channel.closed, "closed is False after close()")
    for name, use in (
        ("send()", lambda: channel.send(b"x")),
        ("recv()", channel.recv),
        ("poll(0)", lambda: channel.poll(0)),
        ("recv_within(0)", lambda: channel.recv_within(0)),
    ):
        _, error = Job(use).wait(SLACK_S, f"{name} on a closed channel")
        require(isinstance(error, LinkDown), f"{name} on a closed channel has to raise LinkDown: {shown(error)}")


def the_peer_is_told_of_the_end(pair: Pair, sizes: tuple[int, ...]) -> None:
    if not pair[1].ends_with_eof:
        return  # it says itself that it can't be told
    pair[0].send(b"last")
    _receive(pair[1], [b"last"])
    pair[0].close()
    _, error = Job(pair[1].recv).wait(PATIENCE_S, "recv() after the peer closed")
    require(isinstance(error, LinkDown), f"recv() after the peer closed has to raise LinkDown: {shown(error)}")


CHECKS: Final = (
    waiting_ends_at_its_timeout,
    messages_arrive_whole_and_in_order,
    every_byte_value_passes,
    both_directions_work_at_once,
    many_messages_in_one_go_keep_their_order,
    what_came_is_seen_by_poll_and_the_descriptor,
    closing_wakes_a_receiver_and_says_why,
    a_closed_channel_refuses_everything_and_closes_again,
    the_peer_is_told_of_the_end,
)
"""Each may be run alone: `check(pair, sizes)`."""


def _receive(channel: Channel, expected: list[bytes]) -> None:
    for number, message in enumerate(expected):
        came, error = outcome(lambda: channel.recv_within(PATIENCE_S))
        require(error is None, f"receiving message {number} of {len(expected)}: {shown(error)}")
        require(came is not None, f"message {number} of {len(expected)} did not come within {PATIENCE_S:g} s")
        require(
            came == message,
            f"message {number} of {len(expected)} ({len(message)} bytes) came as {len(came)} other bytes: "
            f"{came[:20]!r} in place of {message[:20]!r}",
        )
