"""How large the images of the example are, and what of that is the library: `python3 sizes.py SIZE FOLDER`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FLASH = {".text", ".data"}
RAM = {".data", ".bss", ".noinit", ".stack"}


def of_image(size: str, image: Path) -> tuple[int, int]:
    """Bytes of flash and of RAM, the stack's included."""
    listed = subprocess.run([size, "-A", str(image)], check=True, capture_output=True, text=True).stdout
    sections = {name: int(count) for name, count in re.findall(r"^(\.\w+)\s+(\d+)", listed, re.MULTILINE)}
    return sum(sections.get(name, 0) for name in FLASH), sum(sections.get(name, 0) for name in RAM)


def of_library(map_file: Path) -> int:
    """Bytes of flash that the library's own objects take in an image: what the linker kept of them."""
    kept = map_file.read_text(encoding="utf-8").partition("Linker script and memory map")[2]
    rows = re.findall(r"\s0x0*([0-9a-f]{1,8})\s+0x([0-9a-f]+)\s+\S*/(board\w*)\.o$", kept, re.MULTILINE)
    return sum(int(count, 16) for address, count, _ in rows if 0 < int(address, 16) < 0x20000000)


def main(size: str, folder: str) -> None:
    """One line for each image."""
    for name in ("link", "plain", "raw"):
        flash, ram = of_image(size, Path(folder) / f"{name}.elf")
        library = of_library(Path(folder) / f"{name}.map")
        sys.stdout.write(
            f"{name}.elf: {flash} bytes of flash, {library} of them the library; {ram} bytes of RAM with its stack\n"
        )


main(*sys.argv[1:])
