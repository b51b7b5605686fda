"""The bridge over one serial line of ptys: several connections side by side on the link, or one conversation raw."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import gateway
from gateway.errors import DeviceUnavailable, OutcomeUnknown
from gateway.server.bridge import Host
from tests.channels.conftest import PtyLine
from tests.server.bridged import PATIENCE_S, Bench, wait_until


class SerialBench(Bench):
    """The host listens at one end of the line, the gateway reaches it at the other."""

    line: PtyLine
    framing: str

    def start_gateway(self, local: Any = None, **how: Any) -> None:
        self.url = self.at(self.line.left)
        super().start_gateway(local, **how)

    def start_host(self, service: Any = None, **how: Any) -> None:
        self.url = self.at(self.line.right)
        super().start_host(service, **how)

    def at(self, end: Path) -> str:
        return f"serial://{end}?baudrate=921600&framing={self.framing}"


@pytest.fixture(params=["link", "raw"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SerialBench]:
    line = PtyLine(tmp_path)
    with ExitStack() as stack:
        stack.callback(line.unplug)
        made = SerialBench(stack, "")
        made.line, made.framing = line, request.param
        made.start()
        yield made


def until_it_works(call: Any) -> Any:
    deadline = monotonic() + PATIENCE_S
    pause = threading.Event()
    while True:
        try:
            return call()
        except (DeviceUnavailable, OutcomeUnknown):
            assert monotonic() < deadline, "the line came back"
            pause.wait(0.005)


def test_devices_callbacks_and_streams_cross_a_serial_line(bench: SerialBench) -> None:
    dmm, psu = bench.client().root.bench2.dmm1, bench.client().root.bench2.psu1
    assert (dmm.voltage, psu.count()) == (1.5, 1)
    assert dmm.each(lambda number: number + psu.count(), 3) == [2, 4, 6]
    assert list(dmm.samples(5)) == [0, 1, 2, 3, 4]
    assert dmm.trace(1.0, 2.0).total() == 3.0
    assert len(dmm.echo(bytes(300_000))) == 300_000


def test_an_unplugged_line_is_an_error_at_once_and_its_return_is_noticed_by_itself(bench: SerialBench) -> None:
    conn = bench.client()
    dmm = conn.root.bench2.dmm1
    calls = 1
    assert dmm.count() == 1
    for _ in range(2):
        blocked = gateway.async_(dmm.block)()
        assert bench.devices["dmm1"].entered.wait(5)
        begin = monotonic()
        bench.line.unplug()
        with pytest.raises(OutcomeUnknown):
            blocked.value  # noqa: B018
        assert monotonic() - begin < 1
        with pytest.raises(DeviceUnavailable):
            dmm.count()
        assert conn.root.describe()["bench2.dmm1"]["state"] == "unavailable"
        bench.devices["dmm1"].release.set()
        bench.line.plug()
        begin = monotonic()
        found = until_it_works(dmm.count)
        assert monotonic() - begin < 5  # mostly a few hundredths of a second; raw lines ask once a second
        assert found == calls + 2  # the one that was cut ran once, and so did this one
        calls = found
        bench.devices["dmm1"].entered.clear()
        bench.devices["dmm1"].release.clear()
    assert not conn.closed


def test_a_bulk_transfer_does_not_hold_up_another_devices_small_calls(bench: SerialBench) -> None:
    if bench.framing == "raw":
        pytest.skip("raw frames can't overtake each other")
    bulk, small = bench.client().root.bench2.dmm1, bench.client().root.bench2.psu1
    assert small.count() == 1
    bench.devices["dmm1"].listener = bytes(range(256)) * 4096 * 4
    begin = monotonic()
    transfer = gateway.async_(bulk.listened)()
    times = []
    while not transfer.ready:
        at = monotonic()
        small.count()
        times.append(monotonic() - at)
    took_s = monotonic() - begin
    assert transfer.value == bench.devices["dmm1"].listener
    assert len(times) > 5, "the transfer was too short to tell"
    assert sorted(times)[len(times) // 2] < took_s / 10


def test_a_host_that_is_started_anew_is_found_again(bench: SerialBench) -> None:
    dmm = bench.client().root.bench2.dmm1
    assert dmm.count() == 1
    bench.host.close()
    wait_until(lambda: not bench.bridge.is_up, "the gateway noticed")
    bench.start_host()
    assert until_it_works(dmm.count) == 2


def test_a_gateway_can_be_restarted_while_its_host_stays(bench: SerialBench) -> None:
    for _ in range(2):
        bench.bridge.close()
        bench.bridge = Host("bench2", bench.at(bench.line.left))
        bench.stack.callback(bench.bridge.close)
        bench.bridge.start()
        assert bench.bridge.wait_up(PATIENCE_S)
        assert bench.bridge.device("dmm1").exposures()["voltage"].unit == "V"
