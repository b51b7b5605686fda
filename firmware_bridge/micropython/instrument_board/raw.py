"""Plain RPyC frames, for peers that have no link: length, 4 bytes | compressed, 1 byte | data | newline."""

QUIET_MS = 100


class Raw:
    """The same face as a Link. It says nothing unasked, and knows of no end."""

    def __init__(self, message=1024):
        self.message = message
        self.coming = bytearray()
        self.came_at = 0
        self.skips = False
        self.inbox = []
        self.out = bytearray()
        self.over = self.open = False
        self.heard_at = None

    def receive(self, data, now):
        """Take bytes from the line. What is no frame is skipped until the line was quiet for a moment."""
        if now - self.came_at >= QUIET_MS:
            self.coming, self.skips = bytearray(), False
        self.came_at = now
        if self.skips:
            return
        coming = self.coming
        coming.extend(data)
        while len(coming) >= 5:
            size = int.from_bytes(bytes(coming[:4]), "big")
            if coming[4] or size > self.message:
                self.skips = True
                return
            if len(coming) < size + 6:
                return
            if coming[size + 5] != 10:
                self.skips = True
                return
            self.heard_at = now
            self.inbox.append(bytes(coming[5 : size + 5]))
            coming = self.coming = coming[size + 6 :]

    def send(self, message):
        """Send a message."""
        self.out.extend(len(message).to_bytes(4, "big") + b"\x00" + message + b"\n")

    def output(self, now):
        """The bytes to be written now."""
        out, self.out = self.out, bytearray()
        return out
