"""The gateway's id: it stays, and it never tells the machine's."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.discovery import identity, stable_id
from gateway.discovery.identity import state_path

MACHINE = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def machine_id(tmp_path: Path) -> Path:
    path = tmp_path / "machine-id"
    path.write_text(MACHINE + "\n")
    return path


def test_the_id_is_kept_in_the_state_file(tmp_path: Path, machine_id: Path) -> None:
    path = tmp_path / "made" / "on" / "the" / "way" / "id"
    made = stable_id(path, machine_id=machine_id)
    assert re.fullmatch(r"[0-9a-f]{16}", made)
    assert path.read_text() == made + "\n"
    machine_id.write_text("f" * 32)
    assert stable_id(path, machine_id=machine_id) == made
    assert os.listdir(path.parent) == ["id"]


def test_a_read_only_file_system_gives_the_same_id(tmp_path: Path, machine_id: Path) -> None:
    # A path below a file can't be written by anybody, root included.
    path = machine_id / "state" / "id"
    made = stable_id(path, machine_id=machine_id)
    assert stable_id(path, machine_id=machine_id) == made
    writable = tmp_path / "id"
    assert stable_id(writable, machine_id=machine_id) == identity._derived(writable, machine_id)


def test_the_machines_id_is_not_in_it_and_two_state_files_give_two_ids(tmp_path: Path, machine_id: Path) -> None:
    one, other = (stable_id(tmp_path / name, machine_id=machine_id) for name in ("one", "other"))
    assert one != other
    assert one not in MACHINE
    assert not any(MACHINE[at : at + 6] in one for at in range(27))


@pytest.mark.parametrize("content", [b"", b"not an id\n", b"\xff\xfe" * 5000, b"0123456789ABCDEF\n", b"0" * 17])
def test_a_file_that_holds_something_else_is_left_alone(
    tmp_path: Path, machine_id: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "id"
    path.write_bytes(content)
    made = stable_id(path, machine_id=machine_id)
    assert made == stable_id(path, machine_id=machine_id)
    assert path.read_bytes() == content
    assert str(path) in caplog.text


@pytest.mark.parametrize("content", ["", "uninitialized\n", None])
def test_without_a_machine_id_there_is_an_id_too(tmp_path: Path, content: str | None) -> None:
    machine_id = tmp_path / "machine-id"
    if content is not None:
        machine_id.write_text(content)
    made = stable_id(tmp_path / "id", machine_id=machine_id)
    assert re.fullmatch(r"[0-9a-f]{16}", made)
    assert stable_id(tmp_path / "id", machine_id=machine_id) == made


def test_gateways_that_start_together_agree(tmp_path: Path) -> None:
    # No machine id and no card address: each makes up its own, and one of them is kept.
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda _: stable_id(tmp_path / "id", machine_id=tmp_path / "none"), range(16)))
    assert set(kept) == {(tmp_path / "id").read_text().strip()}


def test_the_state_file_lies_where_systemd_root_or_the_user_keeps_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(identity, "SYSTEM_STATE", tmp_path / "lib" / "instrument-gateway")
    user = tmp_path / "xdg" / "instrument-gateway" / "gateway-id"
    assert state_path() == user  # root or not: there is no writable lib
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_path() == tmp_path / "lib" / "instrument-gateway" / "gateway-id"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert state_path() == user
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_path() == Path.home() / ".local/state/instrument-gateway/gateway-id"
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/one:{tmp_path}/two")
    assert state_path() == tmp_path / "one" / "gateway-id"
