"""Heartbeats: empty frames by which each end knows that the other one runs. Only peers of our kind send them."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import gateway
from gateway.server.custody import SILENT_S
from gateway.sync.connection import BEAT_S
from gateway.sync.reactor import HOUSEKEEPING_S
from tests.server.kept import Bench, until

SILENCE_S = 2 * (BEAT_S + HOUSEKEEPING_S) + 2.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def bench(stack: ExitStack) -> Bench:
    return Bench(stack)


def test_silence_is_noticed_later_than_two_heartbeats_and_within_five_seconds() -> None:
    assert BEAT_S + HOUSEKEEPING_S < SILENT_S < 5.0 - 0.5


def test_peers_of_our_kind_agree_on_heartbeats_and_others_do_not(bench: Bench) -> None:
    conn = bench.connect()
    conn.root.names()
    assert conn.peer_beats
    unattended = gateway.connect(bench.url, background=False)
    unattended.root.names()
    served = [each for each in bench.server._connections if not each.peer_beats]
    assert len(served) == 1  # nobody would send them while it does not call
    unattended.close()


@pytest.mark.slow
def test_a_client_that_only_sits_there_is_heard(bench: Bench) -> None:
    conn = bench.connect()
    conn.root.names()
    (served,) = bench.server._connections
    silences = []
    deadline = time.monotonic() + SILENCE_S
    while time.monotonic() < deadline:
        silences.append(served.silent_s(time.monotonic()))
        time.sleep(0.05)
    assert max(silences) > 1.0  # it was silent at times
    assert max(silences) < 4.0


@pytest.mark.slow
def test_a_client_that_stands_still_is_silent_and_is_heard_again_when_it_goes_on(bench: Bench) -> None:
    client = bench.client("hold", "box1")
    client.hear()
    (served,) = bench.server._connections
    client.signal(signal.SIGSTOP)
    until(lambda: served.silent_s(time.monotonic()) > 3.0)
    client.signal(signal.SIGCONT)
    until(lambda: served.silent_s(time.monotonic()) < 0.5)


@pytest.mark.slow
def test_heartbeats_cost_no_thread(bench: Bench) -> None:
    conns = [bench.connect() for _ in range(10)]
    for conn in conns:
        conn.root.names()
    served = list(bench.server._connections)
    until(lambda: not _workers())  # those that have run out of work are gone after a while
    received = [conn.received for conn in served]
    names: set[str] = set()
    end = time.monotonic() + 2 * BEAT_S
    while time.monotonic() < end:
        names |= _workers()
        time.sleep(0.002)
    assert all(conn.silent_s(time.monotonic()) < 2 * BEAT_S for conn in served)
    assert names == set()
    assert [conn.received for conn in served] == received  # a heartbeat is no message


def _workers() -> set[str]:
    return {each.name for each in threading.enumerate() if "worker" in each.name}


@pytest.mark.slow
def test_a_stock_peer_gets_none(bench: Bench) -> None:
    host, port = "127.0.0.1", int(bench.url.rpartition(":")[2])
    with socket.create_connection((host, port)) as sock:
        sock.settimeout(2 * BEAT_S + HOUSEKEEPING_S)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_a_heartbeat_leaves_though_proxies_wait_to_be_given_back(bench: Bench) -> None:
    conn = bench.connect()
    conn.root.names()
    (served,) = bench.server._connections
    until(lambda: served.silent_s(time.monotonic()) > 0.2)
    conn._outbox.releases.append((("made.up", 1, 1), 1))
    conn.beat()
    conn._outbox.releases.clear()
    until(lambda: served.silent_s(time.monotonic()) < 0.1)


def test_a_beat_over_a_connection_that_is_gone_is_nothing(bench: Bench) -> None:
    conn = bench.connect()
    conn.root.names()
    conn.close()
    conn.beat()
