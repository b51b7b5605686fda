"""Running the system's own tools."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

TIMEOUT_S: Final = 20.0
TIMED_OUT: Final = 124
MAX_OUTPUT: Final = 4 * 1024 * 1024
SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where a plain user's PATH doesn't look."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a tool said."""

    code: int
    out: str
    err: str = ""

    @property
    def complaint(self) -> str:
        """The last line it wrote to stderr, or its exit code."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"exit code {self.code}"


Runner = Callable[..., Output | None]
"""`run("useradd", "--system", ..., timeout_s=20.0)`: what it said; None where there is no such tool."""


def run_tool(*words: str, timeout_s: float = TIMEOUT_S) -> Output | None:
    """Run a tool with no input, in English. One that takes longer than `timeout_s` is ended, with exit code 124."""
    environ = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": f"{os.environ.get('PATH', os.defpath)}:{SBIN}"}
    try:
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=environ,
        )
    except OSError:
        return None
    except subprocess.TimeoutExpired:
        return Output(TIMED_OUT, "", f"not done within {timeout_s:g} s")
    return Output(done.returncode, done.stdout[:MAX_OUTPUT], done.stderr[:MAX_OUTPUT])
