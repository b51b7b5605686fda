"""The C library, compiled for this machine and for the board; where a compiler or QEMU is missing, a reason to skip."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil import qemu

C_LIBRARY = Path(__file__).parents[2] / "firmware_bridge" / "c"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
SANITIZERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


class Harness:
    """The library in a process of its own: a line for a line."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ask(self, *words: object) -> str:
        """What it says to a command. A sanitizer's finding is the test's failure."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        assert said, self._process.stderr.read()
        return said.rstrip("\n")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="session")
def harness_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles the harness with these settings, once."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc here (Debian's package gcc)")
    folder, made = tmp_path_factory.mktemp("harness"), dict[tuple[str, ...], Path]()

    def compiled(*settings: str) -> Path:
        if settings not in made:
            program = folder / f"harness{len(made)}"
            sources = [each for each in sorted((C_LIBRARY / "src").glob("*.c")) if each.name != "board_nonce.c"]
            words = ["gcc", *STRICT, *SANITIZERS, *settings, f"-I{C_LIBRARY / 'include'}", "-o", str(program)]
            harness = Path(__file__).with_name("harness.c")
            done = subprocess.run(
                [*words, *map(str, sources), str(harness)], check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            made[settings] = program
        return made[settings]

    return compiled


@pytest.fixture
def start_harness(harness_program: Callable[..., Path]) -> Iterator[Callable[..., Harness]]:
    """Starts the harness, compiled with these settings."""
    started: list[Harness] = []

    def start(*settings: str) -> Harness:
        started.append(Harness(harness_program(*settings)))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def harness(start_harness: Callable[..., Harness]) -> Harness:
    """With the default settings."""
    return start_harness()


@pytest.fixture(scope="session")
def build_images(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, str]]:
    """Builds the example's images with these definitions, once: their folder, and what the build printed."""
    for tool, package in (("make", "make"), ("arm-none-eabi-gcc", "gcc-arm-none-eabi")):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} here (Debian's package {package})")
    made: dict[tuple[str, ...], tuple[Path, str]] = {}

    def build(*defines: str) -> tuple[Path, str]:
        if defines not in made:
            folder = tmp_path_factory.mktemp("images")
            words = ["make", "-C", str(C_LIBRARY), f"OUT={folder}", f"DEFINES={' '.join(defines)}"]
            done = subprocess.run(words, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            made[defines] = folder, done.stdout + done.stderr
        return made[defines]

    return build


@pytest.fixture(scope="session")
def images(build_images: Callable[..., tuple[Path, str]]) -> Path:
    """The folder of the images, where there is a QEMU to run them."""
    if qemu.missing():
        pytest.skip(qemu.missing())
    return build_images()[0]
