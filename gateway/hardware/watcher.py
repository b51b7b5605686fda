"""Notices what is plugged in and out: by the kernel's events where it sends them, and by looking every now and then.

The events say that something has changed; what is there is always looked up. So a lost event, or one for something
else, does no harm, and a system without events works alike, only later.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import Final, Protocol, Self

from gateway.hardware.facts import Hardware
from gateway.hardware.uevent import MAX_EVENT, Settling, Uevent, parse_uevent

SETTLE_S: Final = 0.25
"""So long after a thing appeared its links and rights are made by udev."""
LONGEST_S: Final = 1.5
POLL_S: Final = 1.0
"""How often is looked where no events come."""
SWEEP_S: Final = 15.0
"""How often is looked all the same where they do."""
BURST: Final = 256
"""Events read at once."""

_KERNEL: Final = 1
"""The multicast group in which the kernel speaks; udev's is 2."""

log = logging.getLogger("gateway.hardware")


class EventSource(Protocol):
    """Where events come from. `read` returns those that have come, and None in place of some that were lost."""

    def fileno(self) -> int: ...
    def read(self) -> list[Uevent | None]: ...
    def close(self) -> None: ...


class KernelEvents:
    """The kernel's uevents, by netlink. Needs neither udev nor rights."""

    def __init__(self) -> None:
        """Raises OSError where the system has none, or none for us."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, _KOBJECT_UEVENT)
        try:
            self._socket.bind((0, _KERNEL))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> list[Uevent | None]:
        found: list[Uevent | None] = []
        for _ in range(BURST):
            try:
                data, (sender, _) = self._socket.recvfrom(MAX_EVENT + 1)
            except BlockingIOError:
                break
            except OSError as problem:
                if problem.errno != errno.ENOBUFS:
                    raise
                found.append(None)
                continue
            # Only the kernel itself has the address 0: a program could send a lie.
            if sender == 0 and (event := parse_uevent(data)) is not None:
                found.append(event)
        return found

    def close(self) -> None:
        self._socket.close()


_KOBJECT_UEVENT: Final = 15
"""NETLINK_KOBJECT_UEVENT, which the module socket has no name for."""


def kernel_events() -> KernelEvents | None:
    """The kernel's events, or None where there are none."""
    if not hasattr(socket, "AF_NETLINK"):
        return None
    try:
        return KernelEvents()
    except OSError as problem:
        log.info("no events of the kernel (%s): looking every %g s instead", problem.strerror or problem, POLL_S)
        return None


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen in one look."""

    present: tuple[Hardware, ...]
    appeared: tuple[Hardware, ...]
    gone: tuple[Hardware, ...]
    """What is in both lists, by its port, was gone in between."""

    @property
    def interrupted(self) -> frozenset[str]:
        """Ports that are there and were gone in between."""
        return frozenset(each.port for each in self.gone).intersection(each.port for each in self.present)


def compare(before: Sequence[Hardware], after: Sequence[Hardware], removed: frozenset[str] = frozenset()) -> Sight:
    """What has changed from one look to the next. Pure. `removed`: ports that the kernel took away in between."""
    old = {each.port: each for each in before}
    new = {each.port: each for each in after}
    again = {port for port in old.keys() & new.keys() if port in removed or _anew(old[port], new[port])}
    return Sight(
        present=tuple(after),
        appeared=tuple(each for port, each in new.items() if port not in old or port in again),
        gone=tuple(each for port, each in old.items() if port not in new or port in again),
    )


def _anew(old: Hardware, new: Hardware) -> bool:
    """Whether it is another thing, or the same one that was plugged in again. udev's names may come a moment later."""
    facts = ((each.vid_pid, each.serial_number, each.location, each.interface, each.incarnation) for each in (old, new))
    return len(set(facts)) == 2


class Watcher:
    """Looks, in a thread of its own, and calls back with what has changed."""

    def __init__(
        self,
        look: Callable[[], Sequence[Hardware]],
        changed: Callable[[Sight], None],
        *,
        source: EventSource | None = None,
        poll_s: float | None = None,
        settle_s: float = SETTLE_S,
    ) -> None:
        """`look` tells what is there. `changed` is called from the watcher's thread, one call at a time, when something
        appeared or is gone, and after each `kick`. `poll_s`: 1 s without a `source`, 15 s with one. Closes the source.
        """
        self._look = look
        self._changed = changed
        self._source = source
        self._poll_s = poll_s if poll_s is not None else POLL_S if source is None else SWEEP_S
        self._settling = Settling(settle_s, max(LONGEST_S, settle_s))
        self._removed: set[str] = set()
        self._present: tuple[Hardware, ...] = ()
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._kicked = self._stopping = self._closed = False
        self._thread = threading.Thread(target=self._run, name="gateway-hardware", daemon=True)

    def start(self) -> Sight:
        """Look once, in the caller's thread, and go on in one's own. What was seen first."""
        self._present = tuple(self._look())
        self._thread.start()
        return Sight(self._present, self._present, ())

    def kick(self) -> None:
        """Look now, and call back whatever is seen. From any thread."""
        self._signal(kicked=True)

    def stop(self) -> None:
        """End the thread; no call back begins afterwards. Idempotent; must not be called from the call back."""
        self._signal(stopping=True)
        if self._thread.ident is not None:
            self._thread.join()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._wake)
        if self._source is not None:
            self._source.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _signal(self, *, kicked: bool = False, stopping: bool = False) -> None:
        with self._lock:
            if self._closed:
                return
            self._kicked |= kicked
            self._stopping |= stopping
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if self._source is not None:
            poller.register(self._source.fileno(), select.POLLIN)
        next_look = monotonic() + self._poll_s
        while not self._stopping:
            due = min(next_look, self._settling.due or next_look)
            poller.poll(max(0, ceil((due - monotonic()) * 1000)))
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            if self._stopping:
                return
            now = monotonic()
            if self._source is not None:
                self._hear(self._source, poller, now)
            with self._lock:
                kicked, self._kicked = self._kicked, False
            if self._settling.take(now) or kicked or now >= next_look:
                next_look = now + self._poll_s
                self._see(tell=kicked)

    def _hear(self, source: EventSource, poller: select.poll, now: float) -> None:
        try:
            events = source.read()
        except OSError as problem:
            log.warning("no more events of the kernel (%s): looking every %g s instead", problem, POLL_S)
            poller.unregister(source.fileno())
            self._poll_s, self._source = min(self._poll_s, POLL_S), None
            source.close()
            self._settling.note(now, at_once=True)
            return
        for event in events:
            if event is None:
                self._settling.note(now, at_once=True)
            elif event.about_ports:
                removal = event.action == "remove" and bool(event.devname)
                if removal:
                    self._removed.add(event.devname)
                self._settling.note(now, at_once=removal)

    def _see(self, *, tell: bool) -> None:
        try:
            present = tuple(self._look())
            # "ttyUSB0" of the kernel is a port wherever `dev` is; "bus/usb/001/004" likewise.
            removed = frozenset(
                each.port for each in self._present if any(each.port.endswith(f"/{name}") for name in self._removed)
            )
            self._removed.clear()
            sight = compare(self._present, present, removed)
            self._present = present
            if sight.appeared or sight.gone or tell:
                self._changed(sight)
        except Exception:
            log.exception("looking for hardware went wrong")
