"""Write messages.json: conversations of two stock rpyc peers, frame by frame, as they were on the wire.

    python tests/vectors/make_messages.py [FOLDER]

FOLDER holds rpyc 5.3.1 (`pip install --target FOLDER rpyc==5.3.1`); without it the file keeps what it has of that
version. The file is committed, so that the tests need neither version.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

PATH: Final = Path(__file__).with_name("messages.json")
HEADER: Final = 5
OVERHEAD: Final = 6


def tap() -> dict[str, Any]:
    """What the rpyc that can be imported here says, in each conversation, with and without bind_threads."""
    from rpyc.version import __version__  # type: ignore[import-untyped]

    plain = {name: conversation(talk, bound=False) for name, talk in TALKS.items()}
    bound = {name: conversation(talk, bound=True) for name, talk in TALKS.items() if name in ("call", "callback")}
    return {"made_by": f"rpyc {__version__}", "plain": plain, "bound": bound}


def conversation(talk: Callable[[Any, Any], Any], *, bound: bool) -> list[dict[str, Any]]:
    """The frames of one conversation: who sent it, the bytes, and what stock's brine reads in them."""
    from rpyc.core import consts  # type: ignore[import-untyped]
    from rpyc.core.channel import Channel  # type: ignore[import-untyped]
    from rpyc.core.protocol import Connection  # type: ignore[import-untyped]
    from rpyc.core.stream import SocketStream  # type: ignore[import-untyped]

    sent: list[tuple[str, bytes]] = []
    lock = threading.Lock()

    class TappedStream(SocketStream):  # type: ignore[misc]
        """Takes note of each whole frame before it leaves."""

        role = ""
        begun = b""

        def write(self, data: bytes) -> None:
            with lock:
                self.begun += data
                while len(self.begun) >= HEADER:
                    size = int.from_bytes(self.begun[:4], "big") + OVERHEAD
                    if len(self.begun) < size:
                        break
                    sent.append((self.role, self.begun[:size]))
                    self.begun = self.begun[size:]
            super().write(data)

    ends = []
    config = {"allow_public_attrs": True, "allow_setattr": True, "allow_delattr": True, "allow_pickle": True}
    for role, line, service in zip(("client", "server"), socket.socketpair(), services(), strict=True):
        stream = TappedStream(line)
        stream.role = role
        conn = Connection(service, Channel(stream), {**config, "bind_threads": bound, "include_local_traceback": False})
        service.on_connect(conn)
        ends.append(conn)
    client, server = ends
    thread = threading.Thread(target=server.serve_all, daemon=True)
    thread.start()
    talk(client, consts)
    client.close()
    thread.join(5)
    return [{"from": role, "frame": frame.hex(), **read(frame, bound=bound)} for role, frame in sent]


def read(frame: bytes, *, bound: bool) -> dict[str, Any]:
    """The message in a frame, by stock's own brine; values as Python literals."""
    import zlib

    from rpyc.core import brine

    data = frame[HEADER:-1]
    if frame[4]:
        data = zlib.decompress(data)
    threads = [int.from_bytes(data[:8], "big"), int.from_bytes(data[8:16], "big")] if bound else None
    data = data[16:] if bound else data
    if data[0] == 0x12:
        kind, seq, args = brine.load(data)
    else:
        kind, (seq, args) = data[0], brine.load(data[1:])
    return {"threads": threads, "type": kind, "seq": seq, "args": repr(args)}


def services() -> tuple[Any, Any]:
    """The client's service and the server's."""
    import rpyc  # type: ignore[import-untyped]

    class Supply:
        volts = 3.3

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *exc_info: object) -> None:
            pass

    class Bench(rpyc.Service):  # type: ignore[misc]
        exposed_Supply = Supply

        def exposed_add(self, a: int, b: int = 0) -> int:
            return a + b

        def exposed_echo(self, value: Any) -> Any:
            return value

        def exposed_call(self, function: Callable[..., Any], *args: Any) -> Any:
            return function(*args)

        def exposed_numbers(self) -> list[int]:
            return [1, 2, 3]

        def exposed_fail(self) -> None:
            raise ValueError("over range", 3.3, [1])

    return rpyc.VoidService(), Bench()


def properties(conn: Any, consts: Any) -> None:
    supply = conn.root.Supply()
    supply.volts = 5.0
    assert supply.volts == 5.0
    del supply.volts


def values(conn: Any, consts: Any) -> None:
    for value in (None, True, -49, 160, 2**70, 1.5, 2j, "\u03a9", b"\0" * 300, (), (1, ("a",)), frozenset((1,))):
        conn.root.echo(value)


def objects(conn: Any, consts: Any) -> None:
    numbers = conn.root.numbers()
    assert repr(numbers) == str(numbers) == "[1, 2, 3]"
    assert len(numbers) == 3
    conn.sync_request(consts.HANDLE_CMP, numbers, 5, "__eq__")
    assert "append" in dir(numbers)
    conn.sync_request(consts.HANDLE_HASH, conn.root)
    conn.sync_request(consts.HANDLE_PICKLE, numbers, 4)
    conn.sync_request(consts.HANDLE_BUFFITER, iter(numbers), 2)
    conn.sync_request(consts.HANDLE_OLDSLICING, numbers, "__getitem__", "__getslice__", 0, 2, ())
    assert isinstance(conn.root.Supply(), conn.root.Supply)
    assert not isinstance(numbers, conn.root.Supply)
    conn.root.echo((numbers, [4], 5))
    del numbers
    conn.ping()


def failures(conn: Any, consts: Any) -> None:
    for broken in (conn.root.fail, lambda: conn.root.secret, lambda: next(iter(conn.root.call(list)))):
        try:
            broken()
        except Exception as error:
            assert error


def context(conn: Any, consts: Any) -> None:
    with conn.root.Supply() as supply:
        assert supply.volts == 3.3


TALKS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "ping": lambda conn, consts: conn.ping("echo"),
    "call": lambda conn, consts: conn.root.add(1, b=2),
    "callattr": lambda conn, consts: conn.sync_request(consts.HANDLE_CALLATTR, conn.root, "add", (1,), (("b", 2),)),
    "callback": lambda conn, consts: conn.root.call(lambda *numbers: sum(numbers), 1, 2),
    "properties": properties,
    "values": values,
    "objects": objects,
    "failures": failures,
    "context": context,
    "large": lambda conn, consts: conn.root.echo("x" * 4000),
}
"""`(client's connection, stock's handler numbers)` -> one conversation."""


def tapped_by(site: str | None) -> dict[str, Any]:
    """`tap` in a process of its own, with the rpyc of that folder, or with the installed one."""
    environment = {**os.environ, **({"PYTHONPATH": site} if site else {})}
    done = subprocess.run(
        [sys.executable, __file__, "--tap"], env=environment, capture_output=True, check=True, text=True
    )
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def main() -> None:
    if sys.argv[1:] == ["--tap"]:
        json.dump(tap(), sys.stdout)
        sys.stdout.flush()
        os._exit(0)  # the thread pool of a bound connection holds up the interpreter's exit
    known = json.loads(PATH.read_text()) if PATH.exists() else {}
    made = {**known, "rpyc6": tapped_by(None)}
    if sys.argv[1:]:
        made["rpyc5"] = tapped_by(sys.argv[1])
    PATH.write_text(text_of(made))
    print(f"{sum(len(talk) for peer in made.values() for talk in frames_of(peer))} frames in {PATH}")


def frames_of(peer: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [*peer["plain"].values(), *peer["bound"].values()]


def text_of(made: dict[str, Any]) -> str:
    """The content of the file, a frame a line."""
    peers = []
    for dialect, peer in sorted(made.items()):
        modes = []
        for mode in ("plain", "bound"):
            talks = [
                f"      {json.dumps(name)}: [\n"
                + ",\n".join(f"        {json.dumps(frame)}" for frame in frames)
                + "\n      ]"
                for name, frames in peer[mode].items()
            ]
            modes.append(f'    "{mode}": {{\n' + ",\n".join(talks) + "\n    }")
        peers.append(
            f'  "{dialect}": {{\n    "made_by": {json.dumps(peer["made_by"])},\n' + ",\n".join(modes) + "\n  }"
        )
    return "{\n" + ",\n".join(peers) + "\n}\n"


if __name__ == "__main__":
    main()
