"""unix:// - the socket file: who may connect, and what is done with a file that is already there."""

from __future__ import annotations

import inspect
import os
import select
import socket
import stat
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from gateway.channels import listen, open_channel, sockets
from gateway.channels.stream import StreamChannel
from gateway.errors import ConfigError, LinkDown
from gateway.limits import Limits
from gateway.protocol.framing import frame


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bench.sock"


def dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def test_it_carries_messages_and_is_local(path: Path) -> None:
    with closing(listen(f"unix://{path}")) as listener:
        assert listener.local_only
        assert listener.url == f"unix://{path}"
        with closing(open_channel(listener.url)) as channel:
            assert select.select([listener.fileno()], [], [], 5.0)[0]
            served = listener.accept()
            assert served is not None
            with closing(served):
                channel.send(b"x")
                assert served.recv() == b"x"
                assert listener.peer_host(served) == "local"


@pytest.mark.parametrize(("query", "mode"), [("", 0o600), ("?mode=660", 0o660), ("?mode=0666", 0o666)])
def test_the_file_has_its_mode_whatever_the_umask(path: Path, query: str, mode: int) -> None:
    before = os.umask(0o077)
    try:
        with closing(listen(f"unix://{path}{query}")):
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_close_removes_the_file(path: Path) -> None:
    listener = listen(f"unix://{path}")
    assert path.exists()
    listener.close()
    listener.close()
    assert not path.exists()


def test_close_leaves_a_file_that_is_another_servers(path: Path) -> None:
    listener = listen(f"unix://{path}")
    path.unlink()
    with closing(listen(f"unix://{path}")):
        listener.close()
        assert path.exists()


def test_the_file_of_a_dead_server_is_replaced(path: Path) -> None:
    dead_socket(path)
    with closing(listen(f"unix://{path}")) as listener:
        open_channel(listener.url).close()


def test_a_live_server_is_not_replaced(path: Path) -> None:
    with closing(listen(f"unix://{path}")) as listener:
        with pytest.raises(ConfigError, match="a server is alive there"):
            listen(f"unix://{path}")
        open_channel(listener.url).close()


def test_another_file_is_not_replaced(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ConfigError, match="the file there is no socket"):
        listen(f"unix://{path}")
    assert path.read_text() == "precious"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="check the folder"):
        listen(f"unix://{tmp_path}/nowhere/s")


def test_no_socket_there_says_what_to_check(path: Path) -> None:
    with pytest.raises(LinkDown, match="there is no such socket; is the gateway running"):
        open_channel(f"unix://{path}")


def test_a_dead_server_says_what_to_do(path: Path) -> None:
    dead_socket(path)
    with pytest.raises(LinkDown, match="its server is gone; start the gateway again"):
        open_channel(f"unix://{path}")


def test_a_server_that_hangs_is_given_up_after_the_timeout(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as waiting:
        deaf.bind(str(path))
        deaf.listen(0)
        waiting.connect(str(path))
        with pytest.raises(LinkDown, match="does not take connections"):
            open_channel(f"unix://{path}", timeout=0.1)
        with pytest.raises(ConfigError, match="a server is alive there"):
            listen(f"unix://{path}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to every socket")
def test_a_socket_of_another_user_says_what_to_do(path: Path) -> None:
    with closing(listen(f"unix://{path}?mode=000")), pytest.raises(LinkDown, match="permission denied"):
        open_channel(f"unix://{path}")


def test_a_large_message_may_pause_for_many_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "TICK_S", 0.0005)
    most = sys.getrecursionlimit()
    near, far = socket.socketpair()
    channel = StreamChannel(sockets.SocketStream(near))
    message = bytes(range(256)) * 4000
    raw = frame(message, Limits())
    writer = threading.Thread(target=far.sendall, args=(raw[:500_000],))
    rest = threading.Timer(1.0, far.sendall, (raw[500_000:],))
    try:
        writer.start()
        assert channel.recv_within(0.2) is None, "half of it is no message"
        writer.join()
        rest.start()
        sys.setrecursionlimit(len(inspect.stack()) + 100)
        assert channel.recv_within(10.0) == message
        rest.join()
    finally:
        sys.setrecursionlimit(most)
        channel.close()
        far.close()
