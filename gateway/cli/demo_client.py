"""What `gateway demo --client` shows: a client finds the demo gateway, drives its instruments, and meets its limits.

Each step is what a user's script does; nothing here knows that the gateway is in the same process.
"""

from __future__ import annotations

import time
from typing import Any, Final

import gateway
from gateway.cli.exits import failure, one_line
from gateway.cli.screen import Screen
from gateway.cli.values import number
from gateway.discovery import FoundGateway, browse
from gateway.errors import NotFound

FIND_S: Final = 8.0
LOOPBACK: Final = "127.0.0.1"
SETPOINTS: Final = (1.0, 2.5, 3.3, 5.0)
READINGS: Final = 12
READING_PERIOD_S: Final = 0.15
PROMPT: Final = b"board> "


class Demonstration:
    """One run of the client against the gateway of that name."""

    def __init__(self, screen: Screen, name: str, url: str) -> None:
        self._screen = screen
        self._name = name
        self._url = url
        self._step = 0

    def run(self) -> dict[str, Any]:
        """Do it all; gives what was seen, in JSON's types. Raises what a script would meet."""
        self._headline(f"find the gateway {self._name!r} by mDNS, on the loopback interface")
        begin = time.monotonic()
        found = self._find()
        found_in_s = round(time.monotonic() - begin, 2)
        self._screen.line(f"   found at {found.shown_url} after {found_in_s:.1f} s, with {found.devices} devices")
        with gateway.connect(found.url) as conn:
            with conn.lease("psu1") as bench:
                rows = self._drive_power_supply(bench.psu1)
                seen: dict[str, Any] = {
                    "readings": self._read_multimeter(conn.root.dmm1),
                    "console": self._talk_to_console(conn.root.console1),
                    "refused": self._be_refused(bench.psu1),
                }
            left = self._end_the_lease(conn.root.psu1)
            return {
                "found_in_s": found_in_s,
                "url": found.shown_url,
                "power_supply": rows,
                **seen,
                "refused": {**seen["refused"], **left.pop("refused")},
                "left": left,
            }

    def _find(self) -> FoundGateway:
        def enough(found: list[FoundGateway]) -> bool:
            return self._match(found) is not None

        with self._screen.busy("looking for it"):
            match = self._match(browse(FIND_S, [LOOPBACK], until=enough, static={}))
        if match is None:
            raise NotFound(
                f"the gateway {self._name!r} was not found by mDNS within {FIND_S:g} s: does this computer's loopback "
                "interface carry multicast?"
            )
        return match

    def _match(self, found: list[FoundGateway]) -> FoundGateway | None:
        return next((each for each in found if each.name == self._name and each.url == self._url), None)

    def _drive_power_supply(self, supply: Any) -> list[dict[str, float]]:
        self._headline("set the power supply, under a lease of it, and read back what it measures")
        rows: list[dict[str, float]] = []
        supply.set_current(1.0)
        supply.set_output(True)
        for volts in SETPOINTS:
            supply.set_voltage(volts)
            rows.append({"set_V": volts, "measured_V": supply.measured_voltage, "measured_A": supply.measured_current})
        self._screen.table(
            ("set", "measured voltage", "measured current"),
            [
                (f"{number(row['set_V'])} V", f"{number(row['measured_V'])} V", f"{number(row['measured_A'])} A")
                for row in rows
            ],
        )
        return rows

    def _read_multimeter(self, meter: Any) -> list[float]:
        self._headline("read the multimeter: every reading is a SCPI query over its serial line")
        self._screen.line(f"   {one_line(meter.identify())}", style="dim")
        readings: list[float] = []
        with self._screen.live_line() as line:
            for count in range(1, READINGS + 1):
                readings.append(meter.voltage_dc)
                if self._screen.is_terminal or count == READINGS:
                    line.show(f"   {readings[-1]:.6f} V  {self._screen.sparkline(readings)}")
                if count < READINGS:
                    time.sleep(READING_PERIOD_S)
        mean = sum(readings) / len(readings)
        self._screen.line(f"   {len(readings)} readings, mean {mean:.6f} V")
        samples = meter.waveform(1000)
        self._screen.line(f"   and {len(samples)} samples in one call, by value, as a {type(samples).__name__}")
        return readings

    def _talk_to_console(self, console: Any) -> str:
        self._headline("type at the board's console")
        console.write(b"\r")
        console.read_until(PROMPT)
        console.write(b"echo hello from the network\r")
        answer = str(PROMPT + console.read_until(PROMPT), "ascii", "replace")
        for line in answer.splitlines():
            self._screen.line(f"   {line}")
        return answer

    def _be_refused(self, supply: Any) -> dict[str, str]:
        self._headline("ask for what is not allowed")
        return {
            "psu1.query('*RST')": self._refusal(lambda: supply.query("*RST")),
            "psu1.set_voltage(99)": self._refusal(lambda: supply.set_voltage(99)),
        }

    def _end_the_lease(self, supply: Any) -> dict[str, Any]:
        self._headline("end the lease with the output still on")
        output, volts = supply.output, supply.voltage
        self._screen.line(
            "   the lease is over, and the gateway switched the supply off: "
            f"output {output}, setpoint {number(volts)} V"
        )
        refused = {"psu1.set_voltage(1)": self._refusal(lambda: supply.set_voltage(1))}
        self._screen.line()
        return {"output": output, "voltage": volts, "refused": refused}

    def _refusal(self, call: Any) -> str:
        try:
            call()
        except gateway.GatewayError as problem:
            text = f"{type(problem).__name__}: {failure(problem).message}"
            self._screen.line(f"   {text}")
            return text
        raise AssertionError("the gateway allowed what it must refuse")

    def _headline(self, text: str) -> None:
        self._step += 1
        self._screen.line()
        self._screen.line(f"{self._step}. {text}", style="bold")
