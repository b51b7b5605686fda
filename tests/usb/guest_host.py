"""Runs in the virtual machine: the command `gateway host --usb`, a client of it, and what it leaves at its end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import gateway  # noqa: E402
from tests.usb.loops import until_there  # noqa: E402

CONFIG = """
[devices.psu1]
driver = "scpi-power-supply"
port = "/dev/nothing"
"""
GADGETS = Path("/sys/kernel/config/usb_gadget")


def main() -> None:
    config = Path(tempfile.mkdtemp()) / "host.toml"
    config.write_text(CONFIG)
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "host", "--usb=gadget://1209:0001/VMHOST", "--config", str(config), "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    conn = until_there(lambda: gateway.connect("usb://1209:0001/VMHOST", config={"sync_request_timeout": 30}))
    names = conn.root.names()
    conn.close()
    during = len(list(GADGETS.iterdir()))
    process.send_signal(signal.SIGTERM)
    code = process.wait(30)
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if "functionfs" in line]
    found = {
        "url": said["url"],
        "names": list(names),
        "gadgets": [during, len(list(GADGETS.iterdir()))],
        "mounts": mounts,
        "code": code,
    }
    print("result", json.dumps(found), flush=True)


main()
