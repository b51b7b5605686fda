"""What a bench does over one carrier: bare transfers, messages and calls, in sessions that take turns.

The device's end knows by the number of the session what it is for: 1 bare transfers, 2 messages of a channel, 3 calls,
and again. So the endpoints, the controller and the model are the same for all three.
"""

from __future__ import annotations

import array
import secrets
import statistics
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import gateway
from gateway.channels import Channel, open_channel
from gateway.channels import usb_session as session
from gateway.channels.stream import StreamChannel
from gateway.channels.usb_devices import Function, open_function
from gateway.errors import LinkDown, Unreachable
from gateway.protocol.framing import recycle
from gateway.service.exposure import Exposable, exposed
from gateway.service.service import Service
from gateway.usb.finding import WantedUsb

MESSAGE: Final = 1024 * 1024
COMMAND: Final = struct.Struct(">cI")
ECHO, DOWN, UP = b"e", b"d", b"u"
SMALL: Final = bytes(64)
"""About what a call takes in each direction."""
WARM_UP: Final = 3
"""Messages that go before: the first ones of a session need memory."""
Figures = dict[str, Any]


class EchoService(Service):
    """One device that gives back what it gets."""

    def __init__(self) -> None:
        self.exposed_box = Box()


class Box(Exposable):
    """See EchoService."""

    @exposed(access="read")
    def echo(self, data: bytes) -> bytes:
        return data


# -- the device's end ------------------------------------------------------------------------------------------------


def serve(accept: Callable[[], StreamChannel]) -> None:
    """Serve sessions for ever."""
    server = gateway.Server(EchoService(), strict=False)
    number = 0
    while True:
        channel = accept()
        number += 1
        kind = (number - 1) % 3
        try:
            if kind == 0:
                _serve_bare(channel)
            elif kind == 1:
                _serve_messages(channel)
            else:
                server.serve_channel(channel)
        except LinkDown:
            channel.close()


def _serve_bare(channel: StreamChannel) -> None:
    stream: Any = channel._stream
    whole = bytes(MESSAGE)
    while True:
        came = stream.read(session.LARGE, None)
        what, count = COMMAND.unpack(came[: COMMAND.size])
        if what == ECHO:
            first = came[COMMAND.size :]  # it may have come together with what follows
            for _ in range(count):
                stream.write(first or stream.read(65536, None), 10.0)
                first = b""
        elif what == DOWN:
            for _ in range(count):
                stream.write(whole, 10.0)
        else:
            left = count * MESSAGE + COMMAND.size - len(came)
            while left:
                left -= len(stream.read(left, None))
            stream.write(b"!", 10.0)


def _serve_messages(channel: Channel) -> None:
    whole = bytes(MESSAGE)
    while True:
        what, count = COMMAND.unpack(channel.recv())
        if what == ECHO:
            for _ in range(count):
                channel.send(bytes(channel.recv()))
        elif what == DOWN:
            for _ in range(count):
                channel.send(whole)
        else:
            for _ in range(count):
                recycle(channel.recv())  # as a connection does
            channel.send(b"!")


# -- the host's end --------------------------------------------------------------------------------------------------


class Bare:
    """A session with nothing over it: pyusb's own reads and writes, with transfers and buffers of the same sizes."""

    def __init__(self, wanted: WantedUsb) -> None:
        self._function: Function = open_function(wanted, detach=False)
        self._device = self._function.device
        self._buffer = array.array("B", bytes(session.LARGE))
        self._small = array.array("B", bytes(session.SMALL))
        nonce = secrets.token_bytes(session.NONCE)
        self._function.say(session.OPEN, session.VERSION, nonce)
        for endpoint in (self._function.coming, self._function.going):
            self._device.clear_halt(endpoint)
        self.write(session.marker(nonce))
        while bytes(self._buffer[: self.read()]) != session.marker(nonce):
            pass

    def read(self) -> int:
        return int(self._device.read(self._function.coming, self._buffer, 0))

    def read_small(self) -> int:
        return int(self._device.read(self._function.coming, self._small, 0))

    def write(self, data: bytes) -> None:
        self._device.write(self._function.going, data, 10_000)
        if len(data) % self._function.packet == 0:
            self._device.write(self._function.going, b"", 10_000)

    def echoes(self, count: int) -> list[float]:
        self.write(COMMAND.pack(ECHO, count))
        return _timed(lambda: (self.write(SMALL), self.read_small()), count)

    def down(self, count: int) -> float:
        begin = time.perf_counter()
        self.write(COMMAND.pack(DOWN, count))
        left = count * MESSAGE
        while left:
            left -= self.read()
        return time.perf_counter() - begin

    def up(self, count: int) -> float:
        whole = bytes(MESSAGE)
        begin = time.perf_counter()
        self.write(COMMAND.pack(UP, count))
        for _ in range(count):
            self.write(whole)
        self.read()
        return time.perf_counter() - begin

    def close(self) -> None:
        self._function.say(session.CLOSE)
        self._function.release()
        self._function.close()


class Messages:
    """A session of our channel."""

    def __init__(self, url: str) -> None:
        self._channel = open_channel(url)

    def echoes(self, count: int) -> list[float]:
        self._channel.send(COMMAND.pack(ECHO, count))
        return _timed(lambda: (self._channel.send(SMALL), self._channel.recv()), count)

    def down(self, count: int) -> float:
        begin = time.perf_counter()
        self._channel.send(COMMAND.pack(DOWN, count))
        for _ in range(count):
            recycle(self._channel.recv())
        return time.perf_counter() - begin

    def up(self, count: int) -> float:
        whole = bytes(MESSAGE)
        begin = time.perf_counter()
        self._channel.send(COMMAND.pack(UP, count))
        for _ in range(count):
            self._channel.send(whole)
        self._channel.recv()
        return time.perf_counter() - begin

    def close(self) -> None:
        self._channel.close()


def _timed(call: Callable[[], Any], count: int) -> list[float]:
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return times


def measure(url: str, wanted: WantedUsb, *, rounds: int, messages: int, calls: int) -> Figures:
    """Figures of a carrier: medians over `rounds` of alternation, and the ratios of each round's pair."""
    rows: dict[str, list[float]] = {}
    for _ in range(rounds):
        bare = Bare(wanted)
        bare.down(WARM_UP), bare.up(WARM_UP)
        found = {"down": bare.down(messages), "up": bare.up(messages), "echo": statistics.median(bare.echoes(calls))}
        bare.close()
        ours = Messages(url)
        ours.down(WARM_UP), ours.up(WARM_UP)
        for name, value in (
            ("down", ours.down(messages)),
            ("up", ours.up(messages)),
            ("echo", statistics.median(ours.echoes(calls))),
        ):
            rows.setdefault(f"bare {name}", []).append(found[name])
            rows.setdefault(f"ours {name}", []).append(value)
            rows.setdefault(f"ratio {name}", []).append(found[name] / value)
        ours.close()
        conn = gateway.connect(url)
        echo = conn.root.box.echo
        call = statistics.median(_timed(lambda echo=echo: echo(b"x"), calls))
        conn.close()
        rows.setdefault("call", []).append(call)
        rows.setdefault("call over echo", []).append(call / found["echo"])
    middle = {name: statistics.median(values) for name, values in rows.items()}
    size = messages * MESSAGE / 1e6
    return {
        "down_MBps": round(size / middle["ours down"], 1),
        "down_share": round(middle["ratio down"], 3),
        "up_MBps": round(size / middle["ours up"], 1),
        "up_share": round(middle["ratio up"], 3),
        "bare_echo_ms": round(middle["bare echo"] * 1e3, 3),
        "message_echo_ms": round(middle["ours echo"] * 1e3, 3),
        "call_ms": round(middle["call"] * 1e3, 3),
        "call_over_echo": round(middle["call over echo"], 2),
        "call_minus_echo_ms": round((middle["call"] - middle["bare echo"]) * 1e3, 3),
    }


def background(accept: Callable[[], StreamChannel]) -> None:
    """The device's end, in a thread."""
    threading.Thread(target=serve, args=(accept,), name="the device", daemon=True).start()


def until_there(call: Callable[[], Any], timeout: float = 30.0) -> Any:
    """Try until the device is there."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return call()
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
