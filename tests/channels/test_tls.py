"""tls:// - who is let in, what a stranger can do at the door, and what each end is told."""

from __future__ import annotations

import os
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from gateway.channels import Channel, Listener, listen, open_channel
from gateway.channels.doorman import Doorman
from gateway.channels.stream import StreamChannel
from gateway.channels.tls import client_context
from gateway.errors import ConfigError, LinkDown, Unauthenticated, Unreachable
from gateway.identity import ca, trust
from gateway.identity.places import write_private
from gateway.identity.principal import fingerprint
from gateway.limits import Limits
from gateway.protocol.framing import frame
from tests.channels.test_listener import no_descriptors_left
from tests.identity.kit import Pairing

LIMITS = Limits()


@pytest.fixture(scope="module")
def pairing(tmp_path_factory: pytest.TempPathFactory) -> Pairing:
    return Pairing(tmp_path_factory.mktemp("pairing"))


@pytest.fixture
def open_door(pairing: Pairing) -> Iterator[Callable[..., Doorman]]:
    with ExitStack() as stack:

        def make(limits: Limits = LIMITS) -> Doorman:
            listener = listen(pairing.listen_url, limits=limits)
            assert isinstance(listener, Doorman)
            stack.callback(listener.close)
            return listener

        yield make


@pytest.fixture
def door(open_door: Callable[..., Doorman]) -> Doorman:
    return open_door()


def accepted(listener: Listener, timeout: float = 5.0) -> Channel | None:
    """Who is let in within the time."""
    return listener.accept() if select.select([listener.fileno()], [], [], timeout)[0] else None


def let_in(listener: Listener) -> Channel:
    channel = accepted(listener)
    assert channel is not None
    return channel


def knock(listener: Listener) -> socket.socket:
    """A bare TCP connection to it."""
    sock = socket.create_connection(("127.0.0.1", int(listener.url.rpartition(":")[2])))
    sock.settimeout(5)
    return sock


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline, pause = monotonic() + 5, threading.Event()
    while not condition():
        assert monotonic() < deadline, what
        pause.wait(0.002)


def everything_from(sock: socket.socket) -> bytes:
    """What it says until it closes."""
    said = b""
    try:
        while chunk := sock.recv(4096):
            said += chunk
    except ConnectionResetError:
        pass
    return said


def context_of(folder: Path, **changes: Any) -> ssl.SSLContext:
    context = client_context(folder)
    for name, value in changes.items():
        setattr(context, name, value)
    return context


# --------------------------------------------------------------------------------------------------------- heartbeats


def test_a_heartbeat_leaves_without_waiting_and_is_taken_without_reading(door: Doorman, pairing: Pairing) -> None:
    with closing(open_channel(pairing.url_of(door.url))) as ours, closing(let_in(door)) as theirs:
        for one, other in ((ours, theirs), (theirs, ours)):
            one.send(b"before")  # also gets what else TLS says at the beginning out of the way
            assert other.recv_within(5) == b"before"
            other.heard()
            assert not other.heard()
            assert one.takes_at_once()
            one.send(b"")
            wait_until(other.take_heartbeat, "the heartbeat came")
            assert other.heard()
            assert not other.take_heartbeat()
            one.send(b"after")
            assert other.recv_within(5) == b"after"


@pytest.mark.parametrize("first", [b"123456", b"x" * 5, b"x" * 7, b"x" * 300])
def test_what_is_no_heartbeat_is_not_taken_for_one_and_not_lost(door: Doorman, pairing: Pairing, first: bytes) -> None:
    with closing(open_channel(pairing.url_of(door.url))) as ours, closing(let_in(door)) as theirs:
        assert isinstance(ours, StreamChannel)
        ours.send(b"before")
        assert theirs.recv_within(5) == b"before"
        whole = frame(b"y" * 400, LIMITS)
        for part in (whole[: len(first)], whole[len(first) :]):
            ours._stream.write(part, 1.0)
            assert select.select([theirs.fileno()], [], [], 5)[0]
            assert not theirs.take_heartbeat()
        assert theirs.poll(5)
        assert theirs.recv() == b"y" * 400


def test_the_end_is_no_heartbeat_and_is_noticed_by_who_reads(door: Doorman, pairing: Pairing) -> None:
    with closing(open_channel(pairing.url_of(door.url))) as ours, closing(let_in(door)) as theirs:
        ours.send(b"before")
        assert theirs.recv_within(5) == b"before"
        ours.close()
        assert select.select([theirs.fileno()], [], [], 5)[0]
        assert not theirs.take_heartbeat()
        with pytest.raises(LinkDown):
            theirs.recv_within(5)


# --------------------------------------------------------------------------------------------------------- who gets in


def test_both_ends_know_who_the_other_is(door: Doorman, pairing: Pairing) -> None:
    with closing(open_channel(pairing.url_of(door.url))) as ours, closing(let_in(door)) as theirs:
        assert theirs.certificate is not None
        assert fingerprint(theirs.certificate) == pairing.entry().fingerprint
        shown = ca.read_certificate(pairing.gateway / ca.SERVER_CERTIFICATE)
        assert ours.certificate == ca.der(shown)
        assert theirs.endpoints == (ours.endpoints or ())[::-1]
        assert door.peer_host(theirs) == "127.0.0.1"


def test_other_channels_prove_nothing() -> None:
    with closing(listen("tcp://:0")) as plain, closing(open_channel(plain.url)) as channel:
        assert channel.certificate is None
        let_in(plain).close()


def test_it_is_tls_1_3_without_tickets(door: Doorman, pairing: Pairing) -> None:
    context = context_of(pairing.client)
    with context.wrap_socket(knock(door)) as sock, closing(let_in(door)) as served:
        assert sock.version() == "TLSv1.3"
        served.send(b"x")
        assert sock.recv(100) == frame(b"x", LIMITS)
        assert sock.session is None or not sock.session.has_ticket


def test_what_came_along_with_the_handshake_is_not_lost(door: Doorman, pairing: Pairing) -> None:
    with context_of(pairing.client).wrap_socket(knock(door)) as sock:
        sock.sendall(frame(b"early", LIMITS))
        with closing(let_in(door)) as served:
            assert served.recv_within(5.0) == b"early"


def test_what_came_with_the_very_last_bytes_of_the_handshake_is_known_without_the_descriptor(
    door: Doorman, pairing: Pairing
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context_of(pairing.client).wrap_bio(incoming, outgoing)
    with closing(knock(door)) as sock:
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        sock.sendall(outgoing.read())
        while True:
            incoming.write(sock.recv(4096))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        tls.write(frame(b"early", LIMITS))
        sock.sendall(outgoing.read())
        with closing(let_in(door)) as served:
            assert served.buffered
            assert served.poll(0)
            assert served.recv_within(0) == b"early"
            assert not served.buffered


@pytest.mark.parametrize("size", [1, 100, 16_384, 20_000])
def test_a_read_gives_at_most_what_was_asked_for_and_keeps_the_rest(door: Doorman, pairing: Pairing, size: int) -> None:
    sent = bytes(range(256)) * 200
    with closing(open_channel(pairing.url_of(door.url))) as ours, closing(let_in(door)) as theirs:
        assert isinstance(ours, StreamChannel)
        assert isinstance(theirs, StreamChannel)
        ours._stream.write(sent, 5.0)
        got = b""
        while len(got) < len(sent):
            chunk = theirs._stream.read(size, 5.0)
            assert chunk
            assert len(chunk) <= size
            got += chunk
        assert got == sent
        assert theirs._stream.read(size, 0) is None


def test_records_that_are_cut_into_single_bytes_are_read(door: Doorman, pairing: Pairing) -> None:
    with closing(open_channel(pairing.url_of(door.url))) as ours, closing(let_in(door)) as theirs:
        assert isinstance(ours, StreamChannel)
        stream: Any = ours._stream
        stream._tls.write(frame(b"slowly", LIMITS))
        for byte in stream._outgoing.read():
            stream._under.write(bytes([byte]), 1.0)
            assert not theirs.buffered
        assert theirs.recv_within(5.0) == b"slowly"


def test_a_record_that_was_changed_on_its_way_ends_the_connection(door: Doorman, pairing: Pairing) -> None:
    with closing(open_channel(pairing.url_of(door.url))) as ours, closing(let_in(door)) as theirs:
        assert isinstance(ours, StreamChannel)
        stream: Any = ours._stream
        stream._tls.write(frame(b"set_voltage 3.3", LIMITS))
        sealed = bytearray(stream._outgoing.read())
        sealed[-3] ^= 1
        stream._under.write(bytes(sealed), 1.0)
        with pytest.raises(LinkDown, match="changed on its way"):
            theirs.recv_within(5.0)


# ---------------------------------------------------------------------------------------------------- who does not


def test_without_a_certificate_nobody_gets_in(door: Doorman, pairing: Pairing) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(pairing.client / trust.CA)
    with context.wrap_socket(knock(door)) as sock, pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        sock.recv(1)
    assert accepted(door, 0) is None


def test_an_older_tls_does_not_get_in(door: Doorman, pairing: Pairing) -> None:
    context = context_of(pairing.client, minimum_version=ssl.TLSVersion.TLSv1_2)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with closing(knock(door)) as sock, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        context.wrap_socket(sock)


def test_a_client_of_another_gateway_does_not_get_in_and_is_told_why(
    door: Doorman, pairing: Pairing, tmp_path: Path
) -> None:
    other = Pairing(tmp_path)
    write_private(other.client / trust.CA, pairing.authority.pem)  # it believes this gateway, but shows another's paper
    with closing(open_channel(pairing.url_of(door.url, other.client))) as channel:
        with pytest.raises(LinkDown, match="the gateway refuses: .*another gateway.*; pair this computer"):
            channel.recv()
    assert accepted(door, 0) is None


def test_a_gateway_that_was_not_paired_with_is_not_believed(door: Doorman, pairing: Pairing, tmp_path: Path) -> None:
    other = Pairing(tmp_path)
    with pytest.raises(Unauthenticated, match="is not the gateway that was paired with.*pair again"):
        open_channel(pairing.url_of(door.url, other.client))


def test_a_paired_client_cannot_stand_in_for_the_gateway(door: Doorman, pairing: Pairing, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pairing.client / trust.CERTIFICATE, pairing.client / trust.KEY)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def impersonate() -> None:
            sock, _ = server.accept()
            with sock, pytest.raises(ssl.SSLError):
                context.wrap_socket(sock, server_side=True).recv(1)

        thread = threading.Thread(target=impersonate)
        thread.start()
        url = f"tls://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Unauthenticated, match="not the gateway"):
            open_channel(pairing.url_of(url))
        thread.join(5)


def test_the_gateways_own_certificate_is_no_clients(door: Doorman, pairing: Pairing) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(pairing.client / trust.CA)
    context.load_cert_chain(pairing.gateway / ca.SERVER_CERTIFICATE, pairing.gateway / ca.SERVER_KEY)
    with context.wrap_socket(knock(door)) as sock, pytest.raises(ssl.SSLError):
        sock.recv(1)
    assert accepted(door, 0) is None


def test_a_certificate_that_is_over_does_not_get_in_and_is_told_why(
    door: Doorman, pairing: Pairing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ca, "CLIENT_LIFE", timedelta(days=-1))
    own = pairing.add("over")
    with closing(open_channel(pairing.url_of(door.url, own))) as channel:
        with pytest.raises(LinkDown, match="has expired there; compare the clocks"):
            channel.recv()
    assert accepted(door, 0) is None


def test_a_certificate_of_the_ca_that_is_not_in_the_list_does_not_get_in(
    door: Doorman, pairing: Pairing, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "unlisted"
    own.mkdir(mode=0o700)
    key = ca.new_key()
    write_private(own / trust.KEY, ca.key_pem(key))
    write_private(own / trust.CERTIFICATE, pairing.authority.issue(key.public_key(), "unlisted").certificate)
    write_private(own / trust.CA, pairing.authority.pem)
    with closing(open_channel(pairing.url_of(door.url, own))) as channel:
        with pytest.raises(LinkDown, match="it may not know this computer any more; pair this computer"):
            channel.recv()
    assert accepted(door, 0) is None
    assert "not in the list of clients" in caplog.text


def test_who_was_revoked_does_not_get_in_any_more(door: Doorman, pairing: Pairing) -> None:
    own = pairing.add("leaver")
    with closing(open_channel(pairing.url_of(door.url, own))):
        let_in(door).close()
    pairing.clients.revoke("leaver")
    with closing(open_channel(pairing.url_of(door.url, own))) as channel:
        with pytest.raises(LinkDown, match="may not know this computer any more"):
            channel.recv()
    assert accepted(door, 0) is None


def test_a_list_that_is_broken_lets_nobody_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairing = Pairing(tmp_path)
    with closing(listen(pairing.listen_url)) as door:
        write_private(pairing.gateway / "clients.json", b"{")
        with closing(open_channel(pairing.url_of(door.url))) as channel, pytest.raises(LinkDown):
            channel.recv()
        assert accepted(door, 0) is None
    assert "nobody is let in until this is mended" in caplog.text
    with pytest.raises(ConfigError, match="nobody is let in"):
        listen(pairing.listen_url)


# --------------------------------------------------------------------------------------------------- at the door


def test_a_stranger_who_says_nothing_sees_nothing_and_is_gone_in_time(open_door: Callable[..., Doorman]) -> None:
    door = open_door(replace(LIMITS, handshake_s=0.3))
    with closing(knock(door)) as sock:
        assert everything_from(sock) == b""
    assert door.strangers == 0


def test_dribbling_gains_no_time(open_door: Callable[..., Doorman]) -> None:
    door = open_door(replace(LIMITS, handshake_s=0.5))
    pause = threading.Event()
    with closing(knock(door)) as sock, pytest.raises(OSError):
        deadline = monotonic() + 10
        hello = b"\x16\x03\x01\x0f\xff" + bytes(4000)
        for byte in hello:
            assert monotonic() < deadline
            sock.sendall(bytes([byte]))
            pause.wait(0.02)
    assert door.strangers == 0


def client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_a_stranger_may_send_4_kib_and_no_more(door: Doorman, caplog: pytest.LogCaptureFixture) -> None:
    # A good beginning, and then a record that is too long to come to its end.
    sent = (client_hello() + b"\x17\x03\x03\x40\x00" + bytes(5000))[:4096]
    with closing(knock(door)) as sock:
        sock.sendall(sent[:-1])
        assert sock.recv(5)[:1] == b"\x16"  # it was answered
        wait_until(lambda: door.strangers == 1, "one byte may still come")
        sock.sendall(sent[-1:])
        everything_from(sock)
    assert door.strangers == 0
    assert "sent 4096 bytes and no proof" in caplog.text


def test_a_first_message_that_says_it_is_long_is_refused_before_memory_is_taken_for_it(
    door: Doorman, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(knock(door)) as sock:
        sock.sendall(b"\x16\x03\x01\x3f\xfc\x01\x01\xff\xf8")
        assert everything_from(sock) == b""
    assert "begins with 131064 bytes, and may send 4096" in caplog.text


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_handshake_that_begins_in_pieces_goes_on(door: Doorman, cut: int) -> None:
    hello = client_hello()
    with closing(knock(door)) as sock:
        sock.sendall(hello[:cut])
        threading.Event().wait(0.01)
        sock.sendall(hello[cut:])
        assert sock.recv(5)[:1] == b"\x16"


@pytest.mark.parametrize(
    "words", [frame(b"\1\2\3", LIMITS), b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\x00\x02\x01\x00"]
)
def test_what_is_no_handshake_gets_an_alert_at_most(door: Doorman, words: bytes) -> None:
    with closing(knock(door)) as sock:
        sock.sendall(words)
        sock.shutdown(socket.SHUT_WR)
        assert len(everything_from(sock)) <= 7
    wait_until(lambda: door.strangers == 0, "it is gone")
    assert accepted(door, 0) is None


def test_strangers_who_leave_are_forgotten(door: Doorman) -> None:
    for _ in range(20):
        knock(door).close()
    wait_until(lambda: door.strangers == 0, "all have gone")


def test_a_flood_from_one_host_pushes_out_its_own_oldest(open_door: Callable[..., Doorman], pairing: Pairing) -> None:
    door = open_door(replace(LIMITS, handshakes_per_host=3))
    with ExitStack() as stack:
        flood = [stack.enter_context(closing(knock(door))) for _ in range(8)]
        assert [everything_from(sock) for sock in flood[:5]] == [b""] * 5
        wait_until(lambda: door.strangers == 3, "three are left")
        with closing(open_channel(pairing.url_of(door.url))), closing(let_in(door)):
            wait_until(lambda: door.strangers == 2, "who was let in is no stranger")


def test_there_are_never_more_strangers_than_may_be(open_door: Callable[..., Doorman]) -> None:
    door = open_door(replace(LIMITS, handshakes=4))
    with ExitStack() as stack:
        flood = [stack.enter_context(closing(knock(door))) for _ in range(10)]
        assert [everything_from(sock) for sock in flood[:6]] == [b""] * 6
        wait_until(lambda: door.strangers == 4, "four are left")
        assert all(not select.select([sock], [], [], 0)[0] for sock in flood[6:])


def test_closing_ends_the_strangers_and_the_waiting(door: Doorman, pairing: Pairing) -> None:
    with closing(knock(door)) as stranger, closing(open_channel(pairing.url_of(door.url))) as waiting:
        assert select.select([door.fileno()], [], [], 5.0)[0]
        door.close()
        door.close()
        assert door.closed
        assert everything_from(stranger) == b""
        with pytest.raises(LinkDown):
            waiting.recv()
        with pytest.raises(LinkDown, match="does not listen"):
            door.fileno()


# ---------------------------------------------------------------------------------------------- what a client is told


def test_an_address_that_was_never_paired_with_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(Unauthenticated, match=r"run `gateway pair` there, and `gateway trust 127\.0\.0\.1` here"):
        open_channel("tls://127.0.0.1:1")


def test_an_address_that_was_paired_with_needs_no_more(
    door: Doorman, pairing: Pairing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    port = int(door.url.rpartition(":")[2])
    files = {name: (pairing.client / file).read_bytes() for name, file in FILES.items()}
    trust.TrustStore().keep(trust.Facts(name="bench", id="abc", host="127.0.0.1", port=port), **files)
    for url in (door.url, f"tls://localhost:{port}"):
        with closing(open_channel(url)), closing(let_in(door)) as served:
            assert served.certificate


FILES = {"ca": trust.CA, "certificate": trust.CERTIFICATE, "key": trust.KEY}


def test_a_server_without_tls_says_so(pairing: Pairing) -> None:
    with closing(listen("tcp://127.0.0.1:0")) as plain:

        def answer() -> None:
            channel = let_in(plain)
            assert isinstance(channel, StreamChannel)
            channel._stream.write(b"\0\0\0\1\0x\n", 1.0)
            channel.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unreachable, match="tls:// URL"):
            open_channel(pairing.url_of(plain.url.replace("tcp:", "tls:")))
        thread.join(5)


def test_a_server_that_says_nothing_is_given_up_after_the_timeout(pairing: Pairing) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"tls://127.0.0.1:{mute.getsockname()[1]}"
        before = monotonic()
        with pytest.raises(Unreachable, match="says nothing"):
            open_channel(pairing.url_of(url), timeout=0.3)
        assert 0.25 < monotonic() - before < 5


def test_files_that_are_missing_or_open_to_others_are_config_errors(door: Doorman, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"client\.key"):
        open_channel(f"{door.url}?identity={tmp_path}")
    mine = Pairing(tmp_path / "mine")
    (mine.client / trust.KEY).chmod(0o644)
    with pytest.raises(ConfigError, match="others may read this key .*chmod 600"):
        open_channel(mine.url_of(door.url))
    (mine.gateway / ca.SERVER_KEY).chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        listen(mine.listen_url)


# ------------------------------------------------------------------------------------------------ TLS's own messages


def command_line(door: Doorman, pairing: Pairing) -> list[str]:
    """OpenSSL's own client, which takes commands: a line with K asks for new keys in both directions."""
    files = {"-cert": trust.CERTIFICATE, "-key": trust.KEY, "-CAfile": trust.CA}
    options = [word for option, file in files.items() for word in (option, str(pairing.client / file))]
    return ["openssl", "s_client", "-tls1_3", "-connect", door.url.removeprefix("tls://"), *options]


def shown_by(client: subprocess.Popen[bytes], word: bytes) -> None:
    """Wait until it has shown `word`."""
    assert client.stdout is not None
    shown, deadline = b"", monotonic() + 5
    while word not in shown:
        assert select.select([client.stdout], [], [], max(0.0, deadline - monotonic()))[0], shown
        shown += os.read(client.stdout.fileno(), 4096)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")
def test_new_keys_in_the_middle_of_a_connection_are_agreed_on(door: Doorman, pairing: Pairing) -> None:
    with subprocess.Popen(
        command_line(door, pairing), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as client:
        assert client.stdin is not None
        with closing(let_in(door)) as served:
            for number in range(3):
                client.stdin.write(b"K\n")
                shown_by(client, b"KEYUPDATE")
                assert served.recv_within(0.2) is None  # that was no message, but it is answered
                served.send(b"number %d" % number)
                shown_by(client, b"number %d" % number)
        client.stdin.close()
        client.wait(10)


# ----------------------------------------------------------------------------------------------------- out of means


def test_without_descriptors_strangers_are_turned_away_and_the_door_opens_again(
    door: Doorman, pairing: Pairing
) -> None:
    turned_away = socket.socket()
    with turned_away:
        turned_away.settimeout(5)
        with no_descriptors_left():
            turned_away.connect(("127.0.0.1", int(door.url.rpartition(":")[2])))
            assert turned_away.recv(1) == b""  # closed, not left waiting
        with closing(open_channel(pairing.url_of(door.url))), closing(let_in(door)) as served:
            assert served.certificate


def test_many_may_come_at_once(door: Doorman, pairing: Pairing) -> None:
    outcomes: list[Channel] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(open_channel(pairing.url_of(door.url)))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    served = [let_in(door) for _ in threads]
    for thread in threads:
        thread.join(10)
    for channel in (*served, *outcomes):
        channel.close()
    assert len(outcomes) == 20
    assert accepted(door, 0) is None
