"""Simulated instruments at the far end of a serial line: the counterparts of the drivers.

A simulated instrument takes bytes and gives bytes (`instrument.Instrument`). `line.Simulator` puts it at the other end
of a pseudo serial port, as a thread here; `python -m devices.simulators KIND` does so as a process of its own. Nothing
but those bytes joins a driver and its simulator: they share no code.
"""

from __future__ import annotations
