"""`gateway demo`: a bench that anybody has, and a client that shows what can be done with it."""

from __future__ import annotations

import uuid

import click

from gateway.app import Gateway, run_bench
from gateway.cli.demo_client import show
from gateway.cli.main import subcommand
from gateway.cli.running import Stop, announce, document, log_to_stderr, run, wait_advertised
from gateway.cli.screen import Screen
from gateway.channels import DEFAULT_PORT
from gateway.errors import ConfigError
