"""Who the other end of a connection is, over each kind of channel."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gateway.channels import Channel, Listener, listen, memory_pair, open_channel
from gateway.channels.unix import UnixPeer, peer_credentials, user_name
from gateway.errors import LinkDown, Unauthenticated
from gateway.identity.principal import Kind, Principal, Role, fingerprint
from gateway.server.principals import principal_of
from tests.identity.kit import Pairing


def accepted(listener: Listener) -> Channel:
    assert select.select([listener.fileno()], [], [], 5.0)[0]
    channel = listener.accept()
    assert channel is not None
    return channel


def me() -> str:
    return user_name(os.getuid())


def test_a_unix_socket_s_peer_is_the_user_that_the_kernel_names(tmp_path: Path) -> None:
    with closing(listen(f"unix://{tmp_path}/s")) as listener:
        script = f"import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('{tmp_path}/s'); sys.stdin.read()"
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
            with closing(accepted(listener)) as channel:
                assert peer_credentials(channel) == UnixPeer(os.getuid(), me(), process.pid)
                assert principal_of(channel) == Principal(name=me(), kind=Kind.LOCAL, default=Role.ADMIN)
            assert process.stdin is not None
            process.stdin.close()
        with pytest.raises(LinkDown):
            peer_credentials(channel)


def test_a_program_of_this_machine_over_tcp_is_loopback() -> None:
    with closing(listen("tcp://127.0.0.1:0")) as listener, closing(open_channel(listener.url)):
        with closing(accepted(listener)) as channel:
            assert peer_credentials(channel) is None
            assert principal_of(channel) == Principal(name="127.0.0.1", kind=Kind.LOOPBACK, default=Role.ADMIN)


def test_a_paired_client_has_its_name_and_roles(tmp_path: Path) -> None:
    pairing = Pairing(tmp_path)
    own = pairing.add("alice", role=Role.OBSERVE, psu1=Role.ADMIN)
    with closing(listen(pairing.listen_url)) as listener, closing(open_channel(pairing.url_of(listener.url, own))):
        with closing(accepted(listener)) as channel:
            principal = principal_of(channel, pairing.clients)
            assert principal == pairing.entry("alice").principal
            assert str(principal) == "alice (certificate)"
            assert principal.role("psu1") is Role.ADMIN
            assert fingerprint(channel.certificate or b"") in pairing.clients.last_seen()
            with pytest.raises(Unauthenticated, match="no list of clients"):
                principal_of(channel)
            pairing.clients.revoke("alice")
            with pytest.raises(Unauthenticated, match="alice was revoked"):
                principal_of(channel, pairing.clients)


class Elsewhere(Channel):
    """A channel from an address of the network; nothing goes over it."""

    endpoints = (("192.0.2.1", 18871), ("::ffff:192.0.2.9", 40000))
    closed = False

    def send(self, data: bytes) -> None: ...
    def recv(self) -> bytes:
        raise LinkDown

    def poll(self, timeout: float | None) -> bool:
        return False

    def close(self) -> None: ...
    def fileno(self) -> int:
        return 0


def test_anybody_from_the_network_may_operate_at_most() -> None:
    assert principal_of(Elsewhere()) == Principal(name="192.0.2.9", kind=Kind.NETWORK, default=Role.OPERATE)


def test_a_pipe_belongs_to_the_user_of_this_process() -> None:
    here, there = memory_pair()
    with closing(here), closing(there):
        assert principal_of(here).name == me()
        assert principal_of(here).default is Role.ADMIN


def test_a_user_without_a_name_has_a_number() -> None:
    assert user_name(4_000_000_000) == "uid 4000000000"
