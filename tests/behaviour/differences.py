"""Where this project leaves rpyc's path on purpose: the one list, and why. Nothing else may differ."""

from __future__ import annotations

from typing import Any, Final, NamedTuple


class Difference(NamedTuple):
    """One rule that the two implementations hold differently."""

    stock: str
    ours: str
    reason: str


DIFFERENCES: Final = {
    "peer-cannot-end-its-caller": Difference(
        stock="a peer's SystemExit or KeyboardInterrupt is raised as such in the caller",
        ours="it arrives as an ordinary Exception that names what the peer raised",
        reason="a peer must not be able to end the program that called it",
    ),
    "pickles-are-read-by-consent": Difference(
        stock="pickling a netref asks the peer and unpickles what it sends, whatever the local config says",
        ours="it needs allow_pickle on the local side too",
        reason="unpickling a peer's bytes runs the peer's code",
    ),
    "methods-are-bound-without-asking": Difference(
        stock="reading proxy.method asks the owner, which may refuse",
        ours="an exposed method is known from the class's method table; the owner refuses when it is called",
        reason="a call is one request instead of three",
    ),
    "one-class-for-unknown-exceptions": Difference(
        stock="each unknown exception class becomes a new local class named module.Class",
        ours="one class, GenericException, whose remote_class is module.Class",
        reason="a peer must not make this side build and keep classes of its choice",
    ),
    "requests-have-a-schema": Difference(
        stock="a request of the wrong shape runs into whatever error it causes",
        ours="it is refused as a ProtocolError before anything is unboxed",
        reason="nothing of a peer's runs inside the handlers",
    ),
    "ids-belong-to-one-connection": Difference(
        stock="ids are addresses, so a class seen through two connections to one process is the same class",
        ours="ids are counters of one connection: what came through another is not recognised",
        reason="no address leaves the process, and a chained peer's ids can't collide with ours",
    ),
    "log-exceptions-can-be-switched-off": Difference(
        stock="log_exceptions is listed and ignored: a logger always gets the exceptions",
        ours="False keeps exceptions out of the logger",
        reason="the key keeps the meaning that its name has",
    ),
}


def differs(rpc: Any, rule: str) -> bool:
    """Whether `rpc` is expected to follow this project's side of `rule` instead of stock's; KeyError for no rule."""
    return bool(DIFFERENCES[rule]) and rpc.NAME == "ours"
