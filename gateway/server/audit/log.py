"""AuditLog: what was done, by whom, as a chain of records that only grows.

    log = AuditLog(path)                        goes on where the last run ended; `log.found` says what was wrong there
    if not log.ready: refuse to actuate
    log.write(Entry(identity="alice", ...))     one write to the file; raises DeviceUnavailable where that can't be done
    log.close()

A record is with the operating system when `write` returns, so it outlives the gateway. A thread of its own sees to it
that it is on the disk soon after: on an SD card that takes longer than a call may be held up.
"""

from __future__ import annotations

import fcntl
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.errors import DeviceUnavailable
from gateway.server.audit.files import (
    Mark,
    first_number,
    first_record,
    last_record,
    oldest_path,
    read_mark,
    rotated,
    rotated_name,
    split_torn,
    synced_path,
    torn_path,
    write_mark,
)
from gateway.server.audit.record import NO_HASH, Entry, line_of

MIB: Final = 1024 * 1024
LEAST_BYTES: Final = 4096


class AuditLog:
    """The log at `path`, which has one writer. Any thread may call any method.

    A file of `max_bytes` is put aside, and `keep` of those are kept. `sync_s` is how long a record may not be on the
    disk yet; with 0 `write` waits for the disk each time, with infinity only `close` does. `clock` gives the time of
    day in seconds since 1970. A log that can't be opened is not `ready`, and tries again as after any other failure.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 16 * MIB,
        keep: int = 8,
        sync_s: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_bytes < LEAST_BYTES or keep < 1 or not sync_s >= 0:
            raise ValueError(f"an audit log needs files of {LEAST_BYTES} bytes or more, keep of 1, sync_s of 0")
        self.path = path
        self.found: list[str] = []
        """What was not as it should be when the log was opened, for the gateway's own log. It is recorded too."""
        self._max_bytes = max_bytes
        self._keep = keep
        self._sync_s = sync_s
        self._clock = clock
        self._lock = threading.Lock()
        self._file = -1
        self._size = 0
        self._spoilt = False
        """Whether a failed write may have left a part of a line in the file."""
        self._begun = False
        self._last = Mark(0, NO_HASH)
        self._synced = 0
        self._own: list[Entry] = []
        """What the log has to say itself, before anything else is written."""
        self._problem = ""
        self._reason = ""
        self._missed = 0
        self._second = -1
        self._until_second = ""
        """The time of that second as text: most records share it with the one before."""
        self._closed = threading.Event()
        with self._lock:
            try:
                self._write_own()
            except OSError as problem:
                self._failed(problem)
        self._syncer = threading.Thread(target=self._sync_now_and_then, name="audit-sync", daemon=True)
        if 0 < sync_s < math.inf:
            self._syncer.start()

    # -- writing ----------------------------------------------------------------------------------------------------

    @property
    def last(self) -> Mark:
        """Number and hash of the last record. Whoever notes them elsewhere can have `verify` look for them."""
        return self._last

    @property
    def problem(self) -> str:
        """Why it is not ready, as of the last attempt; empty if it is."""
        return self._problem

    @property
    def ready(self) -> bool:
        """Whether what is done now can be recorded. After a failure it tries, so it tells when there is space again."""
        if self._problem:
            with self._lock:
                try:
                    self._recover()
                except OSError as problem:
                    self._failed(problem)
        return not self._problem and not self._closed.is_set()

    def write(self, entry: Entry) -> int:
        """Append a record; its number. Raises DeviceUnavailable where that can't be done; then there is none of it."""
        with self._lock:
            if self._closed.is_set():
                raise DeviceUnavailable(f"the audit log {self.path} is closed", reason="audit-log")
            try:
                self._recover()
                return self._append(entry)
            except OSError as problem:
                self._missed += 1
                raise self._failed(problem) from None

    def sync(self) -> None:
        """Bring all records to the disk, and note that the last one is. Raises DeviceUnavailable if that fails."""
        with self._lock:
            self._look_for_the_file()
            if self._file < 0 or self._last.seq == self._synced:
                return
            last, descriptor = self._last, os.dup(self._file)
        try:
            os.fdatasync(descriptor)
            self._note_synced(last)
        except OSError as problem:
            with self._lock:
                raise self._failed(problem) from None
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Bring all to the disk and let go of the file. Idempotent; never raises."""
        self._closed.set()
        if self._syncer.ident is not None:
            self._syncer.join()
        with suppress(DeviceUnavailable):
            self.sync()
        with self._lock:
            self._shut()

    # -- what the above is made of; all but the thread with the lock held ---------------------------------------------

    def _append(self, entry: Entry) -> int:
        seq = self._last.seq + 1
        line, digest = line_of(entry, seq=seq, prev=self._last.hash, time=self._now())
        if self._file < 0:
            self._open_file()
        if self._size and self._size + len(line) > self._max_bytes:
            self._rotate()
        self._put(line)
        self._last = Mark(seq, digest)
        if not self._sync_s:
            os.fdatasync(self._file)
            self._note_synced(self._last)
        return seq

    def _put(self, line: bytes) -> None:
        """All of it or nothing."""
        if self._spoilt:
            os.ftruncate(self._file, self._size)
        self._spoilt = True
        written = os.write(self._file, line)
        while written < len(line):
            written += os.write(self._file, line[written:])
        self._spoilt = False
        self._size += len(line)

    def _failed(self, problem: OSError) -> DeviceUnavailable:
        if self._spoilt and self._file >= 0:
            # Now rather than with the next write: who reads the log meanwhile finds whole lines.
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
                self._spoilt = False
        self._reason = problem.strerror or str(problem)
        self._problem = f"the audit log {self.path} can't be written: {self._reason}; nothing is actuated until it can"
        return DeviceUnavailable(self._problem, reason="audit-log")

    def _recover(self) -> None:
        """After a failure: say what was missed. Raises OSError where it goes on."""
        if self._problem:
            self._write_own()
            note = f"{self._missed} records could not be written before this one: {self._reason}"
            self._append(_about("missed", note, outcome="device-unavailable"))
            self._problem, self._reason, self._missed = "", "", 0

    def _write_own(self) -> None:
        if not self._begun:
            self._begin()
        while self._own:
            self._append(self._own[0])
            del self._own[0]

    def _begin(self) -> None:
        """Find the end of the chain, and put aside what a crash left of a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._open_file()
        whole, torn = split_torn(self.path)
        if torn:
            self._put_aside(torn)
            os.ftruncate(self._file, whole)
            self._size = whole
        files = [*reversed(rotated(self.path))]
        if whole:
            files.insert(0, self.path)
        for file in files:
            record, strange = last_record(file)
            if strange:
                self._report(f"the last {strange} lines of {file.name} are no records")
            if record is not None:
                self._last = Mark(record.seq, record.hash)
                break
        synced = read_mark(synced_path(self.path))
        if synced is not None and synced.seq > self._last.seq:
            self._report(f"the log ended with record {self._last.seq}, though record {synced.seq} had been written")
            # No number is given twice: what is missing stays visible.
            self._last = Mark(synced.seq, self._last.hash)
        self._begun = True

    def _put_aside(self, torn: bytes) -> None:
        aside = torn_path(self.path)
        descriptor = os.open(aside, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, torn + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._report(f"the last line was cut, as by a crash: its {len(torn)} bytes were moved to {aside.name}")

    def _report(self, what: str) -> None:
        self.found.append(what)
        self._own.append(_about("opened", what, outcome="damaged"))

    def _rotate(self) -> None:
        first = first_record(self.path)
        # A first line that was damaged has no number; that of the last record is in order too.
        name = rotated_name(self.path, first.seq if first is not None else self._last.seq)
        os.fdatasync(self._file)
        os.rename(self.path, name)
        self._shut()
        self._note_synced(self._last)
        self._open_file()
        with suppress(OSError):
            # What could not be removed is removed at the next time.
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        files = rotated(self.path)
        spare = files[: max(len(files) - self._keep, 0)]
        if spare:
            oldest = files[len(spare)]
            record = first_record(oldest)
            # Noted first: if a crash comes between, there is a file too many, and none too few.
            write_mark(oldest_path(self.path), Mark(first_number(oldest), record.prev if record else NO_HASH))
            for file in spare:
                file.unlink()

    def _open_file(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        if self._file < 0:
            self._file = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._shut()
            raise OSError("another process writes it; give this gateway one of its own, 'audit' in [gateway]") from None
        self._size = os.fstat(self._file).st_size

    def _look_for_the_file(self) -> None:
        """If somebody has moved or removed the file, go on in a new one, and say so."""
        if self._file < 0:
            return
        try:
            is_there = os.path.samestat(os.stat(self.path, follow_symlinks=False), os.fstat(self._file))
        except OSError:
            is_there = False
        if not is_there:
            self._own.append(_about("moved", f"{self.path.name} was moved or removed while in use", outcome="damaged"))
            self._shut()
            self._size = 0
            try:
                self._write_own()
            except OSError as problem:
                self._failed(problem)

    def _shut(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _note_synced(self, last: Mark) -> None:
        # It only helps to find out what is missing; a record that is on the disk is there without it.
        with suppress(OSError):
            write_mark(synced_path(self.path), last)
            self._synced = last.seq

    def _sync_now_and_then(self) -> None:
        while not self._closed.wait(self._sync_s):
            # What is wrong is the log's problem from now on, and the next call is told.
            with suppress(DeviceUnavailable):
                self.sync()

    def _now(self) -> str:
        micros = int(self._clock() * 1e6)
        second, micro = divmod(micros, 1_000_000)
        if second != self._second:
            self._second, self._until_second = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._until_second}.{micro:06d}+00:00"


def _about(method: str, note: str, *, outcome: str) -> Entry:
    """A record about the log itself."""
    return Entry(identity="the gateway", peer="", device="", method=f"audit.{method}", outcome=outcome, note=note)
