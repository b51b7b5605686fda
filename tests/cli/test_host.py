"""`gateway host` and a gateway in front of it, as processes: over a socket, and over a serial line of ptys."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import gateway
from devices.demo import open_bench
from devices.power_supply import PowerSupplyOptions, ScpiPowerSupply
from gateway.errors import DeviceUnavailable, OutcomeUnknown
from tests.channels.conftest import PtyLine

Tables = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def instruments() -> Iterator[Tables]:
    """Simulated instruments on serial lines, and the config tables that lead to them."""
    with open_bench() as tables:
        yield tables


@pytest.fixture
def line(tmp_path: Path) -> Iterator[PtyLine]:
    joined = PtyLine(tmp_path)
    yield joined
    joined.unplug()


def write(path: Path, devices: Tables, hosts: Tables | None = None, **section: Any) -> str:
    tables = {"gateway": section}
    tables |= {f"devices.{name}": dict(table) for name, table in devices.items()}
    tables |= {f"hosts.{name}": dict(table) for name, table in (hosts or {}).items()}
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def until_it_works(call: Any, within_s: float = 15.0) -> Any:
    deadline = monotonic() + within_s
    pause = threading.Event()
    while True:
        try:
            return call()
        except (DeviceUnavailable, OutcomeUnknown):
            assert monotonic() < deadline
            pause.wait(0.02)


@contextmanager
def bench(command: Any, instruments: Tables, ends: tuple[str, str], *, beside: Any) -> Iterator[tuple[Any, Any, str]]:
    """A host and a gateway joined by a line, both running, and the gateway's URL. `beside` is the host's command."""
    devices = {name: instruments[name] for name in ("psu1", "dmm1")}
    folder = command.folder
    host_config = write(folder / "host.toml", devices, listen="tcp://192.0.2.1:1", name="ignored")
    listen = f"unix://{folder}/gateway.socket"
    front_config = write(folder / "front.toml", {}, {"bench2": {"url": ends[1]}}, listen=listen, advertise=False)
    with beside.running("host", "--serial", ends[0], "--config", host_config, "--json") as host:
        serving = host.document()
        assert [device["state"] for device in serving["devices"]] == ["open", "open"], host.complaints()
        with command.running("serve", front_config, "--json") as front:
            told = front.document()
            assert told["devices"] == []
            assert told["hosts"] == [{"name": "bench2", "url": ends[1]}]
            yield host, front, told["url"]
            assert front.stop()[0] == 0, front.complaints()
        if host.process.poll() is None:
            assert host.stop()[0] == 0, host.complaints()


@pytest.fixture
def beside(command: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The command once more, with a folder of its own."""
    return type(command)(command.network, tmp_path_factory.mktemp("host"))


def test_the_commands_reach_the_devices_of_a_host(command: Any, beside: Any, instruments: Tables) -> None:
    place = f"unix://{command.folder}/host.socket"
    with bench(command, instruments, (place, place), beside=beside) as (_, _, url):
        with gateway.connect(url) as conn:
            until_it_works(lambda: conn.root.bench2.dmm1.identify())
            until_it_works(lambda: conn.root.bench2.psu1.identify())

        def ask(*words: str) -> Any:
            done = command(*words, "--json", INSTRUMENT_GATEWAY=url)
            assert done.returncode == 0, done.stdout + done.stderr
            return json.loads(done.stdout)

        listed = ask("describe")["devices"]
        assert [(row["name"], row["driver"], row["state"], row["host"]) for row in listed] == [
            ("bench2.psu1", "ScpiPowerSupply", "open", "bench2"),
            ("bench2.dmm1", "ScpiMultimeter", "open", "bench2"),
        ]
        assert all("Simulated" in row["identity"] for row in listed)
        members = ask("describe", "bench2.psu1")["members"]
        assert {row["name"]: row["unit"] for row in members}["voltage"] == "V"
        assert [row["name"] for row in ask("describe", "bench2")["members"]] == ["dmm1", "psu1"]
        under = ("lease", "bench2.psu1", "--", sys.executable, "-m", "gateway")
        used = command(
            *under, "shell", "-c", "bench2.psu1.set_voltage(2.5); bench2.psu1.voltage", INSTRUMENT_GATEWAY=url
        )
        assert (used.returncode, used.stdout) == (0, "2.5\n"), used.stderr
        read = ask("read", "bench2.psu1.voltage")
        assert (read["device"], read["member"], read["unit"], read["value"]) == ("bench2.psu1", "voltage", "V", 0.0)
        assert ask("shell", "-c", "bench2.psu1.voltage")["value"] == 0.0
        refused = command(*under, "call", "bench2.psu1.set_voltage", "99", INSTRUMENT_GATEWAY=url)
        assert (refused.returncode, "psu1.voltage must be from 0 to 12 V" in refused.stderr) == (1, True)
        unknown = command("read", "bench2.dmm2.voltage", INSTRUMENT_GATEWAY=url)
        assert unknown.returncode == 3
        assert "did you mean 'bench2.dmm1'?" in unknown.stderr


def test_a_host_that_is_killed_and_started_again_is_found_again(command: Any, beside: Any, instruments: Tables) -> None:
    place = f"unix://{command.folder}/host.socket"
    with bench(command, instruments, (place, place), beside=beside) as (host, _, url), gateway.connect(url) as conn:
        psu = until_it_works(lambda: conn.root.device("bench2.psu1"))
        conn.lease("bench2.psu1")
        psu.set_voltage(1.0)
        host.process.send_signal(signal.SIGKILL)
        host.process.wait(10)
        with pytest.raises((DeviceUnavailable, OutcomeUnknown)):
            psu.voltage  # noqa: B018
        shown = command("describe", INSTRUMENT_GATEWAY=url).stdout
        assert (shown.count(" unavailable "), shown.count("away since 20")) == (2, 2), shown
        with beside.running(
            "host", "--serial", place, "--config", str(command.folder / "host.toml"), "--json"
        ) as again:
            again.document()
            begin = monotonic()
            assert until_it_works(lambda: psu.voltage) == 0.0  # made safe when the host started
            assert monotonic() - begin < 2
            psu.set_output(True)
            code, _ = again.stop()
            assert code == 0, again.complaints()
        with beside.running("host", "--serial", place, "--config", str(command.folder / "host.toml"), "--json") as last:
            last.document()
            assert until_it_works(lambda: psu.output) is False  # made safe when the host ended
            assert last.stop()[0] == 0


@pytest.mark.parametrize("framing", ["raw", "link"])
def test_a_host_at_the_end_of_a_serial_line(
    command: Any, beside: Any, instruments: Tables, line: PtyLine, framing: str
) -> None:
    ends = tuple(f"serial://{end}?baudrate=921600&framing={framing}" for end in (line.right, line.left))
    with bench(command, instruments, ends, beside=beside) as (_, _, url), gateway.connect(url) as conn:
        psu = until_it_works(lambda: conn.root.device("bench2.psu1"))
        dmm = until_it_works(lambda: conn.root.device("bench2.dmm1"))
        conn.lease("bench2.psu1")
        psu.set_voltage(3.3)
        assert psu.voltage == 3.3
        assert isinstance(dmm.voltage_dc, float)
        line.unplug()
        with pytest.raises((DeviceUnavailable, OutcomeUnknown)):
            psu.voltage  # noqa: B018
        with pytest.raises(DeviceUnavailable, match=r"bench2 has been away since"):
            psu.voltage  # noqa: B018
        line.plug()
        assert until_it_works(lambda: psu.voltage) == 0.0  # made safe when the line was lost
        assert not conn.closed


def test_a_wrong_line_is_told_before_anything_is_opened(command: Any, instruments: Tables) -> None:
    config = write(command.folder / "host.toml", {"psu1": instruments["psu1"]})
    for url, message in (
        ("ftp://x", "'ftp://x': unknown scheme"),
        ("serial:///dev/ttyNothing", "there is no such port"),
    ):
        done = command("host", "--serial", url, "--config", config)
        assert done.returncode in (2, 4)
        assert message in done.stderr
    assert "--serial" in command("host", "--config", config).stderr


def test_a_host_makes_its_devices_safe_at_the_end(command: Any, instruments: Tables) -> None:
    config = write(command.folder / "host.toml", {"psu1": instruments["psu1"]})
    place = f"unix://{command.folder}/host.socket"
    with command.running("host", "--serial", place, "--config", config) as host:
        shown = host.lines_until("psu1")
        assert f"serving at {place}\n" in shown
        with gateway.connect(place) as conn:
            conn.root.psu1.set_voltage(5)
            conn.root.psu1.set_output(True)
        assert host.stop()[0] == 0
        assert host.rest() == "stopped; in their safe state: psu1\n"
    options = PowerSupplyOptions(port=instruments["psu1"]["port"], baudrate=instruments["psu1"]["baudrate"])
    with ScpiPowerSupply("psu1", options) as supply:
        assert (supply.output, supply.voltage) == (False, 0.0)
