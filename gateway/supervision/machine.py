"""What a supervisor does, and when. Pure: what happens and the time go in, actions come out.

                       it serves                    the pings stop
    STARTING ─────────────────────────> SERVING ─────────────────────> HUNG
     │  ^  │ it dies, or takes too long    │ it dies                    │ it was killed
     │  │  └─────────────────────> SECURING <───────────────────────────┘
     │  │ time for the next one       │
     │  └─── BACKING_OFF <────────────┘ the devices were made safe, or could not be
     │            │
     └────────────┴──> ENDED     asked to end (ENDING while the worker does), a wrong config, or too many deaths

Nothing here waits: each state but SERVING and ENDED has its own deadline, SERVING that of the next ping.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Final


class State(StrEnum):
    """Where a supervisor is."""

    STARTING = "starting"
    """There is a worker, which does not serve yet."""
    SERVING = "serving"
    ENDING = "ending"
    """The worker makes the devices safe, and ends."""
    HUNG = "hung"
    """The worker was killed because it hung, and is not gone yet."""
    SECURING = "securing"
    """There is no worker; the securer makes the devices safe."""
    BACKING_OFF = "backing off"
    """There is neither; the next worker is started soon."""
    ENDED = "ended"


TRANSITIONS: Final = {
    State.STARTING: {State.SERVING, State.ENDING, State.HUNG, State.SECURING, State.ENDED},
    State.SERVING: {State.ENDING, State.HUNG, State.SECURING},
    State.ENDING: {State.HUNG, State.SECURING, State.ENDED},
    State.HUNG: {State.SECURING},
    State.SECURING: {State.BACKING_OFF, State.ENDED},
    State.BACKING_OFF: {State.STARTING, State.ENDED},
    State.ENDED: set[State](),
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a supervisor waits for what, in seconds."""

    silent_s: float = 2.0
    """A worker that serves pings every half a second. After so long without it hangs."""
    start_s: float = 60.0
    end_s: float = 30.0
    secure_s: float = 4.0
    """The securer has ended by then, or is killed."""
    retry_s: float = 0.5
    """Before the second start of a worker that dies while it starts; twice as long before each one after it."""
    longest_s: float = 10.0
    starts: int = 5
    """So many workers may die in a row before they serve."""
    settled_s: float = 10.0
    """A worker that has served for so long had a good start."""
    brief: int = 3
    """So many that had not are restarted at once, the next ones a little later."""
    brake_s: float = 1.0


DEFAULT_PATIENCE: Final = Patience()


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Fork the next worker."""


@dataclass(frozen=True, slots=True)
class KillWorker:
    """It hangs; it can't be asked."""


@dataclass(frozen=True, slots=True)
class Secure:
    """Have the devices made safe, since there is nobody who knows them."""

    why: str


@dataclass(frozen=True, slots=True)
class KillSecurer:
    """It takes too long."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Have the worker end as by that signal, SIGINT or SIGTERM."""

    number: int


@dataclass(frozen=True, slots=True)
class Reload:
    """Have the worker read its config again."""


@dataclass(frozen=True, slots=True)
class Reread:
    """Read the config again, for the next worker: there is none now."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Something for the log, that somebody should look at."""

    text: str


Action = StartWorker | KillWorker | Secure | KillSecurer | Forward | Reload | Reread | Tell


class Supervision:
    """The machine. `begin` once; then tell it what happens, and carry out what `take_actions` gives, in order."""

    def __init__(self, patience: Patience = DEFAULT_PATIENCE) -> None:
        self.state = State.BACKING_OFF
        self.restarts = 0
        """Workers that were started after one died."""
        self.code = 0
        """The exit code, when it has ended."""
        self._patience = patience
        self._actions: deque[Action] = deque()
        self._deadline = inf
        self._asked: int | None = None
        """The signal that asked for the end."""
        self._served_at: float | None = None
        """Since when the worker serves."""
        self._ever_served = False
        self._failed_starts = 0
        self._brief = 0
        self._hang = ""
        self._died = ""
        self._given_up = False
        self._looked_at = -inf

    # -- what happens -----------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Start the first worker."""
        self._start(now)

    def ping(self, now: float) -> None:
        """The worker's keeper has looked around."""
        if self.state is State.SERVING:
            self._deadline = now + self._patience.silent_s

    def serving(self, now: float) -> None:
        """The worker serves."""
        if self.state is State.STARTING:
            self._go(State.SERVING, now + self._patience.silent_s)
            self._served_at = now
            self._ever_served = True
            if self.restarts:
                self._tell(f"the gateway serves again, after {_counted(self.restarts, 'restart')}")

    def ending(self, now: float) -> None:
        """The worker ends by itself, in order: somebody asked it to."""
        if self.state in (State.STARTING, State.SERVING):
            self._asked = self._asked or signal.SIGTERM
            self._go(State.ENDING, now + self._patience.end_s)

    def died(self, code: int, now: float) -> None:
        """The worker is gone. `code` is its exit code, or the negative number of the signal that killed it."""
        how = how_it_ended(code)
        if self.state is State.HUNG:
            self._secure(self._hang, now)
        elif self.state is State.ENDING:
            if code >= 0:
                self._end(code)
            else:
                self._secure(f"the gateway {how} while it ended", now)
        elif self.state is State.STARTING and (
            code in (0, _INTERRUPTED, _USAGE) or (code > 0 and not self._ever_served)
        ):
            self._end(code)  # it has said why
        else:
            self._secure(f"the gateway {how}" + (" while it started" if self._served_at is None else ""), now)

    def secured(self, unsafe: Sequence[str], now: float) -> None:
        """The securer has ended. `unsafe` are the devices that may not be safe."""
        if self.state is not State.SECURING:
            return
        if unsafe:
            self._tell(f"look at these, they may not be in their safe state: {', '.join(unsafe)}")
        if self._asked is not None:
            self._end(_FAILED if unsafe else _code_of(self._asked))
        elif self._given_up:
            self._end(_FAILED)
        else:
            self._go(State.BACKING_OFF, now + self._pause())
            if self._deadline <= now:
                self._start(now)

    def stop(self, number: int, now: float) -> None:
        """Somebody asks for the end. Once it was asked for, the rest of them change nothing."""
        if self._asked is not None or self.state is State.ENDED:
            return
        self._asked = number
        if self.state in (State.STARTING, State.SERVING):
            self._actions.append(Forward(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM))
            self._go(State.ENDING, now + self._patience.end_s)
        elif self.state is State.BACKING_OFF:
            self._end(_code_of(number))

    def reload(self) -> None:
        """Somebody wants the config to be read again. A worker that does not serve yet does it when it does."""
        if self.state in (State.STARTING, State.SERVING):
            self._actions.append(Reload())
        elif self.state not in (State.ENDING, State.ENDED):
            self._actions.append(Reread())

    # -- time -------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do, at the latest; infinity: never."""
        return self._deadline

    def handle_timeout(self, now: float) -> None:
        """To be called after everything that had happened by `now` was told, several times a second."""
        late, self._looked_at = now - self._looked_at, now
        if self.state is State.SERVING and late > self._patience.silent_s / 2 and self._deadline <= now:
            # It is this process that did not run: who knows whether the worker did.
            self._deadline = now + self._patience.silent_s
        if now < self._deadline:
            return
        match self.state:
            case State.BACKING_OFF:
                self._start(now)
            case State.SERVING:
                self._kill(f"the gateway hung: no sign of life for {self._patience.silent_s:g} s")
            case State.STARTING:
                self._kill(f"the gateway hung: it did not serve within {self._patience.start_s:g} s")
            case State.ENDING:
                self._kill(f"the gateway hung: it did not end within {self._patience.end_s:g} s")
            case State.SECURING:
                self._deadline = inf
                self._actions.append(KillSecurer())
            case _:
                self._deadline = inf

    @property
    def is_well(self) -> bool:
        """Whether all goes on as it should: what the service manager's watchdog is to know.

        Each state has its own deadline, so there is one exception: a worker that was killed and does not go.
        """
        return self.state is not State.HUNG

    def take_actions(self) -> list[Action]:
        """What is to be done now, in order."""
        taken = list(self._actions)
        self._actions.clear()
        return taken

    # -- what the above is made of ------------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        if self._died:
            self.restarts += 1
        self._served_at = None
        self._go(State.STARTING, now + self._patience.start_s)
        self._actions.append(StartWorker())

    def _kill(self, why: str) -> None:
        self._hang = why
        self._tell(f"{why}; it is killed")
        self._go(State.HUNG, inf)
        self._actions.append(KillWorker())

    def _secure(self, why: str, now: float) -> None:
        if self._served_at is None and self.state is not State.ENDING:
            self._failed_starts += 1
            self._given_up = self._failed_starts >= self._patience.starts
        elif self._served_at is not None:
            self._failed_starts = 0
            self._brief = self._brief + 1 if now - self._served_at < self._patience.settled_s else 0
        self._died = why
        self._tell(f"{why}; its devices are made safe")
        self._go(State.SECURING, now + self._patience.secure_s)
        self._actions.append(Secure(why))

    def _pause(self) -> float:
        """How long to wait before the next worker."""
        if self._failed_starts:
            doubled = self._patience.retry_s * 2.0 ** (self._failed_starts - 1)
            return min(doubled, self._patience.longest_s)
        return min(max(0, self._brief - self._patience.brief) * self._patience.brake_s / 4, self._patience.brake_s)

    def _end(self, code: int) -> None:
        if self._given_up and self._asked is None:
            self._tell(
                f"giving up: {_counted(self._failed_starts, 'gateway')} in a row died while starting, the last one so: "
                f"{self._died}; try `gateway serve --no-supervise`, and look at the log"
            )
        self.code = code
        self._go(State.ENDED, inf)

    def _go(self, state: State, deadline: float) -> None:
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"there is no way from {self.state} to {state}")
        self.state = state
        self._deadline = deadline

    def _tell(self, text: str) -> None:
        self._actions.append(Tell(text))


_FAILED: Final = 1
_USAGE: Final = 2
_INTERRUPTED: Final = 130


def _code_of(number: int) -> int:
    return _INTERRUPTED if number == signal.SIGINT else 0


def how_it_ended(code: int) -> str:
    """What became of a process, in words. `code` is its exit code, or the negative number of a signal."""
    if code >= 0:
        return f"ended by itself, with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
