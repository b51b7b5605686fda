"""Leases: who may control which device. Pure: the time is an argument, and what happens comes out as events."""

from gateway.server.leasing.claims import TRANSITIONS, Cause, Holder, Lease, LeaseLimits, State, Waiting, Wanted
from gateway.server.leasing.events import Dropped, Ended, Event, Granted, HandOverAsked, HandOverOff, Moved, Queued
from gateway.server.leasing.line import Place
from gateway.server.leasing.table import GATEWAY, LeaseTable

__all__ = [
    "GATEWAY",
    "TRANSITIONS",
    "Cause",
    "Dropped",
    "Ended",
    "Event",
    "Granted",
    "HandOverAsked",
    "HandOverOff",
    "Holder",
    "Lease",
    "LeaseLimits",
    "LeaseTable",
    "Moved",
    "Place",
    "Queued",
    "State",
    "Waiting",
    "Wanted",
]
