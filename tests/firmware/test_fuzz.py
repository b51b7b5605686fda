"""The fuzz target of the C library: a short run each time, `make firmware-fuzz FUZZ_RUNS=...` for long ones."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.firmware.conftest import C_LIBRARY

RUNS = 150_000


def test_what_comes_over_the_line_does_no_harm(tmp_path: Path) -> None:
    if shutil.which("clang") is None or shutil.which("make") is None:
        pytest.skip("there is no clang here (Debian's packages clang and libclang-rt-dev)")
    words = ["make", "-C", str(C_LIBRARY), f"OUT={tmp_path}", f"RUNS={RUNS}", "fuzz"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=300)
    if "libclang_rt.fuzzer" in done.stderr and done.returncode != 0:
        pytest.skip("this clang has no libFuzzer (Debian's package libclang-rt-dev)")
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"stat::number_of_executed_units: {RUNS}" in done.stderr
    found = re.findall(r"cov: (\d+)", done.stderr)
    assert int(found[-1]) > 300, "it reaches little of the library"
