"""The virtual machine of these tests; where it can't be had, they are skipped with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.vm.image import FOLDER, is_built, missing

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def vm_image() -> Path:
    """The folder with its kernel."""
    why = missing()
    if why:
        pytest.skip(why)
    if not is_built(ROOT / FOLDER):
        pytest.skip("the virtual machine is not built (make vm)")
    return ROOT / FOLDER
