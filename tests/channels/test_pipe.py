"""pipe: - a command at the other end: how it starts, how it ends, and that nothing of it stays."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest

from gateway.channels import Channel, listen, open_channel
from gateway.channels.fds import FdStream
from gateway.channels.pipe import CommandStream
from gateway.channels.stream import StreamChannel
from gateway.errors import ConfigError, LinkDown, ProtocolError

ECHO = """
import sys
from gateway.channels import stdio_channel
from gateway.errors import LinkDown

print("printed before")
channel = stdio_channel()
print("printed after")
print(sys.stdin.read(), end="")  # nothing, and at once: the standard input is the channel's
try:
    while True:
        channel.send(channel.recv())
except LinkDown:
    channel.close()
"""

Run = Callable[..., Channel]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Open a pipe to a Python program; its text is the first argument."""
    opened: list[Channel] = []

    def start(program: str, *arguments: str) -> Channel:
        file = tmp_path / "far end.py"
        file.write_text(program)
        channel = open_channel(f"pipe:{shlex.join([sys.executable, '-E', str(file), *arguments])}")
        opened.append(channel)
        return channel

    yield start
    for channel in opened:
        channel.close()


def pid_of(channel: Channel) -> int:
    assert isinstance(channel, StreamChannel)
    assert isinstance(channel._stream, CommandStream)
    return channel._stream.pid


def alive(pid: int) -> bool:
    """Whether the process is there, also as a zombie."""
    return Path(f"/proc/{pid}").exists()


def link_down(channel: Channel) -> str:
    with pytest.raises(LinkDown) as caught:
        channel.recv()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------------- working


def test_a_command_and_its_stdio_channel_carry_messages_both_ways(run: Run) -> None:
    channel = run(ECHO)
    for message in (b"x", bytes(1_000_000), b"y"):
        sender = threading.Thread(target=channel.send, args=(message,))
        sender.start()
        assert channel.recv() == message
        sender.join(5)


def test_what_the_far_end_prints_damages_no_frame(run: Run) -> None:
    channel = run(ECHO.replace("channel.send(", "print('noise'); channel.send("))
    channel.send(b"one")
    assert channel.recv() == b"one"
    channel.send(b"two")
    assert channel.recv() == b"two"


def test_a_command_gets_its_arguments_as_a_shell_would_split_them_and_no_shell(run: Run) -> None:
    channel = run(
        "import sys; from gateway.channels import stdio_channel as s; c = s(); c.send(repr(sys.argv[1:]).encode())",
        "two words",
        "$HOME",
        "*",
        "; echo",
    )
    assert channel.recv() == b"['two words', '$HOME', '*', '; echo']"


def test_a_command_that_complains_without_end_is_not_blocked_by_it(run: Run) -> None:
    channel = run(ECHO.replace("    while True:", "    sys.stderr.write('complaint ' * 100_000)\n    while True:"))
    channel.send(b"x")
    assert channel.recv_within(10) == b"x"


# -------------------------------------------------------------------------------------------------------------- ending


def test_an_early_end_tells_the_exit_code_and_the_last_words(run: Run) -> None:
    said = link_down(run("import sys; sys.exit('first line\\n\\nbench.toml:3: no such driver')"))
    assert said.endswith("ended with exit code 1: first line / bench.toml:3: no such driver")


def test_an_early_end_without_words_tells_the_exit_code(run: Run) -> None:
    assert link_down(run("raise SystemExit(7)")).endswith("ended with exit code 7")


def test_a_command_that_was_killed_tells_by_which_signal(run: Run) -> None:
    channel = run("import time; time.sleep(60)")
    os.kill(pid_of(channel), signal.SIGKILL)
    assert link_down(channel).endswith("was ended by SIGKILL")


def test_sending_to_a_command_that_ended_says_the_same(run: Run) -> None:
    channel = run("raise SystemExit(7)")
    with pytest.raises(LinkDown, match="exit code 7"):
        for _ in range(1000):
            channel.send(bytes(1000))


def test_a_command_that_closes_its_output_and_goes_on_is_link_down(run: Run) -> None:
    assert "still runs" in link_down(run("import os, sys; os.close(1); sys.stdin.read()"))


def test_only_the_end_of_a_long_complaint_is_told_and_only_printable_characters(run: Run) -> None:
    said = link_down(run("import sys; sys.exit('x' * 100_000 + '\\x1b]0;owned\\x07\\x1b[31mlast words')"))
    assert said.endswith("last words")
    assert said.isprintable()
    assert len(said) < 500


def test_what_a_shell_profile_prints_is_a_protocol_error(run: Run) -> None:
    with pytest.raises(ProtocolError):
        run("print('Welcome to bench3')").recv()


def test_arguments_are_in_no_error(run: Run) -> None:
    assert "hunter2" not in link_down(run("raise SystemExit(7)", "--token", "hunter2"))


def test_a_command_that_does_not_exist_says_so() -> None:
    with pytest.raises(ConfigError, match="can't run 'gatewya': there is no such program on PATH"):
        open_channel("pipe:gatewya stdio")


def test_a_file_that_is_no_program_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("x")
    with pytest.raises(ConfigError, match="no program that this user may run"):
        open_channel(f"pipe:{tmp_path}/notes")


def test_a_pipe_cannot_be_listened_at() -> None:
    for url in ("pipe:gateway stdio", "ssh://bench3"):
        with pytest.raises(ConfigError, match="the serving side of a pipe is a command such as: gateway stdio"):
            listen(url)


# ------------------------------------------------------------------------------------------------------------- closing


def test_close_ends_a_command_by_the_end_of_its_input(run: Run, tmp_path: Path) -> None:
    channel = run(ECHO + f"\nopen({str(tmp_path / 'done')!r}, 'w').write('tidied up')")
    channel.send(b"x")
    assert channel.recv() == b"x"
    pid = pid_of(channel)
    before = monotonic()
    channel.close()
    assert monotonic() - before < 1.5
    assert not alive(pid)
    assert (tmp_path / "done").read_text() == "tidied up"


def test_close_terminates_a_command_that_ignores_the_end_of_its_input(run: Run) -> None:
    channel = run("import time; time.sleep(60)")
    pid = pid_of(channel)
    before = monotonic()
    channel.close()
    assert monotonic() - before < 2
    assert not alive(pid)


def test_close_kills_a_command_that_ignores_everything(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.channels.pipe.KILL_S", 0.2)
    channel = run(
        "import signal, time; from gateway.channels import stdio_channel; signal.signal(15, signal.SIG_IGN)\n"
        "stdio_channel().send(b'ready')\nwhile True: time.sleep(1)"
    )
    assert channel.recv() == b"ready"
    pid = pid_of(channel)
    before = monotonic()
    channel.close()
    assert monotonic() - before < 2
    for thread in threading.enumerate():
        if thread.name == "gateway-pipe-kill":
            thread.join(5)
    assert not alive(pid)


def test_close_ends_what_the_command_started_too(run: Run) -> None:
    channel = run(
        "import subprocess, time; from gateway.channels import stdio_channel\n"
        "child = subprocess.Popen(['sleep', '60']); stdio_channel().send(str(child.pid).encode()); time.sleep(60)"
    )
    grandchild = int(channel.recv())
    channel.close()
    deadline = monotonic() + 5
    while alive(grandchild) and "Z" not in Path(f"/proc/{grandchild}/stat").read_text():
        assert monotonic() < deadline
        os.sched_yield()


def test_close_does_not_wait_for_a_helper_that_holds_the_standard_error(run: Run) -> None:
    channel = run(
        "import subprocess; from gateway.channels import stdio_channel as s\n"
        "p = subprocess.Popen(['sleep', '60'], stdin=-3, stdout=-3, start_new_session=True); s().send(b'%d' % p.pid)"
    )
    helper = int(channel.recv())
    before = monotonic()
    channel.close()
    assert monotonic() - before < 2
    os.kill(helper, signal.SIGTERM)


def test_ctrl_c_in_our_terminal_does_not_reach_the_command(run: Run) -> None:
    channel = run(ECHO)
    channel.send(b"x")
    assert channel.recv() == b"x"
    assert os.getpgid(pid_of(channel)) != os.getpgrp()


# --------------------------------------------------------------------------------------------------- the serving side


def test_stdio_refuses_a_terminal() -> None:
    leader, terminal = os.openpty()
    with open(leader, "rb"), open(terminal, "rb") as tty:
        done = subprocess.run(
            [sys.executable, "-c", "from gateway.channels import stdio_channel; stdio_channel()"],
            stdin=tty,
            capture_output=True,
            check=False,
            text=True,
        )
    assert "started by pipe: or ssh://" in done.stderr


def test_stdio_works_without_a_standard_error(run: Run) -> None:
    channel = run("import os; os.close(2)\nimport sys; sys.stderr = None" + ECHO)
    channel.send(b"x")
    assert channel.recv() == b"x"


def test_stdio_leaves_a_shared_file_blocking_again_after_close() -> None:
    read_fd, write_fd = os.pipe()
    other = os.dup(read_fd)
    stream = FdStream(read_fd, write_fd, name="a pipe")
    assert not os.get_blocking(other)
    stream.close()
    assert os.get_blocking(other)
    os.close(other)


def test_stdio_channel_is_closed_like_any_other() -> None:
    program = (
        "from gateway.channels import stdio_channel; c = stdio_channel(); c.send(b'x'); c.close(); print('to stderr')"
    )
    with closing(open_channel(f"pipe:{shlex.join([sys.executable, '-c', program])}")) as channel:
        assert channel.recv() == b"x"
        assert link_down(channel).endswith("ended with exit code 0: to stderr")
