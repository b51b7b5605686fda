"""`serve`, `demo` and `stdio` as processes: what they say, what they serve, and how they end."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import gateway
from devices.demo import open_bench
from devices.power_supply import PowerSupplyOptions, ScpiPowerSupply
from gateway.errors import LinkDown

Tables = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def instruments() -> Iterator[Tables]:
    """Simulated instruments on serial lines, and the config tables that lead to them."""
    with open_bench() as tables:
        yield tables


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a config: `gateway` and one table for each device."""

    def to_file(devices: Tables, **gateway: Any) -> Path:
        lines = ["[gateway]", *(f"{key} = {json.dumps(value)}" for key, value in gateway.items())]
        for name, table in devices.items():
            lines += [f"[devices.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
        path = tmp_path / "bench.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return to_file


def supply_at(table: Mapping[str, Any]) -> ScpiPowerSupply:
    """The power supply itself, without a gateway."""
    return ScpiPowerSupply("psu1", PowerSupplyOptions(port=table["port"], baudrate=table["baudrate"]))


# -- serve -----------------------------------------------------------------------------------------------------------


def test_serve_says_where_it_is_who_can_connect_and_what_it_serves(
    command: Any, instruments: Tables, write: Callable[..., Path]
) -> None:
    gone = {"driver": "scpi-multimeter", "port": "/dev/ttyNothing"}
    config = write({"psu1": instruments["psu1"], "gone": gone}, name="plain", listen="tcp://127.0.0.1:0")
    with command.running("serve", str(config)) as running:
        shown = running.lines_until("gone")
        assert re.search(r"^serving 'plain' at tcp://127\.0\.0\.1:\d+$", shown, re.MULTILINE)
        assert "only this computer can connect\n" in shown
        assert 'listen = "tls://0.0.0.0:18871" in the table [gateway]' in shown
        assert re.search(r"^  advertised as 'plain' on 127\.0\.0\.1, port \d+$", shown, re.MULTILINE)
        assert re.search(
            r"^psu1 +scpi-power-supply +open +Instrument Gateway,Simulated Power Supply", shown, re.MULTILINE
        )
        assert re.search(
            r"^gone +scpi-multimeter +closed +missing: nothing with path '/dev/ttyNothing' is plugged in$",
            shown,
            re.MULTILINE,
        )
        code, took_s = running.stop()
        assert code == 0
        assert took_s < 3
        assert running.rest() == "stopped; in their safe state: psu1; not reached: gone\n"
        assert (
            "WARNING gateway.plugged: gone is missing: nothing with path '/dev/ttyNothing' is" in running.complaints()
        )


@pytest.mark.parametrize("flags", [[], ["--no-supervise"]], ids=["supervised", "alone"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_however_it_ends_the_devices_are_made_safe(
    command: Any, instruments: Tables, write: Callable[..., Path], number: int, code: int, flags: list[str]
) -> None:
    config = write({"psu1": instruments["psu1"]}, listen=f"unix://{command.folder}/socket", advertise=False)
    with command.running("serve", str(config), "--json", *flags) as running:
        serving = running.document()
        assert serving.keys() == {"name", "url", "local_only", "advertised", "advert_status", "devices"}
        assert serving["devices"][0].keys() == {"name", "driver", "state", "identity", "problem"}
        assert serving["advert_status"] == "not advertised: switched off in the config"
        with gateway.connect(serving["url"]) as conn, conn.lease("psu1") as bench:
            bench.psu1.set_voltage(5)
            bench.psu1.set_output(True)
            assert bench.psu1.output is True
            ended, took_s = running.stop(number)
        assert (ended, running.rest(), running.complaints()) == (code, "", "")
        assert took_s < 3
    with supply_at(instruments["psu1"]) as supply:
        assert (supply.output, supply.voltage) == (False, 0.0)


def test_a_gateway_that_is_started_twice_leaves_the_first_alone(
    command: Any, bench: dict[str, Any], instruments: Tables, write: Callable[..., Path]
) -> None:
    config = write({"psu1": instruments["psu1"]}, listen=bench["url"])
    with supply_at(instruments["psu1"]) as supply:
        supply.set_output(True)
        done = command("serve", str(config))
        assert supply.output is True
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: {config}:2: [gateway] can't listen at {bench['url']}: another program listens"
    )
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[devices.psu1]\ndriver = 'scpi-power-suply'\n",
            ":2: [devices.psu1] unknown driver 'scpi-power-suply'; did you",
        ),
        ("[devices.psu1]\ndriver = 'scpi-power-supply'\nprot = 1\n", ":3: [devices.psu1] unknown key 'prot'; did you"),
        (
            "[devices.psu1]\ndriver = 'scpi-power-supply'\nport = '/x'\nbytesize = 9\n",
            ":4: [devices.psu1] 'bytesize' must",
        ),
        (
            "[devices.psu1]\ndriver = 'nowhere.driver:Class'\n",
            ":2: [devices.psu1] driver 'nowhere.driver:Class' can't be",
        ),
        ("[devices", ":1: not TOML: "),
        ("", ": the file is empty"),
    ],
)
def test_a_wrong_config_is_one_line_and_exit_code_2(command: Any, text: str, message: str) -> None:
    config = command.folder / "bench.toml"
    config.write_text(text, encoding="utf-8")
    done = command("serve", str(config))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {config}{message}")
    assert done.stderr.count("\n") == 1


def test_a_wrong_config_is_one_document_where_json_is_wanted(command: Any) -> None:
    done = command("serve", "/nowhere/bench.toml", "--json")
    assert (done.returncode, done.stderr) == (2, "")
    message = "/nowhere/bench.toml: no such file; write one like examples/bench.toml"
    assert json.loads(done.stdout) == {"error": {"code": "config-error", "message": message}}


@pytest.mark.multicast
@pytest.mark.usefixtures("empty_network")
def test_a_gateway_that_has_ended_is_not_found_any_more(command: Any, write: Callable[..., Path]) -> None:
    gone = {"driver": "scpi-multimeter", "port": "/dev/ttyNothing"}
    config = write({"gone": gone}, name="brief", listen="tcp://127.0.0.1:0")
    with command.running("serve", str(config), "--json") as running:
        assert running.document()["advertised"] is True
        code, _ = running.stop()
        assert code == 0
    assert "brief" not in command("list", "--timeout", "1.5").stdout


# -- demo ------------------------------------------------------------------------------------------------------------


@pytest.mark.multicast
def test_the_demo_with_its_client_reads_well_without_a_terminal(command: Any) -> None:
    begin = time.monotonic()
    done = command("demo", "--client", "--name", "walk", "--listen", "tcp://127.0.0.1:0")
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - begin < 20
    assert "\x1b" not in done.stdout
    for line in (
        r"1\. find the gateway 'walk' by mDNS, on the loopback interface",
        r"   found at tcp://127\.0\.0\.1:\d+ after \d\.\d s, with 3 devices",
        r"3\.3 V +3\.3 V +0\.33 A",
        r"   \d\.\d{6} V  [▁▂▃▄▅▆▇█]{12}",
        r"   and 1000 samples in one call, by value, as a ndarray",
        r"   hello from the network",
        r"   AccessDenied: psu1: 'query' is not exposed.*",
        r"   OutOfRange: psu1\.voltage must be from 0 to 12 V, not 99",
        r"   NotLeased: controlling psu1 takes a lease, and this connection has none; lease it first",
        r"   the lease is over, and the gateway switched the supply off: output False, setpoint 0 V",
        r"stopped; in their safe state: psu1, dmm1, console1",
    ):
        assert re.search(f"^{line}$", done.stdout, re.MULTILINE), done.stdout


def test_the_demo_prints_what_to_paste_elsewhere(command: Any) -> None:
    with command.running("demo", "--name", "paste", "--listen", "tcp://127.0.0.1:0") as running:
        shown = running.lines_until("Ctrl-C")
        (script,) = re.findall(r"python.* -c '(.*)'$", shown, re.MULTILINE)
        assert re.search(r"gateway lease psu1 -- .*gateway call psu1\.set_voltage 3\.3$", shown, re.MULTILINE)
        assert script == 'import gateway; print(gateway.connect("paste").root.dmm1.voltage_dc)'
        assert running.stop(signal.SIGINT)[0] == 130
        assert running.rest() == "stopped; in their safe state: psu1, dmm1, console1\n"


def test_ctrl_c_while_it_starts_ends_it_too(command: Any) -> None:
    with command.running("demo", "--listen", "tcp://127.0.0.1:0") as running:
        running.lines_until("starting three simulated instruments")
        code, took_s = running.stop(signal.SIGINT)
        assert code == 130
        assert took_s < 5
        assert "Traceback" not in running.complaints()


# -- stdio -----------------------------------------------------------------------------------------------------------


def test_stdio_serves_one_peer_and_makes_safe_when_it_leaves(
    command: Any, instruments: Tables, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write({"psu1": instruments["psu1"]})
    for name, value in command.environment().items():
        monkeypatch.setenv(name, value)
    (command.folder / "instrument-gateway").mkdir()
    config.rename(command.folder / "instrument-gateway" / "gateway.toml")
    # Without --config: the user's own at its usual place, as ssh://host asks for it.
    with gateway.connect(f"pipe:{sys.executable} -m gateway stdio") as conn:
        assert conn.root.names() == ["psu1"]
        conn.lease("psu1").psu1.set_output(True)
        assert conn.root.psu1.output is True
        with pytest.raises(AttributeError, match="not exposed"):
            conn.root.psu1.query("*RST")
    deadline = time.monotonic() + 10
    while True:
        with supply_at(instruments["psu1"]) as supply:
            if not supply.output:
                break
        assert time.monotonic() < deadline, "the output stayed on"


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_stdio_writes_nothing_but_the_protocol_to_stdout(command: Any, flags: list[str]) -> None:
    done = command("stdio", "--config", "/nowhere/bench.toml", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    message = "/nowhere/bench.toml: no such file; write one like examples/bench.toml"
    if flags:
        assert json.loads(done.stderr) == {"error": {"code": "config-error", "message": message}}
    else:
        assert done.stderr == f"error: {message}\n"


def test_the_peer_of_a_stdio_that_can_not_start_is_told_why() -> None:
    with pytest.raises(LinkDown, match=r"exit code 2.*/nowhere/bench\.toml: no such file"):
        gateway.connect(f"pipe:{sys.executable} -m gateway stdio --config /nowhere/bench.toml").root.names()
