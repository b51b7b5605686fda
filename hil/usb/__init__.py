"""USB devices in software, and the carriers that bring them to a host: for tests of whatever speaks USB.

model       what a device is: descriptors, control requests, endpoints, faults
function    the RPyC function: what `gateway host --usb` is, without hardware
acm         a serial port (CDC-ACM) with modem lines and line errors
tmc         an instrument (USBTMC-USB488)
i2c         an I2C adapter (i2c-tiny-usb), with targets on its bus
in_process  carrier: a backend of pyusb
mocked      carrier: umockdev, so that the real libusb sees the device
redir       carrier: QEMU's usb-redir, so that a guest's kernel sees the device
usbip       carrier: USB/IP, into this machine's own kernel
pairs       pairs of channels for the conformance suite
"""
