"""Permits: which visit a thread runs, and what is asked of it where commands leave."""

from __future__ import annotations

from threading import Thread
from typing import Any

import pytest

from gateway.errors import LeaseLost
from gateway.service import permit
from gateway.service.exposure import Exposure
from gateway.service.permit import Operation, Visit


class Ended(Visit):
    """A call whose lease has ended."""

    def admit(
        self, obj: Any, exposure: Exposure, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        raise AssertionError("nothing is reached")

    def close(self, error: BaseException | None) -> None:
        raise NotImplementedError

    def check(self) -> None:
        raise LeaseLost("it is over", by="somebody", why="reasons")


def test_without_a_visit_everything_may_leave() -> None:
    assert permit.current() is None
    permit.check()


def test_a_refused_command_leaves_the_port_in_order() -> None:
    with permit.visiting(Ended()), pytest.raises(LeaseLost) as refused:
        permit.check()
    assert refused.value.facts == {"by": "somebody", "why": "reasons", "interrupted": True}


def test_visits_nest_and_end_with_their_block_also_after_an_error() -> None:
    outer, inner = Ended(), Ended()
    with permit.visiting(outer):
        with pytest.raises(ZeroDivisionError), permit.visiting(inner):
            assert permit.current() is inner
            raise ZeroDivisionError
        assert permit.current() is outer
        with permit.visiting(None):
            permit.check()
    assert permit.current() is None


def test_a_visit_is_its_own_thread_s() -> None:
    seen: list[Visit | None] = []
    with permit.visiting(Ended()):
        thread = Thread(target=lambda: seen.append(permit.current()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_a_visit_has_no_transaction_unless_it_says_so() -> None:
    assert Ended().transaction() is None
