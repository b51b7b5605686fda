"""Pairing: a client gets its certificate by a one-time code. Pure: messages and the time go in, messages come out.

    client (gateway trust)                                         gateway (gateway pair)
      hello    {"type": "hello", "version": 1, "pake": A}      ->
                                                               <-  answer  {"type": "answer", "pake": B}
      request  {"type": "request", "confirm": C, "box": X}     ->
                                                               <-  issued  {"type": "issued", "confirm": G, "box": Y}

A message is two bytes of length (big-endian) and so many bytes of JSON, an object of texts and whole numbers; bytes in
it are in Base64. Instead of any message the gateway may send {"type": "refused", "reason": TEXT}, which is the end.

A and B are SPAKE2 over Ed25519 with the code as the password; both sides get the key K, if their codes are the same.
The transcript is the two messages `hello` and `answer` as they went over the line. HKDF-SHA-256 makes four keys of K
and the transcript: C and G are HMACs of the transcript, which confirm that the other side has K; the boxes are sealed
with ChaCha20-Poly1305, each with a key of its own that is used once, and with the transcript as additional data.

    X holds {"name": client's name, "request": signing request in PEM}
    Y holds {"name": ..., "id": ..., "port": ..., "client": name in the list, "ca": PEM, "certificate": PEM}

The client confirms first: whoever guesses a code learns whether it was right from the gateway, which counts. A man in
the middle gets one guess out of a client too, for each time a person types the code, and learns nothing more from it.
Without the code nobody can make, read or change a box.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from spake2 import SPAKE2_A, SPAKE2_B
from spake2.ed25519_basic import NotOnCurve
from spake2.spake2 import SPAKEError

from gateway.errors import GatewayError, ProtocolError, Unauthenticated
from gateway.identity.ca import PrivateKey, check_client_name, check_issued, key_pem, new_key, new_request
from gateway.identity.trust import Facts

VERSION: Final = 1
CODE_DIGITS: Final = 8
LIFETIME_S: Final = 120.0
TRIES: Final = 3
"""So many wrong codes, and the code is dead."""
EXCHANGES: Final = 30
"""So many peers are answered at all: each answer costs some computing."""
MAX_UNPROVEN: Final = 512
"""Bytes of a message of a peer that has not shown that it knows the code."""
MAX_MESSAGE: Final = 16 * 1024
_LENGTH: Final = 2
_PAKE: Final = 33
_MAC: Final = 32
_KEY: Final = 32
_CONTEXT: Final = b"instrument-gateway pairing 1"
_CLIENT: Final = b"instrument-gateway client"
_GATEWAY: Final = b"instrument-gateway gateway"
_NONCE: Final = bytes(12)
_MAX_REASON: Final = 200


class State(StrEnum):
    """Where one side of a pairing is."""

    NEW = "new"
    HALFWAY = "halfway"
    """The gateway has answered; the client has sent its request."""
    ASKED = "asked"
    """The client waits for the gateway's answer."""
    DONE = "done"
    FAILED = "failed"


GATEWAY_TABLE: Final[Mapping[State, Mapping[str, State]]] = {
    State.NEW: {"hello": State.HALFWAY},
    State.HALFWAY: {"request": State.DONE},
    State.DONE: {},
    State.FAILED: {},
}
CLIENT_TABLE: Final[Mapping[State, Mapping[str, State]]] = {
    State.NEW: {},
    State.ASKED: {"answer": State.HALFWAY, "refused": State.FAILED},
    State.HALFWAY: {"issued": State.DONE, "refused": State.FAILED},
    State.DONE: {},
    State.FAILED: {},
}
"""State -> the messages that may come in it, and the state that each leads to. Whatever else comes is the end."""

_FIELDS: Final[Mapping[str, Mapping[str, type]]] = {
    "hello": {"version": int, "pake": str},
    "answer": {"pake": str},
    "request": {"confirm": str, "box": str},
    "issued": {"confirm": str, "box": str},
    "refused": {"reason": str},
}


# -- the code -----------------------------------------------------------------------------------------------------


def new_code() -> str:
    """A fresh code, as people read it: `4821-0937`."""
    digits = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"
    return f"{digits[: CODE_DIGITS // 2]}-{digits[CODE_DIGITS // 2 :]}"


def plain_code(typed: str) -> bytes:
    """The code's digits, however they were grouped. Raises Unauthenticated for what can be no code."""
    digits = "".join(char for char in typed if not char.isspace() and char != "-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) == CODE_DIGITS):
        raise Unauthenticated(f"a code has {CODE_DIGITS} digits, such as 4821-0937; `gateway pair` prints one")
    return digits.encode()


class Invitation:
    """One code on the gateway's side: good for one client, two minutes, and three wrong tries. Times in seconds."""

    def __init__(self, code: str, *, now: float, lifetime_s: float = LIFETIME_S) -> None:
        self.password = plain_code(code)
        self.ends_at = now + lifetime_s
        self.wrong = 0
        """Wrong codes so far."""
        self.used = False
        """Whether a client has been let in by it."""
        self._exchanges = 0

    def problem(self, now: float) -> str:
        """Why the code is good for nothing (any more); empty while it is."""
        if self.used:
            return "this code has been used"
        if self.wrong >= TRIES:
            return f"{self.wrong} wrong codes were tried, so this one is dead"
        if now >= self.ends_at:
            return "this code has expired"
        if self._exchanges > EXCHANGES:
            return "too many tried to pair, so this code is dead"
        return ""

    def count_exchange(self) -> None:
        """A peer is going to be answered."""
        self._exchanges += 1


# -- the gateway's side -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """What a client that knows the code asks for."""

    name: str
    pem: bytes
    """Its signing request; not looked at yet."""


Issue = Callable[[Request], Mapping[str, Any]]
"""Makes what the box of `issued` holds. May raise GatewayError, whose text the client is told."""


class GatewaySide:
    """One peer of `gateway pair`. Several may share an invitation."""

    def __init__(self, invitation: Invitation, issue: Issue) -> None:
        self.state = State.NEW
        self.failure = ""
        """Why it failed; empty if it did not."""
        self._invitation = invitation
        self._issue = issue
        self._keys: _Keys | None = None

    @property
    def max_message(self) -> int:
        """Bytes that the next message may have."""
        return MAX_UNPROVEN if self.state is State.NEW else MAX_MESSAGE

    @property
    def finished(self) -> bool:
        """Whether nothing more is to come."""
        return self.state in {State.DONE, State.FAILED}

    def receive(self, message: bytes, now: float) -> bytes:
        """What to answer, without its length. Never raises for what a peer sends: `finished` says that it is over."""
        try:
            after, fields = _read(message, self.state, GATEWAY_TABLE, self.max_message)
            dead = self._invitation.problem(now)
            if dead:
                raise Unauthenticated(f"{dead}; run `gateway pair` again")
            reply = self._answer(message, fields) if after is State.HALFWAY else self._issued(fields)
        except GatewayError as problem:
            return self._refuse(problem)
        self.state = after
        return reply

    def _answer(self, message: bytes, fields: Mapping[str, Any]) -> bytes:
        if fields["version"] != VERSION:
            raise ProtocolError(f"this gateway pairs by version {VERSION}; use the same release on both sides")
        self._invitation.count_exchange()
        pake = SPAKE2_B(self._invitation.password, idA=_CLIENT, idB=_GATEWAY)
        reply = _message("answer", pake=_text(pake.start()))
        self._keys = _agree(pake, fields["pake"], message + reply)
        return reply

    def _issued(self, fields: Mapping[str, Any]) -> bytes:
        keys = self._keys
        assert keys is not None
        if not keys.client_confirms(_bytes(fields["confirm"], _MAC)):
            self._invitation.wrong += 1
            left = max(0, TRIES - self._invitation.wrong)
            raise Unauthenticated(
                f"wrong code; {left} more may be tried" if left else "wrong code; run `gateway pair` again"
            )
        # From here on it is a client that knows the code: which is used up, whatever becomes of the request.
        self._invitation.used = True
        asked = keys.open(keys.client_box, fields["box"])
        name, pem = asked.get("name"), asked.get("request")
        if not isinstance(name, str) or not isinstance(pem, str):
            raise ProtocolError("a request names the client and holds a signing request")
        check_client_name(name)
        granted = self._issue(Request(name, pem.encode()))
        return _message("issued", confirm=_text(keys.gateway_mac), box=keys.seal(keys.gateway_box, granted))

    def _refuse(self, problem: GatewayError) -> bytes:
        self.state, self.failure = State.FAILED, str(problem)
        return _message("refused", reason=str(problem)[:_MAX_REASON])


# -- the client's side --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Paired:
    """What a client has in the end."""

    name: str
    """The gateway's."""
    id: str
    port: int
    client: str
    """What the gateway calls this client."""
    ca: bytes
    certificate: bytes
    key: bytes
    """All three in PEM."""

    def facts(self, host: str, name: str | None = None) -> Facts:
        """The gateway's facts, reached at `host` and called `name` here. Raises ConfigError for what can't be."""
        return Facts(name=name or self.name, id=self.id, host=host, port=self.port)


class ClientSide:
    """The other end: `hello`, then `receive` for each message until there is a `result`."""

    def __init__(self, code: str, name: str, key: PrivateKey | None = None) -> None:
        """`name` is what this client wants to be called. Raises Unauthenticated and ConfigError for what can't be."""
        check_client_name(name)
        self.state = State.NEW
        self.result: Paired | None = None
        self._name = name
        self._key = key or new_key()
        self._pake = SPAKE2_A(plain_code(code), idA=_CLIENT, idB=_GATEWAY)
        self._hello = b""
        self._keys: _Keys | None = None

    def hello(self) -> bytes:
        """The first message; once."""
        self.state = State.ASKED
        self._hello = _message("hello", version=VERSION, pake=_text(self._pake.start()))
        return self._hello

    def receive(self, message: bytes) -> bytes:
        """What to answer; empty at the end, when there is a `result`.

        Raises Unauthenticated where the gateway refuses or does not know the code, ProtocolError for what no gateway
        sends. Then it is over.
        """
        before, self.state = self.state, State.FAILED
        after, fields = _read(message, before, CLIENT_TABLE, MAX_MESSAGE)
        if after is State.FAILED:
            reason = "".join(char if char.isprintable() else "?" for char in fields["reason"][:_MAX_REASON])
            raise Unauthenticated(f"the gateway refuses: {reason}")
        reply = self._request(message, fields) if after is State.HALFWAY else self._take(fields)
        self.state = after
        return reply

    def _request(self, message: bytes, fields: Mapping[str, Any]) -> bytes:
        self._keys = keys = _agree(self._pake, fields["pake"], self._hello + message)
        asked = {"name": self._name, "request": new_request(self._key, self._name).decode()}
        return _message("request", confirm=_text(keys.client_mac), box=keys.seal(keys.client_box, asked))

    def _take(self, fields: Mapping[str, Any]) -> bytes:
        keys = self._keys
        assert keys is not None
        if not keys.gateway_confirms(_bytes(fields["confirm"], _MAC)):
            raise Unauthenticated(
                "what answers there does not know the code: it is not the gateway, or the code is wrong"
            )
        granted = keys.open(keys.gateway_box, fields["box"])
        texts = [granted.get(key) for key in ("name", "id", "client", "ca", "certificate")]
        port = granted.get("port")
        if not all(isinstance(text, str) for text in texts) or type(port) is not int:
            raise ProtocolError("the gateway left something out")
        name, id_, client, ca, certificate = (str(text) for text in texts)
        check_issued(ca.encode(), certificate.encode(), self._key)
        self.result = Paired(name, id_, port, client, ca.encode(), certificate.encode(), key_pem(self._key))
        return b""


# -- keys ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class _Keys:
    """What K and the transcript make."""

    transcript: bytes
    """Its SHA-256."""
    client_mac: bytes
    gateway_mac: bytes
    client_box: bytes
    gateway_box: bytes

    def client_confirms(self, mac: bytes) -> bool:
        return hmac.compare_digest(mac, self.client_mac)

    def gateway_confirms(self, mac: bytes) -> bool:
        return hmac.compare_digest(mac, self.gateway_mac)

    def seal(self, key: bytes, content: Mapping[str, Any]) -> str:
        plain = json.dumps(content).encode()
        return _text(ChaCha20Poly1305(key).encrypt(_NONCE, plain, self.transcript))

    def open(self, key: bytes, box: str) -> Mapping[str, Any]:
        try:
            plain = ChaCha20Poly1305(key).decrypt(_NONCE, _bytes(box), self.transcript)
        except InvalidTag:
            raise ProtocolError("a box was changed on its way") from None
        return _object(plain)


def _agree(pake: Any, theirs: str, transcript: bytes) -> _Keys:
    """Finish the PAKE. Raises ProtocolError for what is no element of the group."""
    element = _bytes(theirs, _PAKE)
    try:
        shared: bytes = pake.finish(element)
    except (SPAKEError, NotOnCurve, ValueError) as problem:
        raise ProtocolError(f"that is no part of a key exchange: {type(problem).__name__}") from None
    digest = sha256(transcript).digest()
    made = HKDF(SHA256(), 4 * _KEY, salt=None, info=_CONTEXT + digest).derive(shared)
    confirm_client, confirm_gateway, client_box, gateway_box = (made[at : at + _KEY] for at in range(0, 4 * _KEY, _KEY))
    return _Keys(
        digest,
        hmac.digest(confirm_client, digest, "sha256"),
        hmac.digest(confirm_gateway, digest, "sha256"),
        client_box,
        gateway_box,
    )


# -- messages -----------------------------------------------------------------------------------------------------


def framed(message: bytes) -> bytes:
    """The message with its length in front."""
    return len(message).to_bytes(_LENGTH, "big") + message


class Inbox:
    """Messages out of bytes as they come."""

    def __init__(self) -> None:
        self._held = b""

    def receive(self, data: bytes, max_message: int) -> bytes | None:
        """The message, once it is whole. Raises ProtocolError for one that is empty or too long, or that more follows:
        nobody here speaks before being answered.
        """
        self._held += data
        if len(self._held) < _LENGTH:
            return None
        size = int.from_bytes(self._held[:_LENGTH], "big")
        if not 1 <= size <= max_message:
            raise ProtocolError(f"a pairing message of {size} bytes; it has 1 to {max_message}")
        if len(self._held) < _LENGTH + size:
            return None
        if len(self._held) > _LENGTH + size:
            raise ProtocolError("bytes behind a pairing message")
        message, self._held = self._held[_LENGTH:], b""
        return message


def _message(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind, **fields}).encode()


def _read(
    message: bytes, state: State, table: Mapping[State, Mapping[str, State]], max_size: int
) -> tuple[State, Mapping[str, Any]]:
    """The state that the message leads to, and its fields. Raises ProtocolError."""
    if not 1 <= len(message) <= max_size:
        raise ProtocolError(f"a pairing message of {len(message)} bytes; it has 1 to {max_size}")
    fields = _object(message)
    kind = fields.get("type")
    after = table.get(state, {}).get(kind) if isinstance(kind, str) else None
    if after is None:
        raise ProtocolError(f"a pairing message {str(kind)[:20]!r} while {state}")
    wanted = _FIELDS[str(kind)]
    if fields.keys() != {"type", *wanted} or any(type(fields[key]) is not each for key, each in wanted.items()):
        raise ProtocolError(f"a pairing message {kind!r} has {', '.join(wanted)}")
    return after, fields


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ProtocolError("that is no pairing message; is it the port that `gateway pair` printed?") from None
    if not isinstance(found, dict):
        raise ProtocolError("a pairing message is a JSON object")
    return found


def _refuse_constant(word: str) -> None:
    raise ValueError(word)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str, size: int | None = None) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ProtocolError("bytes in a pairing message are in Base64") from None
    if size is not None and len(data) != size:
        raise ProtocolError(f"{len(data)} bytes in a pairing message where {size} belong")
    return data
