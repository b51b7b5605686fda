"""Server: who is let in, whom each peer is served by, and how serving ends."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest

import gateway
from gateway import Limits, Server, Service
from gateway.channels import memory_pair
from gateway.errors import AccessDenied, Busy, ConfigError, LinkDown
from gateway.protocol import brine
from gateway.protocol.framing import frame
from tests.behaviour.conditions import eventually

TCP: Final = "tcp://127.0.0.1:0"
OPEN: Final = {
    f"allow_{key}": True
    for key in ("all_attrs", "public_attrs", "safe_attrs", "exposed_attrs", "getattr", "setattr", "delattr", "pickle")
}


class Counter(Service):
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.count = 0

    def exposed_next(self) -> int:
        self.count += 1
        return self.count


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """`serve(service, url=TCP, ...)` -> a started server, closed after the test."""
    with ExitStack() as stack:

        def serve(service: Any = Counter, url: str = TCP, config: Any = None, **how: Any) -> Server:
            server = Server(service, url, config, **how)
            stack.callback(server.close)
            server.start()
            return server

        yield serve


@pytest.fixture
def connect() -> Iterator[Callable[..., Any]]:
    """`connect(server)` -> a client connection, closed after the test."""
    with ExitStack() as stack:

        def connect(server: Server, **how: Any) -> Any:
            conn = gateway.connect(server.url, timeout=5, **how)
            stack.callback(conn.close)
            return conn

        yield connect


Serve = Callable[..., Server]
Connect = Callable[..., Any]


def raw_peer(server: Server, host: str = "127.0.0.1") -> socket.socket:
    """A bare socket, connected from `host`, which may be any address of the loopback network."""
    port = int(server.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), 5, source_address=(host, 0))


def turned_away(peer: socket.socket) -> bool:
    """Whether the server closes this connection at once."""
    peer.settimeout(1.0)
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def served(peer: socket.socket) -> bool:
    """Whether the server answers on this connection."""
    peer.sendall(frame(b"\x01" + brine.dump((0, (1, (1, ("echo",))))), Limits()))
    peer.settimeout(5.0)
    try:
        return b"echo" in peer.recv(64)
    except ConnectionError:
        return False


# -- starting ----------------------------------------------------------------------------------------------------------


def test_a_started_server_listens_at_the_url_it_tells(serve: Serve, connect: Connect) -> None:
    server = serve()
    assert server.url.startswith("tcp://127.0.0.1:")
    assert not server.url.endswith(":0")
    assert connect(server).root.next() == 1


def test_before_it_starts_a_server_tells_the_url_it_was_given() -> None:
    server = Server(Counter, "tcp://127.0.0.1:0")
    assert server.url == "tcp://127.0.0.1:0"
    assert server.local_only
    assert server.connections == 0


def test_starting_again_changes_nothing(serve: Serve, connect: Connect) -> None:
    server = serve()
    url = server.url
    server.start()
    assert server.url == url
    assert connect(server).root.next() == 1


def test_two_servers_can_not_listen_at_the_same_port(serve: Serve) -> None:
    with pytest.raises(ConfigError):
        Server(Counter, serve().url).start()


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:99999", "gopher://x", "nonsense"])
def test_a_url_that_can_not_be_listened_at_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError):
        Server(Counter, url).start()


def test_the_default_is_the_known_port_of_this_machine_only() -> None:
    assert Server(Counter).url == "tcp://127.0.0.1:18871"


def test_the_log_says_where_it_serves_and_how_far_that_is_reachable(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "gateway.server.server"):
        server = serve()
        everywhere = serve(url="tcp://0.0.0.0:0")
    assert server.local_only
    assert not everywhere.local_only
    assert "reachable from this machine only" in caplog.messages[0]
    assert "reachable from other machines too" in caplog.messages[1]


def test_a_server_serves_at_a_unix_socket_too(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    server = serve(url=f"unix://{tmp_path}/gateway.sock")
    assert connect(server).root.next() == 1
    server.close()
    assert not list(tmp_path.iterdir())


# -- services ----------------------------------------------------------------------------------------------------------


def test_a_class_gives_each_peer_a_service_of_its_own(serve: Serve, connect: Connect) -> None:
    server = serve(Counter)
    assert [connect(server).root.next() for _ in range(3)] == [1, 1, 1]


def test_an_instance_is_shared_by_all_peers(serve: Serve, connect: Connect) -> None:
    server = serve(Counter())
    assert [connect(server).root.next() for _ in range(3)] == [1, 2, 3]


def test_connections_are_counted_as_they_come_and_go(serve: Serve, connect: Connect) -> None:
    server = serve()
    conns = [connect(server) for _ in range(3)]
    assert eventually(lambda: server.connections == 3)
    assert repr(server) == f"<Server at {server.url} (3 connections)>"
    conns[0].close()
    assert eventually(lambda: server.connections == 2)


class Diary(Service):
    """Shared by all peers; notes who comes and goes, and what the config says of each."""

    def __init__(self) -> None:
        self.came: list[Any] = []
        self.left: list[Any] = []

    def on_connect(self, conn: Any) -> None:
        self.came.append(conn)

    def on_disconnect(self, conn: Any) -> None:
        self.left.append(conn)


def test_the_service_is_told_of_each_peer_once(serve: Serve, connect: Connect) -> None:
    diary = Diary()
    server = serve(diary)
    conn = connect(server)
    conn.ping()
    assert len(diary.came) == 1
    assert diary.left == []
    conn.close()
    assert eventually(lambda: diary.left == diary.came)


def test_the_config_is_each_connections_and_knows_both_addresses(serve: Serve, connect: Connect) -> None:
    diary, config = Diary(), {"allow_public_attrs": True, "credentials": "bench"}
    server = serve(diary, config=config)
    conn = connect(server)
    conn.ping()
    found = diary.came[0].config
    assert (found["allow_public_attrs"], found["credentials"]) == (True, "bench")
    local, remote = found["endpoints"]
    assert f"tcp://{local[0]}:{local[1]}" == server.url
    assert remote == conn.config["endpoints"] or remote[0] == "127.0.0.1"
    assert "endpoints" not in config


def test_a_callback_of_a_strict_server_waits_no_longer_than_the_limits_say(serve: Serve, connect: Connect) -> None:
    for configured, allowed in ((30, 2.0), (None, 2.0), (1, 1)):
        diary = Diary()
        config = {"sync_request_timeout": configured}
        connect(serve(diary, config=config, limits=Limits(callback_s=2.0), strict=True)).ping()
        assert diary.came[0].config["sync_request_timeout"] == allowed


class Refusing(Service):
    """Takes nobody."""

    left = 0

    def __init__(self, error: Exception) -> None:
        self.error = error

    def on_connect(self, conn: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "logged"), [(RuntimeError("no"), True), (Busy("no"), False)], ids=["a-fault", "a-refusal"]
)
def test_a_service_that_refuses_a_peer_ends_its_connection_at_once_and_only_a_fault_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture, error: Exception, logged: bool
) -> None:
    server = serve(Refusing(error))
    with raw_peer(server) as peer:
        assert turned_away(peer)
    assert eventually(lambda: server.connections == 0)
    assert ("on_connect" in caplog.text) is logged


def test_a_service_that_can_not_be_made_costs_its_peer_only(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Service):
        made = 0

        def __init__(self) -> None:
            Broken.made += 1
            if Broken.made == 1:
                raise RuntimeError("no service today")

    server = serve(Broken, limits=Limits(connections_per_host=1))
    with raw_peer(server) as peer:
        assert turned_away(peer)
    assert eventually(lambda: "no service today" in caplog.text)
    with raw_peer(server) as peer:
        assert served(peer), "its place is free again"


@pytest.mark.parametrize("where", ["__init__", "on_connect"])
def test_a_service_that_takes_its_time_delays_nobody_else(serve: Serve, connect: Connect, where: str) -> None:
    began, go_on = threading.Event(), threading.Event()

    class Slow(Service):
        first = True

        def wait(self, *args: Any) -> None:
            if Slow.first:
                Slow.first = False
                began.set()
                go_on.wait(10)

        def exposed_ping(self) -> str:
            return "pong"

    setattr(Slow, where, Slow.wait)
    server = serve(Slow)
    with raw_peer(server):
        assert began.wait(5)
        started = time.monotonic()
        assert connect(server).root.ping() == "pong"
        assert time.monotonic() - started < 0.5
        go_on.set()


def test_a_service_may_close_its_connection_at_once(serve: Serve) -> None:
    class Closing(Service):
        def on_connect(self, conn: Any) -> None:
            conn.close()

    server = serve(Closing)
    with raw_peer(server) as peer:
        peer.settimeout(5)
        with suppress(ConnectionResetError):
            while peer.recv(64):
                pass
    assert eventually(lambda: server.connections == 0)


# -- how many ----------------------------------------------------------------------------------------------------------


def test_a_host_has_so_many_connections_and_no_more(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(limits=Limits(connections_per_host=3))
    with ExitStack() as peers:
        first, *_ = [peers.enter_context(raw_peer(server)) for _ in range(3)]
        assert turned_away(peers.enter_context(raw_peer(server)))
        assert eventually(lambda: "127.0.0.1 has 3" in caplog.text)
        assert served(peers.enter_context(raw_peer(server, "127.0.0.2"))), "another host is another host"
        assert eventually(lambda: server.connections == 4)
        first.close()
        assert eventually(lambda: server.connections == 3)
        assert served(peers.enter_context(raw_peer(server)))
        assert turned_away(peers.enter_context(raw_peer(server)))


def test_all_hosts_together_have_so_many_connections_and_no_more(serve: Serve) -> None:
    server = serve(limits=Limits(connections=3, connections_per_host=2))
    with ExitStack() as peers:
        hosts = [peers.enter_context(raw_peer(server, f"127.0.0.{number}")) for number in (1, 2, 3)]
        assert eventually(lambda: server.connections == 3)
        assert turned_away(peers.enter_context(raw_peer(server, "127.0.0.4")))
        hosts[0].close()
        assert eventually(lambda: server.connections == 2)
        assert served(peers.enter_context(raw_peer(server, "127.0.0.4")))


def test_hosts_that_left_are_forgotten(serve: Serve) -> None:
    server = serve()
    for number in range(1, 20):
        raw_peer(server, f"127.0.0.{number}").close()
    assert eventually(lambda: server.connections == 0 and not server._admitted)


def test_a_server_outlives_the_want_of_descriptors(serve: Serve) -> None:
    server = serve()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as unlucky, socket.socket() as later:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        filler = [os.open(os.devnull, os.O_RDONLY)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (filler[0] + 8, hard))
        try:
            with suppress(OSError):
                while True:
                    filler.append(os.dup(filler[0]))
            unlucky.settimeout(5)
            unlucky.connect(address)
            assert turned_away(unlucky), "it is told, and not left waiting"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in filler:
                os.close(descriptor)
        later.connect(address)
        assert served(later)


def test_many_peers_at_once_are_all_served(serve: Serve, connect: Connect) -> None:
    server = serve(Counter(), limits=Limits(connections_per_host=64))
    conns = [connect(server) for _ in range(40)]
    results: list[int] = []
    threads = [threading.Thread(target=lambda conn=conn: results.append(conn.root.next())) for conn in conns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == sorted(set(results))
    assert len(results) == 40


# -- the end -----------------------------------------------------------------------------------------------------------


def test_closing_ends_the_connections_and_frees_the_port(serve: Serve, connect: Connect) -> None:
    server = serve()
    conn = connect(server)
    conn.ping()
    server.close()
    assert server.connections == 0
    assert eventually(lambda: conn.closed)
    again = serve(url=server.url)
    assert connect(again).root.next() == 1


def test_closing_takes_about_a_second_where_a_peer_is_frozen(serve: Serve, connect: Connect) -> None:
    server = serve()
    with raw_peer(server) as frozen:
        connect(server).ping()
        assert eventually(lambda: server.connections == 2)
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 1.5
        assert server.connections == 0
        assert b"\x01" in frozen.recv(64), "it was told"


def test_closing_again_and_closing_before_the_start_are_nothing(serve: Serve) -> None:
    server = serve()
    server.close()
    server.close()
    Server(Counter, TCP).close()


def test_a_closed_server_is_not_started_again(serve: Serve) -> None:
    server = serve()
    server.close()
    with pytest.raises(LinkDown, match="was closed; make a new one"):
        server.start()


def test_a_server_is_a_context_manager() -> None:
    with Server(Counter, TCP) as server, gateway.connect(server.url) as conn:
        assert conn.root.next() == 1
    with pytest.raises(LinkDown):
        gateway.connect(server.url, timeout=1)


def test_serving_for_ever_ends_when_another_thread_closes(connect: Connect) -> None:
    server = Server(Counter, TCP)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    assert eventually(lambda: not server.url.endswith(":0"))
    assert connect(server).root.next() == 1
    server.close()
    serving.join(5)
    assert not serving.is_alive()
    server.serve_forever()


class Ending(Service):
    def exposed_exit(self) -> None:
        raise SystemExit(3)

    def exposed_interrupt(self) -> None:
        raise KeyboardInterrupt

    def exposed_ping(self) -> str:
        return "pong"


@pytest.mark.parametrize(
    ("method", "key", "ending"),
    [
        ("exit", "propagate_SystemExit_locally", SystemExit),
        ("interrupt", "propagate_KeyboardInterrupt_locally", KeyboardInterrupt),
    ],
)
def test_serving_for_ever_ends_by_what_a_handler_ends_with(
    connect: Connect, method: str, key: str, ending: type[BaseException]
) -> None:
    server = Server(Ending, TCP, {key: True})
    ended: list[BaseException] = []

    def serve() -> None:
        try:
            server.serve_forever()
        except BaseException as error:
            ended.append(error)

    serving = threading.Thread(target=serve)
    serving.start()
    assert eventually(lambda: not server.url.endswith(":0"))
    conn = connect(server)
    with pytest.raises(LinkDown):
        getattr(conn.root, method)()
    serving.join(5)
    assert [type(error) for error in ended] == [ending]
    assert server.connections == 0


@pytest.mark.parametrize("method", ["exit", "interrupt"])
def test_a_handler_that_ends_is_only_an_error_where_the_config_says_so(
    serve: Serve, connect: Connect, method: str
) -> None:
    off = {"propagate_SystemExit_locally": False, "propagate_KeyboardInterrupt_locally": False}
    conn = connect(serve(Ending, config=off))
    with pytest.raises(Exception, match="SystemExit|KeyboardInterrupt"):
        getattr(conn.root, method)()
    assert conn.root.ping() == "pong"


SERVER_PROGRAM: Final = """
import gateway
with gateway.Server(gateway.VoidService, "tcp://127.0.0.1:0") as server:
    print(server.url, flush=True)
    server.serve_forever()
"""


def test_a_program_that_serves_for_ever_ends_by_ctrl_c() -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", SERVER_PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with program:
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        with gateway.connect(url) as conn:
            conn.ping()
            program.send_signal(signal.SIGINT)
            started = time.monotonic()
            program.wait(5)
            assert time.monotonic() - started < 3.0
            assert eventually(lambda: conn.closed)
    assert program.returncode != 0


# -- one channel -------------------------------------------------------------------------------------------------------


def test_a_channel_that_is_open_already_is_served() -> None:
    server = Server(Counter, TCP)
    ours, theirs = memory_pair()
    served = server.serve_channel(theirs)
    conn = gateway.connect_channel(ours)
    assert conn.root.next() == 1
    assert server.connections == 1
    conn.close()
    assert eventually(lambda: served.closed and server.connections == 0)
    server.close()


def test_a_channel_whose_service_can_not_be_made_is_closed() -> None:
    class Broken(Service):
        def __init__(self) -> None:
            raise RuntimeError("no service today")

    server = Server(Broken, TCP)
    ours, theirs = memory_pair()
    with pytest.raises(RuntimeError, match="no service today"):
        server.serve_channel(theirs)
    assert theirs.closed
    assert server.connections == 0
    assert not server._admitted
    ours.close()


def test_a_channel_that_comes_after_the_end_is_closed() -> None:
    server = Server(Counter, TCP)
    server.close()
    ours, theirs = memory_pair()
    assert server.serve_channel(theirs).closed
    assert ours.poll(1)
    with pytest.raises(LinkDown):
        ours.recv()
    ours.close()


# -- strict ------------------------------------------------------------------------------------------------------------


class Cabinet:
    """What a service returns: open to all under the seed's most open config."""

    public = "public"
    exposed_plate = "plate"

    def __init__(self) -> None:
        self.items = [1, 2, 3]
        self.exposed_label = "label"

    def method(self) -> str:
        return "method"

    def exposed_open(self) -> str:
        return "open"

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __eq__(self, other: object) -> bool:
        return True

    def __lt__(self, other: object) -> bool:
        return True

    def __call__(self) -> str:
        return "called"

    __hash__ = object.__hash__


class House(Service):
    def __init__(self) -> None:
        self._cabinet = Cabinet()

    def exposed_cabinet(self) -> Cabinet:
        return self._cabinet

    def exposed_kind(self) -> type:
        return Cabinet

    def exposed_fail(self) -> None:
        raise ValueError(f"in {__file__} at {hex(id(self))}")


ATTEMPTS: Final[dict[str, Callable[[Any], Any]]] = {
    "read a public attribute": lambda cabinet: cabinet.public,
    "read a private attribute": lambda cabinet: cabinet.__dict__,
    "call a public method": lambda cabinet: cabinet.method(),
    "set an attribute": lambda cabinet: setattr(cabinet, "public", 5),
    "set an exposed attribute": lambda cabinet: setattr(cabinet, "exposed_plate", 5),
    "delete an attribute": lambda cabinet: delattr(cabinet, "exposed_label"),
    "call the object": lambda cabinet: cabinet.____conn__.sync_request(7, cabinet, (), ()),
    "take its length": lambda cabinet: cabinet.____conn__.sync_request(8, cabinet, "__len__", (), ()),
    "take an item": lambda cabinet: cabinet.____conn__.sync_request(8, cabinet, "__getitem__", (0,), ()),
    "compare it": lambda cabinet: cabinet < 5,
    "pickle it": lambda cabinet: cabinet.____conn__.sync_request(14, cabinet, 4),
    "iterate it": lambda cabinet: cabinet.____conn__.sync_request(17, cabinet, 3),
    "slice it": lambda cabinet: cabinet.____conn__.sync_request(18, cabinet, "__getitem__", "__getslice__", 0, 1, ()),
    "reach for its class": lambda cabinet: cabinet.____conn__.sync_request(4, cabinet, "__class__"),
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_strict_refuses_what_the_most_open_config_allows(
    serve: Serve, connect: Connect, attempt: Callable[[Any], Any]
) -> None:
    house = House()
    strict = connect(serve(house, config=OPEN, strict=True)).root
    with pytest.raises(AccessDenied):
        attempt(strict.cabinet())
    assert house._cabinet.exposed_plate == "plate"
    seed = connect(serve(House, config=OPEN)).root
    attempt(seed.cabinet())


def test_strict_lets_exposed_members_through_whatever_the_config_says(serve: Serve, connect: Connect) -> None:
    shut = {key: False for key in OPEN}  # noqa: C420
    root = connect(serve(House, config=shut, strict=True)).root
    assert root.cabinet().open() == "open"
    assert root.cabinet().plate == "plate"
    assert set(dir(root.cabinet())) == {"open", "plate"}, "what the class says"


def test_strict_makes_no_object_of_a_class_it_was_handed(serve: Serve, connect: Connect) -> None:
    kind = connect(serve(House, strict=True)).root.kind()
    with pytest.raises(AccessDenied):
        kind.____conn__.sync_request(7, kind, (), ())


def test_strict_lets_no_path_and_no_address_out_and_the_log_has_both(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    root = connect(serve(House, strict=True)).root
    with pytest.raises(ValueError, match=r"^in \.\.\. at \.\.\.$") as refused:
        root.fail()
    assert "denied" in refused.value._remote_tb  # type: ignore[attr-defined]
    reference = refused.value.reference  # type: ignore[attr-defined]
    logged = next(record for record in caplog.records if f"[{reference}]" in record.getMessage())
    assert logged.exc_info is not None
    assert os.path.basename(__file__) in str(logged.exc_info[1])
