"""A machine of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hardware.machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "root")
