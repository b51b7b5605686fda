"""The audit log: what is written stays as it was, or it shows; where nothing can be written, that is said in time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import DeviceUnavailable, NotFound
from gateway.server.audit import AuditLog, Entry, Mark, Report, last_records, shown_arguments, verify

NOW = 1_723_896_000.5
SMALL = 4096
"""Bytes of a file: about ten records."""


def entry(device: str = "psu1", **facts: Any) -> Entry:
    return Entry(**{"identity": "alice", "peer": "10.0.0.7:51234", "device": device, "method": "set_voltage", **facts})


def opened(path: Path, **options: Any) -> AuditLog:
    return AuditLog(path, **{"sync_s": float("inf"), "clock": lambda: NOW, **options})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "audit.jsonl"


@pytest.fixture
def log(path: Path) -> Iterator[AuditLog]:
    with_log = opened(path)
    yield with_log
    with_log.close()


def written(path: Path, count: int, **options: Any) -> None:
    """A log of so many records, closed."""
    log = opened(path, **options)
    for number in range(count):
        log.write(entry(note=f"note {number}"))
    log.close()


def whats(report: Report) -> list[str]:
    return [finding.what for finding in report.findings]


# -- records ------------------------------------------------------------------------------------------------------


def test_a_record_says_who_did_what_and_how_it_ended(log: AuditLog, path: Path) -> None:
    log.write(
        entry(arguments=shown_arguments((3.3,), {"channel": 1}), outcome="denied", duration_s=0.25, number=7, note="n")
    )
    (line,) = path.read_bytes().splitlines()
    record = json.loads(line)
    digest = record.pop("hash")
    assert record == {
        "seq": 1,
        "prev": "0" * 64,
        "time": "2024-08-17T12:00:00.500000+00:00",
        "identity": "alice",
        "peer": "10.0.0.7:51234",
        "device": "psu1",
        "method": "set_voltage",
        "arguments": "3.3, channel=1",
        "outcome": "denied",
        "duration_s": 0.25,
        "lease": 7,
        "note": "n",
    }
    body = line.partition(b',"hash":')[0] + b"}"
    assert sha256(body).hexdigest() == digest
    assert log.last == Mark(1, digest)


def test_each_record_has_the_hash_of_the_one_before(log: AuditLog, path: Path) -> None:
    assert [log.write(entry()) for _ in range(3)] == [1, 2, 3]
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["prev"] for record in records] == ["0" * 64, records[0]["hash"], records[1]["hash"]]


def test_only_the_gateways_user_can_read_it(log: AuditLog, path: Path) -> None:
    log.write(entry())
    log.sync()
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text(min_size=250, max_size=300), st.floats(), st.none() | st.integers(0, 2**70))
def test_whatever_is_in_a_record_it_is_one_line_of_ascii(
    tmp_path_factory: pytest.TempPathFactory, text: str, long: str, duration_s: float, number: int | None
) -> None:
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    log = opened(path)
    log.write(entry(device=text, identity=long, note=long + "\n\x1b[2J", duration_s=duration_s, number=number))
    log.close()
    raw = path.read_bytes()
    assert raw.count(b"\n") == 1
    assert raw.isascii()
    assert b"\x1b" not in raw
    record = json.loads(raw)
    assert max(len(value) for value in record.values() if isinstance(value, str)) <= 256
    assert record["lease"] == number
    assert verify(path).ok


class Trap:
    """Somebody else's object: whatever is done with it may go over the network."""

    def __repr__(self) -> str:
        raise AssertionError("asked for its text")

    __str__ = __iter__ = __len__ = __format__ = __repr__  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("arguments", "keywords", "text"),
    [
        ((), {}, ""),
        ((3.3, "x", None, True, b"\x00", 1j), {"channel": 2}, r"3.3, 'x', None, True, b'\x00', 1j, channel=2"),
        (((1,), [1, "a"], {"k": (1, 2)}, frozenset({1}), set(), ()), {}, "(1,), [1, 'a'], {'k': (1, 2)}, {1}, {}, ()"),
        ((Trap(), [Trap()]), {"k": Trap()}, "<Trap>, [<Trap>], k=<Trap>"),
        (("\x1b[2J\u202e",), {}, r"'\x1b[2J\u202e'"),
        ((1 << 20_000,), {}, "<int of 20001 bits>"),
    ],
)
def test_arguments_are_shown_without_a_word_to_strangers(
    arguments: tuple[Any, ...], keywords: dict[str, Any], text: str
) -> None:
    assert shown_arguments(arguments, keywords) == text


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [[*range(10**6)], "x" * 10**6, b"x" * 10**6, {n: n for n in range(10**5)}, [[[["x" * 300]]]], _nested(5000)],
)
def test_long_arguments_are_cut_and_cost_no_more_than_short_ones(value: Any) -> None:
    shown = shown_arguments((value, value), {"value": value})
    assert len(shown) == 256
    assert shown.endswith("...")


# -- going on after a restart ---------------------------------------------------------------------------------------


def test_the_chain_goes_on_after_a_restart(path: Path) -> None:
    for _ in range(3):
        written(path, 2)
    report = verify(path)
    assert (report.ok, report.records, report.first, report.last) == (True, 6, 1, 6)


def test_a_line_that_a_crash_cut_is_put_aside_and_reported(path: Path) -> None:
    written(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    cut = lines[2][:100]
    path.write_bytes(lines[0] + lines[1] + cut)
    # The crash came before the disk had been asked for.
    (path.parent / "audit.jsonl.synced").unlink()
    assert whats(verify(path)) == ["the end of the line is missing: a crash cut it, or it is being written"]
    log = opened(path)
    assert log.found == ["the last line was cut, as by a crash: its 100 bytes were moved to audit.jsonl.torn"]
    log.close()
    assert (path.parent / "audit.jsonl.torn").read_bytes() == cut + b"\n"
    report = verify(path)
    assert (report.ok, report.last, report.torn) == (True, 3, "audit.jsonl.torn")
    (record,) = last_records(path, 1)
    assert (record.fields["method"], record.fields["note"]) == ("audit.opened", log.found[0])


def test_records_that_were_on_the_disk_and_are_missing_after_a_restart_stay_visible(path: Path) -> None:
    written(path, 5)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    assert whats(verify(path)) == ["records 4 to 5 are missing at the end"]
    log = opened(path)
    assert log.found == ["the log ended with record 3, though record 5 had been written"]
    assert log.write(entry()) == 7
    log.close()
    assert whats(verify(path)) == ["records 4 to 5 are missing before this one"]


def test_a_file_that_vanishes_while_in_use_is_noticed(path: Path, log: AuditLog) -> None:
    log.write(entry())
    path.rename(path.with_name("elsewhere"))
    log.sync()
    log.write(entry())
    (first, second) = last_records(path, 10)
    assert (first.seq, first.fields["method"], second.seq) == (2, "audit.moved", 3)
    assert whats(verify(path))[0] == "record 1 is missing before this one"


def test_a_log_has_one_writer(path: Path, log: AuditLog) -> None:
    log.write(entry())
    other = opened(path)
    assert not other.ready
    assert "another process writes it" in other.problem
    with pytest.raises(DeviceUnavailable, match="another process writes it"):
        other.write(entry())
    log.close()
    assert other.ready
    other.write(entry())
    other.close()
    report = verify(path)
    assert (report.ok, report.records) == (True, 3)
    assert "1 records could not be written" in last_records(path, 2)[0].fields["note"]


def test_many_threads_write_one_chain(path: Path, log: AuditLog) -> None:
    threads = [threading.Thread(target=lambda: [log.write(entry()) for _ in range(200)]) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = verify(path)
    assert (report.ok, report.records) == (True, 1000)


def test_what_was_written_outlives_a_kill(path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from gateway.server.audit import *\n"
        "log = AuditLog(Path(sys.argv[1]))\n"
        "for _ in range(50): log.write(Entry(identity='a', peer='p', device='d', method='m'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    written(path, 1)
    report = verify(path)
    assert (report.ok, report.records) == (True, 51)


def test_a_closed_log_takes_nothing(log: AuditLog) -> None:
    log.close()
    log.close()
    assert not log.ready
    with pytest.raises(DeviceUnavailable, match="is closed"):
        log.write(entry())


def test_its_thread_brings_records_to_the_disk_and_ends(path: Path) -> None:
    log = AuditLog(path, sync_s=0.01)
    log.write(entry())
    synced = path.parent / "audit.jsonl.synced"
    waiting = threading.Event()
    for _ in range(1000):
        if synced.exists() and synced.stat().st_size:
            break
        waiting.wait(0.01)
    log.close()
    assert int(synced.read_text().split()[0]) == 1
    assert "audit-sync" not in [thread.name for thread in threading.enumerate()]


# -- rotation -----------------------------------------------------------------------------------------------------


def test_the_chain_goes_on_over_files_and_over_those_that_were_removed(path: Path) -> None:
    written(path, 100, max_bytes=SMALL, keep=3)
    files = sorted(file.name for file in path.parent.iterdir())
    rotated = [name for name in files if name[-1].isdigit()]
    assert len(rotated) == 3
    assert {"audit.jsonl", "audit.jsonl.oldest", "audit.jsonl.synced"} < set(files)
    report = verify(path)
    assert report.ok, report
    assert report.first == int(rotated[0].rpartition(".")[2]) > 1
    assert (report.last, report.records) == (100, 101 - report.first)
    assert report.files == (*rotated, "audit.jsonl")
    assert all(file.stat().st_size <= SMALL for file in path.parent.iterdir())


def test_the_oldest_file_is_missed_when_somebody_removes_it(path: Path) -> None:
    written(path, 100, max_bytes=SMALL, keep=3)
    first, second, *_ = sorted(path.parent.glob("audit.jsonl.0*"))
    first.unlink()
    begin, end = (int(file.name.rpartition(".")[2]) for file in (first, second))
    assert whats(verify(path)) == [f"records {begin} to {end - 1} are missing before this one"]


def test_a_crash_between_noting_and_removing_the_oldest_file_is_no_damage(path: Path) -> None:
    log = opened(path, max_bytes=SMALL, keep=2)
    first = path.with_name("audit.jsonl.000000000001")
    spare = path.with_name("spare")
    while not first.exists():
        log.write(entry())
    shutil.copy(first, spare)
    while first.exists():
        log.write(entry())
    log.close()
    assert verify(path).first != 1
    spare.rename(first)
    report = verify(path)
    assert (report.ok, report.first) == (True, 1)


def test_a_restart_after_the_file_was_put_aside_goes_on(path: Path) -> None:
    written(path, 5)
    path.rename(path.with_name("audit.jsonl.000000000001"))
    written(path, 5)
    report = verify(path)
    assert (report.ok, report.last) == (True, 10)


# -- damage -------------------------------------------------------------------------------------------------------


def changed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[4].replace(b"alice", b"mallo"), *lines[5:]]


def forged(lines: list[bytes]) -> list[bytes]:
    """Changed, with the hash that goes with it."""
    body = lines[4].replace(b"alice", b"mallo").rpartition(b',"hash":')[0]
    return [*lines[:4], body + b',"hash":"%b"}\n' % sha256(body + b"}").hexdigest().encode(), *lines[5:]]


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (changed, ["record 5 was changed: its hash is another one's"]),
        (forged, ["record 6 does not continue the one before it"]),
        (lambda lines: [*lines[:4], *lines[5:]], ["record 5 is missing before this one"]),
        (lambda lines: lines[3:], ["records 1 to 3 are missing before this one"]),
        (lambda lines: lines[:-2], ["records 9 to 10 are missing at the end"]),
        (lambda lines: [], ["records 1 to 10 are missing at the end"]),
        (
            lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]],
            ["record 5 is missing before this one", "record 5 is out of order, or a second one: it comes after 6"],
        ),
        (
            lambda lines: [*lines[:6], lines[2], *lines[6:]],
            ["record 3 is out of order, or a second one: it comes after 6"],
        ),
        (lambda lines: [*lines[:4], b"# nothing to see\n", *lines[4:]], ["this is no record"]),
        (lambda lines: [*lines[:4], b"\n", *lines[4:]], ["this is no record"]),
        (lambda lines: [*lines[:4], b"x" * 100_000 + b"\n", *lines[4:]], ["this is no record"]),
        (lambda lines: [*lines[:4], b"[" * 20_000 + b"\n", *lines[4:]], ["this is no record"]),
    ],
)
def test_whatever_is_done_to_the_lines_shows(path: Path, tamper: Any, expected: list[str]) -> None:
    written(path, 10)
    assert verify(path).ok
    path.write_bytes(b"".join(tamper(path.read_bytes().splitlines(keepends=True))))
    report = verify(path)
    assert whats(report) == expected
    assert not report.ok


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_byte_can_be_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    written(path, 4)
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    assert not verify(path).ok


def test_a_log_that_was_written_anew_is_told_by_a_record_that_somebody_noted(path: Path) -> None:
    written(path, 10)
    noted = Mark(4, json.loads(path.read_bytes().splitlines()[3])["hash"])
    assert verify(path, noted).ok
    shutil.rmtree(path.parent)
    log = opened(path)
    for _ in range(10):
        log.write(entry(identity="mallory"))
    log.close()
    assert verify(path).ok
    assert whats(verify(path, noted)) == ["record 4 is not the one that was there before"]
    assert whats(verify(path, Mark(11, noted.hash))) == ["record 11 is missing at the end"]


def test_a_noted_record_that_is_not_kept_any_more_can_not_be_compared(path: Path) -> None:
    written(path, 100, max_bytes=SMALL, keep=2)
    assert whats(verify(path, Mark(1, "0" * 64))) == ["record 1 is not kept any more: it can't be compared"]


def test_the_findings_are_bounded(path: Path) -> None:
    written(path, 1)
    with path.open("ab") as file:
        file.write(b"x\n" * 250)
    report = verify(path)
    assert (len(report.findings), report.more) == (100, 150)


def test_a_gateway_goes_on_behind_what_was_damaged(path: Path) -> None:
    written(path, 3)
    with path.open("ab") as file:
        file.write(b"x\ny\n")
    log = opened(path)
    assert log.found == ["the last 2 lines of audit.jsonl are no records"]
    log.close()
    assert whats(verify(path)) == ["this is no record", "this is no record"]


def test_there_must_be_a_log(tmp_path: Path) -> None:
    for path in (tmp_path / "audit.jsonl", tmp_path / "missing" / "audit.jsonl"):
        with pytest.raises(NotFound, match="there is no audit log at"):
            verify(path)


def test_a_log_can_be_verified_while_it_is_written_and_rotated(path: Path) -> None:
    log = opened(path, max_bytes=16 * SMALL, keep=2)
    log.write(entry())
    done = threading.Event()

    def write() -> None:
        for _ in range(3000):
            log.write(entry())
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reports = [verify(path)]
    while not done.is_set():
        reports.append(verify(path))
    writer.join()
    log.close()
    assert [report for report in reports if not report.ok] == []


# -- a full disk --------------------------------------------------------------------------------------------------

FULL = """
import resource, signal, sys
from pathlib import Path
from gateway.errors import DeviceUnavailable
from gateway.server.audit import AuditLog, Entry, verify

path, filler, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

def fill():
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 1000, hard))
    else:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

def free():
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    filler.unlink(missing_ok=True)

log = AuditLog(path, sync_s=0 if how == "synced" else float("inf"))
entry = Entry(identity="alice", peer="p", device="psu1", method="set_voltage")
log.write(entry)
for round in (1, 2):
    fill()
    refused = 0
    while refused < 3:
        try:
            log.write(entry)
        except DeviceUnavailable as problem:
            refused += 1
            assert "nothing is actuated until it can" in str(problem), problem
            text = str(problem)
    print(text.partition(": ")[2].partition(";")[0])
    assert not log.ready
    assert path.read_bytes().endswith(b"\\n"), "a part of a line was left"
    last = log.last
    free()
    assert log.ready, log.problem
    assert log.last.seq == last.seq + 1
    assert log.write(entry) == last.seq + 2
log.close()
report = verify(path)
assert report.ok, report
print(path.read_text().count("3 records could not be written"))
"""


@pytest.mark.parametrize("how", ["limit", "disk", "synced"])
def test_a_full_disk_refuses_and_recovers(tmp_path: Path, how: str) -> None:
    """Real ones: a limit of the process (EFBIG), and a file system of 64 KiB (ENOSPC)."""
    line = [sys.executable, "-c", FULL]
    folder = tmp_path / "full"
    folder.mkdir()
    if how != "limit":
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        line = [
            "unshare",
            *user,
            "--mount",
            "sh",
            "-c",
            f'mount -t tmpfs -o size=64k none {folder} && exec "$@"',
            "sh",
            *line,
        ]
        probe = [*line[: line.index("-c") + 2], "sh", "true"]
        if shutil.which("unshare") is None or subprocess.run(probe, check=False, capture_output=True).returncode:
            pytest.skip("this system lets nobody mount a file system of his own")
    words = [str(folder / "audit.jsonl"), str(folder / "filler"), how]
    done = subprocess.run([*line, *words], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    error = "File too large" if how == "limit" else "No space left on device"
    assert done.stdout.splitlines() == [error, error, "2"]


def test_a_log_that_can_not_be_opened_is_not_ready_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    log = opened(tmp_path / "state" / "audit.jsonl")
    assert not log.ready
    assert "can't be written" in log.problem
    (tmp_path / "state").unlink()
    assert log.ready
    assert log.problem == ""
    log.close()


@pytest.mark.parametrize("options", [{"max_bytes": 100}, {"keep": 0}, {"sync_s": -1}, {"sync_s": float("nan")}])
def test_no_bound_can_be_left_out(path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="an audit log needs"):
        opened(path, **options)


# -- looking ------------------------------------------------------------------------------------------------------


def test_the_last_records_are_found_by_device_and_over_files(path: Path) -> None:
    log = opened(path, max_bytes=SMALL)
    for number in range(40):
        log.write(entry(device="dmm1" if number % 10 == 0 else "psu1"))
    log.close()
    assert [record.seq for record in last_records(path, 3)] == [38, 39, 40]
    assert [record.seq for record in last_records(path, 3, "dmm1")] == [11, 21, 31]
    assert last_records(path, 3, "dac1") == []
