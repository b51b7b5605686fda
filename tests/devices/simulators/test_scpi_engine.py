"""The simulated instrument's parser: headers, compounds, parameters, the queue and the registers."""

from __future__ import annotations

import pytest

from devices.simulators.scpi import (
    MAX_INPUT,
    MAX_QUEUE,
    Commands,
    Parameters,
    ScpiEngine,
    block,
    boolean,
    definite_block,
    number,
    spellings,
    string,
    word,
)


class Thing(ScpiEngine):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.resets = 0
        super().__init__("Acme,Thing,1,2")

    def reset(self) -> None:
        self.resets += 1

    def commands(self) -> Commands:
        return {
            "SOURce:LEVel": lambda p: self.told.append(number(p, lowest=-10, highest=10, default=1.0, unit="V")),
            "SOURce:LEVel?": lambda _: "5",
            "SOURce:RANGe?": lambda _: "6",
            "OUTPut[:STATe]": lambda p: self.told.append(boolean(p)),
            "MODE": lambda p: self.told.append(word(p, "FASt", "SLOW")),
            "LABel": lambda p: self.told.append(string(p)),
            "DATA": lambda p: self.told.append(block(p)),
            "PAIR": self._pair,
            "DATA?": lambda _: definite_block(b"a\n;b"),
        }

    def _pair(self, parameters: Parameters) -> None:
        self.told.append(parameters)


@pytest.fixture
def thing() -> Thing:
    made = Thing()
    made.receive(b"*CLS\n")
    return made


def errors(thing: Thing) -> list[bytes]:
    found = []
    while (entry := thing.receive(b"SYST:ERR?\n").strip()) != b'0,"No error"':
        found.append(entry)
    return found


def test_a_header_has_short_long_and_optional_forms() -> None:
    assert set(spellings("OUTPut[:STATe]?")) == {"OUTP?", "OUTPUT?"} | {
        f"{first}:{second}?" for first in ("OUTP", "OUTPUT") for second in ("STAT", "STATE")
    }
    assert {"VOLT", "SOUR:VOLT", "SOURCE:VOLTAGE:LEVEL"} <= set(spellings("[SOURce:]VOLTage[:LEVel]"))


@pytest.mark.parametrize("header", [b"OUTP", b"output", b":OUTP:STAT", b"OutPut:State"])
def test_every_form_reaches_the_command(thing: Thing, header: bytes) -> None:
    assert thing.receive(header + b" ON\n") == b""
    assert thing.told == [True]


@pytest.mark.parametrize("header", [b"OUTPU", b"OUT", b"OUTP:STA", b"OUTP:STATE:X", b"\xff\xfe", b"?", b"*FOO"])
def test_a_form_between_short_and_long_is_undefined(thing: Thing, header: bytes) -> None:
    thing.receive(header + b" ON\n")
    assert thing.told == []
    (error,) = errors(thing)
    assert error.startswith(b'-113,"Undefined header;')


def test_a_message_may_be_cut_anywhere() -> None:
    message = b'LAB "a;b,c";:DATA #15x\ny;z;:SOUR:LEV 2 V;LEV?;RANG?;*OPC?\r\n'
    for cut in range(len(message) + 1):
        thing = Thing()
        answer = thing.receive(message[:cut]) + thing.receive(message[cut:])
        assert answer == b"5;6;1\n"
        assert thing.told == ["a;b,c", b"x\ny;z", 2.0]


def test_a_unit_continues_below_the_path_of_the_one_before(thing: Thing) -> None:
    assert thing.receive(b"SOUR:LEV?;RANG?\n") == b"5;6\n"
    assert thing.receive(b"SOUR:LEV?;*OPC?;RANG?\n") == b"5;1;6\n"
    assert thing.receive(b"SOUR:LEV?;:RANG?\n") == b"5\n"
    assert errors(thing) == [b'-113,"Undefined header;RANG?"']


def test_a_command_error_ends_the_message_and_an_execution_error_does_not(thing: Thing) -> None:
    thing.receive(b"SOUR:LEV 11;LEV 3;FOO;LEV 4\n")
    assert thing.told == [3.0]
    assert [error[:4] for error in errors(thing)] == [b"-222", b"-113"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (b"1", 1.0),
        (b"-2.5", -2.5),
        (b".5E1", 5.0),
        (b"1500 mV", 1.5),
        (b"3V", 3.0),
        (b"MAX", 10.0),
        (b"minimum", -10.0),
        (b"DEF", 1.0),
    ],
)
def test_a_number_may_have_a_unit_or_be_a_word(thing: Thing, parameter: bytes, value: float) -> None:
    thing.receive(b"SOUR:LEV " + parameter + b"\n")
    assert thing.told == [pytest.approx(value)]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"SOUR:LEV", b'-109,"Missing parameter"'),
        (b"SOUR:LEV 1,2", b'-108,"Parameter not allowed"'),
        (b"SOUR:LEV abc", b'-104,"Data type error"'),
        (b"SOUR:LEV 1 A", b'-131,"Invalid suffix"'),
        (b"SOUR:LEV 10.001", b'-222,"Data out of range"'),
        (b"OUTP MAYBE", b'-224,"Illegal parameter value"'),
        (b"MODE FAS1", b'-224,"Illegal parameter value"'),
        (b"LAB abc", b'-151,"Invalid string data"'),
        (b"DATA #A", b'-161,"Invalid block data"'),
        (b"DATA #12abc", b'-161,"Invalid block data"'),
    ],
)
def test_a_wrong_parameter_has_its_standard_number(thing: Thing, message: bytes, error: bytes) -> None:
    assert thing.receive(message + b"\n") == b""
    assert thing.told == []
    assert errors(thing) == [error]


def test_a_block_may_end_like_white_space_or_a_message(thing: Thing) -> None:
    for data in (b"\n", b"x\r\n", b" \t ", b'";,"', b""):
        thing.receive(b"DATA " + definite_block(data) + b"\r\n")
    assert thing.told == [b"\n", b"x\r\n", b" \t ", b'";,"', b""]
    assert thing.receive(b"DATA?;*OPC?\n") == b"#14a\n;b;1\n"


def test_separators_in_strings_do_not_separate(thing: Thing) -> None:
    thing.receive(b"PAIR 'a,#15', \"b;\"\n")
    assert thing.told == [[b"'a,#15'", b'"b;"']]


def test_the_queue_gives_the_oldest_first_and_overflows_with_a_mark(thing: Thing) -> None:
    for index in range(MAX_QUEUE + 5):
        thing.receive(b"X%d\n" % index)
    assert thing.receive(b"SYST:ERR:COUN?\n") == b"%d\n" % MAX_QUEUE
    found = errors(thing)
    assert len(found) == MAX_QUEUE
    assert found[0] == b'-113,"Undefined header;X0"'
    assert found[-1] == b'-350,"Queue overflow"'


def test_events_are_set_by_class_and_cleared_by_reading() -> None:
    thing = Thing()
    assert thing.receive(b"*ESR?\n") == b"128\n"
    thing.receive(b"FOO\nSOUR:LEV 99\n*OPC\n")
    assert thing.receive(b"*ESR?;*ESR?\n") == b"49;0\n"


def test_the_status_byte_tells_of_the_queue_and_of_enabled_events(thing: Thing) -> None:
    assert thing.receive(b"*STB?\n") == b"0\n"
    thing.receive(b"FOO\n")
    assert thing.receive(b"*STB?\n") == b"4\n"
    thing.receive(b"*ESE 32\n")
    assert thing.receive(b"*ESE?;*STB?\n") == b"32;36\n"
    thing.receive(b"*CLS\n")
    assert thing.receive(b"*STB?;*ESR?\n") == b"0;0\n"


def test_the_common_commands_are_there(thing: Thing) -> None:
    assert thing.receive(b"*IDN?;*OPC?;*TST?;SYST:VERS?\n") == b"Acme,Thing,1,2;1;0;1999.0\n"
    thing.receive(b"*RST;*WAI\n")
    assert thing.resets == 1


def test_a_message_without_end_is_dropped_at_a_bound_and_the_next_is_heard(thing: Thing) -> None:
    for _ in range(2 * MAX_INPUT // 65536 + 2):
        assert thing.receive(b"x" * 65536) == b""
    assert thing.receive(b"tail\n*OPC?\n") == b"1\n"
    assert errors(thing) == [b'-363,"Input buffer overrun"']


def test_empty_messages_are_nothing(thing: Thing) -> None:
    assert thing.receive(b"\n\r\n;\n ; \n") == b""
    assert errors(thing) == []
