"""A remote object as a context manager."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Output:
    """Switches on at entry and off at exit."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @contextmanager
    def exposed_on(self, volts: float) -> Iterator[float]:
        self.log.append("on")
        try:
            yield volts + 1
        except Exception:
            self.log.append("failed")
            raise
        finally:
            self.log.append("off")

    def exposed_forgiving(self) -> Any:
        return Forgiving(self.log)


class Forgiving:
    """Swallows what its block raises."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def __enter__(self) -> str:
        return "entered"

    def __exit__(self, kind: object, value: object, traceback: object) -> bool:
        self.log.append("clean" if kind is None else "forgiven")
        return True


@pytest.fixture
def output(as_service: Callable[[type], type]) -> Any:
    return as_service(Output)()


def test_entry_gives_the_value_and_exit_runs_after_the_block(connect: Callable[..., Any], output: Any) -> None:
    conn = connect(output)
    with conn.root.on(3) as volts:
        assert volts == 4
        assert output.log == ["on"]
    assert output.log == ["on", "off"]


def test_an_exception_in_the_block_is_seen_at_both_ends(connect: Callable[..., Any], output: Any) -> None:
    class Tripped(Exception):
        pass

    conn = connect(output)
    with pytest.raises(Tripped), conn.root.on(3):
        assert output.log == ["on"]
        raise Tripped
    assert output.log == ["on", "failed", "off"]


def test_an_exit_that_returns_true_swallows_the_exception(connect: Callable[..., Any], output: Any) -> None:
    conn = connect(output)
    with conn.root.forgiving() as entered:
        assert entered == "entered"
        raise ValueError("never seen")
    assert output.log == ["forgiven"]


def test_a_clean_exit_gets_no_exception(connect: Callable[..., Any], output: Any) -> None:
    conn = connect(output)
    with conn.root.forgiving():
        pass
    assert output.log == ["clean"]
