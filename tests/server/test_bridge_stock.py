"""A stock rpyc client, in a process of its own, uses the devices of a host through the gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.server.bridged import Bench

CLIENT = """
import json, sys
import rpyc

conn = rpyc.connect("127.0.0.1", int(sys.argv[1]))
threads = rpyc.BgServingThread(conn)
root, out = conn.root, {}
dmm = root.bench2.dmm1
out["names"] = list(root.names())
out["voltage"] = dmm.voltage
out["count"] = [dmm.count(), root.device("bench2.dmm1").count()]
out["callback"] = list(dmm.each(lambda number: number * 10, 3))
out["stream"] = list(dmm.samples(4))
trace = dmm.trace(1.0, 2.5)
out["object"] = [trace.size, trace.total()]
dmm.range = 7.5
out["set"] = dmm.range
table = dmm.echo(1, key="value")
out["dict"] = [table[0], table[1]["key"]]
for kind in ("value", "range", "unknown"):
    try:
        dmm.fail(kind)
    except Exception as error:
        out[kind] = [type(error).__name__, str(error).partition("\\n")[0], getattr(error, "code", None)]
for name in ("calls", "_range", "release"):
    try:
        getattr(dmm, name)
        out["refused"] = name
    except AttributeError:
        pass
out["described"] = root.describe("bench2.dmm1")["state"]
print(json.dumps(out))
threads.stop()
conn.close()
"""


@pytest.mark.interop
def test_a_stock_client_works_through_the_bridge() -> None:
    with ExitStack() as stack:
        bench = Bench(stack, "tcp://127.0.0.1:0").start()
        port = bench.front.url.rpartition(":")[2]
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, port], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        out = json.loads(done.stdout)
        assert "refused" not in out
        assert out == {
            "names": ["bench2.dmm1", "bench2.psu1"],
            "voltage": 1.5,
            "count": [1, 2],
            "callback": [0, 10, 20],
            "stream": [0, 1, 2, 3],
            "object": [2, 3.5],
            "set": 7.5,
            "dict": [1, "value"],
            "value": ["ValueError", "no such range", None],
            "range": ["ValueError", "psu1.voltage must be from 0 to 12 V", "out-of-range"],
            "unknown": ["EOFError", "the instrument's own line broke", "outcome-unknown"],
            "described": "open",
        }
