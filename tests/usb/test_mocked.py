"""usb:// on the real libusb without a kernel's part in it: umockdev."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
PROBE = "import gi; gi.require_version('UMockdev', '1.0'); from gi.repository import UMockdev"


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[str]:
    """The folder of a mocked device, as UMOCKDEV_DIR has it. Its sessions come to the socket `device` in `tmp_path`."""
    if (
        shutil.which(SYSTEM_PYTHON) is None
        or subprocess.run([SYSTEM_PYTHON, "-c", PROBE], check=False, capture_output=True).returncode
    ):
        pytest.skip("umockdev is not installed (apt-get install umockdev gir1.2-umockdev-1.0 python3-gi)")
    process = subprocess.Popen(
        ["umockdev-wrapper", SYSTEM_PYTHON, "-m", "hil.usb.mocked", str(tmp_path / "device")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10.0)
        process.stdout.close()


def test_the_channel_keeps_its_promises_on_the_real_libusb(testbed: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "tests/usb/mocked_client.py", str(tmp_path / "device")],
        check=False,
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": "libumockdev-preload.so.0", "UMOCKDEV_DIR": testbed},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["checks"] == 18
    assert found["closed_s"] < 2.0
