"""`gateway service` as a command: the steps on the screen and in JSON, and its refusals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMAND = "/opt/instrument-gateway/bin/gateway"


def service(*words: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = [*prefix, sys.executable, "-m", "gateway", "service", *words]
    return subprocess.run(line, check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "etc").mkdir(parents=True)
    (made / "etc/passwd").write_text("instrument-gateway:x:950:950::/:/bin/false\n", encoding="utf-8")
    (made / "etc/group").write_text("dialout:x:20:\n", encoding="utf-8")
    command = made / COMMAND.lstrip("/")
    command.parent.mkdir(parents=True)
    command.touch(mode=0o755)
    command.chmod(0o755)
    return made


def test_install_prints_what_it_did_and_uninstall_undoes_it(root: Path) -> None:
    into = ("--root", str(root))
    done = service("install", *into, "--command", COMMAND)
    assert done.returncode == 0, done.stderr
    assert "done       write /etc/systemd/system/instrument-gateway.service" in done.stdout
    undone = service("uninstall", *into, "--json")
    steps: list[dict[str, Any]] = json.loads(undone.stdout)["steps"]
    removed = [step["what"] for step in steps if step["outcome"] == "done"]
    assert "remove /etc/udev/rules.d/70-instrument-gateway.rules" in removed
    assert not (root / "etc/systemd/system/instrument-gateway.service").exists()


def test_show_tells_what_would_be_written_and_whether_it_is_there(root: Path) -> None:
    into = ("--root", str(root))
    before = json.loads(service("show", *into, "--command", COMMAND, "--json").stdout)
    assert (before["installed"], {file["state"] for file in before["files"]}) == (False, {"missing"})
    service("install", *into, "--command", COMMAND)
    after = json.loads(service("show", *into, "--json").stdout)
    assert (after["installed"], after["up_to_date"], after["command"]) == (True, True, COMMAND)
    unit, _ = after["files"]
    assert unit["text"] == (root / unit["path"].lstrip("/")).read_text(encoding="utf-8")
    shown = service("show", *into)
    assert "# /etc/systemd/system/instrument-gateway.service: in place" in shown.stdout
    assert "ProtectSystem=strict" in shown.stdout


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, to be somebody else")
@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_without_root_it_is_refused_in_one_line_with_the_command_to_run(verb: str) -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
    if subprocess.run([*nobody, sys.executable, "-c", "import gateway"], check=False, capture_output=True).returncode:
        pytest.skip("another user can't read this Python")
    done = service(verb, prefix=nobody)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"sudo gateway service {verb}" in done.stderr
