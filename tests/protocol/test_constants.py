"""The numbers of the wire, against stock's own."""

from __future__ import annotations

import pytest
from rpyc.core import consts as stock  # type: ignore[import-untyped]

from gateway.protocol import constants
from gateway.protocol.constants import Handler

OURS_ONLY = {Handler.HELLO}


@pytest.mark.parametrize("handler", [handler for handler in Handler if handler not in OURS_ONLY])
def test_each_handler_has_stocks_number(handler: Handler) -> None:
    assert handler == getattr(stock, f"HANDLE_{handler.name}")


def test_no_handler_of_stock_is_missing() -> None:
    assert {name for name in vars(stock) if name.startswith("HANDLE_")} == {
        f"HANDLE_{handler.name}" for handler in Handler if handler not in OURS_ONLY
    }


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("REQUEST", "MSG_REQUEST"),
        ("REPLY", "MSG_REPLY"),
        ("EXCEPTION", "MSG_EXCEPTION"),
        ("LABEL_VALUE", "LABEL_VALUE"),
        ("LABEL_TUPLE", "LABEL_TUPLE"),
        ("LABEL_LOCAL_REF", "LABEL_LOCAL_REF"),
        ("LABEL_REMOTE_REF", "LABEL_REMOTE_REF"),
        ("EXC_STOP_ITERATION", "EXC_STOP_ITERATION"),
    ],
)
def test_message_types_and_labels_are_stocks(ours: str, theirs: str) -> None:
    assert getattr(constants, ours) == getattr(stock, theirs)


def test_our_own_numbers_are_none_of_stocks() -> None:
    theirs = {value for name, value in vars(stock).items() if name.startswith("HANDLE_")}
    assert Handler.HELLO not in theirs
    labels = {value for name, value in vars(stock).items() if name.startswith("LABEL_")}
    assert constants.LABEL_COPY not in labels
