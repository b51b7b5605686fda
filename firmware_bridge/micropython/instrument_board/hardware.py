"""Pins, duty cycles, voltages and buses of `machine`, each with the state that is safe."""


def _machine(what):
    try:
        import machine
    except ImportError:
        machine = None
    part = getattr(machine, what, None)
    if part is None:
        raise RuntimeError("this MicroPython has no machine.%s" % what)
    return part


class Output:
    """A pin that drives."""

    def __init__(self, pin, safe):
        kind = _machine("Pin")
        self.safe = 1 if safe else 0
        self.pin = kind(pin, kind.OUT, value=self.safe)

    def show(self, board, name):
        doc = "A pin; %d when nobody is there." % self.safe
        board.property(name, self.pin.value, int, self.pin.value, 0, 1, "", doc)

    def make_safe(self):
        self.pin.value(self.safe)


class Input:
    """A pin that is read."""

    make_safe = None

    def __init__(self, pin, pull):
        kind = _machine("Pin")
        pulls = {None: None, "up": getattr(kind, "PULL_UP", None), "down": getattr(kind, "PULL_DOWN", None)}
        self.pin = kind(pin, kind.IN, pulls[pull])

    def show(self, board, name):
        board.property(name, self.pin.value, int, doc="A pin.")


class Pwm:
    """A pin that is on for a part of the time."""

    def __init__(self, pin, frequency, safe):
        self.pwm = _machine("PWM")(_machine("Pin")(pin))
        self.pwm.freq(frequency)
        self.safe = safe
        self.make_safe()

    def show(self, board, name):
        doc = "A duty cycle; %s when nobody is there." % self.safe
        board.property(name, lambda: self.duty, float, self.set, 0.0, 1.0, "", doc)

    def set(self, duty):
        self.pwm.duty_u16(int(duty * 65535 + 0.5))
        self.duty = duty

    def make_safe(self):
        self.set(float(self.safe))


class Adc:
    """A voltage that is measured."""

    make_safe = None

    def __init__(self, pin, full_scale, unit):
        self.adc, self.full_scale, self.unit = _machine("ADC")(pin), full_scale, unit

    def show(self, board, name):
        board.property(name, self.read, float, unit=self.unit, doc="0 to %s." % self.full_scale)

    def read(self):
        return self.adc.read_u16() / 65535 * self.full_scale


class I2cBus:
    """An I2C bus. It is for its user to know what is safe for the chips on it."""

    make_safe = None

    def __init__(self, bus, settings):
        self.bus = _machine("I2C")(bus, **settings)

    def show(self, board, name):
        address = ("address", int, 0x08, 0x77)
        board.expose(
            address, ("count", int, 1, 256), result=bytes, access="read", name=name + "_read", doc="Read bytes."
        )(lambda chip, count: bytes(self.bus.readfrom(chip, count)))
        board.expose(
            address, ("data", bytes), result=int, name=name + "_write", doc="Write bytes; how many were taken."
        )(lambda chip, data: self.bus.writeto(chip, data))
        board.expose(result=tuple, access="read", name=name + "_scan", doc="The addresses that answer.")(
            lambda: tuple(self.bus.scan())
        )


class Serial:
    """A UART."""

    make_safe = None

    def __init__(self, number, baudrate, settings):
        self.uart = _machine("UART")(number, baudrate, **settings)

    def show(self, board, name):
        board.expose(("data", bytes), result=int, name=name + "_write", doc="Write bytes; how many were taken.")(
            lambda data: self.uart.write(data) or 0
        )
        board.expose(("most", int, 1, 1024), result=bytes, access="read", name=name + "_read", doc="What has come.")(
            lambda most: self.uart.read(most) or b""
        )
