"""What the guide "How to write a driver" shows works as it is shown."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.service.exposure import exposure_table

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "write-a-driver.md"
MODULES = ("thermostat", "simulated_thermostat", "test_thermostat")


def test_the_guides_driver_simulator_and_test_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert [name for name, _ in blocks] == list(MODULES)
    for name, source in blocks:
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        guide = importlib.import_module("test_thermostat")
        guide.test_a_thermostat_heats_within_its_limit_and_is_left_cold()
        thermostat = importlib.import_module("thermostat").Thermostat
        assert set(exposure_table(thermostat)) == {
            "heat_to",
            "identify",
            "make_safe",
            "state",
            "temperature",
            "transaction",
        }
        assert msgspec.convert({"port": "x", "hottest": 60.0}, thermostat.Options).hottest == 60.0
    finally:
        for name in MODULES:
            sys.modules.pop(name, None)
