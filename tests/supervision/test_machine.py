"""What a supervisor decides, without a clock and without processes."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.supervision.machine import (
    DEFAULT_PATIENCE,
    Action,
    Forward,
    KillSecurer,
    KillWorker,
    Reload,
    Reread,
    Secure,
    StartWorker,
    State,
    Supervision,
    Tell,
)

SILENT_S = DEFAULT_PATIENCE.silent_s


def started() -> Supervision:
    """Its first worker was started at 0."""
    machine = Supervision()
    machine.begin(0.0)
    assert machine.take_actions() == [StartWorker()]
    return machine


def serving() -> Supervision:
    """Its first worker serves since 1."""
    machine = started()
    machine.serving(1.0)
    return machine


def without_words(machine: Supervision) -> list[Action]:
    return [action for action in machine.take_actions() if not isinstance(action, Tell)]


def words(machine: Supervision) -> str:
    return "\n".join(action.text for action in machine.take_actions() if isinstance(action, Tell))


def advance(machine: Supervision, begin: float, end: float) -> None:
    """Let the time pass as the front does: in small steps."""
    now = begin
    while now <= end:
        machine.handle_timeout(now)
        now += 0.1


def test_a_worker_that_is_killed_has_its_devices_made_safe_and_is_restarted_at_once() -> None:
    machine = serving()
    machine.died(-signal.SIGKILL, 5.0)
    assert without_words(machine) == [Secure("the gateway was killed by SIGKILL")]
    assert machine.state is State.SECURING
    machine.secured([], 5.2)
    assert without_words(machine) == [StartWorker()]
    assert (machine.state, machine.restarts) == (State.STARTING, 1)


def test_a_worker_that_pings_is_left_alone() -> None:
    machine = serving()
    for tenth in range(10, 200):
        if tenth % 5 == 0:
            machine.ping(tenth / 10)
        machine.handle_timeout(tenth / 10)
    assert machine.take_actions() == []
    assert machine.state is State.SERVING


def test_a_worker_that_does_not_ping_is_killed_and_then_its_devices_are_made_safe() -> None:
    machine = serving()
    machine.ping(2.0)
    advance(machine, 2.0, 2.0 + SILENT_S - 0.15)
    assert machine.state is State.SERVING
    advance(machine, 2.0 + SILENT_S - 0.1, 2.0 + SILENT_S + 0.1)
    assert without_words(machine) == [KillWorker()]
    assert machine.state is State.HUNG
    assert not machine.is_well
    machine.died(-signal.SIGKILL, 4.3)
    assert without_words(machine) == [Secure("the gateway hung: no sign of life for 2 s")]


def test_a_supervisor_that_did_not_run_itself_does_not_blame_the_worker() -> None:
    machine = serving()
    advance(machine, 1.0, 1.5)
    machine.handle_timeout(60.0)
    assert machine.state is State.SERVING
    advance(machine, 60.1, 60.0 + SILENT_S + 0.2)
    assert machine.state is State.HUNG


def test_a_worker_that_never_serves_is_killed() -> None:
    machine = started()
    machine.handle_timeout(DEFAULT_PATIENCE.start_s)
    assert without_words(machine) == [KillWorker()]


@pytest.mark.parametrize("code", [1, 2, 4])
def test_a_first_start_that_fails_in_order_ends_all_with_its_code(code: int) -> None:
    machine = started()
    machine.died(code, 0.5)
    assert machine.take_actions() == []
    assert (machine.state, machine.code) == (State.ENDED, code)


def test_a_config_that_became_wrong_ends_a_restart_too() -> None:
    machine = serving()
    machine.died(-signal.SIGSEGV, 5.0)
    machine.secured([], 5.1)
    machine.died(2, 5.5)
    assert (machine.state, machine.code) == (State.ENDED, 2)


def test_another_failure_of_a_restart_is_tried_again() -> None:
    machine = serving()
    machine.died(-signal.SIGSEGV, 5.0)
    machine.secured([], 5.1)
    machine.died(1, 5.5)
    assert machine.state is State.SECURING


def test_workers_that_die_while_they_start_are_restarted_later_and_later_and_then_no_more() -> None:
    machine = started()
    now, pauses = 0.0, []
    for _ in range(DEFAULT_PATIENCE.starts):
        machine.died(-signal.SIGSEGV, now)
        machine.secured([], now)
        if machine.state is State.BACKING_OFF:
            assert StartWorker() not in machine.take_actions()
            pauses.append(machine.next_deadline() - now)
            now = machine.next_deadline()
            machine.handle_timeout(now)
            assert StartWorker() in machine.take_actions()
    assert pauses == [0.5, 1.0, 2.0, 4.0]
    assert (machine.state, machine.code) == (State.ENDED, 1)
    last = words(machine)
    assert (
        "giving up: 5 gateways in a row died while starting, the last one so: the gateway was killed by SIGSEGV" in last
    )


def test_serving_forgives_starts_that_failed() -> None:
    machine, now = started(), 0.0
    for _ in range(3 * DEFAULT_PATIENCE.starts):
        machine.died(-signal.SIGSEGV, now)
        machine.secured([], now)
        now = max(now, machine.next_deadline()) if machine.state is State.BACKING_OFF else now
        machine.handle_timeout(now)
        if machine.restarts % 3 == 0:
            machine.serving(now)
    assert machine.state is not State.ENDED


def test_a_worker_that_dies_again_and_again_soon_after_it_served_is_slowed_down_a_little() -> None:
    machine, now, pauses = started(), 0.0, []
    for _ in range(12):
        machine.serving(now)
        machine.died(-signal.SIGSEGV, now + 1)
        machine.secured([], now + 1)
        pauses.append(machine.next_deadline() - now - 1 if machine.state is State.BACKING_OFF else 0.0)
        now = max(now + 1, machine.next_deadline() if machine.state is State.BACKING_OFF else 0.0)
        machine.handle_timeout(now)
    assert pauses[:3] == [0.0, 0.0, 0.0]
    assert pauses == sorted(pauses)
    assert max(pauses) <= DEFAULT_PATIENCE.brake_s


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0)])
def test_who_asks_for_the_end_in_the_middle_of_a_restart_gets_it_when_the_devices_are_safe(
    number: int, code: int
) -> None:
    machine = serving()
    machine.died(-signal.SIGKILL, 5.0)
    machine.stop(number, 5.1)
    assert machine.state is State.SECURING
    machine.secured([], 5.2)
    assert (machine.state, machine.code) == (State.ENDED, code)
    assert StartWorker() not in machine.take_actions()


def test_a_device_that_may_not_be_safe_is_named_and_makes_the_exit_code_1() -> None:
    machine = serving()
    machine.died(-signal.SIGKILL, 5.0)
    machine.stop(signal.SIGTERM, 5.1)
    machine.secured(["psu1", "psu2"], 5.2)
    assert machine.code == 1
    assert "look at these, they may not be in their safe state: psu1, psu2" in words(machine)


def test_the_end_is_passed_on_to_the_worker_once_and_its_code_is_the_supervisors() -> None:
    machine = serving()
    for _ in range(3):
        machine.stop(signal.SIGTERM, 5.0)
    assert machine.take_actions() == [Forward(signal.SIGTERM)]
    machine.died(1, 6.0)
    assert (machine.state, machine.code) == (State.ENDED, 1)


def test_a_worker_that_does_not_end_is_killed_and_its_devices_are_made_safe_and_no_other_one_is_started() -> None:
    machine = serving()
    machine.stop(signal.SIGTERM, 5.0)
    machine.take_actions()
    machine.handle_timeout(5.0 + DEFAULT_PATIENCE.end_s)
    assert without_words(machine) == [KillWorker()]
    machine.died(-signal.SIGKILL, 40.0)
    assert without_words(machine) == [Secure("the gateway hung: it did not end within 30 s")]
    machine.secured([], 40.5)
    assert (machine.state, machine.code) == (State.ENDED, 0)


def test_a_worker_that_is_killed_while_it_ends_by_itself_is_not_restarted() -> None:
    machine = serving()
    machine.ending(5.0)
    machine.died(-signal.SIGKILL, 5.1)
    machine.secured([], 5.3)
    assert machine.state is State.ENDED


def test_while_devices_wait_to_be_made_safe_the_securer_has_a_deadline() -> None:
    machine = serving()
    machine.died(-signal.SIGKILL, 5.0)
    machine.take_actions()
    machine.handle_timeout(5.0 + DEFAULT_PATIENCE.secure_s)
    assert machine.take_actions() == [KillSecurer()]
    machine.secured(["psu1"], 9.1)
    assert machine.state is State.STARTING


def test_a_reload_is_the_workers_if_there_is_one_and_else_the_supervisors() -> None:
    machine = started()
    machine.reload()
    assert machine.take_actions() == [Reload()]
    machine.serving(1.0)
    machine.died(-signal.SIGKILL, 5.0)
    machine.take_actions()
    machine.reload()
    assert machine.take_actions() == [Reread()]


EVENTS = st.sampled_from(
    ["ping", "serving", "ending", "killed", "failed", "done", "secured", "unsafe", "stop", "reload"]
)


@given(st.lists(st.tuples(EVENTS, st.floats(0.0, 5.0)), max_size=60))
def test_whatever_happens_there_is_at_most_one_child_and_no_worker_starts_before_the_devices_were_looked_after(
    events: list[tuple[str, float]],
) -> None:
    """The front's part is played: a child ends only if there is one."""
    machine = Supervision()
    now, child, dirty = 0.0, "", False
    machine.begin(now)
    for event, pause_s in [("", 0.0), *events]:
        now += pause_s
        match event:
            case "ping":
                machine.ping(now)
            case "serving" if child == "worker":
                machine.serving(now)
            case "ending" if child == "worker":
                machine.ending(now)
            case "killed" | "failed" | "done" if child == "worker":
                child, dirty = "", event == "killed"
                machine.died({"killed": -9, "failed": 1, "done": 0}[event], now)
            case "secured" | "unsafe" if child == "securer":
                child, dirty = "", False
                machine.secured(["psu1"] if event == "unsafe" else [], now)
            case "stop":
                machine.stop(signal.SIGTERM, now)
            case "reload":
                machine.reload()
        machine.handle_timeout(now)
        for action in machine.take_actions():
            match action:
                case StartWorker():
                    assert child == ""
                    assert not dirty
                    child = "worker"
                case Secure():
                    assert child == ""
                    child = "securer"
                case Forward() | Reload() | KillWorker():
                    assert child == "worker"
                case KillSecurer():
                    assert child == "securer"
        if machine.state is State.ENDED:
            assert child == ""
            assert not dirty
            break
