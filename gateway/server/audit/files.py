"""The files of an audit log called `audit.jsonl`.

audit.jsonl                     records are written here
audit.jsonl.000000000001        ... and were written here before; each is named after its first record
audit.jsonl.oldest              the number of the oldest record that is kept, and the hash before it
audit.jsonl.synced              the number of a record that is surely on the disk, and its hash
audit.jsonl.torn                the ends of lines that a crash cut
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from gateway.server.audit.record import MAX_LINE, Record, parse

_CHUNK: Final = 4 * MAX_LINE
_MARK: Final = re.compile(rb"(\d{12,20}) ([0-9a-f]{64})\n")
_NAME: Final = re.compile(r"\d{12,20}")


class Mark(NamedTuple):
    """A place in the chain."""

    seq: int
    hash: str

    def encode(self) -> bytes:
        """Its file: always as long, so that it can be written in place."""
        return b"%020d %b\n" % (self.seq, self.hash.encode("ascii"))


def rotated(path: Path) -> list[Path]:
    """The files that were written before, oldest first. Raises OSError where the folder can't be read."""
    prefix = f"{path.name}."
    ends = [name.removeprefix(prefix) for name in os.listdir(path.parent) if name.startswith(prefix)]
    return [path.with_name(prefix + end) for end in sorted(filter(_NAME.fullmatch, ends), key=int)]


def rotated_name(path: Path, first: int) -> Path:
    """What the file at `path`, whose first record has that number, is called once it is full."""
    return path.with_name(f"{path.name}.{first:012d}")


def first_number(rotated_file: Path) -> int:
    """The number of the first record of a rotated file."""
    return int(rotated_file.name.rpartition(".")[2])


def oldest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.oldest")


def synced_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.synced")


def torn_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.torn")


def read_mark(path: Path) -> Mark | None:
    """The mark in a file; None where there is none. Raises OSError where it can't be read."""
    try:
        with path.open("rb") as file:
            found = _MARK.fullmatch(file.read(200))
    except FileNotFoundError:
        return None
    return None if found is None else Mark(int(found[1]), found[2].decode("ascii"))


def write_mark(path: Path, mark: Mark) -> None:
    """Note it. In place, so that a full disk is no hindrance once the file is there. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.pwrite(descriptor, mark.encode(), 0)
    finally:
        os.close(descriptor)


def split_torn(path: Path) -> tuple[int, bytes]:
    """How many bytes of the file are whole lines, and the rest. Raises OSError."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        torn = b""
        position = end
        while position:
            begin = max(position - _CHUNK, 0)
            file.seek(begin)
            part = file.read(position - begin)
            newline = part.rfind(b"\n")
            torn = part[newline + 1 :] + torn
            if newline >= 0:
                break
            position = begin
    return end - len(torn), torn


def last_record(path: Path) -> tuple[Record | None, int]:
    """The last record in the file, and how many lines after it are none. Raises OSError."""
    with path.open("rb") as file:
        begin = max(file.seek(0, os.SEEK_END) - _CHUNK, 0)
        file.seek(begin)
        lines = file.read().splitlines()
    for strange, line in enumerate(reversed(lines)):
        record = parse(line)
        if record is not None:
            return record, strange
    return None, len(lines)


def first_record(path: Path) -> Record | None:
    """What is on the first line. Raises OSError."""
    with path.open("rb") as file:
        return parse(file.readline(MAX_LINE).rstrip(b"\n"))
