"""Pairing over real sockets: the desk, and the client that goes there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import pytest

from gateway.errors import ConfigError, LinkDown, NotFound, Unauthenticated, Unreachable
from gateway.identity import ca
from gateway.identity.clients import Clients
from gateway.identity.grants import Granter
from gateway.identity.pairing import ClientSide, Invitation
from gateway.identity.pairing_net import PEERS, PairingDesk, pair_with

CODE = "1234-5678"


class Desk:
    """A desk that runs in a thread."""

    def __init__(self, folder: Path, lifetime_s: float = 60.0) -> None:
        self.granter = Granter(
            authority=ca.Authority.open(folder), clients=Clients(folder), name="bench", id="1", port=18871
        )
        self.invitation = Invitation(CODE, now=monotonic(), lifetime_s=lifetime_s)
        self.desk = PairingDesk(self.invitation, self.granter.grant, host="127.0.0.1", port=0)
        self.port = self.desk.port
        self.outcome: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: self.outcome.append(self.desk.run(self._stop.is_set)))
        self._thread.start()

    def ended(self) -> str:
        """Why the code is good no more."""
        self._thread.join(10)
        return self.outcome[0]

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)


@pytest.fixture
def open_desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    with ExitStack() as stack:

        def make(lifetime_s: float = 60.0) -> Desk:
            desk = Desk(tmp_path / "gateway", lifetime_s)
            stack.callback(desk.close)
            return desk

        yield make


def go(desk: Desk, code: str = CODE) -> str:
    return pair_with("127.0.0.1", desk.port, ClientSide(code, "alice")).client


def test_a_client_comes_and_the_desk_closes(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    assert go(desk) == "alice"
    assert desk.ended() == "this code has been used"
    with pytest.raises(Unreachable, match="run `gateway pair` on the gateway first"):
        go(desk)


def test_three_wrong_codes_close_the_desk(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    for left in ("2 more", "1 more", "run `gateway pair` again"):
        with pytest.raises(Unauthenticated, match=f"wrong code; {left}"):
            go(desk, "8765-4321")
    assert "dead" in desk.ended()
    assert [failure[:10] for failure in desk.desk.failures] == ["wrong code"] * 3
    assert desk.granter.granted is None


def test_the_desk_closes_when_the_code_expires(open_desk: Callable[..., Desk]) -> None:
    assert open_desk(0.1).ended() == "this code has expired"


def test_who_says_nothing_or_nonsense_is_in_nobody_s_way(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", desk.port), timeout=5)) for _ in range(2 * PEERS)
        ]
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", desk.port), timeout=5) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert sock.recv(100) == b""
        assert go(desk) == "alice"
        assert desk.ended() == "this code has been used"
        assert all(sock.recv(1) == b"" for sock in idle)


def test_a_message_that_comes_byte_by_byte_is_understood(open_desk: Callable[..., Desk]) -> None:
    desk, side = open_desk(), ClientSide(CODE, "slow")
    hello = side.hello()
    with socket.create_connection(("127.0.0.1", desk.port), timeout=5) as sock:
        for byte in len(hello).to_bytes(2, "big") + hello:
            sock.sendall(bytes([byte]))
        size = int.from_bytes(sock.recv(2, socket.MSG_WAITALL), "big")
        assert b"answer" in sock.recv(size, socket.MSG_WAITALL)


def test_a_desk_that_goes_away_is_an_error_for_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def leave() -> None:
            sock, _ = server.accept()
            sock.recv(4096)
            sock.close()

        thread = threading.Thread(target=leave)
        thread.start()
        with pytest.raises(LinkDown, match="run `gateway pair` there again"):
            pair_with("127.0.0.1", server.getsockname()[1], ClientSide(CODE, "a"))
        thread.join(5)


def test_a_desk_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(Unreachable, match="no answer|timed out"):
            pair_with("127.0.0.1", server.getsockname()[1], ClientSide(CODE, "a"), timeout=0.2)

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(NotFound, match="check its spelling"):
        pair_with("bench33", 1, ClientSide(CODE, "a"))


def test_a_taken_port_says_what_may_hold_it(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    with pytest.raises(ConfigError, match="is another `gateway pair` running"):
        PairingDesk(desk.invitation, desk.granter.grant, host="127.0.0.1", port=desk.port)


def test_every_interface_is_waited_at_by_default(open_desk: Callable[..., Desk]) -> None:
    desk = open_desk()
    everywhere = PairingDesk(desk.invitation, desk.granter.grant, port=0)
    with socket.create_connection(("127.0.0.1", everywhere.port), timeout=5):
        everywhere.run(lambda: True)
