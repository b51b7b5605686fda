"""pipe:command - RPyC over the standard input and output of any command; and the serving side of that, `stdio_channel`.

    pipe:gateway stdio                          pipe:docker exec -i bench gateway stdio

The command line is split as a shell would, but no shell runs it: no variables, no wildcards, no redirection.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Final, cast

from gateway.channels.base import Channel
from gateway.channels.fds import FdStream
from gateway.channels.stream import StreamChannel
from gateway.channels.url import ChannelUrl, Options, Scheme
from gateway.errors import ConfigError, GatewayError, LinkDown
from gateway.limits import Limits

NO_SERVER: Final = "the serving side of a pipe is a command such as: gateway stdio"
SCHEME: Final = Scheme(options=Options, takes=frozenset({"command"}), no_server=NO_SERVER)
COMPLAINT: Final = 4096
"""Bytes kept of what a command wrote last to its standard error."""
COMPLAINT_SHOWN: Final = 300
EXIT_S: Final = 0.5
"""How long `close` waits for a command to end: by itself, as its input has ended, and once more after SIGTERM."""
KILL_S: Final = 10.0
"""How long a command that ignores both may go on before it is killed: a gateway may be making its devices safe."""


def check(url: ChannelUrl[Options]) -> None:
    _arguments(url)


def _arguments(url: ChannelUrl[Options]) -> list[str]:
    try:
        arguments = shlex.split(url.path)
    except ValueError:
        raise ConfigError(f"{url.shown!r}: the command has a quotation mark without its partner") from None
    if not arguments or not arguments[0]:
        raise ConfigError("pipe: needs a command, such as pipe:gateway stdio")
    return arguments


def connect(url: ChannelUrl[Options], limits: Limits, timeout: float) -> Channel:
    """Start the command. Raises ConfigError if it can't be started; if it ends, the channel's LinkDown says how."""
    return command_channel(_arguments(url), str(url), limits)


def command_channel(
    arguments: list[str],
    name: str,
    limits: Limits,
    *,
    compress: bool = False,
    advice: Callable[[int, str], str] = lambda code, complaint: "",
) -> Channel:
    """Run `arguments` and speak frames with it.

    `name` is how errors call it. `advice` gets the exit code and what the command last wrote to its standard error, and
    gives what to do about it.
    """
    ours, theirs = socket.socketpair()
    try:
        # Its own session: Ctrl-C in our terminal is for us, and closing can end helpers that the command started.
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=theirs.fileno(),
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise _start_error(arguments[0], error) from None
    finally:
        theirs.close()
    return StreamChannel(CommandStream(process, Complaint(ours), name, advice), limits, compress=compress)


def _start_error(program: str, error: OSError) -> GatewayError:
    if isinstance(error, FileNotFoundError):
        return ConfigError(f"can't run {program!r}: there is no such program on PATH")
    if isinstance(error, PermissionError):
        return ConfigError(f"can't run {program!r}: it is no program that this user may run")
    return LinkDown(f"can't run {program!r}: {error.strerror or error}")


class Complaint:
    """What a command last wrote to its standard error. A thread takes it, so that the command never waits for that."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._last = b""
        self._thread = threading.Thread(target=self._collect, name="gateway-pipe-stderr", daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        with self._source, contextlib.suppress(OSError):
            while chunk := self._source.recv(COMPLAINT):
                self._last = (self._last + chunk)[-COMPLAINT:]

    def text(self, timeout: float) -> str:
        """The last lines as one; waits up to `timeout` seconds for the end of what the command writes."""
        self._thread.join(timeout)
        lines = [_printable(line) for line in self._last.decode("utf-8", "replace").splitlines()]
        return " / ".join(line for line in lines if line)[-COMPLAINT_SHOWN:]

    def close(self) -> None:
        # Something that the command left behind may hold the other end for ever.
        with contextlib.suppress(OSError):
            self._source.shutdown(socket.SHUT_RDWR)
        self._thread.join(EXIT_S)


def _printable(line: str) -> str:
    # The far end's words must not steer the terminal they are shown on.
    return "".join(character for character in line if character.isprintable()).strip()


class CommandStream(FdStream):
    """The standard input and output of a running command."""

    def __init__(
        self, process: subprocess.Popen[bytes], complaint: Complaint, name: str, advice: Callable[[int, str], str]
    ) -> None:
        self._process = process
        self._complaint = complaint
        self._advice = advice
        self._stdin = cast(IO[bytes], process.stdin)
        self._stdout = cast(IO[bytes], process.stdout)
        super().__init__(self._stdout.fileno(), self._stdin.fileno(), name=name)

    def _ended(self) -> LinkDown:
        if self._closed:
            return self._closed_here()
        try:
            code = self._process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            return LinkDown(f"{self._name} closed its output and still runs")
        complaint = self._complaint.text(EXIT_S)
        advice = self._advice(code, complaint)
        said = f": {complaint}" if complaint else ""
        return LinkDown(f"{self._name} {_ending(code)}{said}{f' - {advice}' if advice else ''}", exit_code=code)

    def _release(self) -> None:
        self._stdin.close()
        self._stdout.close()

    def close(self) -> None:
        """Ends the command's input and gives it time to end, then asks it to, and at last kills it."""
        if self._closed:
            return
        super().close()
        if not self._ends_within(EXIT_S):
            self._signal(signal.SIGTERM)
            if not self._ends_within(EXIT_S):
                threading.Thread(target=self._kill, name="gateway-pipe-kill").start()
        self._complaint.close()

    def _ends_within(self, timeout: float) -> bool:
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _kill(self) -> None:
        if not self._ends_within(KILL_S):
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        # Until it is waited for, the command's process id can't belong to another group.
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    @property
    def pid(self) -> int:
        return self._process.pid


def _ending(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def stdio_channel(limits: Limits | None = None, *, compress: bool = False) -> Channel:
    """The channel of a program that was started by `pipe:` or `ssh:`: its own standard input and output.

    Takes both over: from then on the process reads nothing from its standard input, and what it prints goes to its
    standard error, where it can't damage a frame. Raises ConfigError on a terminal.
    """
    if os.isatty(0) or os.isatty(1):
        raise ConfigError("standard input and output are a terminal; this is meant to be started by pipe: or ssh://")
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing == 2:  # started without a standard error: now it has one that leads nowhere
        nothing = os.dup(nothing)
    read_fd, write_fd = os.dup(0), os.dup(1)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    if sys.stdout is not None:
        sys.stdout.flush()  # what was printed before
    return StreamChannel(FdStream(read_fd, write_fd, name="standard input and output"), limits, compress=compress)
