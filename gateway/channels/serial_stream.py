"""SerialStream: the bytes of a port as a stream, for raw framing."""

from __future__ import annotations

from gateway.channels.fds import FdStream
from gateway.channels.ports import Port, drain, port_lost
from gateway.errors import LinkDown


class SerialStream(FdStream):
    """The bytes of a port, by a descriptor of its own. Closes `port` at its end if it `owns` it."""

    def __init__(self, port: Port, fd: int, *, owns: bool) -> None:
        super().__init__(fd, fd, name=port.name)
        self._port = port
        self._owns = owns

    @property
    def ends_with_eof(self) -> bool:
        return False

    def _ended(self) -> LinkDown:
        return port_lost(self._name)

    def _lost(self, error: OSError) -> LinkDown:
        return port_lost(self._name, error)

    def _release(self) -> None:
        if self._owns:
            drain(self._port)
        super()._release()
        if self._owns:
            self._port.close()
