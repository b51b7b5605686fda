"""`pyproject.toml` tells the truth: what it names exists, and what the packages import it depends on."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import EntryPoint, distribution, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("gateway", "devices", "firmware_bridge", "hil")
FOR_BOARDS = ("firmware_bridge/micropython", "firmware_bridge/c")
"""What runs elsewhere, and is no part of the packages."""
ENTRY_POINTS = [
    EntryPoint(name, value, group)
    for group, named in {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}.items()
    for name, value in named.items()
]


def sources() -> list[Path]:
    return [source for package in PACKAGES for source in sources_of(package)]


def sources_of(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    return [each for each in found if not any(each.is_relative_to(ROOT / elsewhere) for elsewhere in FOR_BOARDS)]


def requirement_name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match
    return match[0].lower().replace("_", "-")


def imported(source: Path) -> set[str]:
    """Top-level names that `source` imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("entry_point", ENTRY_POINTS, ids=lambda entry_point: f"{entry_point.group}:{entry_point.name}")
def test_every_entry_point_leads_to_something_callable_or_to_a_plugin(entry_point: EntryPoint) -> None:
    found = entry_point.load()
    assert hasattr(found, "pytest_addoption") if entry_point.group == "pytest11" else callable(found)


def test_the_installed_distribution_is_this_one() -> None:
    installed = distribution(PROJECT["name"])
    assert installed.version == PROJECT["version"]
    names = {(point.group, point.name, point.value) for point in installed.entry_points}
    assert names == {(point.group, point.name, point.value) for point in ENTRY_POINTS}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_python_in_it_is_a_package_and_so_is_in_the_wheel(package: str) -> None:
    folders = {source.parent for source in sources_of(package)}
    assert folders
    assert sorted(folder for folder in folders if not (folder / "__init__.py").is_file()) == []


OF_DEBIANS_PYTHON = {"gi"}
"""What hil.usb.mocked runs with, and nothing else does."""


def test_the_packages_import_nothing_that_is_not_declared() -> None:
    declared = [*PROJECT["dependencies"]]
    for extra in ("numpy", "gpio", "hil"):
        declared += PROJECT["optional-dependencies"][extra]
    allowed = {requirement_name(requirement) for requirement in declared}
    providers = packages_distributions()
    undeclared = {
        f"{source.relative_to(ROOT)}: {name}"
        for source in sources()
        for name in imported(source) - sys.stdlib_module_names - set(PACKAGES) - OF_DEBIANS_PYTHON
        if not allowed & {provider.lower().replace("_", "-") for provider in providers.get(name, [])}
    }
    assert sorted(undeclared) == []


def test_the_run_time_needs_no_more_than_what_was_agreed() -> None:
    names = {requirement_name(requirement) for requirement in PROJECT["dependencies"]}
    assert names == {"click", "cryptography", "ifaddr", "msgspec", "pyserial", "pyusb", "rich", "spake2", "zeroconf"}
