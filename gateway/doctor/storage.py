"""Where the gateway writes: full, read-only, or on a card that fails."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from gateway.doctor.findings import Finding, ok, problem, warning
from gateway.doctor.subject import Subject
from gateway.doctor.system import System

MIB: Final = 1024 * 1024
LEAST_MIB: Final = 16
"""The gateway refuses to drive devices when its audit log can't be written."""
LOW_MIB: Final = 128
LEAST_FILES: Final = 64
MAX_SHOWN: Final = 200

_ERROR: Final = re.compile(
    r"mmc\d+: .*(?:error|timeout|timed out)|I/O error, dev (?:mmcblk|sd|nvme)|EXT4-fs error|F2FS-fs error"
    r"|Remounting filesystem read-only|mmcblk\d+: error",
    re.IGNORECASE,
)
_CARD: Final = (
    "sudo dd if=/dev/mmcblk0 of=/media/backup/card.img bs=4M conv=noerror,sync    # save what can be read",
    "# write the image to a new card; the old one goes on failing",
)
_ROOM: Final = ("sudo journalctl --vacuum-size=100M && sudo apt clean", "sudo du -xh --max-depth=2 / | sort -h | tail")


def disk(system: System, subject: Subject) -> Iterator[Finding]:
    """Room, and the right to write, where the gateway keeps its state."""
    seen: set[int] = set()
    for folder in (subject.state, "/"):
        there = _existing(system, folder)
        device = os.stat(system.path(there)).st_dev
        if device in seen:
            continue
        seen.add(device)
        yield from _file_system(system, there)
    if subject.is_service and system.exists(subject.state) and not system.may_use(subject.user, subject.state):
        yield problem(
            f"{subject.state}: the user {subject.user.name} can't write there",
            f"sudo chown -R {subject.user.name}: {subject.state}",
        )


def _file_system(system: System, folder: str) -> Iterator[Finding]:
    facts = os.statvfs(system.path(folder))
    free = facts.f_bavail * facts.f_frsize // MIB
    if facts.f_flag & os.ST_RDONLY:
        yield problem(
            f"{folder} is read-only: the audit log can't be written, and the gateway then refuses to drive devices",
            f"sudo mount -o remount,rw $(df --output=target {folder} | tail -n 1)",
            "sudo dmesg | grep -i 'remounting filesystem'    # a card that fails is made read-only by the kernel",
        )
    elif free < LEAST_MIB:
        yield problem(f"{folder} is full: {free} MiB are left", *_ROOM)
    elif facts.f_files and facts.f_favail < LEAST_FILES:
        yield problem(
            f"{folder} has room, and no number for another file (inode)",
            f"sudo du --inodes -x {folder} | sort -n | tail",
        )
    elif free < LOW_MIB:
        yield warning(f"{folder} is nearly full: {free} MiB are left", *_ROOM)
    else:
        yield ok(f"{folder}: {free} MiB are free")


def card(system: System, subject: Subject) -> Iterator[Finding]:
    """Errors of the SD card or disk that the kernel has met."""
    sound = True
    for name in system.names("/sys/fs/ext4"):
        count = system.word(f"/sys/fs/ext4/{name}/errors_count")
        if count.isdecimal() and int(count):
            sound = False
            yield problem(
                f"the file system on {name} has {count} errors",
                f"sudo fsck -f /dev/{name}    # not while it is mounted",
                *_CARD,
            )
    output = system.tool("dmesg")
    errors = [line for line in output.out.splitlines() if _ERROR.search(line)] if output is not None else []
    if errors:
        sound = False
        yield problem(
            f"the kernel met {len(errors)} errors of a disk or card, at last: {errors[-1].strip()[:MAX_SHOWN]}", *_CARD
        )
    if sound:
        partly = "" if output is not None and output.code == 0 else "; the kernel's log takes root"
        yield ok(f"no errors of disks or cards are known{partly}")


def _existing(system: System, folder: str) -> str:
    """`folder`, or what is there of the way to it."""
    path = PurePosixPath(folder)
    return next(str(each) for each in (path, *path.parents) if system.exists(str(each)))
