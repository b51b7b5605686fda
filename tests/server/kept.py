"""A gateway with devices that remember all that was done to them, and clients in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Condition, Event
from typing import Any, Final

import gateway
from devices.base import Device, DeviceOptions
from gateway.channels.base import Channel
from gateway.config.common import DeviceCommon
from gateway.errors import DeviceUnavailable
from gateway.identity.principal import Kind, Principal, Role
from gateway.limits import Limits
from gateway.server.admission import Admission
from gateway.server.audit import AuditLog
from gateway.server.reception import Reception
from gateway.server.registry import GatewayService
from gateway.service import permit
from gateway.service.exposure import Exposable, exposed

HERE: Final = Path(__file__).resolve().parent
PATIENCE_S: Final = 20.0
"""What other threads and processes do is waited for that long; all of it takes well below a second."""


def until(true: Callable[[], Any], what: str = "") -> Any:
    """Wait for what other threads and processes do, and give what it gives."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := true()):
        assert time.monotonic() < deadline, what or "this never came about"
        time.sleep(0.002)
    return found


class Terminal(Exposable):
    """A part of a box that clients get hold of."""

    def __init__(self, box: Box) -> None:
        self._box = box

    @exposed(access="read")
    def look(self) -> float:
        return self._box.note("look", 0.0)

    @exposed
    def switch(self) -> None:
        self._box.note("switch", None)


class Box(Device):
    """A device without hardware. `done` has all that was done to it: `(time, what, fencing number)`."""

    safe_state = "off, 0 V"

    def __init__(self, name: str = "box") -> None:
        super().__init__(name, DeviceOptions())
        self.done: list[tuple[float, str, int]] = []
        self.inside = 0
        self.most_inside = 0
        self.volts = 0.0
        self.on = False
        self.heeds = True
        """Whether it can be interrupted."""
        self.obeys = True
        """Whether what is set is so afterwards."""
        self.fails = False
        """Whether making it safe fails."""
        self.entered = Event()
        """A call that takes long is in it."""
        self.release = Event()
        """Ends what can't be interrupted."""
        self.opened = 0
        self._broken: Exception | None = None
        self._changed = Condition()
        self.open()

    def note(self, what: str, value: Any) -> Any:
        """Where a command would leave for the hardware."""
        permit.check()
        visit = permit.current()
        self.done.append((time.monotonic(), what, getattr(visit, "number", 0)))
        return value

    def what(self) -> list[str]:
        return [what for _, what, _ in self.done]

    def interrupt(self, error: Exception) -> None:
        if self.heeds:
            with self._changed:
                self._broken = error
                self._changed.notify_all()

    def resume(self) -> None:
        self._broken = None

    def _wait(self, seconds: float) -> None:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.entered.set()
        try:
            with self._changed:
                if not self.heeds:
                    self._changed.wait_for(self.release.is_set, seconds)
                elif self._changed.wait_for(lambda: self._broken is not None, seconds) and self._broken is not None:
                    raise self._broken
        finally:
            self.inside -= 1

    def let_go_of_it(self) -> None:
        """Have what hangs come back."""
        with self._changed:
            self.release.set()
            self._changed.notify_all()

    @exposed(access="read")
    def identify(self) -> str:
        return f"box {self.name}"

    @exposed
    def make_safe(self) -> None:
        self.most_inside = max(self.most_inside, self.inside + 1)
        if self.fails:
            raise DeviceUnavailable(f"{self.name} does not answer", device=self.name)
        self.note("safe", None)
        self.volts, self.on = 0.0, False

    @property
    @exposed(unit="V")
    def level(self) -> float:
        return self.note("get", self.volts)

    @level.setter
    def level(self, volts: float) -> None:
        self.set_level(volts)

    @exposed
    def set_level(self, volts: float) -> None:
        self.note(f"set {float(volts):g}", None)
        if self.obeys:
            self.volts = float(volts)

    @property
    @exposed
    def output(self) -> bool:
        return self.on

    @output.setter
    def output(self, on: bool) -> None:
        self.note(f"output {on}", None)
        if self.obeys:
            self.on = on

    @exposed
    def ramp(self, start: float, stop: float = 1.0) -> None:
        self.note(f"ramp {start:g} {stop:g}", None)

    @exposed(access="read")
    def count(self) -> int:
        return self.note("count", len(self.done))

    @exposed(access="read")
    def listen(self, seconds: float) -> None:
        """A read that takes long."""
        self.note("listen", None)
        self._wait(seconds)

    @exposed
    def work(self, seconds: float) -> None:
        """Control that takes long, and sends once more in the end."""
        self.note("work", None)
        self._wait(seconds)
        self.note("worked", None)

    @exposed(access="admin")
    def calibrate(self) -> None:
        self.note("calibrate", None)

    @exposed(access="read")
    def terminal(self) -> Terminal:
        return Terminal(self)

    @exposed
    def steps(self, count: int) -> Iterator[int]:
        for step in range(count):
            yield self.note("step", step)

    @exposed(access="read")
    def samples(self, count: int) -> Iterator[int]:
        for sample in range(count):
            yield self.note("sample", sample)

    def _connect(self) -> None:
        if self.fails:
            raise DeviceUnavailable(f"{self.name} is not plugged in", device=self.name)
        self.opened += 1

    def _disconnect(self) -> None:
        pass


class Doorman(Admission):
    """Takes everybody for the same principal, whose role may be changed between two connections."""

    def __init__(self) -> None:
        super().__init__()
        self.principal: Principal | None = None

    def enter(self, conn: gateway.Connection, channel: Channel) -> Principal:
        known = super().enter(conn, channel)
        return self.principal or known

    def take_for(self, name: str, role: Role, **roles: Role) -> None:
        self.principal = Principal(name=name, kind=Kind.CERTIFICATE, default=role, roles=roles)


class Bench:
    """A gateway on the loopback interface that serves boxes, or other devices, and connections to it."""

    def __init__(
        self,
        stack: ExitStack,
        *devices: Any,
        audit: AuditLog | None = None,
        limits: Limits | None = None,
        **commons: DeviceCommon,
    ) -> None:
        self._stack = stack
        self.boxes = {device.name: device for device in devices or (Box("box1"), Box("box2"))}
        self.service = GatewayService(self.boxes, limits, commons=commons)
        self.keeper = self.service.keeper
        self.doorman = Doorman()
        self.audit = audit
        if audit is not None:
            self.keeper.write_down(audit)
        reception = Reception(self.keeper, self.doorman, audit)
        self.server = gateway.Server(
            self.service, "tcp://127.0.0.1:0", strict=True, introduce=reception.introduce, limits=limits
        )
        self.server.start()
        self.keeper.start()
        stack.callback(self.close)

    @property
    def url(self) -> str:
        return self.server.url

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self.__dict__.get("boxes", {}):
            raise AttributeError(name)
        return self.boxes[name]

    def close(self) -> None:
        for box in self.boxes.values():
            if isinstance(box, Box):
                box.let_go_of_it()
        self.server.close()
        self.keeper.close()

    def connect(self, **config: Any) -> gateway.Connection:
        conn = gateway.connect(self.url, config={"sync_request_timeout": PATIENCE_S, **config})
        self._stack.callback(conn.close)
        return conn

    def client(self, kind: str, *words: str) -> Client:
        client = Client(kind, self.url, *words)
        self._stack.callback(client.end)
        return client

    def until_safe(self, name: str) -> None:
        """Wait until the device is safe and nobody is in its lane."""
        station = self.keeper.stations[name]
        until(
            lambda: station.waits is None and station.lane.owner is None and not station.active, f"{name} is not safe"
        )


class Client:
    """A client in a process of its own: `kind` names a function below, `words` are its arguments."""

    def __init__(self, kind: str, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.server.kept", kind, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE.parents[1],
        )

    def hear(self) -> Any:
        """What it says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the client ended early"
        return json.loads(line)

    def say(self, text: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.wait()


# -- the clients ------------------------------------------------------------------------------------------------------


def hold(url: str, *names: str) -> None:
    """Lease devices, control each once, say the number, and stay."""
    with gateway.connect(url) as conn, conn.lease(*names) as bench:
        for name in names:
            bench[name].set_level(5.0)
        print(json.dumps(bench.number), flush=True)
        sys.stdin.read()


def supply(url: str, name: str) -> None:
    """Lease a power supply, switch it on, and stay."""
    with gateway.connect(url) as conn, conn.lease(name) as bench:
        bench[name].set_voltage(5.0)
        bench[name].set_output(True)
        print(json.dumps(bench.number), flush=True)
        sys.stdin.read()


def stock(url: str, name: str) -> None:
    """A client with stock rpyc."""
    import rpyc

    told: list[str] = []
    out: dict[str, Any] = {}
    conn = rpyc.connect("127.0.0.1", int(url.rpartition(":")[2]))
    serving = rpyc.BgServingThread(conn)
    device = conn.root.device(name)
    for attempt in ("set_level", "make_safe"):
        try:
            getattr(device, attempt)(*([1.0] if attempt == "set_level" else []))
            out[attempt] = "done"
        except Exception as error:
            out[attempt] = [type(error).__name__, getattr(error, "code", None)]
    handle = conn.root.lease(name, tell=lambda what, facts: told.append(what))
    device.set_level(3.0)
    device.level = 4.0
    status = handle.status()
    out["number"], out["state"] = status["number"], status["state"]
    out["shown"] = conn.root.lease_status(name)["holder"]["program"]
    print(json.dumps(out), flush=True)
    sys.stdin.readline()  # meanwhile it is revoked
    deadline = time.monotonic() + PATIENCE_S
    while "ended" not in told and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        device.set_level(5.0)
    except Exception as error:
        lost = [type(error).__name__, getattr(error, "code", None), getattr(error, "by", None)]
    print(json.dumps({"told": told, "lost": lost, "version": rpyc.__version__}), flush=True)
    serving.stop()
    conn.close()


if __name__ == "__main__":
    {"hold": hold, "supply": supply, "stock": stock}[sys.argv[1]](*sys.argv[2:])
