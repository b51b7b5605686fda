"""Reading an audit log back: is it whole, and what does it say."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import BinaryIO, Final

from gateway.errors import Busy, NotFound
from gateway.server.audit.files import Mark, oldest_path, read_mark, rotated, synced_path, torn_path
from gateway.server.audit.record import MAX_LINE, NO_HASH, Record, parse

MAX_FINDINGS: Final = 100
_ATTEMPTS: Final = 100
_PAUSE_S: Final = 0.001
"""So often the files are looked for while they are being put aside, and the end of a line while it is written."""
_MISSING_LOOKS: Final = 20
"""A log that is not there is looked for so often again: it may just be getting its new name."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, and where: `line` counts from 1, 0 stands for the file itself."""

    file: str
    line: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `verify` found. `findings` are at most `MAX_FINDINGS`, `more` says how many there were beyond."""

    files: tuple[str, ...]
    records: int
    first: int | None
    last: int | None
    hash: str | None
    """Of the last record: whoever notes it with its number can find out later that all before is as it was."""
    since: str | None
    until: str | None
    torn: str | None
    """The file with the ends of lines that a crash cut, if there is one. It is no finding: each has a record."""
    findings: tuple[Finding, ...]
    more: int

    @property
    def ok(self) -> bool:
        return not self.findings


def verify(path: Path, known: Mark | None = None) -> Report:
    """Check all that is kept of the log at `path`: each line, the chain, and that nothing is missing at either end.

    `known` is a record that somebody noted: number and hash. The log may be in use meanwhile. Raises NotFound where
    there is no log, OSError where it can't be read, Busy where its files don't stay for a moment.
    """
    with ExitStack() as stack:
        files, oldest, synced = _opened(path, stack)
        check = _Check(oldest, [mark for mark in (synced, known) if mark is not None])
        for file in files:
            check.read(Path(file.name).name, file)
    check.end(path.name)
    torn = torn_path(path)
    return Report(
        files=tuple(Path(file.name).name for file in files),
        records=check.records,
        first=check.first,
        last=check.last.seq if check.last else None,
        hash=check.last.hash if check.last else None,
        since=check.since,
        until=check.until,
        torn=torn.name if torn.exists() else None,
        findings=tuple(check.findings),
        more=check.more,
    )


def last_records(path: Path, count: int, device: str | None = None) -> list[Record]:
    """The last `count` records, oldest first; of a device only, if one is named. What is no record is left out.

    Raises as `verify` does.
    """
    kept: deque[Record] = deque(maxlen=count)
    with ExitStack() as stack:
        for file in _opened(path, stack)[0]:
            for _, line, _ in _lines(file):
                record = parse(line)
                if record is not None and (device is None or record.fields.get("device") == device):
                    kept.append(record)
    return list(kept)


@dataclass(slots=True)
class _Check:
    """The chain as far as it has been read. The records of `marks` must be in it."""

    oldest: Mark | None
    marks: list[Mark]
    records: int = 0
    first: int | None = None
    since: str | None = None
    until: str | None = None
    last: Mark | None = None
    met: set[Mark] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    more: int = 0

    def read(self, name: str, file: BinaryIO) -> None:
        for number, line, ended in _lines(file):
            record = parse(line)
            if not ended:
                self.found(name, number, "the end of the line is missing: a crash cut it, or it is being written")
            elif record is None:
                self.found(name, number, "this is no record")
            else:
                self.records += 1
                self.follow(name, number, record)

    def follow(self, name: str, number: int, record: Record) -> None:
        if not record.intact:
            self.found(name, number, f"record {record.seq} was changed: its hash is another one's")
        expected = self.last or self.beginning(record)
        if record.seq <= expected.seq:
            self.found(
                name, number, f"record {record.seq} is out of order, or a second one: it comes after {expected.seq}"
            )
            return
        if record.seq > expected.seq + 1:
            self.found(name, number, f"{_records(expected.seq + 1, record.seq - 1)} missing before this one")
        elif record.prev != expected.hash:
            self.found(name, number, f"record {record.seq} does not continue the one before it")
        time = str(record.fields.get("time"))
        if self.last is None:
            self.first, self.since = record.seq, time
        self.last, self.until = Mark(record.seq, record.hash), time
        self.met.update(mark for mark in self.marks if mark == self.last)

    def beginning(self, record: Record) -> Mark:
        """What comes before the first record that is there."""
        if self.oldest is None:
            return Mark(0, NO_HASH)
        if record.seq < self.oldest.seq:
            # A crash came after noting what is the oldest from now on, and before removing what is older.
            return Mark(record.seq - 1, record.prev)
        return Mark(self.oldest.seq - 1, self.oldest.hash)

    def end(self, name: str) -> None:
        """Everything has been read: compare with what somebody knows."""
        first = self.first or (self.oldest.seq if self.oldest else 1)
        last = self.last.seq if self.last else first - 1
        known_last = max((mark.seq for mark in self.marks), default=0)
        if known_last > last:
            self.found(name, 0, f"{_records(last + 1, known_last)} missing at the end")
        for mark in self.marks:
            if mark.seq < first:
                self.found(name, 0, f"record {mark.seq} is not kept any more: it can't be compared")
            elif mark.seq <= last and mark not in self.met:
                self.found(name, 0, f"record {mark.seq} is not the one that was there before")

    def found(self, name: str, line: int, what: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(name, line, what))
        else:
            self.more += 1


def _records(first: int, last: int) -> str:
    return f"record {first} is" if first == last else f"records {first} to {last} are"


def _opened(path: Path, stack: ExitStack) -> tuple[list[BinaryIO], Mark | None, Mark | None]:
    """The files, oldest first, with the two marks; all of one moment, though the log is in use."""
    for turn in range(_ATTEMPTS):
        if turn:
            sleep(_PAUSE_S)
        with ExitStack() as attempt:
            try:
                synced, oldest = read_mark(synced_path(path)), read_mark(oldest_path(path))
                names = [*rotated(path), *([path] if path.exists() else [])]
                files: list[BinaryIO] = [attempt.enter_context(name.open("rb")) for name in names]
                is_of_one_moment = rotated(path) == [name for name in names if name != path]
            except FileNotFoundError:
                # A file was removed meanwhile, unless there is not even a folder.
                if path.parent.is_dir():
                    continue
                raise NotFound(f"there is no audit log at {path}") from None
            if not names and synced is None and oldest is None:
                if turn < _MISSING_LOOKS:
                    continue  # it may be between two names just now
                raise NotFound(f"there is no audit log at {path}")
            if is_of_one_moment and read_mark(oldest_path(path)) == oldest:
                stack.push(attempt.pop_all())
                return files, oldest, synced
    raise Busy(f"the files of the audit log {path} change all the time; try again later")


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    """Number, text and whether it has its end, of each line; the text is empty where it is longer than any record."""
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        for _ in range(_ATTEMPTS):
            if line.endswith(b"\n") or len(line) >= MAX_LINE:
                break
            sleep(_PAUSE_S)  # it is being written, by a process that may have to wait for its turn
            line += file.readline(MAX_LINE - len(line))
        if line.endswith(b"\n"):
            yield number, line[:-1], True
        elif len(line) < MAX_LINE:
            yield number, line, False
        else:
            while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, b"", True
