"""Hot-plug for one gateway: which device is plugged in where, and who has left and returned.

    plugs = HotPlug(entries_of(config), happened)
    plugs.start()                       # looks once: links of what is there lead to it from now on
    plugs.port("psu1")                  # the path its driver opens, whether it is there or not
    plugs.presence("psu1").state
    ...
    plugs.stop()

`happened(event)` is called with each `Left` and `Returned`, in the watcher's thread and in the order of the events.
When it is called for a device that returned, the device's link leads to it already.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Self

from gateway.hardware.facts import Hardware, find_hardware
from gateway.hardware.links import PortLinks
from gateway.hardware.matching import Entry, paths_of, ports_to_ask
from gateway.hardware.presence import Event, Left, Plugged, Presence, Roll
from gateway.hardware.probe import Answer, ask
from gateway.hardware.watcher import POLL_S, EventSource, Sight, Watcher, kernel_events

ASK_AGAIN_S: Final = 30.0
"""A port that gave no answer to `*IDN?` is asked again after so long, then after twice as long, and so on: the
instrument may have been off, and being asked may be no good for what is there instead."""
SELDOM_S: Final = 1800.0

log = logging.getLogger("gateway.hardware")


class HotPlug:
    """Watches the ports of a config's devices. All methods may be called from any thread but the watcher's own."""

    def __init__(
        self,
        entries: Sequence[Entry],
        happened: Callable[[Event], None],
        *,
        links: PortLinks | None = None,
        source: EventSource | None = None,
        poll_s: float | None = None,
        root: str | os.PathLike[str] = "/",
    ) -> None:
        """`source` is by default the kernel's events where there are any. `root` is where `sys` and `dev` are.

        Raises ConfigError where no links can be made.
        """
        self.links = PortLinks() if links is None else links
        self._roll = Roll(entries)
        self._happened = happened
        self._root = root
        self._lock = threading.Lock()
        self._present: tuple[Hardware, ...] = ()
        self._identities: dict[str, str] = {}
        self._asking: set[str] = set()
        """Ports that are being asked."""
        self._silent: dict[str, tuple[float, float]] = {}
        """Ports that gave no answer -> when to ask again, by the monotonic clock, and how long that is from asking."""
        self._stopped = False
        if poll_s is None and any(not path.startswith("/dev/") for path in paths_of(entries)):
            poll_s = POLL_S  # no event tells of a user's own link
        self._source, self._poll_s = source, poll_s
        self._watcher: Watcher | None = None

    def start(self) -> None:
        """Look, and go on in a thread. What is there afterwards is no event."""
        if self._source is None and os.fspath(self._root) == "/":
            self._source = kernel_events()
        self._watcher = Watcher(self._look, self._seen, source=self._source, poll_s=self._poll_s)
        self._seen(self._watcher.start())

    def stop(self) -> None:
        """Stop watching and take the links away. Idempotent."""
        self._stopped = True
        if self._watcher is not None:
            self._watcher.stop()
        self.links.close()

    def kick(self) -> None:
        """Look now: somebody found that a port is gone."""
        if self._watcher is not None:
            self._watcher.kick()

    def port(self, name: str) -> str:
        """What the driver of the device `name` opens; it stays the same wherever the device is plugged in."""
        return self.links.path(name)

    def presence(self, name: str) -> Presence | None:
        """Whether the device is there; None for one that has no place on this machine."""
        return self.presences.get(name)

    @property
    def presences(self) -> Mapping[str, Presence]:
        """All of them, by the device's name."""
        with self._lock:
            return MappingProxyType(dict(self._roll.presences))

    def replace(self, entries: Sequence[Entry]) -> list[Event]:
        """Go on with other entries, as after a reload. What has happened to those that were there before because of it,
        such as one that can't be told from a new one, is returned instead of called back.
        """
        with self._lock:
            gone = {entry.name for entry in self._roll.entries} - {entry.name for entry in entries}
            self._roll.replace(entries)
        for name in gone:
            self.links.drop(name)
        events = self._update(tuple(self._look()), frozenset())
        self._ask()
        return events

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- in the watcher's thread --------------------------------------------------------------------------------------

    def _look(self) -> list[Hardware]:
        self._ask()  # those that gave no answer a while ago
        return find_hardware(self._root, paths_of(self._roll.entries))

    def _seen(self, sight: Sight) -> None:
        with self._lock:
            for each in (*sight.gone, *sight.appeared):
                self._identities.pop(each.port, None)
                self._silent.pop(each.port, None)
        for event in self._update(sight.present, sight.interrupted):
            log.log(logging.WARNING if isinstance(event, Left) else logging.INFO, "%s", event)
            self._happened(event)
        self._ask()

    def _update(self, present: tuple[Hardware, ...], interrupted: frozenset[str]) -> list[Event]:
        with self._lock:
            self._present = present
            events = self._roll.update(present, time.time(), identities=dict(self._identities), interrupted=interrupted)
            for name, presence in self._roll.presences.items():
                self._point(name, presence)
        return events

    def _point(self, name: str, presence: Presence) -> None:
        try:
            if presence.state is Plugged.PRESENT and presence.hardware is not None:
                self.links.point(name, presence.hardware.stable)
            else:
                self.links.drop(name)
        except OSError as problem:
            log.error("%s: no link to its port: %s", name, problem)

    def _ask(self) -> None:
        """Send `*IDN?` where that is wanted and has not been done, each port in a thread of its own."""
        now = time.monotonic()
        with self._lock:
            silent = {port for port, (again, _) in self._silent.items() if now < again}
            wanted = ports_to_ask(self._roll.entries, self._present, self._identities.keys() | self._asking | silent)
            due = [each for each in self._present if each.port in wanted]
            self._asking |= wanted.keys()
        for each in due:
            rates = wanted[each.port]
            threading.Thread(target=self._ask_one, args=(each, rates), name="gateway-asking", daemon=True).start()

    def _ask_one(self, hardware: Hardware, baudrates: tuple[int, ...]) -> None:
        answer = ask(hardware, baudrates, root=self._root)
        with self._lock:
            self._asking.discard(hardware.port)
            if hardware.port in {each.port for each in self._present if each.incarnation == hardware.incarnation}:
                if isinstance(answer, Answer):
                    self._identities[hardware.port] = answer.identity
                else:
                    log.info("%s was not identified: %s", hardware.port, answer)
                    _, waited_s = self._silent.get(hardware.port, (0.0, ASK_AGAIN_S / 2))
                    wait_s = min(2 * waited_s, SELDOM_S)
                    self._silent[hardware.port] = time.monotonic() + wait_s, wait_s
        # Without an answer too: another port's may have waited for this one.
        if not self._stopped:
            self.kick()
