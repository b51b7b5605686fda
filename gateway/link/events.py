"""What a link tells whoever drives it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from gateway.link.session import Peer


class Cause(StrEnum):
    """Why a session ended."""

    PEER_CLOSED = "peer-closed"
    PEER_RESET = "peer-reset"
    """The peer began anew: it knows nothing of this session any more."""
    SILENT = "silent"
    STUCK = "stuck"
    """The peer is there, but a frame does not get through."""
    PROTOCOL = "protocol"
    """The peer sent what no peer sends."""
    PORT = "port"
    """The port was lost: said by `Link.restart`."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A session has begun."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class Received:
    """A message has come, whole and in order. The first one on a stream tells that the peer has opened it."""

    stream: int
    message: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The peer sends nothing more on this stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Down:
    """The session is over and all its streams with it; what was queued or in flight may or may not have arrived."""

    cause: Cause
    reason: str


Event: TypeAlias = Opened | Received | Ended | Down
