"""gadget://VID:PID/SERIAL - serve at this machine's USB device port: the other end opens usb://VID:PID/SERIAL.

    gadget://                           1209:0001, with the machine's id as its serial number
    gadget://1209:0001/PI0042
    gadget://?udc=20980000.usb          on this controller, where there are several

`gateway host --usb` does this. It makes the gadget in configfs, binds it to the controller, and takes all of it away at
its end. It takes root, a kernel with FunctionFS (Debian's and Raspberry Pi OS's have it), and a port that can be a
device: on a Pi Zero or 4 `dtoverlay=dwc2` in /boot/firmware/config.txt.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import queue
import re
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.channels.base import Channel
from gateway.channels.listener import Listener
from gateway.channels.stream import StreamChannel
from gateway.channels.url import READ, ChannelUrl, Options, Scheme, text
from gateway.channels.usb import check as check_usb
from gateway.channels.usb import ids, serial_number
from gateway.channels.usb_ffs import FfsFunction
from gateway.channels.usb_function import FunctionStream
from gateway.errors import ConfigError, LinkDown
from gateway.limits import Limits

CONFIGFS: Final = Path("/sys/kernel/config")
CONTROLLERS: Final = Path("/sys/class/udc")
MOUNTS: Final = Path("/run/instrument-gateway")
MACHINE_ID: Final = Path("/etc/machine-id")
DEFAULT_ID: Final = "1209:0001"
NAME: Final = "rpyc"
_SERIAL: Final = re.compile(r"[\x21-\x7e]{1,126}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GadgetOptions(Options):
    udc: str = field(default="", metadata={READ: text})
    """The controller, of /sys/class/udc."""


SCHEME: Final = Scheme(
    options=GadgetOptions,
    takes=frozenset({"id", "path"}),
    no_client="that is the device's side; a client opens usb://VID:PID",
)


def check(url: ChannelUrl[GadgetOptions]) -> None:
    if url.host:
        check_usb(url)  # type: ignore[arg-type]  # the same parts
    if serial_number(url) and not _SERIAL.fullmatch(serial_number(url)):
        raise ConfigError(f"{url.shown!r}: a serial number has 1 to 126 printable ASCII characters and no space")
    if "/" in url.options.udc:
        raise ConfigError(f"{url.shown!r}: udc is a name of /sys/class/udc, without a /")


def listen(url: ChannelUrl[GadgetOptions], limits: Limits) -> Listener:
    """Be a USB device. Raises ConfigError where this machine can't."""
    gadget = Gadget(*ids(url.host or DEFAULT_ID), serial_number(url) or machine_serial(), url.options.udc)
    return GadgetListener(gadget, limits)


def machine_serial() -> str:
    """A serial number that is this machine's, and tells nothing else of it."""
    try:
        machine = MACHINE_ID.read_bytes().strip()
    except OSError:
        machine = os.uname().nodename.encode()
    return hashlib.blake2b(machine, digest_size=6, person=b"rpyc-usb").hexdigest().upper()


class GadgetListener(Listener):
    """Gives a channel for each session that the host begins."""

    def __init__(self, gadget: Gadget, limits: Limits) -> None:
        self._limits = limits
        self._streams: queue.SimpleQueue[FunctionStream] = queue.SimpleQueue()
        self._ready = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        self._lock = threading.Lock()
        self._closed = False
        self._gadget = gadget
        try:
            gadget.start(self._take)
        except BaseException:
            os.close(self._ready)
            raise

    def _take(self, stream: FunctionStream) -> None:
        with self._lock:
            if self._closed:
                stream.close()
                return
            self._streams.put(stream)
            os.eventfd_write(self._ready, 1)

    def accept(self) -> Channel | None:
        with self._lock:  # else the descriptor's number could be another one's by now
            if self._closed or self._streams.empty():
                return None
            os.eventfd_read(self._ready)
            return StreamChannel(self._streams.get(), self._limits)

    def fileno(self) -> int:
        if self._closed:
            raise LinkDown(f"{self.url} does not listen any more")
        return self._ready

    @property
    def url(self) -> str:
        return self._gadget.url

    @property
    def local_only(self) -> bool:
        return True

    def peer_host(self, channel: Channel) -> str:
        return "usb"

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._ready)
        self._gadget.stop()
        while not self._streams.empty():
            self._streams.get().close()

    @property
    def closed(self) -> bool:
        return self._closed


class Gadget:
    """A gadget in configfs with one function, and its FunctionFS."""

    def __init__(self, vid: int, pid: int, serial: str, udc: str) -> None:
        self.url = f"gadget://{vid:04x}:{pid:04x}/{serial}"
        self._facts = {"idVendor": f"0x{vid:04x}", "idProduct": f"0x{pid:04x}", "bcdUSB": "0x0200"}
        self._serial = serial
        self._udc = udc
        self._name = f"{NAME}-{os.getpid()}"
        self._folder = CONFIGFS / "usb_gadget" / self._name
        self._mount = MOUNTS / f"usb-{os.getpid()}"
        self._function: FfsFunction | None = None

    def start(self, on_stream: Any) -> None:
        """Make it, and plug it in. Raises ConfigError."""
        controller = self._controller()
        try:
            self._make()
            speed = (CONTROLLERS / controller / "current_speed").read_text
            self._function = FfsFunction(
                self._mount, on_stream, f"the USB host at {controller}", lambda: speed().strip()
            )
            self._function.start()
            (self._folder / "UDC").write_text(controller)
        except (OSError, subprocess.CalledProcessError) as error:
            self.stop()
            raise ConfigError(f"this machine can't be a USB device: {_reason(error, controller)}") from None

    def _controller(self) -> str:
        there = sorted(path.name for path in CONTROLLERS.iterdir()) if CONTROLLERS.is_dir() else []
        if not there:
            raise ConfigError(
                "this machine has no port that can be a USB device (/sys/class/udc is empty); on a Pi Zero or 4 add"
                " dtoverlay=dwc2 to /boot/firmware/config.txt and start it anew"
            )
        if self._udc and self._udc not in there:
            raise ConfigError(f"there is no controller {self._udc!r}; there are: {', '.join(there)}")
        if os.geteuid() != 0:
            raise ConfigError("to be a USB device takes root: sudo gateway host --usb")
        return self._udc or there[0]

    def _make(self) -> None:
        if not (CONFIGFS / "usb_gadget").is_dir():
            for command in (["modprobe", "libcomposite"], ["mount", "-t", "configfs", "none", str(CONFIGFS)]):
                with contextlib.suppress(OSError):
                    subprocess.run(command, check=False, capture_output=True)
        folder = self._folder
        folder.mkdir()
        for key, value in self._facts.items():
            (folder / key).write_text(value)
        texts = folder / "strings/0x409"
        texts.mkdir()
        for key, value in (
            ("serialnumber", self._serial),
            ("manufacturer", "instrument-gateway"),
            ("product", f"instrument host {os.uname().nodename}"[:126]),
        ):
            (texts / key).write_text(value)
        configuration = folder / "configs/c.1"
        configuration.mkdir()
        function = folder / "functions" / f"ffs.{self._name}"
        function.mkdir()
        (configuration / function.name).symlink_to(function)
        self._mount.mkdir(parents=True)
        subprocess.run(
            ["mount", "-t", "functionfs", self._name, str(self._mount)], check=True, capture_output=True, text=True
        )

    def stop(self) -> None:
        """Unplug it and take it away. What can't be undone is left."""
        with contextlib.suppress(OSError):
            (self._folder / "UDC").write_text("\n")
        if self._function is not None:
            self._function.close()
        subprocess.run(["umount", "-l", str(self._mount)], check=False, capture_output=True)
        links = self._folder / "configs/c.1"
        for remove, path in (
            (Path.rmdir, self._mount),
            (Path.unlink, links / f"ffs.{self._name}"),
            (Path.rmdir, links),
            (Path.rmdir, self._folder / "functions" / f"ffs.{self._name}"),
            (Path.rmdir, self._folder / "strings/0x409"),
            (Path.rmdir, self._folder),
        ):
            with contextlib.suppress(OSError):
                remove(path)


def _reason(error: Exception, controller: str) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"mounting FunctionFS failed: {str(error.stderr or '').strip()}; does the kernel have usb_f_fs?"
    if isinstance(error, OSError) and error.errno == errno.EBUSY:
        return f"another gadget is bound to {controller}; unbind that one"
    return f"{error}"
