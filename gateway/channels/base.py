"""What a channel is: messages in both directions over something that carries bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from gateway.protocol.framing import Message


class Account(Protocol):
    """Where what is in flight is counted: a server has one for each of its channels."""

    def take(self, size: int) -> None:
        """Count `size` bytes more. Raises LimitExceeded, and counts nothing, where they are too many."""

    def give(self, size: int) -> None:
        """Count `size` bytes less."""


class Channel(ABC):
    """Carries messages whole and in order. One thread may send while another receives.

    `send`, `recv`, `poll`, `close`, `closed` and `fileno` are the contract; a channel of one's own needs no more. The
    rest has defaults that our own channels replace by faster ones.
    """

    thrifty = False
    """Whether each byte takes so long that what can be asked for later is not sent."""
    keeps_nothing = False
    """Whether what `send` was given is its caller's again when it returns."""
    account: Account | None = None
    """What large messages over this channel are charged to, if anybody counts."""

    @abstractmethod
    def send(self, data: Message) -> None:
        """Send one message; returns when it is handed to the operating system.

        Raises LinkDown if the other end is gone, LimitExceeded if the message is over the frame limit.
        """

    @abstractmethod
    def recv(self) -> Message:
        """The next message, however long it takes. Raises LinkDown at the end of the stream.

        A large one may be a bytearray, which is the caller's own: `framing.recycle` takes it back.
        """

    @abstractmethod
    def poll(self, timeout: float | None) -> bool:
        """Wait up to `timeout` seconds (None: for ever) until `recv` has something to read."""

    @abstractmethod
    def close(self) -> None:
        """Release everything; wakes a thread that is blocked in `recv`. Idempotent, does not wait for the peer."""

    @property
    @abstractmethod
    def closed(self) -> bool: ...

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor to wait on for reading."""

    def recv_within(self, timeout: float | None) -> Message | None:
        """The next message, or None if it was not complete within `timeout` seconds (0: only what is here already)."""
        return self.recv() if self.poll(timeout) else None

    def send_many(self, messages: Sequence[Message]) -> None:
        """Send several messages in one go where the carrier can."""
        for message in messages:
            self.send(message)

    def heard(self) -> bool:
        """Whether anything came since the last time this was asked, be it only a heartbeat (an empty frame).

        A channel that notices by itself when its peer is gone says always so.
        """
        return True

    def take_heartbeat(self) -> bool:
        """Take a heartbeat, where that is all that has come; whether it was. Never waits."""
        return False

    def takes_at_once(self) -> bool:
        """Whether a short message could be sent right now without waiting for the peer; False where nobody can tell."""
        return False

    def charge_to(self, account: Account) -> None:
        """From now on, count here what large messages take: a frame that is coming, an answer that waits to go."""
        self.account = account

    @property
    def buffered(self) -> bool:
        """A message may be given without waiting on `fileno`."""
        return False

    def stalled(self, now: float) -> bool:
        """A begun message has made no progress for too long; `now` is `time.monotonic()`."""
        return False

    @property
    def wrote_whole(self) -> bool:
        """After an interrupt of `send`: whether the message is out all the same, and the channel can be used on."""
        return False

    def acknowledge(self) -> None:
        """Tell the peer's system now that its bytes came. To be called where no answer will carry that soon.

        A stock peer leaves Nagle's algorithm on: its next small write waits for this, for up to 40 ms.
        """

    def assume_prompt_peer(self) -> None:
        """The peer is one of ours: it needs no `acknowledge`."""

    @property
    def endpoints(self) -> tuple[object, object] | None:
        """`(local, remote)` addresses, where the carrier has them."""
        return None

    @property
    def certificate(self) -> bytes | None:
        """The certificate, in DER, by which the other end has proved who it is; None where the carrier has none."""
        return None

    @property
    def ends_with_eof(self) -> bool:
        """Whether the peer is told by an end of file that this end closed; a tty can't do that."""
        return True
