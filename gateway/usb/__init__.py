"""USB devices by libusb: which one is meant, and what its errors mean. For channels and for drivers."""
