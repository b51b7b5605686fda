"""Write brine.json: values, each as a Python expression, and the bytes that stock rpyc encodes them to.

    python tests/vectors/make_brine.py

The file is committed, so that whoever implements brine (our codec, firmware in C or MicroPython) tests against stock's
bytes without having stock.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

from rpyc.core import brine as stock  # type: ignore[import-untyped]
from rpyc.version import __version__ as stock_version  # type: ignore[import-untyped]

PATH: Final = Path(__file__).with_name("brine.json")
NAMES: Final[dict[str, Any]] = {
    "__builtins__": {},
    **{kind.__name__: kind for kind in (bytes, complex, float, frozenset, range, slice, tuple)},
    "NotImplemented": NotImplemented,
    "inf": math.inf,
    "nan": math.nan,
}
"""What the expressions may use."""

EXPRESSIONS: Final = (
    # One byte.
    *("None", "b''", "()", "True", "False", "NotImplemented", "...", "-48", "-1", "0", "1", "48", "159"),
    # Decimals, up to where the length no longer fits one byte.
    *("-49", "160", "-100", "999", "4095", "4096", "-2048", "-2049", "65535", "2**31", "-2**63", "2**64", "10**18"),
    *("10**254", "10**255", "-10**253", "-10**254", "10**4299", "-10**4299 - 1"),
    # Floats and complex numbers.
    *("0.0", "-0.0", "1.0", "3.3", "-1.5e-300", "5e-324", "1.7976931348623157e308", "inf", "-inf", "nan"),
    *("complex(1.5, -2.5)", "complex(0.0, -0.0)", "complex(inf, nan)"),
    # Bytes and text of every kind of length.
    *("b'a'", "b'\\x00\\xff'", "b'abc'", "b'abcd'", "b'abcde'", "b'x' * 255", "b'x' * 256", "b'x' * 1000"),
    *("''", "'V'", "'mA'", "'psu'", "'psu1'", "'voltage'", "'x' * 255", "'x' * 256", "'x' * 1000"),
    *("'\\u00b5'", "'\\u20ac'", "'\\U0001f50c'", "'\\u03a9' * 127", "'\\u03a9' * 128", "'\\x00'"),
    # Tuples of every kind of length, and runs.
    *("(1,)", "(1, 2)", "(1, 2, 3)", "(1, 2, 3, 4)", "(1, 2, 3, 4, 5)", "(None, True, False, b'', ())"),
    *(
        "(0,) * 255",
        "(0,) * 256",
        "('V',) * 300",
        "((),) * 16",
        "((1, 'a'), (2, 'b'))",
        "((((((((((1,),),),),),),),),),)",
    ),
    *("tuple(range(-60, 400))", "tuple(range(0, 40000, 997))", "(3.3,) * 7", "(3.3,) * 8", "(0.5, -1.0) * 128"),
    *("(1.0, 1, 1.0, 1, 1.0, 1, 1.0, 1, 1.0)", "(1, 1, 1, 1, 1, 1, 1, 1, True)", "('CH1', 1.25) * 20"),
    # Slices and sets.
    *("slice(None, None, None)", "slice(1, 10, 2)", "slice('a', (1,), 2.5)", "slice(slice(1, 2, 3), None, None)"),
    *("frozenset()", "frozenset((7,))", "frozenset(('V',))", "frozenset((1, 2, 3))", "frozenset(((1, (2.5, b'')),))"),
    *("frozenset((frozenset(),))", "frozenset((frozenset((300,)),))"),
    # Messages: GETROOT, CALLATTR, a reply, an exception, and what the registry is asked.
    *("(0, (3, (1, ())))", "(2, (1, 3))", "(5007, (1, None))", "(5, 1)", "('RPYC', 'QUERY', ('PSU',))"),
    "(7, (8, (2, ((3, ('devices.psu.Psu', 12, 34)), (1, 'set_voltage'), (1, (3.3,)), (1, ())))))",
    "(260, (4, ('devices.psu.Psu', 94236789123456, 139912345678901)))",
    "(3, (('builtins', 'ValueError'), ('over range', 3.3), (('_remote_version', '6.0.2'),), 'Traceback ...'))",
)


def value_of(expression: str) -> Any:
    """The value that an expression of the table stands for."""
    return eval(expression, dict(NAMES))


def cases() -> list[dict[str, str]]:
    """`[{"value": expression, "hex": what stock encodes it to}, ...]`."""
    return [{"value": text, "hex": stock.dump(value_of(text)).hex()} for text in EXPRESSIONS]


def file_text() -> str:
    """The content of the file, a case a line."""
    lines = ",\n".join("  " + json.dumps(case) for case in cases())
    return f'{{"made_by": "rpyc {stock_version}", "cases": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    PATH.write_text(file_text())
    print(f"{len(EXPRESSIONS)} cases in {PATH}")
