"""The pytest plugin, run by pytest on suites that others could have written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway.config  # noqa: F401 - first imported by a run of pytester's it would be gone again, in part
from devices.simulators.line import Simulator
from devices.simulators.power_supply import SimulatedPowerSupply
from hil.faults import End
from hil.processes import GatewayFailed, GatewayProcess
from hil.pty_wire import PtyWire

pytest_plugins = ["pytester"]

BOTH_WAYS = """
    def test_bytes_pass_both_ways(serial_pair):
        for source, target in (serial_pair, serial_pair[::-1]):
            source.write(b"hello")
            assert target.read(5) == b"hello"
"""


@pytest.fixture
def cable() -> Iterator[PtyWire]:
    """Two ports that are joined, as a loopback cable joins two real ones."""
    with PtyWire() as wire:
        yield wire


@pytest.fixture
def psu_config(tmp_path: Path) -> Iterator[str]:
    with Simulator(SimulatedPowerSupply()) as simulator:
        yield f'[devices.psu7]\ndriver = "scpi-power-supply"\nport = "{simulator.path}"\n'


def serial_option(cable: PtyWire) -> str:
    return f"--hil-serial={cable.port(End.A)},{cable.port(End.B)}"


def test_the_plugin_is_there_without_being_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(BOTH_WAYS)
    pytester.runpytest().assert_outcomes(passed=1)
    pytester.runpytest("--markers").stdout.fnmatch_lines(["@pytest.mark.wire(kind, ??settings):*"])
    pytester.runpytest("--help").stdout.fnmatch_lines(["*--hil-serial=PORT,PORT*", "*--hil-bench=FILE*"])


def test_loading_the_plugin_imports_nothing_that_takes_time() -> None:
    heavy = "serial gateway devices select.epoll socket ssl asyncio msgspec zeroconf".split()
    code = (
        "import sys, pytest; before = set(sys.modules); import hil.plugin; "
        f"print([name for name in sorted(set(sys.modules) - before) if name.split('.')[0] in {heavy!r}])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_the_mark_chooses_the_wire_and_its_settings(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import time
        import pytest
        from hil import End, SocketWire

        @pytest.mark.wire("socket", baud=9600)
        def test_marked(wire, serial_pair):
            assert isinstance(wire, SocketWire)
            begin = time.monotonic()
            serial_pair[0].write(bytes(96))
            serial_pair[1].read(96)
            assert time.monotonic() - begin >= 0.1

        @pytest.mark.parametrize("wire", ["pty", "socket", "rfc2217"], indirect=True)
        def test_in_turn(wire, serial_pair):
            assert type(wire).__name__.lower() == wire_name(wire)
            serial_pair[0].write(b"x")
            assert serial_pair[1].read(1) == b"x"

        def wire_name(wire):
            scheme = wire.address(End.A).partition("://")[0]
            return {"socket": "socketwire", "rfc2217": "rfc2217wire"}.get(scheme, "ptywire")

        @pytest.mark.wire("string")
        def test_unknown(wire):
            pass
    """)
    result = pytester.runpytest("-q")
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(["*there is no wire of the kind 'string'; there are: pty, socket, rfc2217*"])


def test_a_test_is_skipped_by_quirk_with_the_reason_printed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest
        from hil import Quirk

        @pytest.mark.skip_quirk("NO_MODEM_LINES")
        def test_modem_lines(wire):
            raise AssertionError("never run")

        @pytest.mark.skip_quirk(Quirk.REAL, Quirk.NO_SETTINGS)
        def test_others(wire):
            pass
    """)
    result = pytester.runpytest("-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*not over this wire (PtyWire): it has no modem lines (RTS, CTS, DTR, DSR)"])


def test_the_same_suite_runs_over_a_real_cable(pytester: pytest.Pytester, cable: PtyWire) -> None:
    pytester.makepyfile(
        BOTH_WAYS
        + """
    import pytest
    from hil import RealWire

    def test_real(wire):
        assert isinstance(wire, RealWire)

    @pytest.mark.skip_quirk("NO_FAULTS")
    def test_faults(wire):
        raise AssertionError("never run")

    @pytest.mark.parametrize("wire", ["pty", "socket"], indirect=True)
    def test_in_turn(wire):
        assert isinstance(wire, RealWire)
"""
    )
    before = cable.sent(End.A)
    result = pytester.runpytest("-rs", serial_option(cable))
    result.assert_outcomes(passed=3, skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*no fault can be put on it", "SKIPPED*for the kind 'socket'"])
    assert cable.sent(End.A) > before


@pytest.mark.parametrize("ports", ["/dev/ttyUSB0", "a,b,c", ","])
def test_a_cable_has_two_ends(pytester: pytest.Pytester, ports: str) -> None:
    result = pytester.runpytest(f"--hil-serial={ports}")
    result.stderr.fnmatch_lines(["*--hil-serial takes two ports with a comma between them*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_a_real_gateway_and_an_instrument_host_run_in_processes_of_their_own(
    pytester: pytest.Pytester, psu_config: str
) -> None:
    pytester.makepyfile(f"""
        import os
        from hil import End

        CONFIG = {psu_config!r}

        def test_gateway(gateway_process):
            running = gateway_process(CONFIG)
            assert running.pid != os.getpid()
            assert not running.document["advertised"]
            with running.connect() as connection:
                with connection.lease("psu7") as bench:
                    bench.psu7.set_voltage(3.3)
                    assert connection.root.psu7.voltage == 3.3
            assert running.stop() == 0

        def test_host(wire, instrument_host, gateway_process):
            host = instrument_host(wire.channel_url(End.B), CONFIG)
            assert [device["name"] for device in host.document["devices"]] == ["psu7"]
            gateway = gateway_process(f'[hosts.far]\\nurl = "{{wire.channel_url(End.A)}}"\\n')
            gateway.wait_for("far.psu7", 15)
            with gateway.connect() as connection:
                psu = connection.root.device("far.psu7")
                with connection.lease("far.psu7"):
                    psu.set_voltage(2.5)
                    assert psu.voltage == 2.5
                psu.make_safe()
                assert psu.voltage == 0.0
    """)
    pytester.runpytest().assert_outcomes(passed=2)


def test_each_device_of_a_bench_has_its_turn_and_is_left_safe(pytester: pytest.Pytester, tmp_path: Path) -> None:
    with Simulator(SimulatedPowerSupply()) as one, Simulator(SimulatedPowerSupply()) as other:
        bench = tmp_path / "bench.toml"
        bench.write_text(
            '[gateway]\nlisten = "tcp://127.0.0.1:0"\nadvertise = false\n'
            + "".join(
                f'[devices.{name}]\ndriver = "scpi-power-supply"\nport = "{simulator.path}"\n'
                for name, simulator in (("left", one), ("right", other))
            )
        )
        pytester.makepyfile("""
            import pytest

            def test_output(device):
                device.set_voltage(1.5)
                device.output = True
                assert device.output is True

            @pytest.mark.device("right")
            def test_one(device):
                assert "PS" in device.identify() or device.identify()
        """)
        result = pytester.runpytest("-v", "-rs", f"--hil-bench={bench}")
        result.assert_outcomes(passed=3, skipped=1)
        result.stdout.fnmatch_lines(
            ["*test_output?left? PASSED*", "*test_output?right? PASSED*", "SKIPPED*not for left"]
        )
        for simulator in (one, other):
            assert not simulator.instrument.output  # type: ignore[attr-defined]


def test_without_a_bench_a_device_is_one_of_the_demos(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        def test_first(device):
            assert device.state == "open"

        @pytest.mark.device("dmm1")
        def test_named(device):
            assert "DMM" in device.identify().upper() or "METER" in device.identify().upper()
    """)
    pytester.runpytest().assert_outcomes(passed=2)


def test_a_bench_that_is_none_is_told_before_any_test(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest("--hil-bench=nowhere.toml")
    result.stderr.fnmatch_lines(["*--hil-bench: nowhere.toml: no such file*"])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


# ------------------------------------------------------------------------------------------------------- processes


def test_a_gateway_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(GatewayFailed, match=r"gateway serve \S+nowhere\.toml ended with code 2: .*no such file"):
        GatewayProcess(["serve", str(tmp_path / "nowhere.toml")])


def test_a_gateway_can_be_killed_and_closed_twice(tmp_path: Path, psu_config: str) -> None:
    config = tmp_path / "bench.toml"
    config.write_text('[gateway]\nlisten = "tcp://127.0.0.1:0"\nadvertise = false\n' + psu_config)
    with GatewayProcess(["serve", str(config)]) as running:
        assert running.running
        running.kill()
        assert not running.running
        running.close()
    with GatewayProcess(["serve", str(config)]) as running:
        running.wait_for("psu7")
        with pytest.raises(GatewayFailed, match=r"no psu9 within 0 s: no device 'psu9' here"):
            running.wait_for("psu9", 0)
