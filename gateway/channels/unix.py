"""unix:///path - RPyC over a Unix socket, for programs of one machine.

    unix:///run/gateway/bench.sock             only the user who serves can connect (mode 600)
    unix:///run/gateway/bench.sock?mode=660    its group as well

`mode` is the socket file's; connecting to it needs the right to write.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from struct import Struct
from typing import Final

from gateway.channels.base import Channel
from gateway.channels.listener import BACKLOG, Listener, SocketListener
from gateway.channels.sockets import SocketStream
from gateway.channels.stream import StreamChannel
from gateway.channels.url import READ, ChannelUrl, Options, Scheme
from gateway.errors import ConfigError, Unreachable
from gateway.limits import Limits

MAX_PATH: Final = 107
"""Bytes of a socket's path: `sun_path` has 108, the last one is a NUL (unix(7))."""
PROBE_S: Final = 1.0
_UCRED: Final = Struct("@iII")
"""struct ucred: pid, uid, gid (unix(7))."""


def _file_mode(text: str) -> int:
    if len(text) not in {3, 4} or not set(text) <= set("01234567") or int(text, 8) > 0o777:
        raise ValueError("an octal file mode such as 660")
    return int(text, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixOptions(Options):
    mode: int = field(default=0o600, metadata={READ: _file_mode})
    """File mode of the socket that a listener makes."""


SCHEME: Final = Scheme(options=UnixOptions, takes=frozenset({"path"}))


def check(url: ChannelUrl[UnixOptions]) -> None:
    if len(url.path) < 2 or url.path.endswith("/"):
        raise ConfigError(f"{url.shown!r} names no file; write unix:///path/of/socket")
    length = len(os.fsencode(url.path))
    if length > MAX_PATH:
        raise ConfigError(f"{url.shown!r}: a socket's path has at most {MAX_PATH} bytes, not {length}")


def connect(url: ChannelUrl[UnixOptions], limits: Limits, timeout: float) -> Channel:
    """Raises Unreachable, saying what to check."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(url.path)
    except OSError as error:
        sock.close()
        raise Unreachable(f"can't reach {url}: {_advice(error)}") from None
    return StreamChannel(SocketStream(sock), limits, compress=bool(url.options.compress))


@dataclass(frozen=True, slots=True)
class UnixPeer:
    """Who is at the other end of a Unix socket, as the kernel knows it: whoever connected, when it connected."""

    uid: int
    user: str
    """The user's name, or `uid 1000` for one that has none."""
    pid: int
    """0 for a process that can't be seen from here, such as one in another container."""


def peer_credentials(channel: Channel) -> UnixPeer | None:
    """Who is at the other end of `channel`; None where it is no Unix socket. Raises LinkDown once it is closed."""
    descriptor = os.dup(channel.fileno())
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
    except BaseException:
        os.close(descriptor)
        raise
    with socket.socket(fileno=descriptor) as sock:
        if sock.family != socket.AF_UNIX:
            return None
        pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return UnixPeer(uid, user_name(uid), pid)


def user_name(uid: int) -> str:
    """The name of the user with that number, or `uid 1000` for one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _advice(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such socket; is the gateway running, with this path?"
    if isinstance(error, ConnectionRefusedError):
        return "its server is gone; start the gateway again"
    if isinstance(error, PermissionError):
        return "permission denied; the gateway's user must allow it (option mode=660 and a common group)"
    if isinstance(error, TimeoutError | BlockingIOError):
        return "the server does not take connections; is it hanging?"
    return error.strerror or str(error)


def listen(url: ChannelUrl[UnixOptions], limits: Limits) -> Listener:
    """Bind and listen. A socket file that a dead server left is replaced.

    Raises ConfigError if a server is alive there, something else is in the way, or the folder can't be used.
    """
    path = Path(url.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _folder_locked(path.parent):
            _clear_the_way(url, path)
            # Linux gives the file the mode of the socket's own inode: there is no moment in which it is open to others.
            os.fchmod(sock.fileno(), url.options.mode)
            sock.bind(url.path)
            path.chmod(url.options.mode)  # the umask may have taken bits away
            sock.listen(BACKLOG)
            mine = path.lstat()
    except ConfigError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise ConfigError(f"can't listen at {url}: {error.strerror or error}; check the folder {path.parent}") from None
    return SocketListener(
        sock,
        url.shown,
        limits,
        local_only=True,
        compress=bool(url.options.compress),
        on_close=partial(_remove, path, (mine.st_dev, mine.st_ino)),
    )


@contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    """Two servers that start at once must not take each other's new socket for an old one."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _clear_the_way(url: ChannelUrl[UnixOptions], path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"can't listen at {url}: the file there is no socket; choose another path or remove it")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        error = probe.connect_ex(url.path)
    if error not in {errno.ECONNREFUSED, errno.ENOENT}:
        alive = error in {0, errno.EAGAIN, errno.ETIMEDOUT}
        problem = "a server is alive there; stop it" if alive else f"{os.strerror(error)}; remove the file"
        raise ConfigError(f"can't listen at {url}: {problem} or choose another path")
    path.unlink(missing_ok=True)


def _remove(path: Path, mine: tuple[int, int]) -> None:
    # A later server may have put its own socket there.
    with contextlib.suppress(OSError):
        now = path.lstat()
        if (now.st_dev, now.st_ino) == mine:
            path.unlink()
