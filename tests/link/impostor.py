"""A peer that says to one link whatever a test wants it to hear."""

from __future__ import annotations

import random

from gateway.link import Link, LinkConfig, Opened
from gateway.link import frames as f
from gateway.link.frames import Hello
from gateway.link.hdlc import encode
from gateway.link.session import FrameKeys
from tests.link.wire import contents

OPENS = LinkConfig(initiator=True)
SERVES = LinkConfig(initiator=False)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


class Impostor:
    """Says to one link whatever a test wants it to hear, with the right keys."""

    def __init__(self, config: LinkConfig | None = None, *, now: float = 0.0) -> None:
        self.nonce = 0xB0B
        self.own = [0xA11CE, *range(100, 200)]
        self.config = config or SERVES
        numbers = iter(self.own)
        self.link = Link(self.config, nonces=lambda: next(numbers), now=now)
        self.now = now
        self.keys = self.keys_for(self.own[0])

    def keys_for(self, own: int) -> FrameKeys:
        sender = b"r" if self.config.initiator else b"i"
        return FrameKeys(sender, *((own, self.nonce) if self.config.initiator else (self.nonce, own)))

    def hello(self, seen: int = 0, nonce: int | None = None, **said: int) -> bytes:
        values = {"version": 1, "frame": 512, "window": 16, "streams": 64, "message": 10**6, "deflate": 0} | said
        initiator = bool(values.pop("role", not self.config.initiator))
        hello = Hello(initiator=initiator, nonce=self.nonce if nonce is None else nonce, seen=seen, **values)
        return encode(hello.encode(), 0)

    def data(self, payload: bytes, seq: int = 0, ack: int = 0, flags: int = f.LAST, stream: int = 0) -> bytes:
        return encode(f.data(flags, seq, ack, stream, payload), self.keys.key(seq, ack))

    def ack(self, number: int = 0, room: int = 16, bitmap: bytes = b"", flags: int = 0) -> bytes:
        return encode(f.ack(flags, number, room, bitmap), self.keys.key(0, number))

    def say(self, *frames: bytes, after_s: float = 0.0) -> list[object]:
        """The events that follow."""
        self.now += after_s
        self.link.receive(b"\x7e" + b"".join(frames), self.now)
        return list(self.link.take_events())

    def hear(self, after_s: float = 0.0) -> list[bytes]:
        """The contents of the frames that the link writes now."""
        self.now += after_s
        written = b""
        while data := self.link.output(self.now):
            written += data
        return contents(written)

    def open(self, **said: int) -> None:
        self.hear()
        (opened,) = self.say(self.hello(seen=self.own[0], **said))
        assert isinstance(opened, Opened)
        self.hear()


def seen_in(content: bytes) -> int:
    hello = Hello.decode(content)
    assert hello is not None
    return hello.seen
