"""Run by MicroPython: a `machine` that stands for a chip which is not here, and all the parts on it, made safe."""

import sys

done = []


class Pin:
    OUT, IN, PULL_UP, PULL_DOWN = 1, 0, 2, 3

    def __init__(self, number, mode=None, pull=None, value=None):
        self.number, self.level = number, value or 0
        done.append(("pin", number, mode, pull, value))

    def value(self, level=None):
        if level is None:
            return self.level
        if self.number == 13:
            raise OSError("stuck")
        self.level = level
        done.append(("level", self.number, level))


class PWM:
    def __init__(self, pin):
        self.pin = pin

    def freq(self, hertz):
        done.append(("freq", self.pin.number, hertz))

    def duty_u16(self, duty):
        done.append(("duty", self.pin.number, duty))


class ADC:
    def __init__(self, pin):
        self.pin = pin

    def read_u16(self):
        return 65535


class I2C:
    def __init__(self, bus, **settings):
        done.append(("i2c", bus, settings))

    def readfrom(self, address, count):
        return bytes([address]) * count

    def writeto(self, address, data):
        return len(data)

    def scan(self):
        return [0x48, 0x50]


class UART:
    def __init__(self, number, baudrate, **settings):
        done.append(("uart", number, baudrate))

    def write(self, data):
        return len(data)

    def read(self, most):
        return None


class Machine:
    """What `import machine` gives from now on."""


for each in (Pin, PWM, ADC, I2C, UART):
    setattr(Machine, each.__name__, each)
sys.modules["machine"] = Machine

from instrument_board import Board  # noqa: E402
from instrument_board.brine import dump, load  # noqa: E402

board = Board(safe_state="all off")
board.output("lamp", 1)
board.output("valve", 13, safe=1)
board.output("relay", 2, safe=1)
board.input("door", 3, pull="up")
board.pwm("heater", 4, 500)
board.adc("voltage", 26)
board.i2c("bus", 0, freq=400000)
board.serial("console", 1, 9600)

SEQ = 7


def ask(*request):
    out = bytearray(b"\x01")
    dump((SEQ, request), out)
    answer = board._requests.serve(bytes(out))
    return answer[0], load(answer, 1)[1]


def call(name, *args):
    return ask(8, (2, ((3, 2), (1, name), (1, args), (1, ()))))


def get(name):
    return ask(4, (2, ((3, 2), (1, name))))


def put(name, value):
    return ask(6, (2, ((3, 2), (1, name), (1, value))))


assert put("lamp", 1) == (2, (1, None)), put("lamp", 1)
assert get("lamp") == (2, (1, 1))
assert put("lamp", 2)[1][0] == ("builtins", "ValueError")
assert put("door", 1)[1][0] == ("builtins", "AttributeError")
assert put("heater", 0.5) == (2, (1, None))
assert get("heater") == (2, (1, 0.5))
assert ("duty", 4, 32768) in done
assert abs(get("voltage")[1][1] - 3.3) < 1e-6
assert call("bus_read", 0x48, 3) == (2, (1, b"HHH"))
assert call("bus_read", 0x7F, 3)[1][0] == ("builtins", "ValueError")
assert call("bus_scan") == (2, (1, (0x48, 0x50)))
assert call("bus_write", 0x48, b"ab") == (2, (1, 2))
assert call("console_write", b"abc") == (2, (1, 3))
assert call("console_read", 10) == (2, (1, b""))
del done[:]
good = board.make_safe()
assert not good, "the valve is stuck"
assert done == [("level", 1, 0), ("level", 2, 1), ("duty", 4, 0)], done
assert get("lamp") == (2, (1, 0))
print("safe")
