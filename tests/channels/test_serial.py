"""serial:// over real ttys: opening and closing a port, unplugging it, and serving one client after another on it."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from serial import Serial, SerialException

from gateway.channels import Channel, Listener, listen, open_channel
from gateway.errors import ConfigError, LinkDown, ProtocolError
from gateway.limits import Limits
from gateway.protocol.framing import HEARTBEAT, frame

LIMITS = Limits()
CLOSE_MESSAGE = bytes.fromhex("01 11 52 11 52 11 51 02")


def port_of(channel: Any) -> int:
    fd: int = channel._stream._read_fd
    return fd


@pytest.fixture
def client(line: Any) -> Iterator[Channel]:
    with closing(open_channel(f"serial://{line.left}?framing=raw")) as channel:
        yield channel


@pytest.fixture
def listener(line: Any) -> Iterator[Listener]:
    with closing(listen(f"serial://{line.right}?framing=raw")) as listener:
        yield listener


@pytest.fixture
def far_end(line: Any) -> Iterator[int]:
    """The descriptor of the other port, used by nobody's channel."""
    fd = os.open(line.left, os.O_RDWR | os.O_NOCTTY)
    yield fd
    os.close(fd)


def accept(listener: Listener, timeout: float = 5.0) -> Channel:
    """The next channel, as a server's loop gets it."""
    deadline = monotonic() + timeout
    pause = threading.Event()
    while monotonic() < deadline:
        pause.wait(listener.retry_after_s)
        if listener.retry_after_s or select.select([listener.fileno()], [], [], 0.1)[0]:
            channel = listener.accept()
            if channel is not None:
                return channel
    pytest.fail(f"no channel within {timeout} s")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline, pause = monotonic() + 5, threading.Event()
    while not condition():
        assert monotonic() < deadline
        pause.wait(0.005)


# ------------------------------------------------------------------------------------------------------------ opening


def test_the_port_is_raw_and_has_its_speed(line: Any) -> None:
    with closing(open_channel(f"serial://{line.left}?framing=raw&baudrate=921600&stopbits=2&rtscts=1")) as channel:
        iflag, oflag, cflag, lflag, _, speed, cc = termios.tcgetattr(port_of(channel))
        assert not iflag & (termios.BRKINT | termios.ICRNL | termios.INLCR | termios.IXON | termios.ISTRIP)
        assert not oflag & termios.OPOST
        assert not lflag & (termios.ICANON | termios.ECHO | termios.ISIG)
        assert cflag & termios.CSTOPB
        assert cflag & termios.CRTSCTS
        assert speed == termios.B921600
        assert cc[termios.VMIN] in {1, b"\x01"}


def test_every_byte_value_passes(client: Channel, far_end: int, line: Any) -> None:
    every = bytes(range(256))
    with closing(open_channel(f"serial://{line.right}?framing=raw")) as other:
        client.send(every)
        assert other.recv() == every
        other.send(every[::-1])
        assert client.recv() == every[::-1]


@pytest.mark.parametrize(
    ("query", "deflated"),
    [
        ("", True),
        ("&baudrate=1000000", True),
        ("&baudrate=1152000", False),
        ("&compress=no", False),
        ("&baudrate=3000000&compress=yes", True),
    ],
)
def test_slow_lines_carry_deflated_frames(line: Any, query: str, deflated: bool) -> None:
    with closing(open_channel(f"serial://{line.left}?framing=raw{query}")) as channel:
        fd = os.open(line.right, os.O_RDWR | os.O_NOCTTY)
        channel.send(bytes(1000))
        assert select.select([fd], [], [], 5.0)[0]
        assert os.read(fd, 5)[4] == deflated
        os.close(fd)


def test_what_was_received_before_opening_is_thrown_away(line: Any) -> None:
    fd = os.open(line.right, os.O_RDWR | os.O_NOCTTY)
    os.write(fd, b"the rest of an answer")
    with closing(open_channel(f"serial://{line.left}?framing=raw")) as channel:
        assert not channel.poll(0.05)
        os.write(fd, frame(b"new", LIMITS))
        assert channel.recv() == b"new"
    os.close(fd)


def test_an_answer_to_the_last_client_that_still_comes_in_is_thrown_away(line: Any) -> None:
    fd = os.open(line.right, os.O_RDWR | os.O_NOCTTY)
    begun = threading.Event()

    def go_on_sending() -> None:
        pause = threading.Event()
        os.write(fd, b"begin")
        begun.set()
        for _ in range(20):
            os.write(fd, b"old bytes " * 20)
            pause.wait(0.005)

    thread = threading.Thread(target=go_on_sending)
    thread.start()
    begun.wait(5)
    with closing(open_channel(f"serial://{line.left}?framing=raw")) as channel:
        assert not thread.is_alive()
        assert not channel.poll(0.05)
    thread.join(5)
    os.close(fd)


def test_a_line_that_is_never_quiet_is_opened_all_the_same(line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.channels.ports.QUIET_S", 5.0)
    fd = os.open(line.right, os.O_RDWR | os.O_NOCTTY)
    stop = threading.Event()

    def babble() -> None:
        while not stop.wait(0.002):
            os.write(fd, HEARTBEAT)

    thread = threading.Thread(target=babble)
    thread.start()
    try:
        before = monotonic()
        open_channel(f"serial://{line.left}?framing=raw", timeout=0.3).close()
        assert 0.25 < monotonic() - before < 3
    finally:
        stop.set()
        thread.join(5)
        os.close(fd)


def test_a_port_is_open_once(client: Channel, line: Any) -> None:
    with pytest.raises(LinkDown, match="another program has the port open"):
        open_channel(f"serial://{line.left}?framing=raw")
    client.close()
    open_channel(f"serial://{line.left}?framing=raw").close()


def test_a_port_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(LinkDown, match="there is no such port; is it plugged in"):
        open_channel(f"serial://{tmp_path}/ttyUSB9?framing=raw")
    with pytest.raises(LinkDown, match="there is no such port"):
        listen(f"serial://{tmp_path}/ttyUSB9?framing=raw")


def test_a_file_that_is_no_port_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is no serial port"):
        open_channel(f"serial://{tmp_path}/file?framing=raw")


def cause(text: str, error: Exception) -> Exception:
    """pyserial's way: an exception with a text only, raised while another one with a number was handled."""
    try:
        try:
            raise error
        except Exception:
            raise SerialException(text)  # noqa: B904
    except SerialException as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (SerialException(errno.EACCES, "could not open port"), ConfigError, "add this user to the port's group"),
        (termios.error(errno.EINVAL, "Invalid argument"), ConfigError, "its driver refuses these settings"),
        (ValueError("Failed to set custom baud rate"), ConfigError, "its driver refuses these settings"),
        (cause("Could not configure port: (5, ...)", termios.error(errno.EIO, "I/O error")), LinkDown, "no such port"),
        (cause("Could not configure port: (25, ...)", termios.error(errno.ENOTTY, "x")), ConfigError, "no serial port"),
        (SerialException(errno.EBUSY, "Device or resource busy"), LinkDown, "another program has the port open"),
        (OSError(errno.ENXIO, "No such device or address"), LinkDown, "no such port; is it plugged in"),
        (OSError(errno.EMFILE, "Too many open files"), LinkDown, "Too many open files"),
    ],
)
def test_every_way_in_which_opening_fails_becomes_one_error_that_names_the_port(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], message: str
) -> None:
    def fail(_: Serial) -> None:
        raise error

    monkeypatch.setattr(Serial, "open", fail)
    with pytest.raises(kind, match=f"^/dev/ttyUSB0.*{message}"):
        open_channel("serial:///dev/ttyUSB0?framing=raw")


# ------------------------------------------------------------------------------------------------- closing, unplugging


def test_closing_waits_for_nothing(client: Channel) -> None:
    client.send(CLOSE_MESSAGE)
    before = monotonic()
    client.close()
    assert monotonic() - before < 0.2


def test_the_last_message_arrives_though_the_port_is_closed_at_once(client: Channel, far_end: int, line: Any) -> None:
    with closing(open_channel(f"serial://{line.right}?framing=raw")) as other:
        client.send(CLOSE_MESSAGE)
        client.close()
        assert other.recv_within(5) == CLOSE_MESSAGE


@pytest.mark.parametrize("use", ["recv", "poll", "send"])
def test_unplugging_is_link_down_that_names_the_port(client: Channel, line: Any, use: str) -> None:
    line.unplug()
    with pytest.raises(LinkDown, match=f"{line.left} is gone: unplugged, or hung up"):
        if use == "send":
            client.send(b"x")
        else:
            assert client.poll(5.0)
            client.recv()


def test_unplugging_wakes_a_blocked_receiver(client: Channel, line: Any) -> None:
    errors: list[Exception] = []
    started = threading.Event()

    def receive() -> None:
        started.set()
        try:
            client.recv()
        except LinkDown as error:
            errors.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    started.wait(5)
    line.unplug()
    thread.join(5)
    assert "is gone" in str(errors[0])


def test_a_replugged_port_is_opened_anew(client: Channel, line: Any) -> None:
    line.unplug()
    client.close()
    with pytest.raises(LinkDown, match="is it plugged in"):
        open_channel(f"serial://{line.left}?framing=raw")
    line.plug()
    open_channel(f"serial://{line.left}?framing=raw").close()


# ------------------------------------------------------------------------------------------------------------- serving


def test_a_silent_line_has_no_channel(listener: Listener) -> None:
    assert listener.accept() is None
    assert not select.select([listener.fileno()], [], [], 0.05)[0]
    assert listener.retry_after_s == 0.0


def test_the_first_byte_makes_a_channel_that_has_it(listener: Listener, client: Channel) -> None:
    client.send(b"hello")
    with closing(accept(listener)) as served:
        assert served.recv() == b"hello"
        served.send(b"you too")
        assert client.recv() == b"you too"
        assert not served.ends_with_eof


def test_there_is_one_channel_at_a_time(listener: Listener, client: Channel) -> None:
    client.send(b"one")
    with closing(accept(listener)) as served:
        client.send(b"two")
        assert not select.select([listener.fileno()], [], [], 0.05)[0]
        assert listener.accept() is None
        assert [served.recv(), served.recv()] == [b"one", b"two"]


def test_after_close_the_next_client_is_served_on_the_same_port(listener: Listener, line: Any) -> None:
    for round_ in (b"1", b"2", b"3"):
        with closing(open_channel(f"serial://{line.left}?framing=raw")) as client:
            client.send(round_)
            with closing(accept(listener)) as served:
                assert served.recv() == round_
                served.send(round_)
                assert client.recv() == round_
                client.send(CLOSE_MESSAGE)
                assert served.recv() == CLOSE_MESSAGE


@pytest.mark.parametrize("cut", range(1, 9))
def test_what_follows_a_clients_last_message_is_the_next_clients(
    listener: Listener, far_end: int, line: Any, cut: int
) -> None:
    next_message = frame(b"GETROOT", LIMITS)
    os.write(far_end, frame(CLOSE_MESSAGE, LIMITS) + next_message[:cut])
    served = accept(listener)
    assert served.recv() == CLOSE_MESSAGE
    served.close()
    os.write(far_end, next_message[cut:])
    with closing(accept(listener)) as served:
        assert served.recv() == b"GETROOT"


def test_whole_messages_of_the_next_client_are_not_lost_and_wake_the_listener(listener: Listener, far_end: int) -> None:
    os.write(far_end, b"".join(frame(message, LIMITS) for message in (CLOSE_MESSAGE, b"one", b"two")))
    served = accept(listener)
    assert served.recv() == CLOSE_MESSAGE
    served.close()
    with closing(accept(listener)) as served:
        assert [served.recv(), served.recv()] == [b"one", b"two"]


def test_what_comes_between_two_channels_is_not_lost(listener: Listener, far_end: int) -> None:
    os.write(far_end, frame(CLOSE_MESSAGE, LIMITS))
    served = accept(listener)
    assert served.recv() == CLOSE_MESSAGE
    os.write(far_end, frame(b"while it was open", LIMITS))
    served.close()
    os.write(far_end, frame(b"after", LIMITS))
    with closing(accept(listener)) as served:
        assert [served.recv(), served.recv()] == [b"while it was open", b"after"]


def test_garbage_ends_the_channel_and_the_port_listens_again(
    listener: Listener, far_end: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.channels.serial_listener.QUIET_S", 60.0)
    os.write(far_end, b"login: root\r\nPassword: ")
    served = accept(listener)
    with pytest.raises(ProtocolError):
        served.recv_within(5)
    served.close()
    os.write(far_end, b"Login incorrect\r\n")  # more of the same, at once
    assert select.select([listener.fileno()], [], [], 5.0)[0]
    wait_for(lambda: listener.accept() is None and not select.select([listener.fileno()], [], [], 0)[0])
    monkeypatch.setattr("gateway.channels.serial_listener.QUIET_S", 0.0)  # the line is quiet
    os.write(far_end, frame(b"a client", LIMITS))
    with closing(accept(listener)) as served:
        assert served.recv() == b"a client"


@pytest.mark.parametrize("found_by", ["its reader", "another thread"])
def test_a_client_that_dies_within_a_frame_is_noticed_and_the_next_one_served(
    line: Any, monkeypatch: pytest.MonkeyPatch, found_by: str
) -> None:
    monkeypatch.setattr("gateway.channels.serial_listener.QUIET_S", 0.0)
    limits = replace(LIMITS, progress_s=0.1)
    fd = os.open(line.left, os.O_RDWR | os.O_NOCTTY)
    with closing(listen(f"serial://{line.right}?framing=raw", limits=limits)) as listener:
        os.write(fd, frame(b"never finished", LIMITS)[:9])
        served = accept(listener)
        if found_by == "its reader":
            with pytest.raises(ProtocolError, match="no progress"):
                served.recv()
        else:
            assert served.recv_within(0) is None
            wait_for(lambda: served.stalled(monotonic()))
        served.close()
        os.write(fd, frame(b"next", LIMITS))
        with closing(accept(listener)) as served:
            assert served.recv() == b"next"
    os.close(fd)


def test_a_client_that_died_between_messages_leaves_a_channel_that_the_next_one_uses(
    listener: Listener, line: Any
) -> None:
    # Nothing tells the serving side: that is what a tty is like.
    first = open_channel(f"serial://{line.left}?framing=raw")
    first.send(b"first")
    with closing(accept(listener)) as served:
        assert served.recv() == b"first"
        first.close()
        with closing(open_channel(f"serial://{line.left}?framing=raw")) as second:
            second.send(b"second")
            assert served.recv() == b"second"


def test_an_unplugged_port_is_served_again_after_replugging(listener: Listener, line: Any) -> None:
    with closing(open_channel(f"serial://{line.left}?framing=raw")) as client:
        client.send(b"x")
        served = accept(listener)
        assert served.recv() == b"x"
        line.unplug()
        with pytest.raises(LinkDown, match="is gone"):
            served.recv()
        served.close()
    assert select.select([listener.fileno()], [], [], 5.0)[0]
    assert listener.accept() is None
    assert not select.select([listener.fileno()], [], [], 0.02)[0]  # a loop would be busy otherwise
    assert listener.accept() is None
    line.plug()
    wait_for(lambda: not is_looking_for_its_port())
    with closing(open_channel(f"serial://{line.left}?framing=raw")) as client:
        client.send(b"back")
        with closing(accept(listener)) as served:
            assert served.recv() == b"back"


def is_looking_for_its_port() -> bool:
    return any(thread.name.startswith("reopen serial:") for thread in threading.enumerate())


def test_an_unplugged_idle_port_is_noticed_and_served_again(listener: Listener, line: Any) -> None:
    line.unplug()
    assert select.select([listener.fileno()], [], [], 5.0)[0]
    assert listener.accept() is None
    assert is_looking_for_its_port()
    line.plug()
    wait_for(lambda: not is_looking_for_its_port())
    with closing(open_channel(f"serial://{line.left}?framing=raw")) as client:
        client.send(b"back")
        with closing(accept(listener)) as served:
            assert served.recv() == b"back"


def test_a_listener_that_is_closed_does_not_look_for_its_port_any_more(listener: Listener, line: Any) -> None:
    line.unplug()
    assert select.select([listener.fileno()], [], [], 5.0)[0]
    assert listener.accept() is None
    assert is_looking_for_its_port()
    listener.close()
    wait_for(lambda: not is_looking_for_its_port())


def test_the_listener_keeps_the_port_to_itself(listener: Listener, line: Any) -> None:
    with pytest.raises(LinkDown, match="another program has the port open"):
        open_channel(f"serial://{line.right}?framing=raw")


def test_a_serial_listener_is_local_and_counts_its_clients_by_port(listener: Listener, line: Any) -> None:
    assert listener.local_only
    assert listener.url == f"serial://{line.right}?framing=raw"
    with closing(open_channel(f"serial://{line.left}?framing=raw")) as client:
        client.send(b"x")
        with closing(accept(listener)) as served:
            assert listener.peer_host(served) == str(line.right)


def test_closing_the_listener_leaves_the_live_channel(listener: Listener, line: Any) -> None:
    with closing(open_channel(f"serial://{line.left}?framing=raw")) as client:
        client.send(b"x")
        with closing(accept(listener)) as served:
            listener.close()
            listener.close()
            assert listener.closed
            assert listener.accept() is None
            assert served.recv() == b"x"
            served.send(b"y")
            assert client.recv() == b"y"
        with pytest.raises(LinkDown):
            listener.fileno()


def test_the_lock_is_free_after_closing(line: Any) -> None:
    listen(f"serial://{line.right}?framing=raw").close()
    fd = os.open(line.right, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
