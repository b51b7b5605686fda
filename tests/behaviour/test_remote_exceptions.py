"""Exceptions over the wire: which class arrives, with what text, and what the exception keys of the config change."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.differences import differs

Connect = Callable[..., Any]


class MeterError(Exception):
    """A custom exception that both ends could import."""

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number
        self.channels = [1, 2]
        self._private = "hidden"


class Raiser:
    """Raises on demand."""

    def exposed_require(self, value: Any) -> None:
        assert value, "the value is false"

    def exposed_divide(self, number: float, by: float) -> float:
        return number / by

    def exposed_fail(self) -> None:
        raise MeterError("overload", 42)

    def exposed_raise_with(self, *args: Any) -> None:
        raise ValueError(*args)

    def exposed_stop(self) -> None:
        raise StopIteration

    def exposed_chain(self) -> None:
        try:
            self.exposed_divide(1, 0)
        except ZeroDivisionError as error:
            raise KeyError("no reading") from error

    def exposed_call(self, function: Callable[[], Any]) -> Any:
        return function()

    def exposed_catch(self, function: Callable[[], Any]) -> str:
        try:
            function()
        except ValueError as error:
            return f"caught {error.args[0]}"
        return "nothing raised"

    def exposed_fresh(self, module: str, name: str = "FreshError") -> None:
        raise type(name, (Exception,), {"__module__": module})("from a module nobody imported")

    def exposed_plain(self) -> str:
        return "still here"


@pytest.fixture
def conn(connect: Connect) -> Any:
    return connect(Raiser)


def caught(function: Callable[..., Any], *args: Any) -> Any:
    """The exception that the call raises."""
    with pytest.raises(Exception) as info:
        function(*args)
    return info.value


def test_a_builtin_exception_arrives_as_itself(conn: Any) -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        conn.root.divide(1, 0)
    with pytest.raises(AssertionError, match="the value is false"):
        conn.root.require(False)


def test_the_connection_goes_on_after_an_exception(conn: Any) -> None:
    caught(conn.root.fail)
    assert conn.root.plain() == "still here"


def test_arguments_arrive_by_value_or_as_their_repr(conn: Any) -> None:
    error = caught(conn.root.raise_with, "text", 5, (1, None))
    assert isinstance(error, ValueError)
    assert error.args == ("text", 5, (1, None))
    by_reference = caught(conn.root.raise_with, [1, 2])
    assert by_reference.args == ("[1, 2]",)


def test_attributes_arrive_by_value_or_as_their_repr(conn: Any) -> None:
    error = caught(conn.root.fail)
    assert error.args == ("overload",)
    assert error.number == 42
    assert error.channels == "[1, 2]"
    assert not hasattr(error, "_private")


def test_stop_iteration_arrives_as_itself(conn: Any) -> None:
    with pytest.raises(StopIteration):
        conn.root.stop()


def test_the_remote_traceback_comes_along(conn: Any) -> None:
    error = caught(conn.root.divide, 1, 0)
    assert "exposed_divide" in error._remote_tb
    assert "ZeroDivisionError" in error._remote_tb
    assert "exposed_divide" in "".join(traceback.format_exception(error))


def test_the_remote_traceback_shows_the_cause(conn: Any) -> None:
    error = caught(conn.root.chain)
    assert type(error).__name__ == "KeyError"
    assert "ZeroDivisionError" in error._remote_tb
    assert "exposed_chain" in error._remote_tb


def test_include_local_traceback_off_withholds_it(connect: Connect) -> None:
    conn = connect(Raiser, remote_config={"include_local_traceback": False})
    assert caught(conn.root.divide, 1, 0)._remote_tb == "<traceback denied>"


def test_the_version_comes_along(conn: Any) -> None:
    error = caught(conn.root.divide, 1, 0)
    assert error._remote_version.split(".")[0].isdecimal()
    assert "WARNING" not in error._remote_tb


def test_include_local_version_off_withholds_it(connect: Connect) -> None:
    conn = connect(Raiser, remote_config={"include_local_version": False})
    assert caught(conn.root.divide, 1, 0)._remote_version == "<version denied>"


def test_an_exception_of_a_callback_passes_through_both_ends(conn: Any) -> None:
    def fails() -> None:
        raise ValueError("from the client")

    assert conn.root.catch(fails) == "caught from the client"
    with pytest.raises(ValueError, match="from the client"):
        conn.root.call(fails)


def test_a_custom_exception_arrives_as_a_generic_one_that_names_it(rpc: Any, conn: Any) -> None:
    error = caught(conn.root.fail)
    assert type(error) is not MeterError
    assert not isinstance(error, MeterError)
    assert rpc.class_name_of(error) == f"{MeterError.__module__}.MeterError"
    assert "overload" in str(error)


def test_generic_exceptions_have_a_class_each_or_one_for_all(rpc: Any, conn: Any) -> None:
    first, second = caught(conn.root.fail), caught(conn.root.fresh, "elsewhere")
    assert (type(first) is type(second)) == differs(rpc, "one-class-for-unknown-exceptions")


def test_instantiate_custom_exceptions_gives_the_real_class(connect: Connect) -> None:
    conn = connect(Raiser, config={"instantiate_custom_exceptions": True})
    with pytest.raises(MeterError, match="overload") as info:
        conn.root.fail()
    assert info.value.number == 42


def test_instantiate_custom_exceptions_asks_the_receiver_not_the_sender(connect: Connect) -> None:
    conn = connect(Raiser, remote_config={"instantiate_custom_exceptions": True})
    assert not isinstance(caught(conn.root.fail), MeterError)


@pytest.fixture
def fresh_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """The name of a module that can be imported and has not been."""
    name = "fresh_" + "".join(letter for letter in request.node.name if letter.isalnum())
    (tmp_path / f"{name}.py").write_text("class FreshError(Exception):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize("instantiate", [False, True])
def test_no_module_is_imported_for_an_exception(
    rpc: Any, connect: Connect, fresh_module: str, instantiate: bool
) -> None:
    conn = connect(Raiser, config={"instantiate_custom_exceptions": instantiate})
    error = caught(conn.root.fresh, fresh_module)
    assert rpc.class_name_of(error) == f"{fresh_module}.FreshError"
    assert fresh_module not in sys.modules


def test_import_custom_exceptions_imports_the_module(connect: Connect, fresh_module: str) -> None:
    conn = connect(Raiser, config={"instantiate_custom_exceptions": True, "import_custom_exceptions": True})
    error = caught(conn.root.fresh, fresh_module)
    assert isinstance(error, sys.modules[fresh_module].FreshError)


def test_import_custom_exceptions_survives_a_module_that_is_not_there(rpc: Any, connect: Connect) -> None:
    conn = connect(Raiser, config={"instantiate_custom_exceptions": True, "import_custom_exceptions": True})
    error = caught(conn.root.fresh, "no_such_module_anywhere")
    assert rpc.class_name_of(error) == "no_such_module_anywhere.FreshError"


def test_a_name_that_is_no_exception_is_never_instantiated(rpc: Any, connect: Connect) -> None:
    conn = connect(Raiser, config={"instantiate_custom_exceptions": True})
    error = caught(conn.root.fresh, "pathlib", "Path")
    assert rpc.class_name_of(error) == "pathlib.Path"


def test_instantiate_oldstyle_exceptions_changes_nothing_on_python_3(connect: Connect) -> None:
    conn = connect(Raiser, config={"instantiate_oldstyle_exceptions": True})
    assert not isinstance(caught(conn.root.fail), MeterError)
    with pytest.raises(ZeroDivisionError):
        conn.root.divide(1, 0)


class Quitter:
    def exposed_exit(self) -> None:
        raise SystemExit(3)

    def exposed_interrupt(self) -> None:
        raise KeyboardInterrupt

    def exposed_plain(self) -> str:
        return "still here"


ENDINGS = [
    ("exit", SystemExit, "propagate_SystemExit_locally"),
    ("interrupt", KeyboardInterrupt, "propagate_KeyboardInterrupt_locally"),
]


@pytest.mark.parametrize(("method", "ending", "key"), ENDINGS, ids=[key for *_, key in ENDINGS])
def test_propagate_off_sends_the_ending_to_the_caller(
    rpc: Any, connect: Connect, method: str, ending: type[BaseException], key: str
) -> None:
    conn = connect(Quitter, remote_config={key: False})
    call = getattr(conn.root, method)
    if differs(rpc, "peer-cannot-end-its-caller"):
        assert rpc.class_name_of(caught(call)) == f"builtins.{ending.__name__}"
    else:
        with pytest.raises(ending):
            call()
    assert conn.root.plain() == "still here"


@pytest.mark.parametrize(("method", "ending", "key"), ENDINGS, ids=[key for *_, key in ENDINGS])
def test_propagate_on_raises_the_ending_where_the_call_is_served(
    rpc: Any, connect_both: Connect, method: str, ending: type[BaseException], key: str
) -> None:
    conn, remote = connect_both(Quitter, remote_config={key: True}, served=False)
    raised: list[BaseException] = []

    def serve() -> None:
        try:
            while True:
                remote.serve(1)
        except BaseException as error:
            raised.append(error)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    method_there = getattr(conn.root, method)
    call = rpc.async_(method_there)
    result = call()
    server.join(5)
    assert [type(error) for error in raised] == [ending]
    result.set_expiry(0)
    assert not result.ready
