"""USB instruments: the kernel's usbtmc in the way of libusb, and the right to open the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.doctor.findings import Finding, ok, problem, warning
from gateway.doctor.subject import Subject
from gateway.doctor.system import System
from gateway.doctor.usb_tree import Interface, UsbDevice, ports_of, usb_devices
from gateway.systemd.udev import usb_rule
from gateway.systemd.unit import NAME

OWN_RULES: Final = "/etc/udev/rules.d/70-instruments.rules"


def usbtmc(system: System, subject: Subject) -> Iterator[Finding]:
    """A device that the kernel's usbtmc has can't be claimed by libusb at the same time."""
    bound = [
        (device, interface)
        for device in usb_devices(system)
        for interface in device.interfaces
        if interface.driver == "usbtmc"
    ]
    through_kernel = any(place.path.startswith("/dev/usbtmc") for place in subject.places)
    for device, interface in bound:
        if any(device.is_meant_by(place) and not ports_of(system, place) for place in subject.places):
            yield problem(f"the kernel's usbtmc has {device}, which the config wants by libusb", *_release(interface))
        elif not through_kernel:
            yield warning(
                f'the kernel\'s usbtmc has {device}: a driver that uses libusb meets "Resource busy"',
                *_release(interface),
            )
        else:
            yield ok(f"the kernel's usbtmc has {device}, as the config wants it")
    if not bound:
        yield ok("the kernel's usbtmc holds no device")


def usb_permission(system: System, subject: Subject) -> Iterator[Finding]:
    """Whether the gateway's user may open each instrument, and each device that the config means."""
    wanted = [device for device in usb_devices(system) if device.is_instrument or _is_libusb(system, subject, device)]
    for device in wanted:
        if not device.node or not system.exists(device.node):
            yield warning(f"{device} has no device file {device.node}", "sudo udevadm trigger --subsystem-match=usb")
        elif system.may_use(subject.user, device.node):
            yield ok(f"{device}: {subject.user.name} can open it")
        else:
            group = NAME if NAME in system.accounts().groups else "plugdev"
            rule = usb_rule(device.vid, device.pid, group=group)
            yield problem(
                f"{device}: the user {subject.user.name} can't open {device.node}",
                f"echo '{rule}' | sudo tee -a {OWN_RULES}",
                "sudo udevadm control --reload && sudo udevadm trigger --action=change --subsystem-match=usb",
                *(
                    ()
                    if subject.is_service
                    else (f"sudo usermod -aG {group} {subject.user.name}    # then log in again",)
                ),
            )
    if not wanted:
        yield ok("no USB instrument is plugged in")


def _is_libusb(system: System, subject: Subject, device: UsbDevice) -> bool:
    return any(device.is_meant_by(place) and not ports_of(system, place) for place in subject.places)


def _release(interface: Interface) -> tuple[str, ...]:
    return (
        f"echo {interface.name} | sudo tee /sys/bus/usb/drivers/usbtmc/unbind",
        f"echo 'blacklist usbtmc' | sudo tee /etc/modprobe.d/{NAME}.conf    # from the next start on",
    )
