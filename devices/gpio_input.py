"""A GPIO line as an input: a door switch, a flow monitor, the contact of an emergency stop. Through libgpiod 2.

Needs the extra `gpio`. The gateway's user must be allowed to open the chip: on a Raspberry Pi the group is gpio. The
driver was held to libgpiod's own errors only: the machine it was written on has no GPIO.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from devices.base import Device, DeviceOptions
from gateway.errors import ConfigError, DeviceUnavailable
from gateway.service.exposure import exposed

CONSUMER: Final = "instrument-gateway"


class GpioInputOptions(DeviceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `gpio-input`."""

    chip: Annotated[str, Meta(min_length=1, max_length=4096)] = "/dev/gpiochip0"
    line: Annotated[int, Meta(ge=0, le=1023)]
    """The line's offset on the chip: `gpioinfo` lists them."""
    active_low: bool = False
    """Whether the line counts as active while its level is low."""
    bias: Literal["as-is", "disabled", "pull-up", "pull-down"] = "as-is"


class GpioInput(Device):
    """One GPIO line, read when it is asked for. It drives nothing, so it has no safe state."""

    Options = GpioInputOptions
    options: GpioInputOptions

    def __init__(self, name: str, options: GpioInputOptions) -> None:
        super().__init__(name, options)
        self._request: Any = None

    @property
    @exposed(access="read")
    def active(self) -> bool:
        """Whether the line is active. Raises DeviceUnavailable when the chip is gone."""
        from gpiod.line import Value

        with self._reaching():
            try:
                return bool(self._request.get_value(self.options.line) == Value.ACTIVE)
            except (OSError, RuntimeError) as gone:
                raise DeviceUnavailable(f"{self.name}: line {self.options.line} is gone: {gone}") from gone

    @exposed(access="read")
    def identify(self) -> str:
        """`GPIO line 17 of /dev/gpiochip0`."""
        return f"GPIO line {self.options.line} of {self.options.chip}"

    @exposed(access="control")
    def make_safe(self) -> None:
        """Nothing to be done: an input drives nothing. Raises DeviceUnavailable when the chip is gone."""
        self.active  # noqa: B018 - reading it is the check

    def _connect(self) -> None:
        try:
            import gpiod
            from gpiod.line import Bias, Direction
        except ImportError as missing:
            raise ConfigError(
                f"{self.name}: gpio-input needs libgpiod's Python binding; install instrument-gateway[gpio]"
            ) from missing
        options = self.options
        settings = gpiod.LineSettings(
            direction=Direction.INPUT,
            active_low=options.active_low,
            bias=getattr(Bias, options.bias.upper().replace("-", "_")),
        )
        try:
            self._request = gpiod.request_lines(options.chip, consumer=CONSUMER, config={options.line: settings})
        except (OSError, ValueError) as refused:
            raise DeviceUnavailable(
                f"{self.name}: line {options.line} of {options.chip} can't be used ({refused}); see gpioinfo and"
                f" gpiodetect, and whether the gateway's user is in the group that owns {options.chip}",
                device=self.name,
            ) from refused

    def _disconnect(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.release()
