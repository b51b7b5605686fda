"""`gateway audit`: what a person and a program are told about the record of what was done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.cli.audit import default_path
from gateway.server.audit import AuditLog, Entry

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process: its exit code, stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["audit", *words])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log with four records."""
    log = AuditLog(tmp_path / "audit.jsonl", clock=lambda: 1_723_896_000.0)
    for device, outcome in (("psu1", "ok"), ("dmm1", "ok"), ("psu1", "denied"), ("psu1", "out-of-range")):
        log.write(
            Entry(
                identity="alice\x1b[2J",
                peer="10.0.0.7:51234",
                device=device,
                method="set_voltage",
                arguments="3.3",
                outcome=outcome,
                duration_s=0.012,
                number=7,
            )
        )
    log.close()
    return log.path


def test_verify_tells_that_the_log_is_whole_and_what_to_note(run: Run, path: Path) -> None:
    code, out, _ = run("verify", str(path))
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "4 records in 1 file, 2024-08-17T12:00:00.000000+00:00 to 2024-08-17T12:00:00.000000+00:00"
    assert lines[-1] == "the audit log is whole"
    noted = lines[1].removeprefix("the last one is ")
    assert run("verify", str(path), "--known", noted)[0] == 0
    assert run("verify", str(path), "--known", noted.replace("4:", "3:"))[0] == 1


def test_verify_names_file_and_line_of_what_is_wrong(run: Run, path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"dmm1", b"psu1"))
    code, out, _ = run("verify", str(path))
    assert code == 1
    assert out.splitlines()[0] == "audit.jsonl:2: record 2 was changed: its hash is another one's"
    assert out.splitlines()[-1] == "the audit log is not whole"
    code, out, _ = run("verify", str(path), "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["records"], document["path"]) == (1, False, 4, str(path))
    assert document["findings"] == [
        {"file": "audit.jsonl", "line": 2, "what": "record 2 was changed: its hash is another one's"}
    ]


def test_show_is_a_table_that_can_not_drive_the_terminal(run: Run, path: Path) -> None:
    code, out, _ = run("show", str(path), "--device", "psu1", "--last", "2")
    head, *rows = out.splitlines()
    assert code == 0
    assert head.split() == ["number", "time", "who", "from", "what", "outcome", "s", "lease", "note"]
    assert [row.split()[0] for row in rows] == ["3", "4"]
    assert "alice\\x1b[2J" in rows[0]
    assert "psu1.set_voltage(3.3)" in rows[0]
    assert "denied" in rows[0]
    assert run("show", str(path), "--device", "dac1")[1] == "no record of dac1\n"


def test_show_as_json_has_the_records_as_they_are(run: Run, path: Path) -> None:
    code, out, _ = run("show", str(path), "--last", "1", "--json")
    (record,) = json.loads(out)["records"]
    assert code == 0
    assert (record["seq"], record["outcome"], record["identity"]) == (4, "out-of-range", "alice\x1b[2J")
    assert record == json.loads(path.read_bytes().splitlines()[-1])


def test_without_a_path_it_is_the_log_of_this_users_gateway(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(path.parent))
    assert default_path() == path
    assert run("verify")[0] == run("show")[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["verify", "{folder}/none.jsonl"], 3, "there is no audit log at {folder}/none.jsonl"),
        (["show", "{folder}/none.jsonl"], 3, "there is no audit log at {folder}/none.jsonl"),
        (["verify", "{folder}"], 2, "can't be read: Is a directory"),
        (["verify", "{path}", "--known", "7"], 2, "it is NUMBER:HASH"),
        (["show", "{path}", "--last", "0"], 2, "--last"),
        (["verif"], 2, "no command 'verif'; did you mean 'verify'?"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(
    run: Run, path: Path, words: list[str], code: int, problem: str
) -> None:
    names = {"folder": path.parent, "path": path}
    left, out, err = run(*(word.format(**names) for word in words))
    assert (left, out) == (code, "")
    assert problem.format(**names) in err
    assert err.count("\n") == 1
