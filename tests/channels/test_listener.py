"""SocketListener: nothing that goes wrong with one peer, or with the process's descriptors, ends it."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from time import monotonic

import pytest

from gateway.channels import Channel, Listener, listen, open_channel
from gateway.errors import LinkDown


@pytest.fixture
def listener() -> Iterator[Listener]:
    with closing(listen("tcp://127.0.0.1:0")) as listener:
        yield listener


def address(listener: Listener) -> tuple[str, int]:
    return "127.0.0.1", int(listener.url.rpartition(":")[2])


def accept_within(listener: Listener, timeout: float) -> Channel | None:
    """The next channel, as a server's loop would get it: minding `retry_after_s`."""
    deadline = monotonic() + timeout
    pause = threading.Event()
    while monotonic() < deadline:
        pause.wait(listener.retry_after_s)
        if select.select([listener.fileno()], [], [], 0.05)[0]:
            channel = listener.accept()
            if channel is not None:
                return channel
    return None


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """The process has opened all it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    filler = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (filler[0] + 8, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                filler.append(os.dup(filler[0]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in filler:
            os.close(fd)


def test_accept_gives_none_when_nobody_waits(listener: Listener) -> None:
    assert listener.accept() is None
    assert listener.retry_after_s == 0.0


def test_without_descriptors_the_waiting_peer_is_told_and_the_listener_lives_on(listener: Listener) -> None:
    turned_away, later = socket.socket(), socket.socket()
    with turned_away, later:
        turned_away.settimeout(5)
        turned_away.connect(address(listener))
        with no_descriptors_left():
            assert listener.accept() is None
            assert 0 < listener.retry_after_s <= 1
            assert turned_away.recv(1) == b""  # closed, not left waiting
            assert not select.select([listener.fileno()], [], [], 0)[0]
            assert listener.accept() is None
        later.connect(address(listener))
        channel = accept_within(listener, 5)
        assert channel is not None
        channel.close()
        assert listener.retry_after_s == 0.0


def test_running_out_of_descriptors_twice_works_too(listener: Listener) -> None:
    for _ in range(2):
        with socket.socket() as peer:
            peer.settimeout(5)
            peer.connect(address(listener))
            with no_descriptors_left():
                assert listener.accept() is None
                assert peer.recv(1) == b""


class FailingSocket(socket.socket):
    """A listening socket whose `accept` fails as the kernel's can: what no test can bring about for real."""

    failures: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Listener, FailingSocket]]:
    made: list[FailingSocket] = []

    def make(*arguments: int, **_: object) -> FailingSocket:
        sock = FailingSocket(*arguments)
        sock.failures = []
        made.append(sock)
        return sock

    with monkeypatch.context() as patch:
        patch.setattr("gateway.channels.tcp.socket.socket", make)
        listener = listen("tcp://127.0.0.1:0")
    with closing(listener):
        yield listener, made[0]


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOBUFS, errno.ENFILE])
def test_want_of_memory_makes_the_listener_pause_longer_each_time(
    failing: tuple[Listener, FailingSocket], number: int
) -> None:
    listener, sock = failing
    with socket.create_connection(address(listener)):
        pauses = []
        for _ in range(10):
            # ENFILE also spends the spare descriptor, so the peer in the queue must not be what is looked for here.
            sock.failures = [number, number]
            assert listener.accept() is None
            pauses.append(listener.retry_after_s)
        assert pauses == sorted(pauses)
        assert 0 < pauses[0] < pauses[-1] <= 1.0
        sock.failures = []
        channel = accept_within(listener, 5)
        assert channel is not None
        channel.close()
        assert listener.retry_after_s == 0.0


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EHOSTUNREACH])
def test_a_peer_that_gave_up_costs_nothing(failing: tuple[Listener, FailingSocket], number: int) -> None:
    listener, sock = failing
    sock.failures = [number]
    assert listener.accept() is None
    assert listener.retry_after_s == 0.0


def test_a_listener_that_is_broken_says_so(failing: tuple[Listener, FailingSocket]) -> None:
    listener, sock = failing
    sock.failures = [errno.EINVAL]
    with pytest.raises(LinkDown, match="can't accept any more"):
        listener.accept()


def test_close_wakes_who_waits_on_the_descriptor(listener: Listener) -> None:
    ready = threading.Event()
    woken: list[object] = []

    def wait() -> None:
        poller = select.poll()
        poller.register(listener.fileno(), select.POLLIN)
        ready.set()
        woken.append(poller.poll(10_000))

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait(5)
    listener.close()
    thread.join(5)
    assert woken
    assert woken != [[]]


def test_a_closed_listener_takes_nobody(listener: Listener) -> None:
    url = listener.url
    listener.close()
    listener.close()
    assert listener.closed
    assert listener.accept() is None
    with pytest.raises(LinkDown, match="does not listen any more"):
        listener.fileno()
    with pytest.raises(LinkDown):
        open_channel(url)


def test_channels_outlive_their_listener(listener: Listener) -> None:
    with closing(open_channel(listener.url)) as channel:
        served = accept_within(listener, 5)
        assert served is not None
        with closing(served):
            listener.close()
            channel.send(b"still here")
            assert served.recv() == b"still here"
