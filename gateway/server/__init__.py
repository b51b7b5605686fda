"""Serving: the server, and the root service through which devices are reached."""

from gateway.server.server import DEFAULT_URL, Server

__all__ = ["DEFAULT_URL", "Server"]
