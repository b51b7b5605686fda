"""What carries the bytes: the USB line of a board, a UART, or a tty where MicroPython runs on a PC."""

import select
import sys


class Stream:
    """Bytes of a stream that can be polled."""

    def __init__(self, source, sink):
        self._source, self._sink = source, sink
        self._poll = select.poll()
        self._poll.register(source, select.POLLIN)

    def read(self, wait_ms):
        """What has come within `wait_ms` milliseconds; empty if nothing has."""
        data = bytearray()
        while len(data) < 256 and self._poll.poll(0 if data else wait_ms):
            byte = self._source.read(1)
            if not byte:
                break
            data.extend(byte)
        return data

    def write(self, data):
        """Write all of it, or say how much of it was taken."""
        return self._sink.write(data)


def stdio():
    """The line of the USB console. From now on Ctrl-C is a byte like any other."""
    import micropython

    micropython.kbd_intr(-1)
    return Stream(sys.stdin.buffer, sys.stdout.buffer)


def uart(number, baudrate=115200, **settings):
    """A UART of the board, with the settings of `machine.UART`."""
    import machine

    settings.setdefault("rxbuf", 512)
    port = machine.UART(number, baudrate, **settings)
    return Stream(port, port)


def tty(path):
    """A tty of a PC, raw."""
    import termios

    port = open(path, "r+b", buffering=0)
    termios.setraw(port.fileno())
    return Stream(port, port)
