"""`make wheelhouse`: small enough to be carried, and enough for an installation without a network."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LIMIT_MB = 15.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Folder -> size in MB, as the script says."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    made = subprocess.run(
        [ROOT / ".ci" / "wheelhouse", sys.executable, folder, VERSION], check=False, capture_output=True, text=True
    )
    if made.returncode != 0 and re.search(r"No matching distribution|Could not find|Connection|resolve", made.stderr):
        pytest.skip(f"no wheels can be downloaded here: {made.stderr.strip().splitlines()[-1]}")
    assert made.returncode == 0, made.stderr
    return {
        path: float(size) for path, size in re.findall(r"^(.*): \d+ wheels, ([\d.]+) MB$", made.stdout, re.MULTILINE)
    }


def test_the_wheels_of_each_machine_are_light(house: dict[str, float]) -> None:
    assert {Path(path).name for path in house} == {f"aarch64-{VERSION}", f"x86_64-{VERSION}"}
    assert all(0.5 < size < LIMIT_MB for size in house.values()), house
    for path in house:
        machine = Path(path).name.rpartition("-")[0]
        tags = {wheel.name.split("-")[-1] for wheel in Path(path).iterdir()}
        assert all(tag.startswith("any") or machine in tag for tag in tags), tags


def test_the_sizes_in_the_documentation_are_not_exceeded(house: dict[str, float]) -> None:
    for page in ("README.md", "docs/how-to/install.md"):
        promised = re.findall(r"\b(\d+) MB\b", (ROOT / page).read_text(encoding="utf-8"))
        assert promised, page
        assert max(house.values()) <= max(float(size) for size in promised), page


def test_the_gateway_is_installed_from_them_without_a_network(house: dict[str, float], tmp_path: Path) -> None:
    (folder,) = [path for path in house if Path(path).name == f"{platform.machine()}-{VERSION}"]
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    alone = ["unshare", "--net"] if _can_unshare() else []
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "install", "--quiet", "--no-index"]
    subprocess.run([*alone, *pip, "--find-links", folder, "instrument-gateway"], check=True, capture_output=True)
    doctor = [environment / "bin/gateway", "doctor", "--only", "package"]
    done = subprocess.run(doctor, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "and what it needs, without extras" in done.stdout


def _can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode == 0
