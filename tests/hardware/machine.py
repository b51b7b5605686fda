"""A machine whose `sys` and `dev` are folders of the test: things are plugged in and out by making files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


class Machine:
    """`root` is what `find_hardware` takes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._devices = 0
        for folder in ("sys/class/tty", "sys/class/usbmisc", "sys/bus/usb/devices", "sys/devices", "dev", "proc"):
            (root / folder).mkdir(parents=True)

    def usb(
        self, location: str, vid_pid: str = "0403:6001", serial: str = "", product: str = "", device_class: str = "00"
    ) -> Path:
        """A USB device, without a port yet; its folder in sysfs."""
        vid, pid = vid_pid.split(":")
        folder = self.root / "sys/devices/usb1" / location
        folder.mkdir(parents=True, exist_ok=True)
        self._devices += 1
        facts = {"idVendor": vid, "idProduct": pid, "serial": serial, "product": product, "bDeviceClass": device_class}
        for name, value in (facts | {"busnum": "1", "devnum": str(self._devices), "manufacturer": "acme"}).items():
            if value:
                (folder / name).write_text(f"{value}\n")
        link = self.root / "sys/bus/usb/devices" / location
        if not link.is_symlink():
            link.symlink_to(folder)
        return folder

    def tty(
        self,
        name: str,
        location: str = "1-1",
        vid_pid: str = "0403:6001",
        serial: str = "",
        interface: int = 0,
        node: str | None = None,
        by_id: str = "",
        by_path: str = "",
    ) -> str:
        """A serial port of a USB device; the path of its node, which leads to `node` if that is given."""
        device = self.usb(location, vid_pid, serial)
        folder = device / f"{location}:1.{interface}"
        folder.mkdir(exist_ok=True)
        (folder / "bInterfaceNumber").write_text(f"{interface:02x}\n")
        return self._class("tty", name, folder, node, {"by-id": by_id, "by-path": by_path})

    def usbtmc(self, name: str, location: str, vid_pid: str = "0957:1796", serial: str = "") -> str:
        """A USBTMC instrument with the kernel's driver."""
        folder = self.usb(location, vid_pid, serial) / f"{location}:1.0"
        folder.mkdir(exist_ok=True)
        (folder / "bInterfaceNumber").write_text("00\n")
        return self._class("usbmisc", name, folder, None, {})

    def uart(self, name: str, kind: int) -> str:
        """A port of the board itself; of kind 0 if there is none behind it."""
        folder = self.root / "sys/devices/platform" / name
        folder.mkdir(parents=True)
        path = self._class("tty", name, folder, None, {})
        (self.root / "sys/class/tty" / name / "type").write_text(f"{kind}\n")
        return path

    def unplug(self, name: str) -> None:
        """Take a port away, with its USB device."""
        for kind in ("tty", "usbmisc"):
            entry = self.root / "sys/class" / kind / name
            if entry.exists():
                device = Path(os.path.realpath(entry / "device"))
                shutil.rmtree(entry)
                if ":" in device.name:
                    (self.root / "sys/bus/usb/devices" / device.parent.name).unlink()
                    shutil.rmtree(device.parent)
        (self.root / "dev" / name).unlink()
        for link in (self.root / "dev").glob("serial/*/*"):
            if not link.exists():
                link.unlink()

    def _class(self, kind: str, name: str, device: Path, node: str | None, links: dict[str, str]) -> str:
        entry = self.root / "sys/class" / kind / name
        entry.mkdir()
        (entry / "device").symlink_to(device)
        path = self.root / "dev" / name
        if node is None:
            path.touch()
        else:
            path.symlink_to(node)
        for folder, link in links.items():
            if link:
                (self.root / "dev/serial" / folder).mkdir(parents=True, exist_ok=True)
                (self.root / "dev/serial" / folder / link).symlink_to(path)
        return str(path)
