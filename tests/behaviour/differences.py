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
    "log-exceptions-can-be-switched-off": Difference(
        stock="log_exceptions is listed and ignored: a logger always gets the exceptions",
        ours="False keeps exceptions out of the logger",
        reason="the key keeps the meaning that its name has",
    ),
}


def differs(rpc: Any, rule: str) -> bool:
    """Whether `rpc` is expected to follow this project's side of `rule` instead of stock's."""
    return rule in DIFFERENCES and rpc.NAME == "ours"
