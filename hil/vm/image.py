"""What the machine starts from: the kernel as QEMU boots it fastest, and an initramfs. Built once, kept in `build/vm`.

    python -m hil.vm.image [FOLDER]

The kernel is Debian's, from its package, which is unpacked and never installed. QEMU boots the ELF in it directly, two
seconds faster than letting an emulated processor unpack it.
"""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from hil.vm.cpio import Cpio

FOLDER: Final = Path("build/vm")
PACKAGE: Final = "linux-image-amd64"
BUSYBOX: Final = Path("/bin/busybox")
MODULES: Final = (
    *("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_net"),
    *("xhci-pci", "dummy_hcd", "udc-core", "libcomposite", "usb_f_fs", "vhci-hcd"),
    *("cdc-acm", "usbtmc", "i2c-dev", "i2c-tiny-usb"),
)
"""In the order in which they are loaded, each behind what it needs."""
XZ: Final = b"\xfd7zXZ\x00"
INIT: Final = """#!/bin/sh
b=/bin/busybox
$b mount -t proc p /proc; $b mount -t sysfs s /sys; $b mount -t devtmpfs d /dev
while read -r m; do $b insmod /m/$m || echo "insmod $m failed"; done </order
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /ro || echo "9p failed"
$b mount -t tmpfs t /rw; $b mkdir /rw/u /rw/w
$b mount -t overlay -o lowerdir=/ro,upperdir=/rw/u,workdir=/rw/w o /new
for d in proc sys dev; do $b mount --move /$d /new/$d; done
$b mount -t tmpfs t /new/run
$b mkdir -p /new/dev/pts /new/dev/shm
$b mount -t devpts -o ptmxmode=666 p /new/dev/pts; $b mount -t tmpfs t /new/dev/shm
$b mount -t configfs c /new/sys/kernel/config
$b ip link set lo up
$b ip link set eth0 up 2>/dev/null && $b ip addr add 10.0.2.15/24 dev eth0 && $b ip route add default via 10.0.2.2
read -r c </new/proc/cmdline; c=${c##*hilcmd=}
echo "[vm] ready"
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin $b chroot /new /bin/sh -c "$c"
echo "[vm] exit $?"
echo o > /new/proc/sysrq-trigger; $b sleep 5
"""


class NotHere(Exception):
    """What the machine needs is missing on this computer; the text says what."""


def missing() -> str:
    """Why no machine can be built or started here; empty where it can."""
    for program, package in (("qemu-system-x86_64", "qemu-system-x86"), ("dpkg-deb", "dpkg"), ("apt-get", "apt")):
        if shutil.which(program) is None:
            return f"{program} is not installed (apt-get install {package})"
    if not BUSYBOX.exists() or b"\x7fELF" not in BUSYBOX.read_bytes()[:4] or _is_dynamic(BUSYBOX):
        return "there is no static busybox (apt-get install busybox-static)"
    return ""


def _is_dynamic(program: Path) -> bool:
    return b"ld-linux" in program.read_bytes()[:4096]


def is_built(folder: Path = FOLDER) -> bool:
    """Whether the machine is there, as this file makes it now."""
    stamp = folder / "made-by"
    return (folder / "initrd").exists() and stamp.exists() and stamp.read_bytes() == Path(__file__).read_bytes()


def build(folder: Path = FOLDER) -> Path:
    """The folder with `vmlinux` and `initrd`, made if they are not there. Raises NotHere."""
    if is_built(folder):
        return folder
    why = missing()
    if why:
        raise NotHere(why)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name)
        kernel = _unpacked(work)
        made = work / "vm"
        made.mkdir()
        (made / "vmlinux").write_bytes(_vmlinux((kernel / "vmlinuz").read_bytes()))
        (made / "initrd").write_bytes(_initrd(kernel / "modules"))
        (made / "made-by").write_bytes(Path(__file__).read_bytes())
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return folder


def _unpacked(work: Path) -> Path:
    """The kernel and its modules, from the package: `vmlinuz`, and every module under its plain name."""
    listed = subprocess.run(["apt-cache", "depends", PACKAGE], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Depends: (linux-image-[\w.+-]+)", listed)
    if found is None:
        raise NotHere(f"apt-cache knows no {PACKAGE} (apt-get update)")
    got = subprocess.run(["apt-get", "download", found[1]], cwd=work, capture_output=True, text=True, check=False)
    packages = list(work.glob("*.deb"))
    if not packages:
        raise NotHere(f"{found[1]} could not be downloaded: {got.stderr.strip().splitlines()[-1:]}")
    kernel = work / "kernel"
    (kernel / "modules").mkdir(parents=True)
    command = ["dpkg-deb", "--fsys-tarfile", str(packages[0])]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            name = Path(member.name).name
            source = archive.extractfile(member) if name.startswith("vmlinuz") or name.endswith(".ko") else None
            if source is not None:
                target = kernel / "vmlinuz" if name.startswith("vmlinuz") else kernel / "modules" / name
                target.write_bytes(source.read())
    return kernel


def _vmlinux(vmlinuz: bytes) -> bytes:
    """The ELF in a bzImage: what its one xz stream unpacks to."""
    for found in re.finditer(re.escape(XZ), vmlinuz):
        unpacked = lzma.LZMADecompressor().decompress(vmlinuz[found.start() :])
        if unpacked.startswith(b"\x7fELF"):
            return unpacked
    raise NotHere("the kernel's image has no xz stream with an ELF in it")


def _initrd(modules: Path) -> bytes:
    """Busybox, the modules in their order, and what the first process does."""
    archive = Cpio()
    for name in ("bin", "m", "proc", "sys", "dev", "ro", "rw", "new"):
        archive.folder(name)
    archive.file("bin/busybox", BUSYBOX.read_bytes(), 0o755)
    archive.link("bin/sh", "busybox")
    archive.file("init", INIT.encode(), 0o755)
    order: list[str] = []
    for name in MODULES:
        _add_module(name, modules, order)
    for file in order:
        archive.file(f"m/{file}", (modules / file).read_bytes())
    archive.file("order", "".join(f"{file}\n" for file in order).encode())
    return archive.whole()


def _add_module(name: str, modules: Path, order: list[str]) -> None:
    """Add a module to the order, behind all that it says it depends on."""
    file = next((each for each in (f"{name}.ko", f"{name.replace('_', '-')}.ko") if (modules / each).exists()), None)
    if file is None:
        file = next(
            (each.name for each in modules.glob("*.ko") if each.stem.replace("-", "_") == name.replace("-", "_")), None
        )
    if file is None:
        return  # built in
    if file in order:
        return
    depends = re.search(rb"\0depends=([^\0]*)\0", (modules / file).read_bytes())
    for needed in depends[1].decode().split(",") if depends and depends[1] else ():
        _add_module(needed, modules, order)
    order.append(file)


if __name__ == "__main__":
    try:
        made = build(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
    except NotHere as problem:
        sys.exit(f"no virtual machine: {problem}")
    size = sum(file.stat().st_size for file in made.iterdir())
    sys.stdout.write(f"{made}: kernel and initramfs, {size / 1e6:.0f} MB\n")
