"""Python itself, and the package with what it depends on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution
from typing import Final

from gateway.doctor.findings import Finding, ok, problem, warning
from gateway.doctor.subject import Subject
from gateway.doctor.system import System

LEAST: Final = (3, 11, 0)
DISTRIBUTION: Final = "instrument-gateway"
WHEELS: Final = ("x86_64", "aarch64")
"""Machines for which all that the gateway needs comes ready to use."""

_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*([^;]*)(?:;\s*(.*))?")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
_USER_EXTRAS: Final = ("numpy",)


def python(system: System, subject: Subject) -> Iterator[Finding]:
    """The version of Python, and the kind of machine."""
    facts = system.interpreter
    version = ".".join(map(str, facts.version))
    shown = f"{facts.implementation} {version}, {facts.bits} bits, on {facts.machine}"
    if facts.version < LEAST:
        least = ".".join(map(str, LEAST[:2]))
        yield problem(f"{shown}: Python {least} or newer is needed", "sudo apt install python3.11 python3.11-venv")
    elif facts.machine == "aarch64" and facts.bits == 32:
        yield warning(
            f"{shown}: a 32-bit system on a 64-bit machine; packages have to be compiled here",
            "# install the 64-bit Raspberry Pi OS: its image is called arm64",
        )
    elif facts.machine not in WHEELS:
        yield warning(
            f"{shown}: packages have to be compiled here, which takes a compiler",
            "sudo apt install build-essential python3-dev",
        )
    else:
        yield ok(shown)


def package(system: System, subject: Subject, *, path: list[str] | None = None) -> Iterator[Finding]:
    """Whether all that the gateway needs is installed. `path` are the folders to look in, in place of sys.path."""
    found = Distribution.discover() if path is None else Distribution.discover(path=path)
    installed: dict[str, Distribution] = {}
    for each in found:
        # The first one of a name is the one that Python imports.
        installed.setdefault(_key(each.metadata["Name"] or ""), each)
    own = installed.get(DISTRIBUTION)
    pip = f"{system.interpreter.executable} -m pip install"
    if own is None:
        yield problem(f"the package {DISTRIBUTION} is not installed in this Python", f"{pip} .    # in the checkout")
        return
    missing, extras = [], []
    for requirement in own.requires or ():
        name, _, marker = _parts(requirement)
        extra = _EXTRA.search(marker)
        if extra is None and name not in installed and not marker:
            missing.append(requirement)
        if extra is not None and extra[1] in _USER_EXTRAS and name in installed:
            extras.append(f"{name} {installed[name].version}")
    for requirement in missing:
        yield problem(f"a package that the gateway needs is missing: {requirement}", f"{pip} '{requirement}'")
    if not missing:
        beside = f", with {', '.join(extras)}" if extras else ", without extras"
        yield ok(f"{DISTRIBUTION} {own.version} and what it needs{beside}")


def _parts(requirement: str) -> tuple[str, str, str]:
    found = _REQUIREMENT.match(requirement)
    return (_key(found[1]), found[2].strip(), (found[3] or "").strip()) if found else (requirement, "", "")


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
