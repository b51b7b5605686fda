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
    """Bytes of flash that the library's own objects take in an image: what the linker kept of `src/`."""
    kept = map_file.read_text().partition("Linker script and memory map")[2].partition(".data ")[0]
    wanted = 0
    for address, count, where in re.findall(r"\s0x0*([0-9a-f]+)\s+0x([0-9a-f]+)\s+(\S+\.o)", kept):
        if int(address, 16) < 0x20000000 and re.search(r"-board(_\w+)?\.o$|/board(_\w+)?\.o$", where):
            wanted += int(count, 16)
    return wanted


def main(size: str, folder: str) -> None:
    """One line for each image."""
    for name in ("link", "raw"):
        flash, ram = of_image(size, Path(folder) / f"{name}.elf")
        library = of_library(Path(folder) / f"{name}.map")
        print(f"{folder}/{name}.elf: flash {flash} bytes, of these the library {library}; RAM {ram} bytes")


main(*sys.argv[1:])
