"""What a fresh machine meets: the Makefile's targets, and the script that makes the environment they use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = ("demo", "test", "check", "bench", "docs", "wheelhouse", "clean")


def make_environment(folder: Path, python: str, path: str = os.defpath) -> subprocess.CompletedProcess[str]:
    """Run `.ci/venv` for `folder / ".venv"` with `python` as the only candidate and `path` as PATH."""
    environment = {"PATH": path, "PYTHON": python, "HOME": str(folder), "PIP_NO_INDEX": "1"}
    return subprocess.run(
        [ROOT / ".ci" / "venv", folder / ".venv"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_can_be_made_from_the_rules(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=True, timeout=20)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/how-to/install.md"])
def test_every_target_that_a_page_names_exists(page: str) -> None:
    named = set(re.findall(r"(?:`|^\$ )make ([a-z]+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named
    assert named <= targets


def test_a_python_that_is_too_old_is_refused_in_one_line_with_the_fix(tmp_path: Path) -> None:
    old = script(tmp_path / "python3.9", '[ "$1" = --version ] && echo "Python 3.9.2" && exit 0; exit 1')
    made = make_environment(tmp_path, str(old))
    assert made.returncode == 1
    assert made.stdout == ""
    assert made.stderr.count("\n") == 1
    assert "3.11 or newer is needed (found: Python 3.9.2)" in made.stderr
    assert "make PYTHON=" in made.stderr


def test_where_nothing_makes_an_environment_the_package_to_install_is_named(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("rm", "id"):  # and no apt-get, which root would be helped by
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    python = python_without(tmp_path, "ensurepip", "pip", "virtualenv")
    made = make_environment(tmp_path, str(python), path=str(tools))
    assert made.returncode == 1
    assert re.match(
        r"error: .* has no working venv module\. Install it \('sudo apt install python3\.\d+-venv'", made.stderr
    )
    assert made.stderr.count("\n") == 1
    assert not (tmp_path / ".venv").exists()


def test_the_environment_is_made_without_ensurepip_where_the_system_has_pip(tmp_path: Path) -> None:
    wheel = bundled_pip()
    made = make_environment(tmp_path, str(python_without(tmp_path, "ensurepip", "virtualenv", find_links=wheel.parent)))
    assert (made.returncode, made.stderr) == (0, "")
    subprocess.run([tmp_path / ".venv" / "bin" / "python", "-m", "pip", "--version"], check=True, timeout=60)


def test_an_environment_that_works_is_left_as_it_is(tmp_path: Path) -> None:
    first = make_environment(tmp_path, sys.executable)
    assert first.returncode == 0, first.stderr
    kept = tmp_path / ".venv" / "kept"
    kept.touch()
    assert make_environment(tmp_path, "no-such-python").returncode == 0
    assert kept.exists()


def test_a_broken_environment_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to("/no/such/python")
    made = make_environment(tmp_path, sys.executable)
    assert (made.returncode, made.stderr) == (0, "")


def python_without(folder: Path, *modules: str, find_links: Path | None = None) -> Path:
    """A command that is this Python, except that `modules` can't be imported by it."""
    blocked = folder / "blocked"
    blocked.mkdir()
    for module in modules:
        (blocked / f"{module}.py").write_text("raise ModuleNotFoundError(__name__)", encoding="utf-8")
    links = f"export PIP_FIND_LINKS={find_links}" if find_links else ":"
    return script(folder / "python3", f'{links}\nPYTHONPATH={blocked} exec {sys.executable} "$@"')


def bundled_pip() -> Path:
    """The wheel of pip that comes with this Python."""
    ensurepip = pytest.importorskip("ensurepip", reason="this Python has no ensurepip to take a wheel of pip from")
    folders = [Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels")]
    wheels = [wheel for folder in folders for wheel in folder.glob("pip-*.whl")]
    if not wheels:
        pytest.skip("no wheel of pip on this machine")
    return wheels[0]
