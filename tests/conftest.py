"""What holds for every test, also in the processes that tests start."""

from __future__ import annotations

import gc
import os
import signal

# mDNS stays on the loopback interface.
os.environ["INSTRUMENT_GATEWAY_INTERFACES"] = "127.0.0.1"
# A job in the background is born with SIGINT ignored, and so are its children: Ctrl-C could not be tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Look for garbage among what the tests make, and not each time among the tests themselves, which stay."""
    gc.collect()
    gc.freeze()
