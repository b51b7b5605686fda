"""Observing: many clients see what a property is, and the instrument is asked once.

    get(max_age) ──┐                                   ┌─> outlet of a client ── window ──> its callbacks
                   ├─> board: cache, timetable ── poll ┤
    subscribe ─────┘      one read of one device at a  └─> outlet of another client
                          time, whoever wanted it          (a bounded queue for each subscriber)

`board`, `subscriber` and `timetable` are pure: the time is an argument. `observers` is the front with one scheduler
thread; `outlet` carries readings to whoever wanted them, and waits for nobody.
"""

from gateway.server.observing.bounds import Bounds
from gateway.server.observing.observers import Observers, Read

__all__ = ["Bounds", "Observers", "Read"]
