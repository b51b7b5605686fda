"""From what is plugged in, or on the network, to a config that serves it: what `gateway adopt` does."""

from gateway.adopt.files import read_current, taken_names, write_proposal
from gateway.adopt.proposals import KnownDriver, Proposal, Seen, propose
from gateway.adopt.survey import ask_all, may_be_asked, on_network, plugged_in, recognised

__all__ = [
    "KnownDriver",
    "Proposal",
    "Seen",
    "ask_all",
    "may_be_asked",
    "on_network",
    "plugged_in",
    "propose",
    "read_current",
    "recognised",
    "taken_names",
    "write_proposal",
]
