"""`import gateway` shows every public name, and loads what is behind one when it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import gateway

HEAVY = ("asyncio", "click", "cryptography", "numpy", "rich", "serial", "spake2", "usb", "zeroconf")


def loaded_by(program: str) -> set[str]:
    """The modules that a new process has after it has run `program`."""
    script = f"{program}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_public_names_are_listed_and_there() -> None:
    assert set(gateway.__all__) <= set(dir(gateway))
    assert [name for name in gateway.__all__ if getattr(gateway, name, None) is None] == []


def test_a_star_import_brings_all_of_them() -> None:
    names: dict[str, object] = {}
    exec("from gateway import *", names)
    assert set(gateway.__all__) <= names.keys()


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'gateway' has no attribute 'conect'"):
        gateway.conect  # noqa: B018


def test_the_decorator_is_not_hidden_by_the_package_of_its_name() -> None:
    program = "import gateway, gateway.service.policy; gateway.Service; assert gateway.service.__name__ == 'service'"
    assert "gateway.service.policy" in loaded_by(program)


def test_the_import_alone_loads_nothing_heavy() -> None:
    loaded = loaded_by("import gateway; gateway.exposed; gateway.GatewayError; gateway.errors.Busy")
    assert loaded.isdisjoint({*HEAVY, "socket", "gateway.client", "gateway.server", "gateway.sync"})


def test_a_command_that_is_told_an_address_loads_no_discovery() -> None:
    command = "from gateway.cli import main; assert main(['call', '--gateway', 'unix:///nowhere', 'psu1.x']) == 4"
    loaded = loaded_by(command)
    assert {"gateway.cli.call", "gateway.sync.connection"} <= loaded
    assert loaded.isdisjoint({"asyncio", "cryptography", "gateway.discovery", "numpy", "serial", "zeroconf"})
