"""A device that demands heartbeats is leased to clients that send them, and to no others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import gateway
from gateway.config.common import DeviceCommon
from gateway.errors import NotLeased
from tests.server.kept import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack, box1=DeviceCommon(heartbeat_s=0.5))


def test_a_client_that_sends_none_gets_no_lease_of_it_but_may_read(bench: Bench) -> None:
    with gateway.connect(bench.url, background=False) as silent:
        with pytest.raises(NotLeased, match="box1 is only for clients that send heartbeats"):
            silent.root.lease("box1", "box2")
        assert silent.root.box1.level == 0.0
        assert silent.root.lease("box2").status()["state"] == "held"


def test_a_client_of_ours_is_told_how_often_and_has_it(bench: Bench) -> None:
    with bench.connect().lease("box1") as lease:
        assert lease.status()["heartbeat_s"] == 0.5
        lease.box1.set_level(2.0)
    assert "set 2" in bench.box1.what()
