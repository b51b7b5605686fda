"""What the gateway and the system's service manager say to each other.

unit, udev      the texts of the files that make it a service: pure
accounts        the users and groups of a system, read from its files
install         puts the files in place, prints each step, and undoes exactly that
notify          readiness, watchdog and reloads, over $NOTIFY_SOCKET
journal         log records as journald takes them
"""

from __future__ import annotations

from gateway.systemd.journal import JournalFormatter, stderr_is_journal
from gateway.systemd.notify import Notifier

__all__ = ["JournalFormatter", "Notifier", "stderr_is_journal"]
