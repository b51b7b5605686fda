"""Which thing is which device."""

from __future__ import annotations

import pytest

from gateway import config
from gateway.config import Match
from gateway.hardware import Ambiguous, Entry, Found, Hardware, Missing, entries_of, match_all
from gateway.hardware.matching import BAUDRATES, fits_identity, fits_port, ports_to_ask

A = Hardware(
    port="/dev/ttyUSB0",
    names=("/dev/serial/by-id/usb-A", "/dev/serial/by-path/pci-1"),
    vid_pid="0403:6001",
    serial_number="A",
    location="1-1.2",
    interface=0,
)
B = Hardware(port="/dev/ttyUSB1", vid_pid="0403:6001", serial_number="B", location="1-1.3", interface=0)
B1 = Hardware(port="/dev/ttyUSB2", vid_pid="0403:6001", serial_number="B", location="1-1.3", interface=1)
BOARD = Hardware(port="/dev/ttyAMA0")
RAW = Hardware(port="/dev/bus/usb/001/004", kind="usb", vid_pid="0483:df11", location="1-2")
C = Hardware(port="/dev/ttyUSB3", vid_pid="1a86:7523", location="1-4")
ALL = [A, B, B1, C, BOARD, RAW]


def entry(name: str = "psu1", *, may_ask: bool = False, **match: object) -> Entry:
    return Entry(name=name, match=Match(**match), place=f"x:{name[-1]}", may_ask=may_ask)


@pytest.mark.parametrize(
    ("match", "fitting"),
    [
        ({"serial_number": "A"}, [A]),
        ({"serial_number": "a"}, []),
        ({"serial_number": "B"}, [B, B1]),
        ({"serial_number": "B", "interface": 1}, [B1]),
        ({"vid_pid": "0403:6001"}, [A, B, B1]),
        ({"vid_pid": "1A86:7523"}, [C]),
        ({"vid_pid": "0483:DF11"}, []),
        ({"vid_pid": "0403:6001", "path": "1-1.3", "interface": 0}, [B]),
        ({"path": "1-1.2"}, [A]),
        ({"path": "1-1"}, []),
        ({"path": "1-1.3:1.1"}, [B1]),
        ({"path": "/dev/ttyAMA0"}, [BOARD]),
        ({"path": "/dev/serial/by-path/pci-1"}, [A]),
        ({"path": "/dev/serial/by-path/pci-1", "serial_number": "B"}, []),
        ({"idn": "*"}, [A, B, B1, C, BOARD]),
    ],
)
def test_all_that_a_match_says_must_be_so(match: dict[str, object], fitting: list[Hardware]) -> None:
    assert [each for each in ALL if fits_port(Match(**match), each)] == fitting  # type: ignore[arg-type]


def test_exactly_one_is_found() -> None:
    assert match_all([entry(serial_number="A"), entry("dmm2", path="/dev/ttyAMA0")], ALL) == {
        "psu1": Found(A),
        "dmm2": Found(BOARD),
    }


def test_none_is_missing_and_says_what_was_looked_for() -> None:
    assert match_all([entry(serial_number="C", vid_pid="0403:6001")], ALL) == {
        "psu1": Missing("nothing with serial_number 'C', vid_pid '0403:6001' is plugged in")
    }


def test_two_things_for_one_entry_are_an_error_that_names_both() -> None:
    (outcome,) = match_all([entry(vid_pid="0403:6001", interface=0)], ALL).values()
    assert outcome == Ambiguous(
        "/dev/ttyUSB0 (0403:6001, serial number A, at 1-1.2) and /dev/ttyUSB1 (0403:6001, serial number B, at 1-1.3) "
        "all fit psu1 (x:1); add what only one of them has, such as serial_number or path"
    )


def test_one_thing_for_two_entries_is_an_error_that_names_both() -> None:
    outcomes = match_all([entry(serial_number="A"), entry("psu2", path="1-1.2"), entry("dmm3", serial_number="C")], ALL)
    told = Ambiguous(
        "/dev/ttyUSB0 (0403:6001, serial number A, at 1-1.2) fits psu1 (x:1) and psu2 (x:2); make their matches differ"
    )
    assert (outcomes["psu1"], outcomes["psu2"]) == (told, told)
    assert isinstance(outcomes["dmm3"], Missing)


def test_nothing_is_taken_where_a_wider_entry_fits_too() -> None:
    outcomes = match_all([entry(serial_number="A"), entry("psu2", vid_pid="0403:6001")], ALL)
    assert all(isinstance(outcome, Ambiguous) for outcome in outcomes.values())


IDENTITIES = {A.port: "KEITHLEY,2000,1,A01", B.port: "ACME,PS-1,2,1.0", BOARD.port: "KEITHLEY,2000,3,A01"}


def test_an_idn_pattern_finds_who_answered_so_on_a_port_that_no_other_entry_claims() -> None:
    by_idn = entry("dmm2", idn="*keithley*2000*", may_ask=True)
    assert match_all([by_idn, entry(serial_number="A")], ALL, IDENTITIES)["dmm2"] == Found(BOARD)
    assert isinstance(match_all([by_idn], ALL, IDENTITIES)["dmm2"], Ambiguous)
    assert isinstance(match_all([by_idn], ALL)["dmm2"], Missing)
    with_facts = entry("dmm2", idn="*2000*", vid_pid="0403:6001", may_ask=True)
    assert match_all([with_facts], ALL, IDENTITIES)["dmm2"] == Found(A)


def test_only_ports_that_may_be_meant_are_asked_and_only_where_the_config_says_so() -> None:
    asking = entry("dmm2", idn="*", vid_pid="0403:6001", may_ask=True)
    assert ports_to_ask([asking], ALL, ()) == {A.port: BAUDRATES, B.port: BAUDRATES, B1.port: BAUDRATES}
    assert ports_to_ask([asking, entry(serial_number="B")], ALL, {A.port}) == {}
    assert ports_to_ask([entry("dmm2", idn="*")], ALL, ()) == {}
    every = entry("dmm2", idn="*", may_ask=True)
    assert ports_to_ask([every], ALL, ()).keys() == {each.port for each in ALL} - {RAW.port}


@pytest.mark.parametrize(
    ("pattern", "identity", "fits"),
    [
        ("*Keithley*2000*", "KEITHLEY INSTRUMENTS INC.,MODEL 2000,1,A01", True),
        ("*2000*", "", False),
        ("ACME,PS-?,*", "ACME,PS-1,2,1.0", True),
        ("ACME", "ACME,PS-1,2,1.0", False),
        ("a.me,*", "ACME,PS-1,2,1.0", False),
        ("*" * 60 + "x", "a" * 200, False),
    ],
)
def test_an_idn_pattern_is_for_the_whole_answer_in_any_case(pattern: str, identity: str, fits: bool) -> None:
    assert fits_identity(pattern, identity) is fits


def test_a_config_gives_an_entry_for_each_device_on_a_port_of_this_machine() -> None:
    text = """\
[devices.psu1]
driver = "x"
match = {serial_number = "A"}
baudrate = 115200
[devices.dmm2]
driver = "x"
port = "/dev/ttyUSB0"
[devices.lan3]
driver = "x"
port = "socket://10.0.0.5:5025"
[devices.lan4]
driver = "x"
port = 5025
[devices.dmm5]
driver = "x"
disabled = "on repair"
match = {idn = "*2000*", probe = true}
[devices.dmm6]
driver = "x"
match = {idn = "*2001*", probe = true}
"""
    entries = {entry.name: entry for entry in entries_of(config.parse(text.encode(), file="bench.toml"))}
    assert entries.keys() == {"psu1", "dmm2", "dmm5", "dmm6"}
    assert (entries["psu1"].baudrates, entries["dmm2"].baudrates) == ((115200,), BAUDRATES)
    assert str(entries["dmm2"]) == "dmm2 (bench.toml:5)"
    assert entries["dmm2"].match == Match(path="/dev/ttyUSB0")
    assert [name for name, each in entries.items() if each.may_ask] == ["dmm6"]
