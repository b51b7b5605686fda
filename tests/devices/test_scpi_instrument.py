"""A SCPI instrument on a real pty: atomic queries, the error queue, blocks, and every way the far end can misbehave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devices.message_exchange import MAX_QUEUE, MessageExchange
from devices.scpi_instrument import ScpiInstrument, ScpiOptions
from devices.simulators.instrument import Instrument, Unplugged
from devices.simulators.line import Simulator
from devices.simulators.scpi import Commands, Parameters, ScpiEngine, ScpiError, block, definite_block, number, quoted
from gateway.errors import CallTimeout, DeviceError, DeviceUnavailable, OutcomeUnknown
from gateway.service.exposure import exposed

IDENTITY = "Acme,Thing,1,2"
NASTY = bytes(range(256)) + b"\n\r\n#13abc\n" * 3


class Thing(ScpiEngine):
    """An instrument with one command of each kind."""

    def __init__(self, identity: str = IDENTITY) -> None:
        self.level = 0.0
        self.data = b""
        super().__init__(identity)

    def commands(self) -> Commands:
        return {
            "LEVel": self._set_level,
            "LEVel?": lambda _: f"{self.level}",
            "TEXT?": lambda _: quoted('a "b", c'),
            "FLAG?": lambda _: "1",
            "DATA": self._set_data,
            "DATA?": lambda _: definite_block(self.data),
            "INDefinite?": lambda _: b"#0" + self.data,
            "SICK": self._be_sick,
            "LEAVe": self._leave,
            "LEAVe?": self._leave,
        }

    def _set_level(self, parameters: Parameters) -> None:
        self.level = number(parameters, lowest=0, highest=10)

    def _set_data(self, parameters: Parameters) -> None:
        self.data = block(parameters)

    def _be_sick(self, parameters: Parameters) -> None:
        for _ in range(int(number(parameters, lowest=0, highest=1000))):
            self.report(ScpiError(-222))

    def _leave(self, parameters: Parameters) -> None:
        raise Unplugged


class Driver(ScpiInstrument):
    """Nothing but the base."""

    @exposed(access="control")
    def make_safe(self) -> None:
        """Nothing is dangerous here."""


class Tampered:
    """An instrument with somebody's hands on the wire: each piece that it says passes through `tamper`."""

    def __init__(self, instrument: Instrument, tamper: Callable[[bytes], bytes]) -> None:
        self.instrument = instrument
        self.tamper = tamper

    def receive(self, data: bytes) -> bytes:
        return self.tamper(self.instrument.receive(data))


@contextmanager
def driving(instrument: Instrument, timeout_s: float = 5.0, check_errors: bool = True) -> Iterator[Driver]:
    with Simulator(instrument) as simulator:
        driver = Driver("thing1", ScpiOptions(port=simulator.path, timeout_s=timeout_s, check_errors=check_errors))
        with driver:
            yield driver


@pytest.fixture
def thing() -> Thing:
    return Thing()


@pytest.fixture
def driver(thing: Thing) -> Iterator[Driver]:
    with driving(thing) as opened:
        yield opened


def test_a_query_returns_its_answer_as_each_kind_of_value(driver: Driver, thing: Thing) -> None:
    thing.level = 2.5
    assert driver.query("LEV?") == "2.5"
    assert driver.query_number("LEV?") == 2.5
    assert driver.query_string("TEXT?") == 'a "b", c'
    assert driver.query_boolean("FLAG?") is True
    assert driver.identify() == IDENTITY


def test_a_command_is_obeyed_before_it_returns(driver: Driver, thing: Thing) -> None:
    driver.command("LEV 3")
    assert thing.level == 3
    driver.command("LEV 4", "LEV 5")
    assert thing.level == 5


@pytest.mark.parametrize("terminator", ["\r\n", "\n"])
def test_either_end_of_line_is_understood(thing: Thing, terminator: str) -> None:
    def carriage(said: bytes) -> bytes:
        return said.replace(b"\n", terminator.encode())

    with Simulator(Tampered(thing, carriage)) as simulator:
        for option in ("\n", terminator):
            with Driver("t", ScpiOptions(port=simulator.path, terminator=option)) as driver:  # type: ignore[arg-type]
                driver.command("LEV 3")
                assert driver.query_number("LEV?") == 3
                thing.data = b"a\nb"
                if terminator == "\n":
                    assert driver.query_block("DATA?", max_bytes=10) == b"a\nb"


def test_what_the_instrument_reports_is_raised_with_its_number_and_text(driver: Driver) -> None:
    with pytest.raises(DeviceError, match="thing1 reports -222 Data out of range after LEV 11") as caught:
        driver.command("LEV 11")
    assert (caught.value.number, caught.value.text, caught.value.device) == (-222, "Data out of range", "thing1")
    assert caught.value.entries == ((-222, "Data out of range"),)
    driver.command("LEV 1")


def test_all_that_is_in_the_queue_is_raised_at_once(driver: Driver) -> None:
    with pytest.raises(DeviceError) as caught:
        driver.command("FOO", "LEV 11", "BAR")
    assert [number for number, _ in caught.value.entries] == [-113, -222, -113]
    assert "-113 Undefined header;FOO, -222 Data out of range, -113 Undefined header;BAR" in str(caught.value)
    assert driver.query("SYST:ERR:COUN?") == "0"


def test_a_full_queue_tells_of_its_overflow(driver: Driver) -> None:
    with pytest.raises(DeviceError) as caught:
        driver.command("SICK 50")
    assert len(caught.value.entries) == 20
    assert caught.value.entries[-1] == (-350, "Queue overflow")


def test_a_queue_without_end_is_read_to_a_bound_and_cleared(thing: Thing) -> None:
    def never_empty(said: bytes) -> bytes:
        return said.replace(b'0,"No error"', b'-1,"again"')

    tampered = Tampered(thing, lambda said: said)
    with driving(tampered) as driver:
        tampered.tamper = never_empty
        with pytest.raises(DeviceError, match=r"and more, cleared") as caught:
            driver.command("LEV 1")
        assert len(caught.value.entries) == MAX_QUEUE
        tampered.tamper = lambda said: said
        assert driver.query_number("LEV?") == 1


def test_errors_from_before_the_device_was_opened_are_nobodys(thing: Thing) -> None:
    thing.receive(b"FOO\nBAR\n")
    with driving(thing) as driver:
        assert driver.query_number("LEV?") == 0


def test_the_error_of_a_query_that_got_no_answer_is_found(thing: Thing) -> None:
    with driving(thing, timeout_s=0.25) as driver:
        with pytest.raises(DeviceError, match=r"-113 Undefined header;FOO\? after FOO"):
            driver.query("FOO?")
        assert driver.query_number("LEV?") == 0


def test_an_instrument_without_an_error_queue_is_not_asked_for_it(thing: Thing) -> None:
    with driving(thing, check_errors=False) as driver:
        driver.command("LEV 11")
        assert driver.query("SYST:ERR:COUN?") == "1"


@pytest.mark.parametrize("data", [b"", b"\n", b"#13abc\n", NASTY, bytes(30_000)])
def test_a_definite_block_carries_any_bytes_both_ways(driver: Driver, thing: Thing, data: bytes) -> None:
    driver.command_block("DATA", data)
    assert thing.data == data
    assert driver.query_block("DATA?", max_bytes=len(data)) == data
    assert driver.query_number("LEV?") == 0


@pytest.mark.parametrize("data", [b"", b"abc", b"\n", b"a\n\nb\r\n"])
def test_an_indefinite_block_ends_at_a_terminator_with_silence_behind_it(
    driver: Driver, thing: Thing, data: bytes
) -> None:
    thing.data = data
    assert driver.query_block("IND?", max_bytes=10) == data
    assert driver.query_number("LEV?") == 0


def test_a_block_longer_than_was_due_is_refused_before_it_is_taken_in(driver: Driver, thing: Thing) -> None:
    thing.data = bytes(1001)
    with pytest.raises(DeviceError, match="a block of 1001 bytes was announced where at most 1000 were due"):
        driver.query_block("DATA?", max_bytes=1000)
    assert driver.query_number("LEV?") == 0


@pytest.mark.parametrize(
    ("answer", "what"),
    [(b"1.25\n", "does not begin a block"), (b"#2x1\n", "not the length"), (b"#11ab\n", "follows a block")],
)
def test_what_is_no_block_is_refused_and_the_next_query_has_its_own_answer(
    thing: Thing, answer: bytes, what: str
) -> None:
    tampered = Tampered(thing, lambda said: said)
    with driving(tampered) as driver:
        tampered.tamper = lambda said: answer if said.startswith(b"#") else said
        with pytest.raises(DeviceError, match=what):
            driver.query_block("DATA?", max_bytes=100)
        assert driver.query_number("LEV?") == 0


@pytest.mark.parametrize("garbage", [b"\xff\xfe\x80\n", b"1.2.3\n", b"nearly 1\n", b"\n"])
def test_garbage_in_place_of_a_number_is_an_error_never_a_reading(thing: Thing, garbage: bytes) -> None:
    tampered = Tampered(thing, lambda said: said)
    with driving(tampered) as driver:
        tampered.tamper = lambda said: garbage if said == b"0.0\n" else said
        with pytest.raises(DeviceError):
            driver.query_number("LEV?")
        tampered.tamper = lambda said: said
        assert driver.query_number("LEV?") == 0


def test_an_answer_without_an_end_is_bounded_and_the_next_query_has_its_own_answer(thing: Thing) -> None:
    tampered = Tampered(thing, lambda said: said)
    with driving(tampered) as driver:
        tampered.tamper = lambda said: b"9" * 100_000 if said == b"0.0\n" else said
        with pytest.raises(DeviceError, match="without an end"):
            driver.query("LEV?")
        tampered.tamper = lambda said: said
        assert driver.query_number("LEV?") == 0


class Held:
    """Keeps back the next `count` pieces that are said, and lets them go before a later piece."""

    def __init__(self) -> None:
        self.count = 0
        self.kept = b""

    def __call__(self, said: bytes) -> bytes:
        if said and self.count:
            self.count -= 1
            self.kept += said
            return b""
        if not said:
            return b""
        kept, self.kept = self.kept, b""
        return kept + said


@pytest.mark.parametrize("held", [1, 2, 4])
def test_a_late_answer_is_never_taken_for_the_next(thing: Thing, held: int) -> None:
    # What is held back may be the answer itself, and those to the *IDN? that are asked to get in step.
    hold = Held()
    thing.level = 7.0
    with driving(Tampered(thing, hold), timeout_s=0.25) as driver:
        hold.count = held
        answers = []
        for _ in range(held + 1):
            try:
                answers.append(driver.query("LEV?"))
            except CallTimeout:
                thing.level = 8.0
        assert answers
        assert set(answers) == {"8.0"}
        assert [driver.query("LEV?"), driver.identify(), driver.query("FLAG?")] == ["8.0", IDENTITY, "1"]


def test_a_late_answer_to_identify_is_not_taken_for_being_in_step(thing: Thing) -> None:
    hold = Held()
    with driving(Tampered(thing, hold), timeout_s=0.25) as driver:
        hold.count = 1
        with pytest.raises(CallTimeout):
            driver.identify()
        assert driver.query("FLAG?") == "1"
        assert driver.query("LEV?") == "0.0"


def test_an_instrument_that_says_nothing_is_a_timeout_and_stays_open(thing: Thing) -> None:
    tampered = Tampered(thing, lambda said: said)
    with driving(tampered, timeout_s=0.25) as driver:
        tampered.tamper = lambda said: b""
        for _ in range(2):
            with pytest.raises(CallTimeout, match="check that the device is on"):
                driver.query("LEV?")
        assert driver.state == "open"
        tampered.tamper = lambda said: said
        assert driver.query_number("LEV?") == 0


def test_an_instrument_that_talks_on_and_on_is_not_listened_to_for_ever(thing: Thing) -> None:
    tampered = Tampered(thing, lambda said: said)
    with driving(tampered, timeout_s=0.2) as driver:
        tampered.tamper = lambda said: b"blah\n" * 100
        with pytest.raises(DeviceError):
            driver.query_number("LEV?")
        with pytest.raises(DeviceError, match=r"talks on without an answer to \*IDN\?"):
            driver.query_number("LEV?")


def test_a_port_unplugged_in_the_middle_of_a_query_makes_the_device_unavailable(thing: Thing) -> None:
    with Simulator(thing) as simulator:
        driver = Driver("thing1", ScpiOptions(port=simulator.path, timeout_s=30))
        driver.open()
        with pytest.raises(DeviceUnavailable, match=f"{simulator.path} is gone"):
            driver.query("LEAV?")
        assert driver.state == "faulty"
        driver.close()
        assert driver.state == "closed"


def test_a_command_whose_port_vanished_after_it_was_sent_has_an_unknown_outcome(thing: Thing) -> None:
    with Simulator(thing) as simulator:
        driver = Driver("thing1", ScpiOptions(port=simulator.path, timeout_s=30))
        driver.open()
        with pytest.raises(OutcomeUnknown, match="may or may not have obeyed LEAV"):
            driver.command("LEAV")
        assert driver.state == "faulty"
        driver.close()


def test_a_command_to_a_port_that_is_gone_already_was_not_sent(tmp_path: Path, thing: Thing) -> None:
    with Simulator(thing, link=tmp_path / "port") as simulator:
        driver = Driver("thing1", ScpiOptions(port=simulator.path, timeout_s=5))
        driver.open()
        simulator.unplug()
        for _ in range(2):
            with pytest.raises(DeviceUnavailable):
                driver.command("LEV 5")
            assert driver.state == "faulty"
        simulator.replug()
        assert driver.query_number("LEV?") == 0
        assert driver.state == "open"
        driver.close()


def test_another_instrument_at_the_same_port_is_not_driven(tmp_path: Path, thing: Thing) -> None:
    link = tmp_path / "port"
    simulator = Simulator(thing, link=link)
    driver = Driver("thing1", ScpiOptions(port=str(link), timeout_s=5))
    driver.open()
    simulator.close()
    with pytest.raises(DeviceUnavailable):
        driver.query("LEV?")
    with Simulator(Thing("Acme,Thing,2,2"), link=link):
        with pytest.raises(DeviceUnavailable, match=r"'Acme,Thing,2,2' answers on .* where 'Acme,Thing,1,2' was"):
            driver.command("LEV 5")
        driver.close()
        with driver:
            assert driver.identify() == "Acme,Thing,2,2"


@pytest.mark.parametrize("said", [b"", b"\xff\xfe\xfd\n", b"hello\n", b"\x00" * 70_000])
def test_what_does_not_say_who_it_is_can_not_be_opened(said: bytes) -> None:
    with Simulator(Tampered(Thing(), lambda _: said)) as simulator:
        driver = Driver("thing1", ScpiOptions(port=simulator.path, timeout_s=0.25))
        with pytest.raises(DeviceUnavailable, match="thing1 does not say who it is"):
            driver.open()
        assert driver.state == "faulty"


def test_who_never_says_the_same_twice_can_not_be_opened(thing: Thing) -> None:
    numbers = iter(range(1000))
    with Simulator(Tampered(thing, lambda said: said.replace(b"1,2", b"%d,2" % next(numbers)))) as simulator:
        driver = Driver("thing1", ScpiOptions(port=simulator.path, timeout_s=5))
        with pytest.raises(DeviceUnavailable, match=r"each answer to \*IDN\? is different, the last was 'Acme,Thing"):
            driver.open()


def test_what_was_said_to_somebody_before_us_is_not_taken_for_the_identity(thing: Thing) -> None:
    hold = Held()
    hold.kept = b"1.2,3.4\nAcme,Other,9,9\n"
    with driving(Tampered(thing, hold)) as driver:
        assert driver.identify() == IDENTITY
        assert driver.query("FLAG?") == "1"


def test_queries_of_several_threads_never_mix(driver: Driver, thing: Thing) -> None:
    wrong: list[str] = []

    def ask(message: str, answer: str) -> None:
        wrong.extend(got for _ in range(50) if (got := driver.query(message)) != answer)

    threads = [
        threading.Thread(target=ask, args=pair) for pair in (("LEV?", "0.0"), ("FLAG?", "1"), ("*IDN?", IDENTITY))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("message", ["LEV 1\nLEV 2", "LEV \u00b5", "LEV\t1"])
def test_a_driver_can_not_smuggle_a_second_message(driver: Driver, message: str) -> None:
    with pytest.raises(ValueError, match="not one SCPI message"):
        driver.command(message)


def test_a_message_goes_out_at_once_also_while_an_answer_is_due(thing: Thing) -> None:
    heard = bytearray()

    class Deaf:
        """Hears everything, and answers only once it is told to be safe."""

        answering = True

        def receive(self, data: bytes) -> bytes:
            heard.extend(data)
            said = thing.receive(data)
            Deaf.answering |= b"LEV 0\n" in data
            return said if Deaf.answering else b""

    with driving(Deaf(), timeout_s=0.25) as driver:
        driver.command("LEV 5")
        Deaf.answering = False
        with pytest.raises(CallTimeout):
            driver.query("LEV?")
        heard.clear()
        driver._command_at_once("LEV 0")
        assert heard.startswith(b"\nLEV 0\n")
        assert thing.level == 0
        assert driver.query_number("LEV?") == 0


def test_an_exchange_needs_no_device(thing: Thing) -> None:
    from devices.line import LineOptions, SerialLine

    with Simulator(thing) as simulator:
        exchange = MessageExchange(SerialLine(LineOptions(port=simulator.path)), terminator=b"\n", timeout_s=5)
        assert exchange.open() == IDENTITY
        exchange.tell(b"LEV 2")
        assert exchange.ask_text(b"LEV?") == "2.0"
        exchange.close()
