"""What holds for every test, also in the processes that tests start."""

from __future__ import annotations

import gc
import os
import signal

# Without .pyc files every process that a test starts compiles what it imports anew, which takes as long as running it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# mDNS stays on the loopback interface.
os.environ["INSTRUMENT_GATEWAY_INTERFACES"] = "127.0.0.1"
# A job in the background is born with SIGINT ignored, and so are its children: Ctrl-C could not be tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, for most of what a test takes is waiting for a line, a process or a limit."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_sessionstart() -> None:
    """A terminal that a test makes says itself how wide it is: xdist's workers would have it be 80 columns."""
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)


def pytest_collection_finish() -> None:
    """Look for garbage among what the tests make, and not each time among the tests themselves, which stay."""
    gc.collect()
    gc.freeze()
