"""Power, memory, disks; and how the checks are run."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.doctor import CHECKS, Verdict, examine
from gateway.doctor.storage import LEAST_MIB
from gateway.systemd.accounts import User
from gateway.systemd.tools import Output, run_tool

STATE = "/var/lib/instrument-gateway"
VCGENCMD = ("vcgencmd", "get_throttled")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "doctor.md"


# -- power ------------------------------------------------------------------------------------------------------------


def test_a_computer_that_is_no_pi_has_no_supply_to_ask(machine: Any) -> None:
    machine.is_well("power")


@pytest.mark.parametrize(
    ("answer", "verdict", "said"),
    [
        ("throttled=0x0", Verdict.OK, "high enough"),
        ("throttled=0x50005", Verdict.PROBLEM, "too low now; it is throttled now"),
        ("throttled=0x50000", Verdict.WARNING, "was too low; it was throttled"),
        ("throttled=0x80008", Verdict.PROBLEM, "too hot now"),
        ("throttled=0x20000", Verdict.OK, "high enough"),
    ],
)
def test_the_flags_of_a_pi_are_read(machine: Any, answer: str, verdict: Verdict, said: str) -> None:
    machine.write("/proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    machine.answers[VCGENCMD] = Output(0, f"{answer}\n")
    assert said in machine.one("power", verdict).what


def test_without_vcgencmd_the_kernels_alarm_is_read(machine: Any) -> None:
    machine.write("/proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    assert "raspi-utils" in machine.one("power", Verdict.SKIPPED).fix[0]
    machine.write("/sys/class/hwmon/hwmon0/name", "cpu_thermal\n")
    machine.write("/sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    machine.write("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n")
    machine.is_well("power")
    machine.write("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
    machine.one("power", Verdict.PROBLEM)


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free_kib", "verdict"), [(400_000, Verdict.OK), (80_000, Verdict.WARNING), (20_000, Verdict.PROBLEM)]
)
def test_memory_that_runs_short_is_told(machine: Any, free_kib: int, verdict: Verdict) -> None:
    machine.write("/proc/meminfo", f"MemTotal:  948304 kB\nMemAvailable: {free_kib} kB\n")
    machine.one("memory", verdict)


def test_a_process_that_the_kernel_ended_for_want_of_memory_is_told(machine: Any) -> None:
    machine.write("/proc/meminfo", "MemTotal: 948304 kB\nMemAvailable: 500000 kB\n")
    machine.write("/proc/vmstat", "pgfault 1\noom_kill 3\n")
    assert "ended 3 processes" in machine.one("memory", Verdict.WARNING).what


def test_a_kernel_that_counts_no_memory_is_told_where_a_service_relies_on_it(machine: Any) -> None:
    machine.write("/proc/meminfo", "MemTotal: 948304 kB\nMemAvailable: 500000 kB\n")
    machine.write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
    machine.is_well("memory")
    machine.wants(is_service=True)
    assert "cgroup_enable=memory" in machine.one("memory", Verdict.WARNING).fix[0]
    machine.write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
    machine.is_well("memory")


def test_this_machine_says_something_about_its_memory(machine: Any) -> None:
    machine.with_real_processes()
    assert Verdict.SKIPPED not in {finding.verdict for finding in machine.check("memory")}


# -- disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(machine: Any) -> Iterator[Path]:
    """A file system of its own for the gateway's state, with room for twice what is needed at least."""
    folder: Path = machine.root / STATE.lstrip("/")
    folder.mkdir(parents=True)
    size = f"size={2 * LEAST_MIB}m"
    mounted = run_tool("mount", "-t", "tmpfs", "-o", size, "igw-test", str(folder)) if os.geteuid() == 0 else None
    if mounted is None or mounted.code != 0:
        pytest.skip("mounting a file system takes root, and a system that allows it")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def of_state(machine: Any) -> Any:
    (found,) = [finding for finding in machine.check("disk") if STATE in finding.what]
    return found


def test_a_full_disk_is_told(machine: Any, small_disk: Path) -> None:
    assert of_state(machine).verdict is Verdict.WARNING
    (small_disk / "filler").write_bytes(bytes((LEAST_MIB + 1) << 20))
    found = of_state(machine)
    assert found.verdict is Verdict.PROBLEM
    assert "is full" in found.what


def test_a_disk_that_became_read_only_is_told(machine: Any, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    found = of_state(machine)
    assert found.verdict is Verdict.PROBLEM
    assert "read-only" in found.what


def test_a_state_folder_that_the_service_cannot_write_is_told(machine: Any) -> None:
    (machine.root / STATE.lstrip("/")).mkdir(parents=True)
    machine.wants(is_service=True, user=User("instrument-gateway", 950, frozenset({950})))
    found = [finding for finding in machine.check("disk") if finding.verdict is Verdict.PROBLEM]
    assert [finding.fix for finding in found] == [(f"sudo chown -R instrument-gateway: {STATE}",)]


def test_errors_that_the_file_system_has_counted_are_told(machine: Any) -> None:
    machine.answers["dmesg",] = Output(0, "[    1.0] mmc0: new high speed SDHC card at address aaaa\n")
    machine.write("/sys/fs/ext4/mmcblk0p2/errors_count", "0\n")
    machine.is_well("card")
    machine.write("/sys/fs/ext4/mmcblk0p2/errors_count", "2\n")
    assert "mmcblk0p2 has 2 errors" in machine.one("card", Verdict.PROBLEM).what


@pytest.mark.parametrize(
    "line",
    [
        "[   99.1] mmc0: Card stuck being busy! mmc_poll_for_busy timeout",
        "[   99.1] I/O error, dev mmcblk0, sector 4711 op 0x0:(READ)",
        "[   99.1] EXT4-fs error (device mmcblk0p2): ext4_find_entry:1463",
        "[   99.1] EXT4-fs (mmcblk0p2): Remounting filesystem read-only",
    ],
)
def test_errors_of_the_card_in_the_kernels_log_are_told(machine: Any, line: str) -> None:
    machine.answers["dmesg",] = Output(0, f"[    1.0] Linux version 6.6\n{line}\n")
    assert line.strip() in machine.one("card", Verdict.PROBLEM).what


# -- how checks are run -----------------------------------------------------------------------------------------------


def test_a_check_that_cannot_look_hides_no_other(machine: Any) -> None:
    (machine.root / "etc/avahi/avahi-daemon.conf").mkdir(parents=True)
    found = list(examine(machine.system, machine.subject, ["avahi", "power"]))
    assert [(each.check, each.finding.verdict) for each in found] == [
        ("avahi", Verdict.SKIPPED),
        ("power", Verdict.OK),
    ]
    assert "Is a directory" in found[0].finding.what


def test_every_check_says_something_about_an_empty_machine(machine: Any) -> None:
    said = {each.check for each in examine(machine.system, machine.subject)}
    assert said == set(CHECKS)


def test_every_finding_is_one_line_and_every_problem_has_a_fix(machine: Any) -> None:
    for each in examine(machine.system, machine.subject):
        finding = each.finding
        assert "\n" not in finding.what
        assert finding.fix or finding.verdict in (Verdict.OK, Verdict.SKIPPED), finding


def test_the_page_explains_every_check() -> None:
    explained = re.findall(r"^## .*?\(`([\w-]+)`\)$|^\| `([\w-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {one or other for one, other in explained} == set(CHECKS)
