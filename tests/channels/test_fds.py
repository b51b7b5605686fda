"""FdStream: descriptors are given back when the last thread has left them, and not before."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from gateway.channels.fds import FdStream
from gateway.errors import LinkDown

Pipe = tuple[FdStream, int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A stream, the descriptor that feeds it, and the one that takes what it writes."""
    (read_fd, feed), (take, write_fd) = os.pipe(), os.pipe()
    with closing(FdStream(read_fd, write_fd, name="the pipe")) as stream:
        yield stream, feed, take
    for fd in (feed, take):
        with suppress(OSError):
            os.close(fd)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_close_gives_every_descriptor_back(pipe: Pipe) -> None:
    stream, _, take = pipe
    used = [stream._read_fd, stream._write_fd, stream._wake_read, stream._wake_write]
    stream.close()
    assert not any(is_open(fd) for fd in used)
    assert os.read(take, 1) == b""  # the other end sees it


def test_a_descriptor_is_released_by_the_thread_that_uses_it_last(pipe: Pipe) -> None:
    stream, _, _ = pipe
    released: list[str] = []
    inside = threading.Event()
    go_on = threading.Event()
    wait = stream._wait

    def slow_wait(fd: int, event: int, timeout: float | None) -> bool:
        inside.set()
        go_on.wait(5)
        assert is_open(fd)
        return wait(fd, event, timeout)

    stream._wait = slow_wait  # type: ignore[method-assign]

    def read() -> None:
        with pytest.raises(LinkDown, match="closed by this side"):
            stream.read(10, None)
        released.append("reader left")

    reader = threading.Thread(target=read)
    reader.start()
    inside.wait(5)
    closer = threading.Thread(target=stream.close)
    closer.start()
    while not stream.closed:
        os.sched_yield()
    assert is_open(stream._read_fd)
    go_on.set()
    reader.join(5)
    closer.join(5)
    assert released == ["reader left"]
    assert not is_open(stream._read_fd)


def test_the_end_of_the_feeding_side_is_link_down(pipe: Pipe) -> None:
    stream, feed, _ = pipe
    os.write(feed, b"last")
    os.close(feed)
    assert stream.read(10, 1.0) == b"last"
    with pytest.raises(LinkDown, match="the pipe was closed by the peer"):
        stream.read(10, 1.0)


def test_writing_to_nobody_is_link_down(pipe: Pipe) -> None:
    stream, _, take = pipe
    os.close(take)
    with pytest.raises(LinkDown, match="the pipe was closed by the peer"):
        stream.write(b"x", 1.0)


def test_a_broken_descriptor_is_link_down(pipe: Pipe) -> None:
    stream, _, _ = pipe
    real, stream._read_fd = stream._read_fd, os.open("/", os.O_RDONLY)
    try:
        with pytest.raises(LinkDown, match="the pipe was lost: Is a directory"):
            stream.read(10, 1.0)
    finally:
        os.close(stream._read_fd)
        stream._read_fd = real


def test_one_descriptor_may_serve_both_ways() -> None:
    here, there = os.openpty()
    with closing(FdStream(there, there, name="tty")) as stream:
        stream.write(b"x", 1.0)
        assert os.read(here, 10) == b"x"
    assert not is_open(there)
    os.close(here)
