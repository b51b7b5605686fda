"""The config: its keys and defaults, and the effect of each key that is neither about attributes nor about exceptions.

The others are shown in `test_attribute_access.py` and `test_remote_exceptions.py`; the first test checks that none is
without a test.
"""

from __future__ import annotations

import copy
import logging
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.conditions import eventually
from tests.behaviour.differences import differs

Connect = Callable[..., Any]

ROOT = Path(__file__).parents[2]

DEFAULTS = {
    "allow_all_attrs": False,
    "allow_delattr": False,
    "allow_exposed_attrs": True,
    "allow_getattr": True,
    "allow_pickle": False,
    "allow_public_attrs": False,
    "allow_safe_attrs": True,
    "allow_setattr": False,
    "before_closed": None,
    "bind_threads": False,
    "close_catchall": False,
    "connid": None,
    "credentials": None,
    "endpoints": None,
    "exposed_prefix": "exposed_",
    "import_custom_exceptions": False,
    "include_local_traceback": True,
    "include_local_version": True,
    "instantiate_custom_exceptions": False,
    "instantiate_oldstyle_exceptions": False,
    "log_exceptions": True,
    "logger": None,
    "propagate_KeyboardInterrupt_locally": True,
    "propagate_SystemExit_locally": False,
    "sync_request_timeout": 30,
}
BINARY = "add and div divmod floordiv lshift mod mul or pow rshift sub truediv xor"
OTHERS = """
    eq ne lt le gt ge cmp hash
    abs bool nonzero int long float index neg pos invert hex oct
    getitem setitem delitem getslice setslice delslice contains len length_hint
    iter next enter exit doc new repr str format
"""


def dunders(names: str, prefix: str = "") -> set[str]:
    return {f"__{prefix}{name}__" for name in names.split()}


SAFE_ATTRS = (
    dunders(BINARY) | dunders(BINARY, "r") | dunders(BINARY, "i") - {"__idivmod__"} | dunders(OTHERS) | {"next"}
)


def test_the_keys_and_defaults_are_the_documented_ones(rpc: Any) -> None:
    assert {key: value for key, value in rpc.DEFAULT_CONFIG.items() if key != "safe_attrs"} == DEFAULTS
    assert set(rpc.DEFAULT_CONFIG["safe_attrs"]) == SAFE_ATTRS


@pytest.mark.parametrize("key", [*DEFAULTS, "safe_attrs"])
def test_each_key_is_set_by_some_test(key: str) -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    in_this_table = 1
    assert len(re.findall(rf'"{key}"|\b{key}=', tests)) > in_this_table


class Sample:
    """Small things to call."""

    def __init__(self) -> None:
        self.conn: Any = None
        self.opened = threading.Event()

    def on_connect(self, conn: Any) -> None:
        self.conn = conn

    def exposed_plain(self) -> str:
        return "plain"

    def exposed_wait(self) -> None:
        assert self.opened.wait(10), "the test never let go"

    def exposed_fail(self) -> None:
        raise ValueError("recorded")

    def exposed_stop(self) -> None:
        raise StopIteration

    def exposed_call(self, function: Callable[[], Any]) -> Any:
        return function()

    def exposed_numbers(self) -> list[int]:
        return [1, 2, 3]


@pytest.fixture
def sample(as_service: Callable[[type], type]) -> Any:
    return as_service(Sample)()


def test_a_connections_config_is_its_own(rpc: Any, connect: Connect) -> None:
    given: dict[str, Any] = {"connid": "mine"}
    before = dict(rpc.DEFAULT_CONFIG)
    conn = connect(config=given)
    assert rpc.settings_of(conn)["connid"] == "mine"
    assert rpc.settings_of(conn)["sync_request_timeout"] == 30
    assert given == {"connid": "mine"}
    assert before == rpc.DEFAULT_CONFIG


def test_connid_is_made_up_when_it_is_not_given(rpc: Any, connect: Connect) -> None:
    first, second = connect(), connect()
    names = {rpc.settings_of(conn)["connid"] for conn in (first, second)}
    assert len(names) == 2
    assert all(name in repr(conn) for conn in (first, second) if (name := rpc.settings_of(conn)["connid"]))


def test_connid_names_the_connection_in_its_repr(connect: Connect) -> None:
    assert "bench3" in repr(connect(config={"connid": "bench3"}))


@pytest.mark.parametrize("key", ["credentials", "endpoints"])
def test_a_service_reads_what_the_config_knows_of_its_client(rpc: Any, connect: Connect, sample: Any, key: str) -> None:
    connect(sample, remote_config={key: ("from", "outside")})
    assert rpc.settings_of(sample.conn)[key] == ("from", "outside")


def test_a_server_fills_in_the_endpoints(rpc: Any, serve: Callable[..., Any], sample: Any) -> None:
    server = serve(sample)
    with server.connect() as conn:
        assert conn.root.plain() == "plain"
        here, there = rpc.settings_of(sample.conn)["endpoints"]
        assert here[0] == there[0] == "127.0.0.1"
        assert here[1] != there[1]
        assert rpc.settings_of(sample.conn)["credentials"] is None
        assert rpc.settings_of(conn)["endpoints"] is None


def test_sync_request_timeout_ends_a_call(rpc: Any, connect: Connect, sample: Any) -> None:
    conn = connect(sample, config={"sync_request_timeout": 0.1})
    with pytest.raises(rpc.AsyncResultTimeout):
        conn.root.wait()
    sample.opened.set()
    assert conn.root.plain() == "plain"


def test_sync_request_timeout_none_waits_for_as_long_as_it_takes(rpc: Any, connect: Connect, sample: Any) -> None:
    conn = connect(sample, config={"sync_request_timeout": None})
    assert conn.root.plain() == "plain"
    timer = threading.Timer(0.1, sample.opened.set)
    timer.start()
    assert conn.root.wait() is None
    timer.join()


def test_before_closed_is_called_with_the_root_while_it_still_answers(connect: Connect, sample: Any) -> None:
    seen: list[str] = []
    conn = connect(sample, config={"before_closed": lambda root: seen.append(root.plain())})
    assert conn.root.plain() == "plain"
    assert seen == []
    conn.close()
    conn.close()
    assert seen == ["plain"]


def broken(root: Any) -> None:
    raise ValueError("before_closed broke")


def test_close_catchall_off_lets_an_error_of_before_closed_out(connect: Connect, sample: Any) -> None:
    conn = connect(sample, config={"before_closed": broken, "close_catchall": False})
    assert conn.root.plain() == "plain"
    with pytest.raises(ValueError, match="before_closed broke"):
        conn.close()
    assert conn.closed


def test_close_catchall_on_keeps_it_in(connect: Connect, sample: Any) -> None:
    conn = connect(sample, config={"before_closed": broken, "close_catchall": True})
    assert conn.root.plain() == "plain"
    conn.close()
    assert conn.closed


@pytest.fixture
def log() -> Any:
    """A logger that keeps its records in `.records`."""
    logger = logging.Logger("behaviour", logging.DEBUG)  # noqa: LOG001 - kept out of the tree on purpose
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign,assignment]
    logger.addHandler(handler)
    logger.records = records  # type: ignore[attr-defined]
    return logger


def exceptions_in(log: Any) -> list[type]:
    return [record.exc_info[0] for record in log.records if record.exc_info]


def test_logger_gets_the_exceptions_that_leave(connect: Connect, sample: Any, log: Any) -> None:
    conn = connect(sample, remote_config={"logger": log})
    with pytest.raises(ValueError, match="recorded"):
        conn.root.fail()
    assert exceptions_in(log) == [ValueError]


def test_logger_is_spared_stop_iteration(connect: Connect, sample: Any, log: Any) -> None:
    conn = connect(sample, remote_config={"logger": log})
    with pytest.raises(StopIteration):
        conn.root.stop()
    assert exceptions_in(log) == []


def test_log_exceptions_off_keeps_them_out_of_the_logger(rpc: Any, connect: Connect, sample: Any, log: Any) -> None:
    conn = connect(sample, remote_config={"logger": log, "log_exceptions": False})
    with pytest.raises(ValueError, match="recorded"):
        conn.root.fail()
    expected = [] if differs(rpc, "log-exceptions-can-be-switched-off") else [ValueError]
    assert exceptions_in(log) == expected


def test_bind_threads_runs_a_callback_in_the_thread_that_called(rpc: Any) -> None:
    # `bound_threads` sets "bind_threads" at both ends.
    program = [sys.executable, "-m", "tests.behaviour.bound_threads", rpc.__name__.rpartition(".")[2]]
    ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "own\n"


REFUSED = (ValueError, TypeError, AttributeError, pickle.PicklingError)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_allow_pickle_off_refuses_to_copy_a_netref(connect: Connect, duplicate: Callable[[Any], Any]) -> None:
    conn = connect(Sample, config={"allow_pickle": False})
    numbers = conn.root.numbers()
    with pytest.raises(REFUSED):
        duplicate(numbers)
    assert list(numbers) == [1, 2, 3]


def test_allow_pickle_at_both_ends_copies_a_netrefs_object(connect: Connect) -> None:
    both = {"allow_pickle": True}
    conn = connect(Sample, config=both, remote_config=both)
    copied = pickle.loads(pickle.dumps(conn.root.numbers()))
    assert type(copied) is list
    assert copied == [1, 2, 3]


def test_allow_pickle_at_our_end_alone_is_not_enough(connect: Connect) -> None:
    conn = connect(Sample, config={"allow_pickle": True})
    with pytest.raises(REFUSED):
        pickle.dumps(conn.root.numbers())


def test_allow_pickle_at_the_peers_end_alone(rpc: Any, connect: Connect) -> None:
    conn = connect(Sample, remote_config={"allow_pickle": True})
    numbers = conn.root.numbers()
    if differs(rpc, "pickles-are-read-by-consent"):
        with pytest.raises(REFUSED):
            copy.copy(numbers)
    else:
        assert copy.copy(numbers) == [1, 2, 3]


def test_a_config_that_changes_while_connected_is_obeyed(rpc: Any, connect: Connect, sample: Any) -> None:
    conn = connect(sample)
    with pytest.raises(AttributeError):
        conn.root.opened  # noqa: B018 - reading the attribute is the test
    rpc.settings_of(sample.conn)["allow_public_attrs"] = True
    assert eventually(lambda: hasattr(conn.root, "opened"))
