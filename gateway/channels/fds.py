"""FdStream: a stream over file descriptors that are no sockets: pipes, standard input and output, a tty."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
from time import monotonic
from typing import Final

from gateway.channels.stream import Stream
from gateway.errors import LinkDown
from gateway.protocol.framing import Message

LEAVE_S: Final = 1.0
"""How long `close` waits for threads that it woke to be out of their system calls; they need microseconds."""


class FdStream(Stream):
    """Reads `read_fd`, writes `write_fd` (which may be the same). Takes ownership of both and makes them non-blocking.

    A descriptor's number is given to the next file that is opened. So `close` first wakes who waits on it, and the
    descriptors are released when the last one has left.
    """

    def __init__(self, read_fd: int, write_fd: int, *, name: str) -> None:
        """`name` says in errors what was lost: `the pipe`, `/dev/ttyUSB0`."""
        self._name = name
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._wake_read, self._wake_write = os.pipe()
        self._were_blocking = [fd for fd in {read_fd, write_fd} if os.get_blocking(fd)]
        for fd in self._were_blocking:
            os.set_blocking(fd, False)
        self._users = 0
        self._left = threading.Condition()
        self._closed = False
        self._released = False

    # ------------------------------------------------------------------------------------------------------ bytes

    def read(self, size: int, timeout: float | None) -> bytes | None:
        deadline = monotonic() + timeout if timeout else None
        wait = timeout
        self._enter()
        try:
            while True:
                if timeout != 0 and not self._wait(self._read_fd, select.POLLIN, wait):
                    return None
                with contextlib.suppress(BlockingIOError):
                    chunk = os.read(self._read_fd, size)
                    if not chunk:
                        raise self._ended()
                    return chunk
                if timeout == 0:
                    return None
                if deadline is not None:
                    wait = max(0.0, deadline - monotonic())
        except OSError as error:
            raise self._lost(error) from None
        finally:
            self._leave()

    def write(self, data: Message, progress_s: float) -> None:
        rest = memoryview(data)
        self._enter()
        try:
            while True:
                with contextlib.suppress(BlockingIOError):
                    rest = rest[os.write(self._write_fd, rest) :]
                if not rest:
                    return
                if not self._wait(self._write_fd, select.POLLOUT, progress_s):
                    raise LinkDown(f"{self._name}: the peer took no data for {progress_s:g} s")
        except OSError as error:
            raise self._lost(error) from None
        finally:
            self._leave()

    def wait_readable(self, timeout: float | None) -> bool:
        self._enter()
        try:
            return self._wait(self._read_fd, select.POLLIN, timeout)
        finally:
            self._leave()

    def _wait(self, fd: int, event: int, timeout: float | None) -> bool:
        poller = select.poll()
        poller.register(fd, event)
        poller.register(self._wake_read, select.POLLIN)
        ready = poller.poll(None if timeout is None else timeout * 1000)
        if self._closed:
            raise self._closed_here()
        return bool(ready)

    # ------------------------------------------------------------------------------------------------------- ends

    def _closed_here(self) -> LinkDown:
        return LinkDown(f"{self._name} was closed by this side")

    def _ended(self) -> LinkDown:
        """The error for an end of file."""
        return LinkDown(f"{self._name} was closed by the peer")

    def _lost(self, error: OSError) -> LinkDown:
        """The error for a system call that failed."""
        if error.errno == errno.EPIPE:
            return self._ended()
        return LinkDown(f"{self._name} was lost: {error.strerror or error}")

    def _enter(self) -> None:
        with self._left:
            if self._closed:
                raise self._closed_here()
            self._users += 1

    def _leave(self) -> None:
        with self._left:
            self._users -= 1
            if self._closed and not self._users:
                self._release_once()
                self._left.notify_all()

    def close(self) -> None:
        with self._left:
            if self._closed:
                return
            self._closed = True
            os.write(self._wake_write, b"\0")
            if self._users:
                self._left.wait_for(lambda: not self._users, LEAVE_S)
            else:
                self._release_once()

    def _release_once(self) -> None:
        if not self._released:
            self._released = True
            self._release()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _release(self) -> None:
        """Give the descriptors back; nobody uses them any more."""
        for fd in self._were_blocking:
            # The flag belongs to the open file, which a parent process may share.
            with contextlib.suppress(OSError):
                os.set_blocking(fd, True)
        for fd in {self._read_fd, self._write_fd}:
            with contextlib.suppress(OSError):
                os.close(fd)

    @property
    def closed(self) -> bool:
        return self._closed

    def fileno(self) -> int:
        return self._read_fd
