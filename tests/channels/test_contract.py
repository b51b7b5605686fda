"""What every channel promises, checked on every kind of channel.

One end is a channel, the other a bare stream; over the reliable link, which has no bare streams, a channel too.
"""

from __future__ import annotations

import os
import random
import select
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from gateway.channels import Channel, listen, memory_pair, open_channel
from gateway.channels.fds import FdStream
from gateway.channels.sockets import SocketStream
from gateway.channels.stream import Stream, StreamChannel
from gateway.errors import LimitExceeded, LinkDown, ProtocolError
from gateway.limits import Limits
from gateway.protocol.framing import HEARTBEAT, frame
from hil.usb.function import RpycFunction
from hil.usb.in_process import Bus
from tests.identity.kit import Pairing

LIMITS = Limits()
TIGHT = replace(LIMITS, progress_s=0.3, frame=100_000, inflated=200_000)
STREAM_KINDS = [
    "tcp-client",
    "tcp-server",
    "tls-client",
    "tls-server",
    "unix-client",
    "unix-server",
    "pipe",
    "memory",
    "serial-client",
    "serial-server",
    "usb-client",
    "usb-server",
]
KINDS = [*STREAM_KINDS, "link-client", "link-server"]


@dataclass
class Ends:
    channel: Channel
    peer: Any
    """A stream, or over the link a channel."""
    kind: str

    @property
    def peer_channel(self) -> Channel:
        return self.peer if isinstance(self.peer, Channel) else StreamChannel(self.peer, LIMITS)


def open_socket_pair(stack: ExitStack, kind: str, folder: Path, limits: Limits) -> tuple[Channel, Stream]:
    url = "tcp://127.0.0.1:0" if kind.startswith("tcp") else f"unix://{folder}/s"
    listener = listen(url, limits=limits)
    stack.callback(listener.close)
    if kind.endswith("client"):
        channel = open_channel(listener.url, limits=limits)
        accepted = listener.accept()
        assert isinstance(accepted, StreamChannel)
        return channel, accepted._stream
    if kind.startswith("tcp"):
        raw = socket.create_connection(("127.0.0.1", int(listener.url.rpartition(":")[2])))
    else:
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(f"{folder}/s")
    served = listener.accept()
    assert served is not None
    return served, SocketStream(raw)


def open_tls_pair(stack: ExitStack, kind: str, folder: Path, limits: Limits) -> tuple[Channel, Stream]:
    """Two ends that have proved to each other who they are."""
    pairing = Pairing(folder)
    bounds = (limits, LIMITS) if kind == "tls-client" else (LIMITS, limits)
    listener = listen(pairing.listen_url, limits=bounds[1])
    stack.callback(listener.close)
    client = open_channel(pairing.url_of(listener.url), limits=bounds[0])
    assert select.select([listener.fileno()], [], [], 5.0)[0]
    served = listener.accept()
    assert isinstance(served, StreamChannel)
    assert isinstance(client, StreamChannel)
    return (client, served._stream) if kind == "tls-client" else (served, client._stream)


class FarEnd(FdStream):
    """The other port of a serial line, used by nobody's channel."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        super().__init__(fd, fd, name="right")

    @property
    def ends_with_eof(self) -> bool:
        return False


def open_serial_pair(stack: ExitStack, kind: str, line: Any, limits: Limits) -> tuple[Channel, Stream]:
    peer = FarEnd(line.right)
    if kind == "serial-client":
        return open_channel(f"serial://{line.left}?framing=raw", limits=limits), peer
    listener = listen(f"serial://{line.left}?framing=raw", limits=limits)
    stack.callback(listener.close)
    peer.write(HEARTBEAT, 1.0)
    assert select.select([listener.fileno()], [], [], 5.0)[0]
    channel = listener.accept()
    assert channel is not None
    assert channel.recv_within(0) is None  # takes the heartbeat away
    return channel, peer


def open_link_pair(stack: ExitStack, kind: str, line: Any, limits: Limits) -> tuple[Channel, Channel]:
    """Two channels with a reliable link between them, on a line as fast as it can be."""
    fast = "?baudrate=12000000"
    bounds = (limits, LIMITS) if kind == "link-client" else (LIMITS, limits)
    listener = listen(f"serial://{line.right}{fast}", limits=bounds[1])
    stack.callback(listener.close)
    client = open_channel(f"serial://{line.left}{fast}", limits=bounds[0])
    client.send(b"the first message opens the stream")
    assert select.select([listener.fileno()], [], [], 5.0)[0]
    served = listener.accept()
    assert served is not None
    assert served.recv()
    return (client, served) if kind == "link-client" else (served, client)


def open_usb_pair(stack: ExitStack, kind: str, limits: Limits) -> tuple[Channel, Stream]:
    """A device in software on a bus of its own; both ends as in operation but for libusb and the controller."""
    bus = Bus()
    bounds = (limits, LIMITS) if kind == "usb-client" else (LIMITS, limits)
    function = RpycFunction(limits=bounds[1])
    bus.plug(function)
    with bus.installed():
        client = open_channel("usb://1209:0001", limits=bounds[0])
    served = function.channels.get(timeout=5.0)
    assert isinstance(client, StreamChannel)
    return (client, served._stream) if kind == "usb-client" else (served, client._stream)


def open_pair(
    stack: ExitStack, kind: str, folder: Path, line: Callable[[], Any], limits: Limits
) -> tuple[Channel, Stream | Channel]:
    if kind == "memory":
        one, other = memory_pair(limits)
        assert isinstance(other, StreamChannel)
        return one, other._stream
    if kind == "pipe":
        here, there = os.pipe(), os.pipe()
        peer = FdStream(there[0], here[1], name="their pipe")
        return StreamChannel(FdStream(here[0], there[1], name="our pipe"), limits), peer
    if kind.startswith("link"):
        return open_link_pair(stack, kind, line(), limits)
    if kind.startswith("tls"):
        return open_tls_pair(stack, kind, folder, limits)
    if kind.startswith("usb"):
        return open_usb_pair(stack, kind, limits)
    if kind.startswith("serial"):
        return open_serial_pair(stack, kind, line(), limits)
    return open_socket_pair(stack, kind, folder, limits)


@pytest.fixture
def open_ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Ends]]:
    with ExitStack() as stack:

        def make(kind: str, limits: Limits = LIMITS) -> Ends:
            channel, peer = open_pair(stack, kind, tmp_path, partial(request.getfixturevalue, "line"), limits)
            stack.callback(channel.close)
            stack.callback(peer.close)
            return Ends(channel, peer, kind)

        yield make


@pytest.fixture(params=KINDS)
def ends(request: pytest.FixtureRequest, open_ends: Callable[..., Ends]) -> Ends:
    return open_ends(request.param)


@pytest.fixture(params=STREAM_KINDS)
def stream_ends(request: pytest.FixtureRequest, open_ends: Callable[..., Ends]) -> Ends:
    return open_ends(request.param)


@pytest.fixture(params=KINDS)
def tight_ends(request: pytest.FixtureRequest, open_ends: Callable[..., Ends]) -> Ends:
    return open_ends(request.param, TIGHT)


@pytest.fixture(params=STREAM_KINDS)
def tight_stream_ends(request: pytest.FixtureRequest, open_ends: Callable[..., Ends]) -> Ends:
    return open_ends(request.param, TIGHT)


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


def wait_until_it_sleeps(thread: threading.Thread) -> None:
    """Until the kernel says that the thread waits in a system call."""
    deadline = monotonic() + 5
    pause = threading.Event()
    while Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        assert monotonic() < deadline
        pause.wait(0.001)
    pause.wait(0.02)  # long enough to be past any lock on the way there


# ---------------------------------------------------------------------------------------------------------- carrying


@pytest.mark.parametrize("size", [1, 2, 5, 6, 4095, 65_530, 65_536, 65_537, 300_000, 1_048_576])
def test_a_message_of_any_size_arrives_whole_in_both_directions(ends: Ends, size: int) -> None:
    message = random.Random(size).randbytes(size)
    peer = ends.peer_channel
    for sender, receiver in ((ends.channel, peer), (peer, ends.channel)):
        thread, sent = in_thread(partial(sender.send, message))
        assert receiver.recv() == message
        thread.join()
        assert sent == [None]


def test_an_empty_message_is_a_heartbeat_and_is_skipped(ends: Ends) -> None:
    peer = ends.peer_channel
    peer.send(b"")
    peer.send_many([b"", b"", b"x"])
    assert ends.channel.recv() == b"x"


def test_frames_survive_being_cut_into_single_bytes(stream_ends: Ends) -> None:
    messages = [b"first", b"second " * 9, b"3"]
    for byte in b"".join(frame(message, LIMITS) for message in messages):
        stream_ends.peer.write(bytes([byte]), 1.0)
    assert [stream_ends.channel.recv() for _ in messages] == messages


def test_a_deflated_frame_is_inflated(stream_ends: Ends) -> None:
    message = b"psu1.voltage " * 1000
    stream_ends.peer.write(frame(message, LIMITS, compress=True), 1.0)
    assert stream_ends.channel.recv() == message


def test_both_directions_work_at_once(ends: Ends) -> None:
    peer = ends.peer_channel
    messages = [random.Random(i).randbytes(1 + i * 97 % 20_000) for i in range(150)]

    def send_all(channel: Channel) -> None:
        for message in messages:
            channel.send(message)

    threads = [in_thread(partial(send_all, channel)) for channel in (ends.channel, peer)]
    answer, here = in_thread(lambda: [peer.recv() for _ in messages])
    assert [ends.channel.recv() for _ in messages] == messages
    for thread, _ in (*threads, (answer, here)):
        thread.join()
    assert [outcome for _, outcome in threads] == [[None], [None]]
    assert here == [messages]


def test_many_messages_in_one_go_keep_their_order(ends: Ends) -> None:
    messages = [str(number).encode() for number in range(1000)]
    ends.peer_channel.send_many(messages)
    assert [ends.channel.recv() for _ in messages] == messages


def test_what_came_with_another_message_is_given_without_waiting(ends: Ends) -> None:
    ends.peer_channel.send_many([b"one", b"two"])
    assert ends.channel.recv_within(5.0) == b"one"
    if not ends.channel.buffered:  # it came in two reads
        assert ends.channel.poll(5.0)
    assert ends.channel.poll(0)
    assert ends.channel.recv_within(0) == b"two"
    assert not ends.channel.buffered


# ------------------------------------------------------------------------------------------------------------ waiting


@pytest.mark.parametrize("timeout", [0, 0.05, 0.6])
def test_recv_within_gives_none_after_its_timeout(ends: Ends, timeout: float) -> None:
    before = monotonic()
    assert ends.channel.recv_within(timeout) is None
    assert timeout <= monotonic() - before < timeout + 1


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_poll_is_false_after_its_timeout(ends: Ends, timeout: float) -> None:
    before = monotonic()
    assert not ends.channel.poll(timeout)
    assert timeout <= monotonic() - before < timeout + 1


def test_poll_is_true_as_soon_as_something_comes(ends: Ends) -> None:
    thread, outcome = in_thread(lambda: ends.channel.poll(10.0))
    wait_until_it_sleeps(thread)
    ends.peer_channel.send(b"x")
    thread.join(5)
    assert outcome == [True]


def test_heartbeats_alone_are_no_message(stream_ends: Ends) -> None:
    stream_ends.peer.write(3 * HEARTBEAT, 1.0)
    assert stream_ends.channel.recv_within(0.1) is None


def test_the_descriptor_is_readable_when_a_message_waits(ends: Ends) -> None:
    assert not select.select([ends.channel.fileno()], [], [], 0)[0]
    ends.peer_channel.send(b"x")
    assert select.select([ends.channel.fileno()], [], [], 5.0)[0]
    assert ends.channel.recv() == b"x"


# ------------------------------------------------------------------------------------------------------------- ending


def test_the_end_of_the_peer_is_link_down(ends: Ends) -> None:
    if not ends.channel.ends_with_eof:
        pytest.skip("a tty has no end of file")
    ends.peer_channel.send(b"last")
    ends.peer.close()
    assert ends.channel.recv() == b"last"
    assert ends.channel.poll(5.0)
    with pytest.raises(LinkDown, match="closed"):
        ends.channel.recv()


def test_only_a_serial_line_has_no_end_of_file(ends: Ends) -> None:
    assert ends.channel.ends_with_eof == (not ends.kind.startswith("serial"))


def test_sending_to_a_peer_that_is_gone_is_link_down(ends: Ends) -> None:
    if not ends.channel.ends_with_eof:
        pytest.skip("a tty has no end of file")
    ends.peer.close()
    with pytest.raises(LinkDown):
        for _ in range(100):
            ends.channel.send(bytes(1000))


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_close_wakes_a_blocked_receiver_at_once(ends: Ends, timeout: float | None) -> None:
    thread, outcome = in_thread(lambda: ends.channel.recv_within(timeout))
    wait_until_it_sleeps(thread)
    before = monotonic()
    ends.channel.close()
    thread.join(5)
    assert monotonic() - before < 0.2
    assert isinstance(outcome[0], LinkDown)
    assert "this side" in str(outcome[0])


def test_close_wakes_a_blocked_sender(ends: Ends) -> None:
    thread, outcome = in_thread(lambda: ends.channel.send(random.Random(1).randbytes(8_000_000)))
    wait_until_it_sleeps(thread)
    ends.channel.close()
    thread.join(5)
    assert isinstance(outcome[0], LinkDown)


def test_a_closed_channel_refuses_everything_and_closes_again(ends: Ends) -> None:
    assert not ends.channel.closed
    ends.channel.close()
    ends.channel.close()
    assert ends.channel.closed
    for use in (
        lambda: ends.channel.send(b"x"),
        lambda: ends.channel.send_many([b"x"]),
        ends.channel.recv,
        ends.channel.fileno,
        partial(ends.channel.recv_within, 0),
        partial(ends.channel.poll, 0),
    ):
        with pytest.raises(LinkDown):
            use()


def test_many_threads_may_close_at_once(ends: Ends) -> None:
    threads = [in_thread(ends.channel.close) for _ in range(8)]
    for thread, outcome in threads:
        thread.join(5)
        assert outcome == [None]


# ---------------------------------------------------------------------------------------------------- hostile and dead


def test_a_peer_that_reads_nothing_is_link_down_after_the_progress_limit(tight_ends: Ends) -> None:
    before = monotonic()
    with pytest.raises(LinkDown, match=r"took no data for 0\.3 s"):
        for _ in range(1000):
            tight_ends.channel.send(random.Random(1).randbytes(90_000))
    assert monotonic() - before >= 0.3


def test_a_slow_reader_is_no_dead_one(tight_ends: Ends) -> None:
    message = random.Random(1).randbytes(90_000)
    count = 40 if tight_ends.kind.startswith(("tcp", "unix", "pipe", "mem")) else 8  # many times what is buffered
    thread, outcome = in_thread(lambda: [tight_ends.channel.send(message) for _ in range(count)])
    peer, pause = tight_ends.peer_channel, threading.Event()
    for _ in range(count):
        assert peer.recv_within(30) == message
        pause.wait(0.02)
    thread.join(5)
    assert outcome == [[None] * count]


def test_a_begun_frame_that_stalls_is_an_error(tight_stream_ends: Ends) -> None:
    tight_stream_ends.peer.write(frame(b"half of me", LIMITS)[:7], 1.0)
    before = monotonic()
    with pytest.raises(ProtocolError, match=r"no progress for 0\.3 s"):
        tight_stream_ends.channel.recv()
    assert 0.25 < monotonic() - before < 5


def test_a_frame_begun_behind_a_whole_one_gets_its_full_time(tight_stream_ends: Ends) -> None:
    tight_stream_ends.peer.write(frame(b"whole", LIMITS) + frame(b"begun", LIMITS)[:7], 1.0)
    assert tight_stream_ends.channel.recv() == b"whole"
    assert tight_stream_ends.channel.recv_within(0) is None
    assert not tight_stream_ends.channel.stalled(monotonic())
    tight_stream_ends.peer.write(frame(b"begun", LIMITS)[7:], 1.0)
    assert tight_stream_ends.channel.recv() == b"begun"


def test_a_channel_with_nothing_begun_never_stalls(tight_ends: Ends) -> None:
    assert not tight_ends.channel.stalled(monotonic() + 1e6)


def test_an_oversize_frame_is_refused_by_its_header_alone(tight_stream_ends: Ends) -> None:
    tight_stream_ends.peer.write((100_001).to_bytes(4, "big") + b"\0", 1.0)
    with pytest.raises(LimitExceeded, match="frame: 100001 is over the limit of 100000"):
        tight_stream_ends.channel.recv_within(5.0)


def test_a_zlib_bomb_is_refused(tight_stream_ends: Ends) -> None:
    bomb = zlib.compress(bytes(10_000_000), 9)
    tight_stream_ends.peer.write(len(bomb).to_bytes(4, "big") + b"\1" + bomb + b"\n", 1.0)
    with pytest.raises(LimitExceeded, match="inflated"):
        tight_stream_ends.channel.recv_within(5.0)


@pytest.mark.parametrize(
    ("bytes_sent", "complaint"),
    [
        (b"\0\0\0\1\2x\n", "flag 2"),
        (b"\0\0\0\1\0x\r", "0x0d"),
        (b"\0\0\0\2\1xy\n", "no zlib stream"),
        (b"HTTP/1.1 400 Bad Request", "frame"),
    ],
)
def test_bytes_that_are_no_frame_are_refused(tight_stream_ends: Ends, bytes_sent: bytes, complaint: str) -> None:
    tight_stream_ends.peer.write(bytes_sent, 1.0)
    with pytest.raises(ProtocolError, match=complaint):
        tight_stream_ends.channel.recv_within(5.0)


def test_sending_more_than_the_frame_limit_is_refused_here(tight_ends: Ends) -> None:
    with pytest.raises(LimitExceeded, match="frame"):
        tight_ends.channel.send(random.Random(1).randbytes(100_001))
    tight_ends.channel.send(b"fine")
    assert tight_ends.peer_channel.recv() == b"fine"


@pytest.mark.parametrize("timeout", [0, 0.1])
def test_a_flood_of_heartbeats_does_not_hold_the_receiver(stream_ends: Ends, timeout: float) -> None:
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            stream_ends.peer.write(10_000 * HEARTBEAT, 5.0)

    thread, _ = in_thread(flood)
    before = monotonic()
    try:
        for _ in range(5):
            assert stream_ends.channel.recv_within(timeout) is None
        assert monotonic() - before < 5 * timeout + 2
    finally:
        stop.set()
        stream_ends.channel.close()
        stream_ends.peer.close()
        thread.join(5)
