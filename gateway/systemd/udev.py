"""The udev rules: who may open instruments and adapters, and that ModemManager keeps its hands off them."""

from __future__ import annotations

from typing import Final

from gateway.systemd.unit import MADE_BY, NAME

RULES_FILE: Final = f"/etc/udev/rules.d/70-{NAME}.rules"

ADAPTERS: Final = {
    "0403": "FTDI",
    "04b4": "Cypress",
    "04d8": "Microchip",
    "067b": "Prolific",
    "0483": "STMicroelectronics",
    "0d28": "Arm DAPLink",
    "10c4": "Silicon Labs",
    "1366": "SEGGER",
    "16c0": "Teensy and others",
    "1a86": "WCH",
    "1fc9": "NXP",
    "2341": "Arduino",
    "239a": "Adafruit",
    "2a03": "Arduino",
    "2e8a": "Raspberry Pi",
    "303a": "Espressif",
}
"""USB vendors whose serial ports are adapters and boards, and not modems."""

_TEXT: Final = """\
{made_by}

ACTION=="remove", GOTO="{label}_end"

# USB-TMC instruments (class fe, subclass 03), as the kernel's usbtmc shows them and as libusb opens them.
SUBSYSTEM=="usbmisc", KERNEL=="usbtmc[0-9]*", GROUP="{group}", MODE="0660"
SUBSYSTEM=="usb", ENV{{DEVTYPE}}=="usb_device", ENV{{ID_USB_INTERFACES}}=="*:fe03*", GROUP="{group}", MODE="0660"

# Serial ports on USB.
SUBSYSTEM=="tty", SUBSYSTEMS=="usb", GROUP="{serial_group}", MODE="0660"

# ModemManager sends AT commands to every new serial port, which an instrument may take for its own.
SUBSYSTEM!="usb", GOTO="{label}_end"
ENV{{DEVTYPE}}!="usb_device", GOTO="{label}_end"
ENV{{ID_USB_INTERFACES}}=="*:fe03*", ENV{{ID_MM_DEVICE_IGNORE}}="1"
{vendors}

LABEL="{label}_end"
"""


def rules(*, group: str = NAME, serial_group: str = "dialout") -> str:
    """The rules file: instruments belong to `group`, serial ports to `serial_group`."""
    vendors = "\n".join(
        f'# {name}\nATTR{{idVendor}}=="{vid}", ENV{{ID_MM_DEVICE_IGNORE}}="1"' for vid, name in ADAPTERS.items()
    )
    return _TEXT.format(
        made_by=MADE_BY, label=NAME.replace("-", "_"), group=group, serial_group=serial_group, vendors=vendors
    )


def usb_rule(vid: str, pid: str, *, group: str = NAME) -> str:
    """The rule that opens one USB device to `group`; `vid` and `pid` are four hex digits each."""
    return (
        f'SUBSYSTEM=="usb", ENV{{DEVTYPE}}=="usb_device", ATTR{{idVendor}}=="{vid}", ATTR{{idProduct}}=="{pid}", '
        f'GROUP="{group}", MODE="0660"'
    )


def user_rule(vid: str, pid: str) -> str:
    """The rule that opens one USB device to the group plugdev, and to whoever sits at the machine."""
    return f'{usb_rule(vid, pid, group="plugdev")}, TAG+="uaccess"'


def modem_rule(vid: str, pid: str) -> str:
    """The rule that keeps ModemManager from one USB device."""
    return (
        f'SUBSYSTEM=="usb", ENV{{DEVTYPE}}=="usb_device", ATTR{{idVendor}}=="{vid}", ATTR{{idProduct}}=="{pid}", '
        'ENV{ID_MM_DEVICE_IGNORE}="1"'
    )
