"""A command on a pseudo terminal, as a person has it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import termios
import time

PATIENCE_S = 20.0


class Terminal:
    """A command on a terminal of 100 columns, typed at and looked at."""

    def __init__(self, line: list[str], environment: dict[str, str]) -> None:
        self._ours, its = pty.openpty()
        termios.tcsetwinsize(its, (40, 100))
        self.process = subprocess.Popen(
            # A session whose terminal this is, so that a typed Ctrl-C is a signal.
            ["setsid", "--ctty", *line],
            stdin=its,
            stdout=its,
            stderr=its,
            env=environment,
        )
        os.close(its)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, pattern: str) -> str:
        """Everything shown up to what matches `pattern`, which is forgotten then."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.shown)):
            assert self._more(deadline), f"{pattern!r} does not come; shown is {self.shown!r}"
        before, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return before

    def end(self) -> tuple[int, str]:
        """Wait for the command's end; the exit code and what was shown since."""
        deadline = time.monotonic() + PATIENCE_S
        while self._more(deadline):
            pass
        return self.process.wait(PATIENCE_S), self.shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _more(self, deadline: float) -> bool:
        if not select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the last program on it has gone
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)
