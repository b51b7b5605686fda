"""tcp:// - what is set on the sockets, what listening gives, and what a failure says."""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from time import monotonic

import pytest

from gateway.channels import Channel, Listener, listen, open_channel
from gateway.errors import ConfigError, LinkDown, NotFound
from gateway.limits import Limits


def accepted(listener: Listener) -> Channel:
    assert select.select([listener.fileno()], [], [], 5.0)[0]
    channel = listener.accept()
    assert channel is not None
    return channel


@pytest.fixture
def listener() -> Iterator[Listener]:
    with closing(listen("tcp://127.0.0.1:0")) as listener:
        yield listener


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.mark.parametrize("limits", [Limits(), replace(Limits(), liveness_s=7.4), replace(Limits(), liveness_s=0.1)])
def test_both_ends_have_no_nagle_and_a_keepalive_within_the_liveness_limit(limits: Limits) -> None:
    with closing(listen("tcp://:0", limits=limits)) as listener:
        with closing(open_channel(listener.url, limits=limits)) as ours, closing(accepted(listener)) as theirs:
            for channel in (ours, theirs):
                sock = channel._stream._sock  # type: ignore[attr-defined]
                assert sock.gettimeout() is None
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                idle, interval, count = (
                    sock.getsockopt(socket.IPPROTO_TCP, option)
                    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                )
                assert abs(idle + interval * count - limits.liveness_s) <= 4
                user_timeout = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                assert user_timeout == max(1000, limits.liveness_s * 1000)


def test_a_liveness_of_days_is_more_than_the_kernel_takes_and_works() -> None:
    limits = replace(Limits(), liveness_s=1e6)
    with closing(listen("tcp://:0", limits=limits)) as listener, closing(open_channel(listener.url, limits=limits)):
        accepted(listener).close()


def test_the_connect_timeout_does_not_stay_on_the_socket(listener: Listener) -> None:
    with closing(open_channel(listener.url, timeout=0.2)) as channel, closing(accepted(listener)) as served:
        assert not channel.poll(0.5)
        served.send(b"late")
        assert channel.recv() == b"late"


def test_listening_without_a_host_is_loopback_only() -> None:
    with closing(listen("tcp://:0")) as listener:
        assert listener.local_only
        host, port = listener.url.removeprefix("tcp://").split(":")
        assert host == "127.0.0.1"
        assert int(port) > 0


def test_listening_on_all_interfaces_says_so() -> None:
    with closing(listen("tcp://0.0.0.0:0")) as listener:
        assert not listener.local_only
        assert listener.url.startswith("tcp://0.0.0.0:")


@needs_ipv6
def test_ipv6_loopback_works() -> None:
    with closing(listen("tcp://[::1]:0")) as listener:
        assert listener.local_only
        assert listener.url.startswith("tcp://[::1]:")
        with closing(open_channel(listener.url)) as channel, closing(accepted(listener)) as served:
            channel.send(b"x")
            assert served.recv() == b"x"
            assert listener.peer_host(served) == "::1"


@needs_ipv6
def test_all_ipv6_interfaces_take_ipv4_too_and_count_its_hosts_the_same() -> None:
    with closing(listen("tcp://[::]:0")) as listener:
        assert not listener.local_only
        port = listener.url.rpartition(":")[2]
        with closing(open_channel(f"tcp://127.0.0.1:{port}")), closing(accepted(listener)) as served:
            assert listener.peer_host(served) == "127.0.0.1"


def test_a_channel_knows_both_endpoints(listener: Listener) -> None:
    with closing(open_channel(listener.url)) as channel, closing(accepted(listener)) as served:
        assert channel.endpoints is not None
        assert served.endpoints == channel.endpoints[::-1]
        assert listener.peer_host(served) == "127.0.0.1"


def test_a_port_is_free_again_right_after_close() -> None:
    with closing(listen("tcp://:0")) as listener:
        url = listener.url
        channel = open_channel(url)
        accepted(listener).close()  # this side closes first: its port lingers in TIME_WAIT
        channel.close()
    listen(url).close()


# ------------------------------------------------------------------------------------------------------------ failures


def test_a_port_where_nobody_listens_says_what_to_check() -> None:
    with closing(listen("tcp://:0")) as listener:
        url = listener.url
    with pytest.raises(LinkDown, match="nobody listens there; is the gateway running") as caught:
        open_channel(url)
    assert url in str(caught.value)


def test_an_unknown_host_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(NotFound, match="no host of that name; check its spelling"):
        open_channel("tcp://bench33")
    with pytest.raises(NotFound):
        listen("tcp://bench33")


def test_a_name_service_that_does_not_answer_is_link_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    with pytest.raises(LinkDown, match="name service does not answer"):
        open_channel("tcp://bench3")


def test_a_name_that_is_no_name_is_not_found() -> None:
    with pytest.raises(NotFound):
        open_channel(f"tcp://{'a' * 100}.{'b' * 100}")


def test_a_host_that_does_not_answer_is_given_up_after_the_timeout() -> None:
    # A listening socket whose queue is full takes no further connection: the kernel drops what asks for one.
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        waiting = []
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            assert sock.connect_ex(deaf.getsockname()) in {0, errno.EINPROGRESS}
            waiting.append(sock)
        before = monotonic()
        with pytest.raises(LinkDown, match=r"no answer within 0\.3 s"):
            open_channel(f"tcp://127.0.0.1:{deaf.getsockname()[1]}", timeout=0.3)
        assert 0.25 < monotonic() - before < 3
        for sock in waiting:
            sock.close()


def test_every_address_of_a_name_is_tried(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(listener.url.rpartition(":")[2])
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = unused.getsockname()
    two = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", where) for where in (dead, ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: two)
    with closing(open_channel("tcp://bench3")), closing(accepted(listener)) as served:
        assert not served.closed


def test_a_socket_that_reaches_itself_counts_as_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        where = probe.getsockname()
    real = socket.socket.connect

    def bound_first(sock: socket.socket, address: tuple[str, int]) -> None:
        sock.bind(where)
        real(sock, address)

    monkeypatch.setattr(socket.socket, "connect", bound_first)
    with pytest.raises(LinkDown, match="nobody listens"):
        open_channel(f"tcp://127.0.0.1:{where[1]}")


def test_port_0_is_for_listening_only() -> None:
    with pytest.raises(ConfigError, match="port 0 is for listening"):
        open_channel("tcp://127.0.0.1:0")


def test_a_taken_port_says_so(listener: Listener) -> None:
    with pytest.raises(ConfigError, match="another program listens there"):
        listen(listener.url)


def test_an_address_that_is_not_ours_says_so() -> None:
    with pytest.raises(ConfigError, match="no such address"):
        listen("tcp://192.0.2.1:0")


def test_a_peer_that_resets_is_link_down(listener: Listener) -> None:
    raw = socket.create_connection(("127.0.0.1", int(listener.url.rpartition(":")[2])))
    with closing(accepted(listener)) as served:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()
        with pytest.raises(LinkDown, match="connection was lost"):
            served.recv()
