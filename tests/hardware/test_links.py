"""Links that lead to where a device is plugged in."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.hardware import PortLinks


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def test_a_link_leads_elsewhere_at_one_stroke_and_goes(runtime: Path) -> None:
    links = PortLinks()
    path = links.path("psu1")
    for target in ("/dev/ttyUSB0", "/dev/ttyUSB1", "/dev/ttyUSB1"):
        links.point("psu1", target)
        assert os.readlink(path) == target
    links.drop("psu1")
    links.drop("psu1")
    assert not os.path.lexists(path)
    links.point("psu1", "/dev/ttyUSB0")
    links.close()
    links.close()
    assert list(runtime.iterdir()) == [runtime / "instrument-gateway"]
    assert list((runtime / "instrument-gateway").iterdir()) == []


def test_nobody_else_can_change_the_links_and_two_gateways_have_their_own() -> None:
    one, other = PortLinks(), PortLinks()
    assert one.path("psu1") != other.path("psu1")
    assert stat.S_IMODE(one.folder.stat().st_mode) == 0o700


def test_a_service_has_them_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "service"
    folder.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{folder}:/elsewhere")
    assert PortLinks().folder.parent == folder


def test_without_a_runtime_folder_they_are_in_a_temporary_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    links = PortLinks()
    assert links.folder.name.startswith("instrument-gateway-ports-")
    links.close()
    assert not links.folder.exists()


def test_what_a_killed_gateway_left_is_swept_away(runtime: Path) -> None:
    base = runtime / "instrument-gateway"
    left = base / "ports-4194999-abc"  # above any process's number
    left.mkdir(parents=True)
    (left / "psu1").symlink_to("/dev/ttyUSB0")
    ours = PortLinks()
    assert list(base.iterdir()) == [ours.folder]


def test_a_folder_that_can_t_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="no folder for links to ports: .*; set XDG_RUNTIME_DIR"):
        PortLinks(tmp_path / "file" / "links")
