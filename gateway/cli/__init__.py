"""The command `gateway`: one file a subcommand, and `main`, which turns every error into a line and an exit code."""

from __future__ import annotations

from gateway.cli.main import main

__all__ = ["main"]
