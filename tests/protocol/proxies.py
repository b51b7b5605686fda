"""Proxies as plain as a front can make them: what the tests of the pure protocol hand to it."""

from __future__ import annotations

from gateway.protocol.netref import IdPack, Netref


class KnownProxy(Netref):
    """A proxy whose class needs no asking for."""

    __slots__ = ()
    ____known__ = True

    def __init__(self, connection: object, id_pack: IdPack) -> None:
        self.____conn__ = connection
        self.____id_pack__ = id_pack


class NewProxy(KnownProxy):
    """A proxy whose class must be asked for."""

    __slots__ = ()
    ____known__ = False


class FakeConnection:
    """What `____conn__` refers to."""

    def __init__(self, token: int = 1) -> None:
        self.token = token
