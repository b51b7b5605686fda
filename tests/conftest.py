"""What holds for every test: mDNS stays on the loopback interface, also in the processes that tests start."""

from __future__ import annotations

import os

os.environ["INSTRUMENT_GATEWAY_INTERFACES"] = "127.0.0.1"
