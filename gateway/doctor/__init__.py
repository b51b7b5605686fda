"""Why does it not work? Each check looks at one thing of the machine and gives findings, each with its fix.

findings          what a check says: a verdict, one line, and the commands that mend it
system            the machine: files under a root, tools, the clock; an argument of every check
subject           what is examined: a config's ports, addresses and files, and the user who needs them
examine           the table of checks, in the order of the way of a call
processes, sockets, usb_tree, packet_filter, certificate      what several checks read
the others        one file for each reason why something may not work
"""

from __future__ import annotations

from gateway.doctor.examine import CHECKS, Examined, examine
from gateway.doctor.findings import Finding, Verdict
from gateway.doctor.subject import Subject
from gateway.doctor.system import System

__all__ = ["CHECKS", "Examined", "Finding", "Subject", "System", "Verdict", "examine"]
