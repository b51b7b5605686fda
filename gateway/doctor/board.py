"""The board: power of a Raspberry Pi, and memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gateway.doctor.findings import Finding, ok, problem, skipped, warning
from gateway.doctor.subject import Subject
from gateway.doctor.system import System

MODEL: Final = "/proc/device-tree/model"
HWMON: Final = "/sys/class/hwmon"
LEAST_MIB: Final = 32
LOW_MIB: Final = 96
CMDLINE: Final = "/boot/firmware/cmdline.txt"

_NOW: Final = ((0, "the supply voltage is too low now"), (2, "it is throttled now"), (3, "it is too hot now"))
_BEFORE: Final = ((16, "the supply voltage was too low"), (18, "it was throttled"), (19, "it was too hot"))
_SUPPLY: Final = (
    "# use the official power supply and a short cable, and give USB instruments a hub with a supply of its own",
    "vcgencmd get_throttled    # 0x0 after a restart is good",
)
_THROTTLED: Final = re.compile(r"throttled=0x([0-9a-fA-F]{1,8})")


def power(system: System, subject: Subject) -> Iterator[Finding]:
    """Undervoltage makes USB devices vanish and damages SD cards."""
    model = system.word(MODEL).rstrip("\0")
    if "Raspberry Pi" not in model:
        yield ok("not a Raspberry Pi: its supply says nothing about itself")
        return
    flags = _throttled(system)
    if flags is None:
        alarm = _alarm(system)
        if alarm is None:
            yield skipped(f"{model}: the supply can't be asked", "sudo apt install raspi-utils    # brings vcgencmd")
        elif alarm:
            yield problem(f"{model}: the supply voltage is or was too low", *_SUPPLY)
        else:
            yield ok(f"{model}: the supply voltage is high enough")
        return
    now = [text for bit, text in _NOW if flags >> bit & 1]
    before = [text for bit, text in _BEFORE if flags >> bit & 1]
    if now:
        yield problem(f"{model}: {'; '.join(now)}", *_SUPPLY)
    elif before:
        yield warning(f"{model}: since it started, {'; '.join(before)}", *_SUPPLY)
    else:
        yield ok(f"{model}: the supply voltage is high enough")


def _throttled(system: System) -> int | None:
    output = system.tool("vcgencmd", "get_throttled")
    found = _THROTTLED.search(output.out) if output is not None and output.code == 0 else None
    return int(found[1], 16) if found else None


def _alarm(system: System) -> bool | None:
    for name in system.names(HWMON):
        if system.word(f"{HWMON}/{name}/name") == "rpi_volt":
            return system.word(f"{HWMON}/{name}/in0_lcrit_alarm") == "1"
    return None


def memory(system: System, subject: Subject) -> Iterator[Finding]:
    """Whether there is enough, and whether the kernel had to kill somebody for it."""
    available = _mib(system, "MemAvailable")
    total = _mib(system, "MemTotal")
    sound = True
    if available is None or total is None:
        yield skipped("the kernel says nothing about memory")
        return
    if available < LOW_MIB:
        sound = False
        what = f"{available} MiB of memory are left of {total}"
        fix = "ps -eo pid,rss,comm --sort=-rss | head    # who has it, in KiB"
        yield problem(what, fix) if available < LEAST_MIB else warning(what, fix)
    kills = re.search(r"^oom_kill (\d+)", system.word("/proc/vmstat"), re.MULTILINE)
    if kills and int(kills[1]):
        sound = False
        yield warning(
            f"since the start, memory was so short that the kernel ended {kills[1]} processes",
            "sudo journalctl -k -g 'Out of memory'    # says which",
        )
    if "memory" not in system.word("/sys/fs/cgroup/cgroup.controllers").split() and subject.is_service:
        sound = False
        yield warning(
            "the kernel does not count memory, so MemoryMax of the service has no effect",
            f"sudo sed -i '1 s/$/ cgroup_enable=memory/' {CMDLINE} && sudo reboot",
        )
    if sound:
        yield ok(f"{available} MiB of {total} are free")


def _mib(system: System, name: str) -> int | None:
    found = re.search(rf"^{name}:\s+(\d+) kB", system.word("/proc/meminfo"), re.MULTILINE)
    return int(found[1]) // 1024 if found else None
