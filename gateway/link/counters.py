"""Counters of one link: what a user looks at when a line misbehaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Since the link was made, over all sessions. Sizes in bytes."""

    bytes_sent: int = 0
    """As handed to the line: flags, escapes and CRCs included."""
    bytes_received: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    """Intact ones."""
    crc_errors: int = 0
    """Damaged frames, and those of other sessions."""
    overruns: int = 0
    """Frames too long for this end, usually two of which the flag between was lost."""
    retransmissions: int = 0
    duplicates: int = 0
    """DATA frames that had come before."""
    refused: int = 0
    """DATA frames that came while there was no room."""
    echoes: int = 0
    """HELLOs of our own: the line sends back what we say."""
    sessions: int = 0
    resets: int = 0
    """Sessions that ended other than by a CLOSE."""
    messages_sent: int = 0
    messages_received: int = 0
    payload_sent: int = 0
    """Of messages, before deflating, as acknowledged or on the way."""
    payload_received: int = 0
    rtt_s: float = 0.0
    """Smoothed time from a frame's last byte to its acknowledgement; 0.0 before the first."""
    goodput: float = 0.0
    """Bytes of messages per second, both ways together, smoothed over about a second while there is traffic."""
