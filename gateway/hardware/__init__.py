"""What is plugged in, which device of the config it is, and what comes and goes."""

from gateway.hardware.facts import Hardware, find_hardware
from gateway.hardware.hotplug import HotPlug
from gateway.hardware.links import PortLinks
from gateway.hardware.matching import Ambiguous, Entry, Found, Missing, entries_of, match_all
from gateway.hardware.presence import Event, Left, Plugged, Presence, Returned, Roll
from gateway.hardware.watcher import Sight, Watcher

__all__ = [
    "Ambiguous",
    "Entry",
    "Event",
    "Found",
    "Hardware",
    "HotPlug",
    "Left",
    "Missing",
    "Plugged",
    "PortLinks",
    "Presence",
    "Returned",
    "Roll",
    "Sight",
    "Watcher",
    "entries_of",
    "find_hardware",
    "match_all",
]
