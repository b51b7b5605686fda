"""Servers under siege: one for each profile, shared by all that is cheap; the account is settled at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.hardening.hostile import Hostile
from tests.hardening.siege import Siege

CALLBACK_S = 1.0
PROGRESS_S = 0.5


@pytest.fixture(scope="session")
def besieged() -> Iterator[Callable[[str], Siege]]:
    """`besieged(profile)`: the server that all cheap attacks share. What they leave behind is an error at the end."""
    sieges: dict[str, Siege] = {}
    with ExitStack() as stack:

        def of(profile: str) -> Siege:
            if profile not in sieges:
                sieges[profile] = stack.enter_context(Siege(profile, progress_s=PROGRESS_S, callback_s=CALLBACK_S))
            return sieges[profile]

        yield of


@pytest.fixture(params=["seed", "strict"])
def siege(request: pytest.FixtureRequest, besieged: Callable[[str], Siege]) -> Iterator[Siege]:
    """The shared server of each profile; after the test the bystander has been served and memory is bounded."""
    yield from _watched(besieged(request.param))


@pytest.fixture
def strict(besieged: Callable[[str], Siege]) -> Iterator[Siege]:
    """The shared server of the device profile."""
    yield from _watched(besieged("strict"))


@pytest.fixture
def seed(besieged: Callable[[str], Siege]) -> Iterator[Siege]:
    """The shared server of the seed profile."""
    yield from _watched(besieged("seed"))


@pytest.fixture
def peer(strict: Siege) -> Iterator[Hostile]:
    """A peer of the shared strict server."""
    with Hostile(strict.url) as peer:
        yield peer


def _watched(siege: Siege) -> Iterator[Siege]:
    yield siege
    siege.bystander_is_served()
    siege.memory_is_bounded()
