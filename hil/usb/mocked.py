"""Carrier: umockdev, by which the real libusb sees a model as a device in a mocked /dev and /sys. No kernel takes part.

    python3 -m hil.usb.mocked SOCKET     runs with Debian's Python, which has umockdev's bindings; prints UMOCKDEV_DIR
    LD_PRELOAD=libumockdev-preload.so.0 UMOCKDEV_DIR=... any-python client.py

libusb asks again and again what is done, so this is where a transfer that can go on goes on. The device's end of
each session is handed on to the Unix socket, until the standard input ends.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading
from collections import deque
from typing import Any, Final

from gateway.channels import open_channel
from hil.usb.function import RpycFunction
from hil.usb.model import IN, Setup, Stall, UsbModel
from hil.usb.relay import relay

NODE: Final = "/dev/bus/usb/001/002"
# linux/usbdevice_fs.h, for 64 bits.
_SUBMIT, _REAP, _REAP_NOW, _DISCARD = 0x8038550A, 0x4008550C, 0x4008550D, 0x550B
_CAPABILITIES, _GET_DRIVER, _CLEAR_HALT = 0x8004551A, 0x41045508, 0x80045515
_CLAIM, _RELEASE, _SET_CONFIGURATION, _RESET = 0x8004550F, 0x80045510, 0x80045505, 0x5514
_ZERO_PACKET, _ANY_SIZE = 0x1, 0x4
_CONTROL: Final = 2
_STATUS, _LENGTH, _ACTUAL, _BUFFER = 4, 24, 28, 16
_TREE: Final = """\
P: /devices/pci0000:00/usb1/1-1
N: bus/usb/001/002={descriptors}
E: DEVNAME={node}
E: DEVTYPE=usb_device
E: SUBSYSTEM=usb
E: BUSNUM=001
E: DEVNUM=002
E: MAJOR=189
E: MINOR=1
A: busnum=1\\n
A: devnum=2\\n
A: speed=480\\n
A: bConfigurationValue=1\\n
A: idVendor={vid:04x}\\n
A: idProduct={pid:04x}\\n
H: descriptors={descriptors}
"""


class Usbfs:
    """Answers the ioctls of the device's file for a model."""

    def __init__(self, model: UsbModel) -> None:
        self._model = model
        self._waiting: list[tuple[Any, int, int, Any]] = []
        """Bulk transfers that wait: request block, endpoint, size, buffer."""
        self._done: deque[Any] = deque()

    def handle(self, _handler: Any, client: Any) -> bool:
        """One ioctl."""
        request, argument = client.get_request() & 0xFFFFFFFF, client.get_arg()
        if request == _CAPABILITIES:
            argument.resolve(0, 4).update(0, list(struct.pack("<I", _ZERO_PACKET | _ANY_SIZE)))
            client.complete(0, 0)
        elif request == _SUBMIT:
            self._submit(argument.resolve(0, 56))
            client.complete(0, 0)
        elif request in (_REAP, _REAP_NOW):
            self._go_on()
            if self._done:
                argument.resolve(0, 8).set_ptr(0, self._done.popleft())
                client.complete(0, 0)
            else:
                client.complete(-1, errno.EAGAIN)
        elif request == _DISCARD:
            for entry in self._waiting:
                self._finish(entry[0], -errno.ENOENT, 0)
            self._waiting.clear()
            client.complete(0, 0)
        elif request == _RELEASE:
            # The kernel ends what waits on the interface.
            for entry in self._waiting:
                self._finish(entry[0], -errno.ENOENT, 0)
            self._waiting.clear()
            client.complete(0, 0)
        elif request == _CLEAR_HALT:
            self._model.clear_halt(_bytes(argument.resolve(0, 4))[0])
            client.complete(0, 0)
        elif request in (_CLAIM, _SET_CONFIGURATION, _RESET):
            client.complete(0, 0)
        elif request == _GET_DRIVER:
            client.complete(-1, errno.ENODATA)
        else:
            client.complete(-1, errno.ENOTTY)
        return True

    def _submit(self, block: Any) -> None:
        head = _bytes(block)
        kind, endpoint = head[0], head[1]
        size = struct.unpack_from("<i", head, _LENGTH)[0]
        buffer: Any = block.resolve(_BUFFER, size) if size else None
        if kind != _CONTROL:
            self._waiting.append((block, endpoint, size, buffer))
            self._go_on()
            return
        data = _bytes(buffer)
        setup = Setup(*struct.unpack("<BBHHH", data[:8]))
        try:
            answer = self._model.control(setup, data[8:])
        except Stall:
            self._finish(block, -errno.EPIPE, 0)
            return
        if setup.kind & IN and answer:
            buffer.update(8, list(answer))
        self._finish(block, 0, len(answer) if setup.kind & IN else setup.length)

    def _go_on(self) -> None:
        for entry in list(self._waiting):
            block, endpoint, size, buffer = entry
            model = self._model
            if endpoint in model.halted:
                status, actual = -errno.EPIPE, 0
            elif endpoint & IN:
                with model.changed:
                    data = model.take(endpoint, size)
                if data is None:
                    continue
                if data:
                    buffer.update(0, list(data))
                status, actual = 0, len(data)
            elif model.has_room(endpoint):
                model.received(endpoint, _bytes(buffer) if size else b"")
                status, actual = 0, size
            else:
                continue
            self._waiting.remove(entry)
            self._finish(block, status, actual)

    def _finish(self, block: Any, status: int, actual: int) -> None:
        block.update(_STATUS, list(struct.pack("<i", status)))
        block.update(_ACTUAL, list(struct.pack("<i", actual)))
        self._done.append(block)


def _bytes(data: Any) -> bytes:
    return bytes(data.retrieve() if hasattr(data, "retrieve") else data.get_data())


_kept: list[Any] = []
"""The testbeds: one that nobody holds takes its folder with it."""


def _hand_on(function: RpycFunction, socket: str) -> None:
    while True:
        relay(function.channels.get(), open_channel(f"unix://{socket}"))


def mock(function: RpycFunction) -> str:
    """Plug `function` into a mocked /dev and /sys; UMOCKDEV_DIR of it. It stays there as long as the process."""
    import gi  # of Debian's Python, and of no other

    gi.require_version("UMockdev", "1.0")
    from gi.repository import GLib, UMockdev

    function.was_plugged()
    testbed = UMockdev.Testbed.new()
    descriptors = (function.device_descriptor() + function.configuration_descriptor()).hex().upper()
    testbed.add_from_string(_TREE.format(descriptors=descriptors, node=NODE, vid=function.vid, pid=function.pid))
    handler = UMockdev.IoctlBase()
    handler.connect("handle-ioctl", Usbfs(function).handle)
    ready = threading.Event()
    context = GLib.MainContext.new()

    def loop() -> None:
        context.push_thread_default()
        testbed.attach_ioctl(NODE, handler)
        ready.set()
        GLib.MainLoop.new(context, False).run()

    threading.Thread(target=loop, daemon=True).start()
    ready.wait()
    _kept.append(testbed)
    return str(testbed.get_root_dir())


def serve(function: RpycFunction) -> None:
    """Be the device's process: say where it is, and go on until the standard input ends."""
    sys.stdout.write(f"{mock(function)}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # the loop can't be ended from here


def main() -> None:
    """Serve one RPyC function, each of whose sessions is handed on to a socket."""
    function = RpycFunction("MOCK1")
    threading.Thread(target=_hand_on, args=(function, sys.argv[1]), daemon=True).start()
    serve(function)


if __name__ == "__main__":
    main()
