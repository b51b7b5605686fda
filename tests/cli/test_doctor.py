"""`gateway doctor` as a command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.doctor import show, verdict_of
from gateway.cli.screen import Screen
from gateway.doctor import CHECKS, Examined, Verdict
from gateway.doctor.findings import ok, problem, skipped, warning

CONFIG = """
[gateway]
listen = "tcp://127.0.0.1:{port}"
[devices.dmm1]
driver = "scpi-multimeter"
port = "/dev/ttyNothing"
"""


def doctor(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "gateway", "doctor", *words]
    return subprocess.run(line, check=False, capture_output=True, text=True, timeout=60, cwd=cwd)


def test_a_problem_is_told_with_its_fix_and_makes_the_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text(CONFIG.format(port=18871), encoding="utf-8")
    done = doctor("--config", "bench.toml", "--only", "ports", "--only", "python", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "dmm1 (/dev/ttyNothing): not there" in done.stdout
    assert "\n    gateway ports    # the names to write into the config\n" in done.stdout
    assert done.stdout.endswith("1 problem\n")


def test_where_all_is_well_the_exit_code_is_0(tmp_path: Path) -> None:
    done = doctor("--only", "package", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no problem")


def test_the_json_has_every_check_and_the_worst_verdict(tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text(CONFIG.format(port=0), encoding="utf-8")
    done = doctor("--config", "bench.toml", "--json", cwd=tmp_path)
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["config"] == str(tmp_path / "bench.toml")
    assert {row["check"] for row in document["findings"]} == set(CHECKS)
    assert all(row.keys() == {"check", "verdict", "what", "fix"} for row in document["findings"])
    assert (document["verdict"], done.returncode) == ("problem", 1)


def test_a_mistake_in_the_config_is_a_finding_and_no_end(tmp_path: Path) -> None:
    (tmp_path / "bench.toml").write_text(CONFIG.format(port=0).replace('port = "/', 'prot = "/'), encoding="utf-8")
    done = doctor("--config", "bench.toml", "--only", "config", "--only", "python", "--json", cwd=tmp_path)
    rows = json.loads(done.stdout)["findings"]
    assert "unknown key 'prot'; did you mean 'port'?" in next(row["what"] for row in rows if row["check"] == "config")
    assert "python" in {row["check"] for row in rows}


def test_an_unknown_check_or_user_is_a_usage_error(tmp_path: Path) -> None:
    assert doctor("--only", "prots", cwd=tmp_path).returncode == 2
    done = doctor("--user", "nobody-of-that-name", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "error: no user 'nobody-of-that-name' on this system\n")


@pytest.mark.parametrize(
    ("findings", "worst", "last"),
    [
        ([ok("a")], Verdict.OK, "no problem"),
        ([ok("a"), skipped("b", "sudo x")], Verdict.OK, "no problem, 1 not looked at"),
        ([warning("a", "x"), warning("b", "y")], Verdict.WARNING, "no problem, 2 warnings"),
        ([problem("a", "x"), warning("b", "y")], Verdict.PROBLEM, "1 problem, 1 warning"),
    ],
)
def test_the_end_counts_what_was_found(
    findings: list[Any], worst: Verdict, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Examined("ports", finding) for finding in findings]
    assert verdict_of(found) is worst
    show(Screen(), found)
    assert capsys.readouterr().out.splitlines()[-1] == last
