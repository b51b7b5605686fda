"""Whether SIGHUP says that the terminal was closed, or that the config is to be read again."""

from __future__ import annotations

import os


def has_terminal() -> bool:
    """Whether there is a terminal whose end would be told by SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
