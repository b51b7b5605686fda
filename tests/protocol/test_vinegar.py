"""Exceptions by value, both ways: what leaves, what is built of what comes, and what a peer can't make us build."""

from __future__ import annotations

import builtins
import subprocess
import sys
import traceback
import types
from dataclasses import dataclass
from typing import Any, Final, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import errors
from gateway.errors import BY_CODE, GatewayError
from gateway.limits import Limits
from gateway.protocol import brine, vinegar
from gateway.protocol.vinegar import RPYC_VERSION, TRACEBACK_DENIED, VERSION_DENIED, GenericException, dump, load

LIMITS: Final = Limits()
SHUT: Final = {"instantiate_custom_exceptions": False, "import_custom_exceptions": False}
CUSTOM: Final = {"instantiate_custom_exceptions": True, "import_custom_exceptions": False}
IMPORTING: Final = {"instantiate_custom_exceptions": True, "import_custom_exceptions": True}
TEXT: Final = "Traceback (most recent call last):\nValueError: over\n"


def sent(error: BaseException, text: str | None = TEXT, version: str | None = RPYC_VERSION) -> Any:
    """What is on the wire for `error`."""
    return brine.load(brine.dump(dump(error, text, version, LIMITS)))


def carried(error: BaseException, config: dict[str, Any] | None = None) -> Exception:
    return load(sent(error), config or SHUT, LIMITS)


def written(module: Any, name: Any, args: Any = (), attributes: Any = (), text: Any = TEXT) -> Exception:
    """What is built of a payload that somebody wrote by hand."""
    return load(((module, name), args, attributes, text), SHUT, LIMITS)


# -- what leaves -------------------------------------------------------------------------------------------------------


def test_an_exception_leaves_as_class_args_attributes_and_traceback() -> None:
    error = ValueError("over", 3.3, b"\0", (1, None))
    assert sent(error) == (
        ("builtins", "ValueError"),
        ("over", 3.3, b"\0", (1, None)),
        (("_remote_version", RPYC_VERSION),),
        TEXT,
    )


def test_stop_iteration_leaves_as_a_number() -> None:
    assert sent(StopIteration(5)) == 1


def test_what_is_denied_is_named_as_denied() -> None:
    *_, attributes, text = sent(ValueError(), None, None)
    assert (attributes, text) == ((("_remote_version", VERSION_DENIED),), TRACEBACK_DENIED)


class Odd(Exception):
    """An exception whose own code misbehaves."""

    reading = 3.3

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    @property
    def broken(self) -> int:
        raise RuntimeError("no value")

    def method(self) -> None:
        """Not an attribute to send."""


def test_attributes_leave_by_value_and_methods_private_and_broken_ones_do_not() -> None:
    error = Odd()
    error.unit = "V"  # type: ignore[attr-defined]
    error.thing = [1]  # type: ignore[attr-defined]
    error._secret = 1  # type: ignore[attr-defined]
    attributes = dict(sent(error)[2])
    assert attributes == {"reading": 3.3, "unit": "V", "thing": "[1]", "_remote_version": RPYC_VERSION}


class Silent:
    def __repr__(self) -> str:
        raise ValueError("no repr")


class Loud:
    def __repr__(self) -> str:
        return "\ud800" * 10


class Text(str):
    """A str that can do more."""

    __slots__ = ()

    def __str__(self) -> str:
        return "not this"


@pytest.mark.parametrize(
    ("argument", "travels_as"),
    [
        ([1], "[1]"),
        (Silent(), "<Silent without a repr>"),
        (Loud(), "\\ud800" * 10),
        (Text("volts"), "volts"),
        ("\ud800", "\\ud800"),
        (("\ud800",), "('\\ud800',)"),
        ((1, [2]), "(1, [2])"),
        ("\u03a9", "\u03a9"),
        (10**4000, 10**4000),
        (10**5000, "<int without a repr>"),
        (b"x" * 100, b"x" * 100),
    ],
    ids=lambda value: f"{type(value).__name__}{len(str(value)) if isinstance(value, str | bytes) else ''}",
)
def test_an_argument_travels_by_value_or_as_its_repr(argument: Any, travels_as: Any) -> None:
    assert sent(ValueError(argument))[1] == (travels_as,)


@pytest.mark.parametrize(
    "argument", ["x" * 10**6, b"x" * 10**6, ("x" * 10**6,), ["x" * 10**6]], ids=lambda a: type(a).__name__
)
def test_an_argument_is_cut_where_it_is_too_long(argument: Any) -> None:
    (travelled,) = sent(ValueError(argument))[1]
    assert len(travelled) == LIMITS.exception_text


def test_the_end_of_a_long_traceback_is_what_travels() -> None:
    text = sent(ValueError(), "x" * 10**6 + "the end")[3]
    assert len(text) == LIMITS.exception_text
    assert text.endswith("the end")


def test_a_traceback_may_quote_what_no_encoding_knows() -> None:
    assert sent(ValueError(), "raise \ud800")[3] == "raise \\ud800"


def test_arguments_and_attributes_are_limited_in_number() -> None:
    error = ValueError(*range(1000))
    for number in range(1000):
        setattr(error, f"attribute{number}", number)
    _, args, attributes, _ = sent(error)
    assert len(args) <= 64
    assert len(attributes) <= 65


# -- there and back ----------------------------------------------------------------------------------------------------

BUILTINS: Final = sorted(
    {cls for cls in vars(builtins).values() if isinstance(cls, type) and issubclass(cls, Exception)},
    key=lambda cls: cls.__name__,
)
NEEDS_MORE: Final = {"UnicodeDecodeError", "UnicodeEncodeError", "UnicodeTranslateError", "ExceptionGroup"}


@pytest.mark.parametrize(
    "cls", [cls for cls in BUILTINS if cls.__name__ not in NEEDS_MORE], ids=lambda cls: cls.__name__
)
def test_a_builtin_exception_comes_back_as_itself(cls: type[Exception]) -> None:
    args = ("over",) if issubclass(cls, SyntaxError) else ("over", 2)
    error = carried(cls(*args))
    assert type(error) is cls
    assert error.args == (() if cls is StopIteration else args)


def test_an_os_error_shows_the_same_text() -> None:
    original = OSError(2, "No such file", "/dev/ttyUSB0")
    error = carried(original)
    assert isinstance(error, OSError)
    assert (error.errno, error.strerror, error.filename) == (2, "No such file", "/dev/ttyUSB0")
    assert str(error) == str(original)


@pytest.mark.parametrize(
    "original",
    [
        UnicodeDecodeError("ascii", b"a\xffb", 1, 2, "ordinal not in range"),
        UnicodeEncodeError("ascii", "a\u03a9", 1, 2, "ordinal not in range"),
        UnicodeTranslateError("a\u03a9", 1, 2, "no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_unicode_error_comes_back_with_its_place(original: UnicodeError) -> None:
    error = carried(original)
    assert type(error) is type(original)
    assert str(error) == str(original)
    assert error.args == original.args


@pytest.mark.parametrize(("start", "end"), [(5, 6), (-1, 0), (0, 0), (2, 1), (0, 4)])
def test_a_unicode_error_that_points_outside_its_text_is_not_built(start: int, end: int) -> None:
    error = written("builtins", "UnicodeDecodeError", ("ascii", b"abc", start, end, "no"))
    assert isinstance(error, GenericException)
    assert "UnicodeDecodeError" in str(error)


def test_a_syntax_error_comes_back_with_its_message_and_points_at_no_local_file() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("1 +", "/etc/passwd", "exec")
    error = carried(caught.value)
    assert isinstance(error, SyntaxError)
    assert error.msg == caught.value.msg
    assert (error.filename, error.lineno, error.text) == (None, None, None)


def test_an_exception_group_comes_back_under_its_name() -> None:
    error = carried(ExceptionGroup("two", [ValueError(), TypeError()]))
    assert isinstance(error, GenericException)
    assert error.remote_class == "builtins.ExceptionGroup"


@pytest.mark.parametrize("cls", BY_CODE.values(), ids=BY_CODE)
def test_an_error_of_ours_comes_back_as_itself_with_its_facts(cls: type[GatewayError]) -> None:
    if cls is errors.LimitExceeded:
        original: GatewayError = errors.LimitExceeded("frame", actual=2, allowed=1)
    else:
        original = cls("in one line", device="psu1", volts=3.3, state=None)
    error = carried(original)
    assert type(error) is cls
    assert isinstance(error, GatewayError)
    assert error.facts == original.facts
    assert str(error) == str(original)
    assert (error.code, error.retryable) == (original.code, original.retryable)


@pytest.mark.parametrize("cls", BY_CODE.values(), ids=BY_CODE)
def test_a_stock_peer_meets_the_nearest_builtin_of_an_error_of_ours(cls: type[GatewayError]) -> None:
    error = errors.LimitExceeded("frame", actual=2, allowed=1) if cls is errors.LimitExceeded else cls("in one line")
    (module, name), _, attributes, _ = sent(error)
    assert module == "builtins"
    assert isinstance(error, vars(builtins)[name])
    assert dict(attributes)["code"] == cls.code


def test_a_fact_named_like_what_the_class_says_does_not_change_the_class() -> None:
    error = carried(errors.DeviceError("-113", code=-113, retryable=7, number=-113))
    assert type(error) is errors.DeviceError
    assert error.facts == {"number": -113}
    assert (error.code, error.retryable) == ("device-error", False)


def test_an_unknown_code_of_a_newer_peer_leaves_the_builtin() -> None:
    error = written("builtins", "TimeoutError", ("late",), (("code", "lease-melted"), ("device", "psu1")))
    assert type(error) is TimeoutError
    assert error.code == "lease-melted"  # type: ignore[attr-defined]
    assert error.device == "psu1"  # type: ignore[attr-defined]


def test_the_remote_traceback_is_a_note_and_can_be_read() -> None:
    error = carried(ValueError("over"))
    assert error._remote_tb == TEXT  # type: ignore[attr-defined]
    shown = "".join(traceback.format_exception(error))
    assert "Remote Traceback (1)" in shown
    assert TEXT in shown


def test_a_traceback_counts_the_hops_it_came() -> None:
    error = load(sent(ValueError(), "========= Remote Traceback (1) =========\n"), SHUT, LIMITS)
    assert "Remote Traceback (2)" in error.__notes__[0]


def test_a_denied_traceback_leaves_no_note() -> None:
    error = load(sent(ValueError(), None), SHUT, LIMITS)
    assert error._remote_tb == TRACEBACK_DENIED  # type: ignore[attr-defined]
    assert not hasattr(error, "__notes__")


@pytest.mark.parametrize(("version", "warned"), [("6.9.9", False), ("5.3.1", True), (None, False), ("x", True)])
def test_a_peer_of_another_generation_is_named_in_the_traceback(version: str | None, warned: bool) -> None:
    error = load(sent(ValueError(), TEXT, version), SHUT, LIMITS)
    assert ("WARNING: Remote is on RPyC" in error._remote_tb) is warned  # type: ignore[attr-defined]


# -- what is not built -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "BaseException", "BaseExceptionGroup"]
)
def test_a_peer_never_ends_its_caller(name: str) -> None:
    error = written("builtins", name, ("bye",))
    assert isinstance(error, GenericException)
    assert error.remote_class == f"builtins.{name}"


@pytest.mark.parametrize("name", ["int", "print", "__import__", "eval", "None", "no such", "", "object", "\0"])
def test_a_name_that_is_no_exception_is_only_a_name(name: str) -> None:
    error = written("builtins", name, ("x",))
    assert isinstance(error, GenericException)
    assert str(error) == f"builtins.{name}: x"


class Custom(Exception):
    """A class the peer may know too."""

    def __init__(self, volts: float) -> None:
        super().__init__(volts)
        self.volts = volts


def test_a_custom_class_is_built_only_where_the_config_lets_it() -> None:
    assert isinstance(carried(Custom(3.3)), GenericException)
    error = carried(Custom(3.3), CUSTOM)
    assert isinstance(error, Custom)
    assert (error.args, error.volts) == ((3.3,), 3.3)


def test_a_module_is_imported_only_where_the_config_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    payload = (("antigravity_of_a_peer", "Error"), (), (), TEXT)
    assert isinstance(load(payload, IMPORTING, LIMITS), GenericException)
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    for config, imported in ((SHUT, False), (CUSTOM, False), (IMPORTING, True)):
        error = load((("wave", "Error"), ("x",), (), TEXT), config, LIMITS)
        assert ("wave" in sys.modules) is imported
        assert isinstance(error, GenericException) is not imported


def test_a_module_that_is_blocked_or_makes_its_names_up_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = types.ModuleType("lazy")
    lazy.__getattr__ = lambda name: pytest.fail("a peer's name ran code")  # type: ignore[method-assign]
    for module in (None, lazy):
        monkeypatch.setitem(sys.modules, "lazy", module)
        assert isinstance(load((("lazy", "Error"), (), (), TEXT), IMPORTING, LIMITS), GenericException)


@dataclass(frozen=True)
class Frozen(Exception):
    """An exception that lets nobody set anything."""

    volts: float = 0.0


class Locked(Exception):
    """An exception that takes its arguments and nothing else."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "args":
            raise TypeError("no")
        super().__setattr__(name, value)


class Demanding(Exception):
    def __new__(cls, *args: object) -> Self:
        if not args:
            raise TypeError("needs one")
        return super().__new__(cls, *args)


@pytest.mark.parametrize("original", [Frozen(1.5), Locked("x"), Demanding("x")], ids=lambda error: type(error).__name__)
def test_a_class_that_resists_does_not_stop_the_error(original: Exception) -> None:
    error = carried(original, CUSTOM)
    assert isinstance(error, GenericException | Locked)
    assert error._remote_tb == TEXT  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "key",
    [
        "__class__",
        "__traceback__",
        "__cause__",
        "__dict__",
        "_remote_tb",
        "_x",
        "args",
        "with_traceback",
        "add_note",
        "obj",
    ],
)
def test_a_peer_sets_no_attribute_that_means_something_here(key: str) -> None:
    plain = ValueError("over")
    error = written("builtins", "ValueError", ("over",), ((key, "changed"),))
    assert type(error) is ValueError
    assert error.args == ("over",)
    assert vars(error).keys() <= {"_remote_tb", "__notes__"}
    assert error._remote_tb == TEXT  # type: ignore[attr-defined]
    assert (
        repr(getattr(error, key, None)) == repr(getattr(plain, key, None))
        or key in ("__dict__", "_remote_tb")
        or callable(getattr(plain, key, None))
    )


def test_none_does_not_hide_what_a_builtin_shows_by_default() -> None:
    error = written("builtins", "OSError", (2, "No such file"), (("errno", None), ("filename2", None)))
    assert str(error) == str(OSError(None, None)) or "No such file" in str(error)


# Python trusts what UnicodeError and SyntaxError hold: with these numbers, showing one reads memory that isn't its own,
# or builds a line of carets as long as the peer wishes. In a process of its own, because it may not survive.
FATAL: Final = {
    "decode, far before": ("UnicodeDecodeError", (("object", b"abc"), ("start", -(2**40)), ("end", 1 - 2**40))),
    "decode, no bytes": ("UnicodeDecodeError", (("object", 5), ("start", 0), ("end", 1))),
    "decode, args far before": ("UnicodeDecodeError", (), ("ascii", b"abc", -(2**40), 1 - 2**40, "no")),
    "decode, args behind": ("UnicodeDecodeError", (), ("ascii", b"abc", 2**40, 2**40 + 1, "no")),
    "encode, no text": ("UnicodeEncodeError", (("object", 5), ("start", 0), ("end", 1))),
    "encode, args behind": ("UnicodeEncodeError", (), ("ascii", "abc", 7, 8, "no")),
    "translate, no text": ("UnicodeTranslateError", (("object", b"x"), ("start", 10**9), ("end", 10**9 + 1))),
    "translate, args turned round": ("UnicodeTranslateError", (), ("abc", 2, 1, "no")),
    "syntax, no text": ("SyntaxError", (("text", 5), ("lineno", "a"), ("offset", None), ("filename", b"x"))),
    "syntax, a million carets": (
        "SyntaxError",
        (("text", "x = 1"), ("lineno", 1), ("offset", 1), ("end_lineno", 1), ("end_offset", 10**6), ("filename", "x")),
    ),
    "syntax, args": ("SyntaxError", (), ("no", ("x", 1, 1, "x = 1", 1, 10**6))),
    "os, of all kinds": ("OSError", (("errno", "x"), ("strerror", 5), ("filename", ()), ("characters_written", -5))),
    "import, of all kinds": ("ImportError", (("msg", 5), ("name", ()), ("path", b""))),
    "name, of all kinds": ("NameError", (("name", -5),)),
    "attribute, of all kinds": ("AttributeError", (("name", -5), ("obj", 5))),
}
SHOW: Final = """
import sys, traceback
from gateway.limits import Limits
from gateway.protocol.vinegar import load
for name, attributes, *args in eval(sys.stdin.read()):
    error = load((("builtins", name), args[0] if args else (), attributes, "over there"), {config!r}, Limits())
    text = str(error) + repr(error) + "".join(traceback.format_exception(error))
    assert len(text) < 10_000, (name, len(text))
    print(name, type(error).__name__)
"""


def test_no_payload_makes_an_exception_that_can_not_be_shown() -> None:
    payloads = repr([(name, attributes, *args) for name, attributes, *args in FATAL.values()])
    done = subprocess.run(
        [sys.executable, "-c", SHOW.format(config=SHUT)], input=payloads, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(FATAL)


# -- what is unreadable ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        2,
        None,
        (),
        (("builtins", "ValueError"),),
        (("builtins", "ValueError"), (), ()),
        (("builtins", "ValueError"), (), (), TEXT, 5),
        (("builtins",), (), (), TEXT),
        ("builtins.ValueError", (), (), TEXT),
        (("builtins", 5), (), (), TEXT),
        (("builtins", "ValueError"), "args", (), TEXT),
        (("builtins", "ValueError"), (), "attributes", TEXT),
        (("builtins", "ValueError"), (), (), None),
        ("x" * 10**5, 5),
    ],
    ids=lambda payload: repr(payload)[:40],
)
def test_what_can_not_be_read_is_an_error_that_says_so(payload: Any) -> None:
    error = load(payload, SHUT, LIMITS)
    assert isinstance(error, GenericException)
    assert "can't be read" in str(error)
    assert len(str(error)) < 400


def test_a_legacy_text_is_the_error() -> None:
    error = load("something went wrong", SHUT, LIMITS)
    assert isinstance(error, GenericException)
    assert "something went wrong" in str(error)


@pytest.mark.parametrize("attributes", [(5,), ((1, 2),), (("a",),), (("a", 1, 2),), (b"ab",)])
def test_attributes_that_are_no_pairs_are_left_out(attributes: Any) -> None:
    error = written("builtins", "ValueError", ("over",), (*attributes, ("unit", "V")))
    assert type(error) is ValueError
    assert error.unit == "V"  # type: ignore[attr-defined]


def test_names_arguments_and_texts_of_a_peer_are_bounded() -> None:
    attributes = tuple((f"attribute{number}", number) for number in range(1000))
    error = written("m" * 1000, "n" * 1000, tuple(range(1000)), attributes, "t" * 10**6)
    assert isinstance(error, GenericException)
    assert len(error.remote_class) <= 2 * LIMITS.exception_name + 1
    assert len(error.args) <= 64
    assert len(vars(error)) < 80
    assert len(error._remote_tb) <= LIMITS.exception_text  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "value",
    [("x" * 10**5,), frozenset(("x" * 10**5,)), slice("x" * 10**5), ("\ud800",)],
    ids=lambda v: type(v).__name__ + str(len(repr(v))),
)
def test_what_an_exception_keeps_of_a_peer_is_small(value: Any) -> None:
    error = written("builtins", "ValueError", (value, "x" * 10**6), (("reading", value), ("unit", b"V" * 10**6)))
    assert len(repr(error.args)) < LIMITS.exception_text + 200
    assert len(repr(error.reading)) < 200  # type: ignore[attr-defined]
    assert len(error.unit) <= LIMITS.exception_text  # type: ignore[attr-defined]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=10)
    | st.sampled_from(["builtins", "gateway.errors", *(cls.__name__ for cls in BUILTINS), *BY_CODE, "code", "args"]),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=12,
)
classes = st.tuples(st.just("builtins"), st.sampled_from([cls.__name__ for cls in BUILTINS]) | st.text(max_size=8))
pairs = st.lists(
    st.tuples(st.text(max_size=10) | st.sampled_from(["code", "errno", "text", "start"]), values), max_size=4
)
payloads = values | st.tuples(classes, st.lists(values, max_size=5).map(tuple), pairs.map(tuple), st.text(max_size=20))


@settings(deadline=None)
@given(payloads, st.sampled_from([SHUT, CUSTOM]))
def test_whatever_is_sent_gives_an_exception_that_can_be_shown(payload: Any, config: dict[str, Any]) -> None:
    error = load(payload, config, LIMITS)
    assert isinstance(error, Exception)
    assert str(error) + repr(error) is not None
    assert "".join(traceback.format_exception(error))


def test_the_version_spoken_is_the_one_the_tests_run_against() -> None:
    import rpyc  # type: ignore[import-untyped]

    assert rpyc.__version__ == vinegar.RPYC_VERSION
