"""Supervision: a process that owns the gateway's, and makes the devices safe when that one dies or hangs.

    supervisor  ──fork──>  worker: the gateway         pings while its keeper looks around
         │
         └─────fork──>     securer: opens the ports    only while there is no worker

The supervisor has the drivers imported, no thread, and no port open. Decision record 0024 says why it forks.
"""

from gateway.supervision.supervisor import Ended, can_supervise, supervise
from gateway.supervision.tether import Alone, Restart, Tether

__all__ = ["Alone", "Ended", "Restart", "Tether", "can_supervise", "supervise"]
