"""SocketStream: the deadline of a blocking read, and what is set on the socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from time import monotonic

import pytest

from gateway.channels import memory_pair
from gateway.channels.sockets import TICK_S, SocketStream
from gateway.channels.stream import StreamChannel
from gateway.errors import LinkDown
from gateway.limits import Limits
from gateway.protocol.framing import frame

Pair = tuple[SocketStream, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with closing(SocketStream(one)) as stream, other:
        yield stream, other


@pytest.fixture
def tcp() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = socket.create_connection(server.getsockname())
        with closing(SocketStream(server.accept()[0])) as stream, other:
            yield stream, other


@pytest.mark.parametrize("timeout", [0, 0.05, TICK_S, TICK_S + 0.1])
def test_a_read_keeps_its_deadline_also_across_ticks(pair: Pair, timeout: float) -> None:
    before = monotonic()
    assert pair[0].read(100, timeout) is None
    # A tick of the kernel may be a few milliseconds short.
    assert timeout - 0.01 <= monotonic() - before < timeout + 1


def test_a_read_without_deadline_goes_on_across_ticks(pair: Pair) -> None:
    threading.Timer(TICK_S + 0.1, pair[1].send, (b"late",)).start()
    before = monotonic()
    assert pair[0].read(100, None) == b"late"
    assert monotonic() - before > TICK_S


def test_a_read_gives_at_most_what_was_asked_for(pair: Pair) -> None:
    pair[1].send(b"12345")
    assert pair[0].read(3, 1.0) == b"123"
    assert pair[0].read(3, 1.0) == b"45"


def test_the_socket_itself_has_no_timeout_and_stays_blocking(pair: Pair) -> None:
    assert pair[0]._sock.gettimeout() is None


def test_a_write_of_more_than_the_system_buffers_waits_for_the_reader(pair: Pair) -> None:
    stream, other = pair
    received = bytearray()

    def drain() -> None:
        while len(received) < 5_000_000:
            received.extend(other.recv(100_000))

    thread = threading.Thread(target=drain)
    thread.start()
    stream.write(bytes(5_000_000), 5.0)
    thread.join(5)
    assert len(received) == 5_000_000


def test_a_write_to_a_reader_that_stands_still_ends_after_the_progress_limit(pair: Pair) -> None:
    before = monotonic()
    with pytest.raises(LinkDown, match=r"took no data for 0\.1 s"):
        pair[0].write(bytes(5_000_000), 0.1)
    assert 0.1 <= monotonic() - before < 2


def test_a_write_to_a_peer_that_is_gone_is_link_down(pair: Pair) -> None:
    pair[1].close()
    with pytest.raises(LinkDown, match="lost"):
        pair[0].write(b"x", 1.0)


def quick_acks(stream: SocketStream) -> int:
    return stream._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)


def test_a_stock_peers_segments_are_acknowledged_at_once_where_asked(tcp: Pair) -> None:
    stream, other = tcp
    stream._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    other.send(b"x")
    assert stream.read(10, 5.0) == b"x"
    assert quick_acks(stream) == 0
    stream.acknowledge()
    assert quick_acks(stream) == 1


def test_a_begun_frame_is_acknowledged_so_that_its_rest_comes(tcp: Pair) -> None:
    stream, other = tcp
    stream._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    other.send(frame(b"whole", Limits())[:-1])
    assert StreamChannel(stream).recv_within(0.2) is None
    assert quick_acks(stream) == 1


def test_a_prompt_peer_costs_no_system_call_for_acknowledging(tcp: Pair) -> None:
    stream, other = tcp
    stream.assume_prompt_peer()
    stream._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    other.send(b"x")
    assert stream.read(10, 5.0) == b"x"
    stream.acknowledge()
    assert quick_acks(stream) == 0


def test_endpoints_are_the_sockets_two_addresses(tcp: Pair) -> None:
    stream, other = tcp
    assert stream.endpoints == (other.getpeername(), other.getsockname())
    stream.close()
    assert stream.endpoints is None


def test_a_memory_pair_works_on_descriptors() -> None:
    one, other = memory_pair()
    with closing(one), closing(other):
        assert isinstance(one, StreamChannel)
        assert one.fileno() != other.fileno()
        one.send(b"x")
        assert other.recv() == b"x"
