"""A host that is one device, as a board is: its name, its safe state, and what the gateway notes of its absences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import gateway
from gateway.errors import ConfigError, DeviceUnavailable, NotFound
from gateway.server.reception import Reception
from gateway.service.exposure import exposed
from gateway.service.service import Service
from tests.server.bridged import Bench, Meter, wait_until

MEMBERS = [
    {"name": "count", "kind": "method", "access": "control", "signature": "() -> int", "doc": "One more.", "unit": ""},
    {"name": "voltage", "kind": "property", "access": "read", "signature": "-> float", "doc": "", "unit": "V"},
]


class BoardService(Service):
    """What firmware says: one device, which is the host, and a safe state that the root reaches."""

    def __init__(self) -> None:
        self.meter = Meter()
        self.safes = 0
        self.answers: Any = True
        self.identity = "firmware 1.0"

    @exposed
    def get_service_name(self) -> str:
        return "BOARD"

    @exposed
    def describe(self, name: str | None = None) -> Any:
        if name is not None:
            return {"members": MEMBERS}
        return {
            "board": {
                "driver": "Example",
                "doc": "An example.",
                "identity": self.identity,
                "safe_state": "all off",
                "needs_lease": True,
                "sole": True,
            }
        }

    @exposed
    def device(self, name: str) -> Any:
        return self.meter

    @exposed
    def test_safe(self, name: str) -> Any:
        self.safes += 1
        return self.answers


class BoardBench(Bench):
    """The gateway's clients are met as they are in a real one, so that leases count."""

    def start_gateway(self, local: Any = None, **how: Any) -> None:
        super().start_gateway(local, **how)
        self.front.close()
        service = self.front_service
        self.front = gateway.Server(
            service, "tcp://127.0.0.1:0", strict=True, introduce=Reception(service.keeper).introduce
        )
        self.front.start()
        service.keeper.start()
        self.stack.callback(service.keeper.close)
        self.stack.callback(self.front.close)

    def blink(self) -> None:
        """The line breaks, and is there again."""
        before = len(self.bridge.absences)
        self.cut()
        wait_until(lambda: len(self.bridge.absences) > before, "the gateway noticed")
        assert self.bridge.wait_up(5)


@pytest.fixture
def served() -> Iterator[tuple[BoardBench, BoardService]]:
    with ExitStack() as stack:
        bench, board = BoardBench(stack, "tcp://127.0.0.1:0"), BoardService()
        bench.start_host(board)
        bench.start_gateway()
        assert bench.bridge.wait_up(5)
        yield bench, board


Served = tuple[BoardBench, BoardService]


def test_it_is_served_under_its_host_s_name(served: Served) -> None:
    root = served[0].client().root
    assert root.names() == ["bench2"]
    assert (root.bench2.voltage, root.device("bench2").voltage, root.device("bench2.board").voltage) == (1.5, 1.5, 1.5)
    assert root.describe().keys() == {"bench2"}
    described = root.describe("bench2")
    assert (described["name"], described["driver"], described["host"]) == ("bench2", "Example", "bench2")
    assert described["identity"] == "firmware 1.0"
    assert [row["name"] for row in described["members"]] == ["count", "voltage"]
    assert "voltage" in dir(root.bench2)


def test_a_client_that_came_before_the_board_finds_it_when_it_is_there() -> None:
    with ExitStack() as stack:
        bench, board = BoardBench(stack, "tcp://127.0.0.1:0"), BoardService()
        bench.start_host(board)
        bench.host.close()
        bench.start_gateway()
        conn = bench.client()
        with pytest.raises(DeviceUnavailable, match="bench2"):
            conn.root.bench2.voltage  # noqa: B018
        bench.start_host(board)
        assert bench.bridge.wait_up(5)
        assert conn.root.bench2.voltage == 1.5


def test_a_lease_of_it_ends_in_the_safe_state_that_its_root_reaches(served: Served) -> None:
    bench, board = served
    conn = bench.client()
    with conn.lease("bench2") as leased:
        assert leased["bench2"].count() == 1
        assert board.safes == 0
    wait_until(lambda: board.safes == 1, "it was made safe")
    wait_until(lambda: conn.root.describe("bench2")["made_safe"] is not None, "it was told")
    assert conn.root.describe("bench2")["made_safe"]["outcome"] == "verified"


def test_what_the_root_says_of_the_safe_state_is_believed(served: Served) -> None:
    bench, board = served
    board.answers = False
    conn = bench.client()
    report = conn.root.test_safe("bench2")
    assert (report["outcome"], board.safes) == ("failed", 1)
    assert "bench2 says of its safe state: False" in report["detail"]


def test_after_an_absence_a_device_that_was_controlled_is_made_safe_before_it_is_used_again(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    bench, board = served
    conn = bench.client()
    with conn.lease("bench2") as leased:
        assert leased["bench2"].count() == 1
        board.identity = "firmware 1.1"
        bench.blink()
        wait_until(lambda: board.safes == 1, "it was made safe")
        assert leased["bench2"].count() == 2
    assert "bench2 is another one than before: firmware 1.1, and was firmware 1.0" in caplog.text


def test_what_was_only_read_is_left_alone_after_an_absence(served: Served) -> None:
    bench, board = served
    conn = bench.client()
    assert conn.root.bench2.voltage == 1.5
    bench.blink()
    assert conn.root.bench2.voltage == 1.5
    assert board.safes == 0


def test_host_info_tells_of_absences(served: Served) -> None:
    bench, _ = served
    root = bench.client().root
    first = root.host_info("bench2")
    assert (first["name"], first["state"], first["absences"], first["line"]) == ("bench2", "open", [], None)
    assert first["url"] == bench.url
    assert [device["identity"] for device in first["devices"]] == ["firmware 1.0"]
    bench.blink()
    (absence,) = root.host_info("bench2")["absences"]
    assert absence["since"] <= absence["until"]
    assert absence["why"]
    bench.stop_host()
    bench.wait_away()
    away = root.host_info("bench2")
    assert (away["state"], away["since"][:2]) == ("unavailable", "20")
    with pytest.raises(NotFound, match="there are: bench2"):
        root.host_info("bench3")


def test_a_host_without_a_way_to_reset_it_says_what_to_write_into_the_config(served: Served) -> None:
    root = served[0].client().root
    with pytest.raises(ConfigError, match=r"put such as reset = 'dtr' into \[hosts.bench2\]"):
        root.reset_host("bench2")
    with pytest.raises(NotFound):
        root.reset_host("bench3")
