"""Write link.json and link_exchanges.json: the serial link's frames and conversations, byte by byte.

    python tests/vectors/make_link.py

The files are committed, so that whoever implements the link, in firmware too, tests against the same bytes.
docs/reference/serial-link.md says how to read them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

from gateway.link import Down, Ended, Event, Link, LinkConfig, Opened, Received, frames
from gateway.link.frames import END, LAST, POLL, Hello
from gateway.link.hdlc import FLAG, encode
from gateway.link.session import FrameKeys

FRAMES: Final = Path(__file__).with_name("link.json")
EXCHANGES: Final = Path(__file__).with_name("link_exchanges.json")
INITIATOR: Final = 0x1A2B3C4D
RESPONDER: Final = 0x7E7D1113
"""Nonces. The responder's is made of the four bytes that have to be escaped."""
AGAIN: Final = (0x00000001, 0xFFFFFFFF)
"""The next nonces of the end under test."""

Case: TypeAlias = dict[str, Any]


# ------------------------------------------------------------------------------------------------------------- frames


def key_cases() -> list[Case]:
    cases = []
    for sender, name in ((b"i", "initiator"), (b"r", "responder")):
        keys = FrameKeys(sender, INITIATOR, RESPONDER)
        session = zlib.crc32(sender + INITIATOR.to_bytes(4, "big") + RESPONDER.to_bytes(4, "big"))
        for seq, ack in ((0, 0), (255, 255), (256, 0), (0, 256), (70_000, 123_456_789), (2**40 - 1, 2**40)):
            key = keys.key(seq, ack)
            cases.append({"sender": name, "session_key": session, "seq": seq, "ack": ack, "key": key})
    return cases


def frame_cases() -> list[Case]:
    keys = {"initiator": FrameKeys(b"i", INITIATOR, RESPONDER), "responder": FrameKeys(b"r", INITIATOR, RESPONDER)}
    cases = []

    def add(name: str, sender: str, content: bytes, seq: int | None, ack: int | None, **fields: Any) -> None:
        key = 0 if fields["kind"] == "HELLO" else keys[sender].key(seq or 0, ack or 0)
        line = encode(content, key).hex()
        case = {"name": name, "sender": sender, **fields, "seq": seq, "ack": ack, "content": content.hex(), "key": key}
        cases.append({**case, "line": line})

    hellos = {
        "the first HELLO of a gateway": Hello(
            version=1,
            initiator=True,
            nonce=INITIATOR,
            seen=0,
            frame=512,
            window=16,
            streams=64,
            message=2**24,
            deflate=15,
        ),
        "the answer of the smallest peer": Hello(
            version=1,
            initiator=False,
            nonce=RESPONDER,
            seen=INITIATOR,
            frame=64,
            window=1,
            streams=1,
            message=4096,
            deflate=0,
        ),
    }
    for name, hello in hellos.items():
        sender = "initiator" if hello.initiator else "responder"
        said = {field: getattr(hello, field) for field in Hello.__slots__ if field != "initiator"}
        add(name, sender, hello.encode(), None, None, kind="HELLO", **said)
    later = (
        hellos["the first HELLO of a gateway"].encode()[:1]
        + b"\x02"
        + hellos["the first HELLO of a gateway"].encode()[2:]
    )
    add("a HELLO of a later version with two more bytes", "initiator", later + b"\x7e\x01", None, None, kind="HELLO")

    def add_data(name: str, sender: str, flags: int, seq: int, ack: int, stream: int, payload: bytes) -> None:
        content = frames.data(flags, seq, ack, stream, payload)
        names = [text for bit, text in ((LAST, "LAST"), (END, "END")) if flags & bit]
        fields = {"kind": "DATA", "flags": names, "stream": stream, "payload": payload.hex()}
        add(name, sender, content, seq, ack, **fields)

    add_data("a whole message on stream 0", "initiator", LAST, 0, 0, 0, b"*IDN?")
    add_data("an answer that acknowledges it", "responder", LAST, 0, 1, 0, b"ACME,1")
    add_data("a message on stream 5", "initiator", LAST, 1, 1, 5, b"hi")
    add_data("the first fragment of a message", "initiator", 0, 2, 1, 0, bytes(range(61)))
    add_data("an empty message", "initiator", LAST, 3, 1, 0, b"")
    add_data("a message after which the stream ends", "initiator", LAST | END, 4, 1, 5, b"bye")
    add_data("the end of a stream by itself", "responder", END, 1, 5, 5, b"")
    add_data("payload made of bytes that are escaped", "initiator", LAST, 5, 2, 0, b"\x7e\x7d\x11\x13\x5e\x5d\x31\x33")
    add_data("the last of the first 256 frames", "initiator", LAST, 255, 254, 0, b"x")
    add_data("number 256, and 256 acknowledged", "initiator", LAST, 256, 256, 0, b"x")
    add_data("number 256, and 255 acknowledged", "initiator", LAST, 256, 255, 0, b"x")
    add_data("number 65793", "responder", LAST, 0x10101, 0x20202, 0, b"x")

    def add_ack(name: str, sender: str, flags: int, number: int, room: int, bitmap: bytes) -> None:
        fields = {"kind": "ACK", "flags": ["POLL"] * bool(flags), "room": room, "bitmap": bitmap.hex()}
        add(name, sender, frames.ack(flags, number, room, bitmap), None, number, **fields)

    add_ack("nothing has come yet", "responder", 0, 0, 1, b"")
    add_ack("are you there?", "initiator", POLL, 7, 16, b"")
    add_ack("wait, there is no room", "initiator", 0, 7, 0, b"")
    add_ack("8, 10 and 17 are here, 7 and 9 are missing", "responder", 0, 7, 16, b"\x05\x02")
    add_ack("beyond 256", "responder", 0, 0x301, 16, b"")
    add("leaving", "initiator", frames.close(), None, None, kind="CLOSE")
    return cases


def refused_cases() -> list[Case]:
    """What an initiator that is in the session must take no notice of, with nothing received so far."""
    theirs, ours = FrameKeys(b"r", INITIATOR, RESPONDER), FrameKeys(b"i", INITIATOR, RESPONDER)
    content = frames.data(LAST, 0, 0, 0, b"hi")
    line = encode(content, theirs.key())
    old = FrameKeys(b"r", INITIATOR, RESPONDER ^ 1)
    hello = {"version": 1, "initiator": False, "nonce": RESPONDER, "seen": INITIATOR}
    sizes = {"frame": 64, "window": 1, "streams": 1, "message": 4096, "deflate": 0}
    values: Case = {**hello, **sizes}
    wrong = {
        "a bit has flipped": bytes((line[0] ^ 4,)) + line[1:],
        "a byte is lost": line[:3] + line[4:],
        "its own frame, sent back by the line": encode(content, ours.key()),
        "a frame of an earlier session": encode(content, old.key()),
        "a frame from 256 frames later": encode(content, theirs.key(256, 0)),
        "a key without the upper bits": encode(content, zlib.crc32(b"r" + bytes(8))),
        "no key": encode(content, 0),
        "an unknown kind": encode(b"\x50\x00\x00", theirs.key()),
        "too short": encode(b"\x20\x00", theirs.key()),
        "shorter than its CRC": b"\x20\x00\x7e",
    }
    for name, value in (
        ("version", 0),
        ("nonce", 0),
        ("frame", 15),
        ("window", 0),
        ("window", 128),
        ("streams", 0),
        ("message", 0),
        ("deflate", 8),
        ("deflate", 16),
    ):
        wrong[f"a HELLO with {name} {value}"] = encode(Hello(**{**values, name: value}).encode(), 0)
    wrong["a HELLO cut short"] = encode(Hello(**values).encode()[:19], 0)
    return [{"name": name, "line": bytes_.hex()} for name, bytes_ in wrong.items()]


def deflate_cases() -> list[Case]:
    """Messages of one stream after each other, and payloads that inflate to them. Other payloads may do so too."""
    messages = [b"Hello", b"Hello", b"", b"set_voltage(3.3)", b"", b"set_voltage(3.4)", bytes(300), b"Hello"]
    cases = []
    for bits in (9, 15):
        deflater = zlib.compressobj(wbits=-bits)
        payloads = [(deflater.compress(each) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4].hex() for each in messages]
        cases.append(
            {
                "name": f"deflated with a window of {bits} bits",
                "window": bits,
                "messages": [each.hex() for each in messages],
                "payloads": payloads,
            }
        )
    stored = [f"00{len(each):02x}00{255 - len(each):02x}ff{each.hex()}00" for each in (b"Hello", b"", b"abc")]
    plain = [each.hex() for each in (b"Hello", b"", b"abc")]
    cases.append({"name": "in stored blocks", "window": 9, "messages": plain, "payloads": stored})
    return cases


# ---------------------------------------------------------------------------------------------------------- exchanges


class Script:
    """Writes down what one end does, step by step, while it is told what the other end says."""

    def __init__(self, name: str, **config: Any) -> None:
        self.config = LinkConfig(**config)
        self.name = name
        self.steps: list[Case] = []
        self.now = 0.0
        mine, theirs = (INITIATOR, RESPONDER) if self.config.initiator else (RESPONDER, INITIATOR)
        self.nonces = [mine, *AGAIN]
        self.theirs = theirs
        given = iter(self.nonces)
        self.link = Link(self.config, nonces=lambda: next(given), now=0.0)
        self.use_keys(mine, theirs)

    def use_keys(self, mine: int, theirs: int) -> None:
        """From now on the other end speaks in this session."""
        self.mine, self.theirs = mine, theirs
        nonces = (mine, theirs) if self.config.initiator else (theirs, mine)
        self.keys = FrameKeys(b"r" if self.config.initiator else b"i", *nonces)

    def step(self, *receive: bytes, at: float | None = None, do: list[list[Any]] | None = None) -> None:
        """Bytes come, then the end's user does something, then the end writes what it has to say."""
        self.now = self.now if at is None else at
        line = b"".join(receive)
        self.link.receive(line, self.now)
        for action, *arguments in do or ():
            perform(self.link, action, arguments, self.now)
        written = self.link.output(self.now)
        step: Case = {"at": self.now, "receive": line.hex(), "do": do or [], "write": written.hex()}
        self.steps.append({**step, "events": [told(event) for event in self.link.take_events()]})

    def hello(self, seen: int | None = None, *, nonce: int | None = None, **said: int) -> bytes:
        sizes = {"frame": 512, "window": self.config.window, "streams": 64, "message": 2**24, "deflate": 0} | said
        hello = Hello(
            version=1,
            initiator=not self.config.initiator,
            nonce=self.theirs if nonce is None else nonce,
            seen=self.mine if seen is None else seen,
            **sizes,
        )
        return encode(hello.encode(), 0)

    def data(self, payload: bytes, seq: int, ack: int, flags: int = LAST, stream: int = 0) -> bytes:
        return encode(frames.data(flags, seq, ack, stream, payload), self.keys.key(seq, ack))

    def ack(self, number: int, room: int = 16, bitmap: bytes = b"", flags: int = 0) -> bytes:
        return encode(frames.ack(flags, number, room, bitmap), self.keys.key(0, number))

    def close(self) -> bytes:
        return encode(frames.close(), self.keys.key())

    def open(self) -> None:
        """The handshake, begun by the other end."""
        self.step(FLAG)
        self.step(self.hello(0), at=0.01)
        self.step(self.hello(), at=0.02)

    def done(self) -> Case:
        config = {
            name: getattr(self.config, name)
            for name in ("initiator", "frame", "window", "streams", "message", "deflate")
        }
        return {"name": self.name, "config": config, "nonces": self.nonces, "steps": self.steps}


def perform(link: Link, action: str, arguments: list[Any], now: float) -> None:
    """What the user of a link does in a step."""
    match action:
        case "open":
            link.open()
        case "send":
            link.send(arguments[0], bytes.fromhex(arguments[1]))
        case "end":
            link.end(arguments[0])
        case "accepting":
            link.accepting = arguments[0]
        case "restart":
            link.restart("the port was lost", now)
        case _:
            link.close()


def told(event: Event) -> list[Any]:
    """An event as the file has it."""
    match event:
        case Opened(peer):
            return ["opened", {name: getattr(peer, name) for name in type(peer).__slots__}]
        case Received(stream, message):
            return ["received", stream, message.hex()]
        case Ended(stream):
            return ["ended", stream]
        case Down(cause, _):
            return ["down", str(cause)]


SMALL: Final[dict[str, Any]] = {
    "initiator": False,
    "frame": 64,
    "window": 1,
    "streams": 1,
    "message": 4096,
    "deflate": 0,
}


def small_call() -> Case:
    script = Script("the smallest peer is met, answers a call, and is left", **SMALL)
    script.open()
    script.step(script.data(b"*IDN?", 0, 0), at=0.03, do=[["send", 0, b"ACME,1".hex()]])
    script.step(script.ack(1), at=0.04)
    script.step(script.ack(1, flags=POLL), at=0.05)
    script.step(script.close(), at=0.06)
    return script.done()


def small_doubles() -> Case:
    script = Script("the smallest peer gets frames twice, damaged, too early and of another session", **SMALL)
    script.open()
    call = script.data(b"once", 0, 0)
    script.step(call, at=0.03, do=[["send", 0, b"1".hex()]])
    script.step(script.ack(1), at=0.04)
    script.step(call, at=0.05)
    script.step(script.data(b"early", 2, 1), at=0.06)
    damaged = bytearray(script.data(b"twice", 1, 1))
    damaged[4] ^= 0x20
    script.step(bytes(damaged), at=0.07)
    script.use_keys(RESPONDER, 4711)
    script.step(script.data(b"twice", 1, 1), at=0.08)
    script.use_keys(RESPONDER, INITIATOR)
    script.step(script.data(b"twice", 1, 1), at=0.09, do=[["send", 0, b"2".hex()]])
    script.step(script.ack(2), at=0.10)
    return script.done()


def small_fragments() -> Case:
    script = Script("the smallest peer takes a message of three frames and sends one", **SMALL)
    script.open()
    message = bytes(range(150))
    script.step(script.data(message[:61], 0, 0, 0), at=0.03)
    script.step(script.data(message[61:122], 1, 0, 0), at=0.04)
    answer = bytes(range(255, 105, -1))
    script.step(script.data(message[122:], 2, 0), at=0.05, do=[["send", 0, answer.hex()]])
    script.step(script.ack(1), at=0.06)
    script.step(script.ack(2), at=0.07)
    script.step(script.ack(3), at=0.08)
    return script.done()


def small_streams() -> Case:
    script = Script("stream 0 ends both ways and is used again", **SMALL)
    script.open()
    script.step(script.data(b"last", 0, 0, LAST | END), at=0.03, do=[["send", 0, b"answer".hex()], ["end", 0]])
    script.step(script.ack(1), at=0.04)
    script.step(script.ack(2), at=0.05)
    script.step(script.data(b"new", 1, 2), at=0.06, do=[["send", 0, b"again".hex()]])
    script.step(script.ack(3), at=0.07)
    return script.done()


def small_reset() -> Case:
    script = Script("the smallest peer notices that the other end began anew", **SMALL)
    script.open()
    script.step(script.data(b"old", 0, 0), at=0.03, do=[["send", 0, b"1".hex()]])
    script.step(script.hello(0, nonce=0xC0FFEE), at=0.04)
    script.step(script.data(b"old", 1, 1), at=0.05)
    script.use_keys(AGAIN[0], 0xC0FFEE)
    script.step(script.hello(), at=0.06)
    script.step(script.data(b"new", 0, 0), at=0.07, do=[["send", 0, b"2".hex()]])
    script.step(script.ack(1), at=0.08)
    return script.done()


def small_wrap() -> Case:
    script = Script("the smallest peer counts beyond 256 and refuses what is 256 frames old", **SMALL)
    script.open()
    for number in range(258):
        at = round(0.03 + number / 1000, 3)
        script.step(script.data(b"", number, number), at=at, do=[["send", 0, ""]])
    script.step(script.ack(258), at=0.5)
    script.step(script.data(b"new", 258, 258), at=0.51, do=[["send", 0, b"!".hex()]])
    script.step(script.data(b"old", 3, 3), at=0.52)
    return script.done()


def large_selective() -> Case:
    script = Script("an initiator sends again what the bitmap leaves out", initiator=True, deflate=0)
    script.open()
    script.step(at=0.1, do=[["open"], *(["send", 0, bytes((letter,)).hex()] for letter in b"abcd")])
    script.step(script.ack(0, bitmap=b"\x02"), at=0.11)
    script.step(script.ack(4), at=0.12)
    return script.done()


def large_gap() -> Case:
    script = Script("a responder tells of a gap and of its end", initiator=False, deflate=0)
    script.open()
    script.step(script.data(b"c", 2, 0, stream=1), at=0.1)
    script.step(script.data(b"d", 3, 0), at=0.11)
    script.step(script.data(b"a", 0, 0), at=0.12)
    script.step(script.data(b"b", 1, 0, stream=1), at=0.13)
    return script.done()


def large_timeout() -> Case:
    script = Script("an initiator without an answer sends again, asks, and gives up", initiator=True, deflate=0)
    script.open()
    script.step(at=0.1, do=[["open"], ["send", 0, b"?".hex()]])
    for at in (0.39, 0.41, 0.99, 1.01, 1.1, 2.3, 4.03):
        script.step(at=at)
    return script.done()


def large_room() -> Case:
    script = Script("an initiator waits for room, and asks for it", initiator=True, deflate=0)
    script.open()
    script.step(script.ack(0, room=0), at=0.1, do=[["open"], ["send", 0, b"later".hex()]])
    script.step(at=0.5)
    script.step(script.ack(0, room=0), at=0.51)
    script.step(script.ack(0, room=16), at=0.6)
    script.step(script.ack(1, room=16), at=0.61)
    script.step(at=0.7, do=[["accepting", False]])
    script.step(script.data(b"no room", 0, 1), at=0.71)
    script.step(at=0.8, do=[["accepting", True]])
    script.step(script.data(b"no room", 0, 1), at=0.81)
    return script.done()


def large_handshake() -> Case:
    script = Script("HELLOs that are repeated, late, of the wrong role or sent back", initiator=True, deflate=0)
    for at in (0.0, 0.05, 0.1, 0.29, 0.31):
        script.step(at=at)
    script.step(script.hello(0x5EED), at=0.4)
    own = bytes.fromhex(script.steps[0]["write"])
    script.step(own, at=0.45)
    script.step(script.hello(), at=0.5)
    script.step(script.hello(), at=0.51)
    script.step(script.hello(0x5EED, nonce=0x01D), at=0.52)
    script.step(at=0.63)
    return script.done()


def large_restart() -> Case:
    script = Script("a port is lost and comes back, and then the link is closed", initiator=True, deflate=0)
    script.open()
    script.step(at=0.1, do=[["restart"]])
    script.use_keys(AGAIN[0], 0xFEED)
    script.step(script.hello(), at=0.11)
    script.step(at=0.2, do=[["close"]])
    return script.done()


SCRIPTS: Final[tuple[Callable[[], Case], ...]] = (
    small_call,
    small_doubles,
    small_fragments,
    small_streams,
    small_reset,
    small_wrap,
    large_selective,
    large_gap,
    large_timeout,
    large_room,
    large_handshake,
    large_restart,
)


def exchanges() -> list[Case]:
    return [script() for script in SCRIPTS]


# -------------------------------------------------------------------------------------------------------------- files


def rows(cases: list[Any], indent: str) -> str:
    return ",\n".join(indent + json.dumps(case) for case in cases)


def frames_text() -> str:
    """What link.json has to hold."""
    sections = {
        "nonces": [{"initiator": INITIATOR, "responder": RESPONDER}],
        "keys": key_cases(),
        "frames": frame_cases(),
        "refused": refused_cases(),
        "deflate": deflate_cases(),
    }
    body = ",\n".join(f'  "{name}": [\n{rows(cases, "    ")}\n  ]' for name, cases in sections.items())
    return f"{{\n{body}\n}}\n"


def exchanges_text() -> str:
    """What link_exchanges.json has to hold."""
    made = []
    for case in exchanges():
        head = ",\n".join(f'    "{name}": {json.dumps(case[name])}' for name in ("name", "config", "nonces"))
        made.append(f'  {{\n{head},\n    "steps": [\n{rows(case["steps"], "      ")}\n    ]\n  }}')
    return "[\n" + ",\n".join(made) + "\n]\n"


if __name__ == "__main__":
    FRAMES.write_text(frames_text(), encoding="utf-8")
    EXCHANGES.write_text(exchanges_text(), encoding="utf-8")
