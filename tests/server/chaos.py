"""Kills, freezes, unplugs, resets, revocations and hand-overs at random, and then: what did the devices do?

    python -m tests.server.chaos --runs 1000 [--seed N] [--json]

    nursery ── forks ──> clients ── proxy ──> gateway ── lane ──> devices, each with a log of its own:
                          lease, command       leases, safe states     a line for each command, with the fencing number

A run is one blow: a client is killed or stopped for a while, its connection is reset or carries nothing for a while, a
lease is revoked, the emergency stop is pressed, the gateway itself is stopped for a moment or killed and started anew.
The clients lease one or two devices at a time, send commands that each carry a ticket of their own, hand over when they
are asked, and go on sending for a while when they were told that their lease is lost. Afterwards the devices' own logs
must show that

- no command was executed twice, and none that its sender was told had not been done;
- none came under a lease that was over (the fencing numbers of a device never go back, and after a lease's safe state
  nothing of that lease follows);
- whoever lost a device, it was made safe before somebody else's first command: unless it was handed over as it was;
- every command that the audit log calls done is in the device's log, and every one in the device's log is in the audit
  log, save those that were on their way when the gateway was killed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import gateway
from devices.base import Device, DeviceOptions
from gateway import app, config
from gateway.errors import GatewayError, LeaseConflict, LeaseLost
from gateway.server.audit import AuditLog
from gateway.server.leasing import Ended, Event, Granted
from gateway.service import permit
from gateway.service.exposure import exposed

ROOT: Final = Path(__file__).resolve().parents[2]
NAMES: Final = ("counter1", "counter2", "counter3")
CLIENTS: Final = 5
PATIENCE_S: Final = 60.0
SAFE: Final = "safe"
NOT_DONE: Final = frozenset(
    {"lease-lost", "not-leased", "lease-conflict", "busy", "device-unavailable", "emergency-stop", "access-denied"}
)
"""Codes that promise that nothing was executed."""


class CounterOptions(DeviceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    log: str
    """The file to which the device writes what it does."""


class Tally(Device):
    """A device that writes down what it is told, as an instrument would do it."""

    Options = CounterOptions
    safe_state = "at rest"
    options: CounterOptions

    def __init__(self, name: str, options: CounterOptions) -> None:
        super().__init__(name, options)
        self._broken: Exception | None = None
        self._wakened = threading.Event()
        self._random = random.Random(name)

    def interrupt(self, error: Exception) -> None:
        self._broken = error
        self._wakened.set()

    def resume(self) -> None:
        self._broken = None
        self._wakened.clear()

    @exposed(access="read")
    def identify(self) -> str:
        return self.name

    @exposed
    def make_safe(self) -> None:
        self._write(0, SAFE)

    @exposed
    def step(self, ticket: str) -> None:
        """One command, after a moment in which anything may happen."""
        self._wakened.wait(self._random.choice((0.0, 0.001, 0.01)))
        if self._broken is not None:
            raise self._broken
        permit.check()
        self._write(getattr(permit.current(), "number", -1), ticket)

    def _write(self, number: int, what: str) -> None:
        os.write(self._file, f"{time.monotonic():.6f} {number} {what}\n".encode())

    def _connect(self) -> None:
        self._file = os.open(self.options.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _disconnect(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._file)


# -- the processes ----------------------------------------------------------------------------------------------------


def serve(folder: str, port: str) -> None:
    """Be the gateway."""
    place = Path(folder)
    events = os.open(place / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def told(event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, Granted):
            lease = event.lease
            line = {"t": now, "what": "granted", "number": lease.number, "inherited": event.inherited}
        elif isinstance(event, Ended):
            lease = event.lease
            line = {"t": now, "what": "ended", "number": lease.number, "cause": event.cause.value, "safe": event.safe}
        else:
            return
        os.write(events, (json.dumps({**line, "devices": lease.devices}) + "\n").encode())

    tables = {name: {"driver": "tests.server.chaos:Tally", "log": str(place / name)} for name in NAMES}
    settings = config.from_tables(
        tables, origin="chaos", gateway={"listen": f"tcp://127.0.0.1:{port}", "advertise": False}
    )
    running = app.build(settings, AuditLog(place / "audit.jsonl"))
    running.keeper.custody._told = told
    with running:
        print("ready", flush=True)
        sys.stdin.read()


def nurse(folder: str) -> None:
    """Fork a client for each line `PORT SEED` of the standard input, and say its pid."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while line := os.read(0, 64):
        port, seed = line.split()
        pid = os.fork()
        if pid == 0:
            os.close(0)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                Client(f"tcp://127.0.0.1:{int(port)}", Path(folder), int(seed)).run()
            except BaseException:
                (Path(folder) / f"died-{os.getpid()}").write_text(traceback.format_exc())
            finally:
                os._exit(0)
        os.write(1, f"{pid}\n".encode())


class Client:
    """Leases devices and sends commands, for ever. Each has a ticket; its fate is written down before and after."""

    def __init__(self, url: str, folder: Path, seed: int) -> None:
        self._url = url
        self._random = random.Random(seed)
        self._tickets = count(1)
        self._file = os.open(folder / f"client-{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def run(self) -> None:
        while True:
            try:
                with gateway.connect(self._url, config={"sync_request_timeout": 10}, timeout=5) as conn:
                    while not conn.closed:
                        self._turn(conn)
            except (GatewayError, OSError):
                time.sleep(0.05)

    def _turn(self, conn: gateway.Connection) -> None:
        names = self._random.sample(NAMES, self._random.choice((1, 1, 2)))
        ask = self._random.random() < 0.5
        try:
            if ask:
                self._ask(conn, names)
            else:
                with conn.lease(*names, wait=5.0, soft=3.0, on_ask=self._answer):
                    self._work(conn, names)
        except LeaseConflict:
            time.sleep(0.01)

    def _answer(self, by: str) -> bool:
        return self._random.random() < 0.8

    def _ask(self, conn: gateway.Connection, names: list[str]) -> None:
        """Wait for the devices, and ask who has them to hand over."""
        handle = conn.root.lease(*names, wait_s=5.0, soft_s=3.0, tell=lambda what, facts: self._told(handle, what))
        try:
            with contextlib.suppress(GatewayError):
                handle.ask()
            if handle.wait(5.0):
                self._work(conn, names)
        finally:
            handle.release()

    def _told(self, handle: Any, what: str) -> None:
        if what == "asked":
            with contextlib.suppress(GatewayError):
                (handle.agree if self._answer("") else handle.refuse)()

    def _work(self, conn: gateway.Connection, names: list[str]) -> None:
        refused = 0
        for _ in range(self._random.randrange(1, 60)):
            name = self._random.choice(names)
            ticket = f"{os.getpid()}.{next(self._tickets)}"
            self._note(ticket, name, "sent")
            try:
                conn.root.device(name).step(ticket)
            except GatewayError as error:
                self._note(ticket, name, error.code)
                if conn.closed:
                    return
                refused += isinstance(error, LeaseLost)
                if refused > 3:  # it insists for a while
                    return
            else:
                self._note(ticket, name, "ok")

    def _note(self, *words: str) -> None:
        os.write(self._file, (" ".join(words) + "\n").encode())


class Proxy:
    """The network between the clients and the gateway. Its connections can be reset, and made to carry nothing."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._links: dict[int, _Link] = {}
        self._numbers = count()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self._to), timeout=5)
        except OSError:
            near.close()
            return
        link = _Link(near, far)
        number = next(self._numbers)
        with self._lock:
            self._links[number] = link
        link.run()
        with self._lock:
            del self._links[number]

    def links(self) -> list[_Link]:
        with self._lock:
            return list(self._links.values())

    def close(self) -> None:
        self._listener.close()
        for link in self.links():
            link.reset()


class _Link:
    """One connection."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._ends = (near, far)
        for end in self._ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(None)
        self.cut_until = 0.0
        self._reset = False

    def run(self) -> None:
        near, far = self._ends
        other = {near: far, far: near}
        try:
            while not self._reset:
                if time.monotonic() < self.cut_until:
                    time.sleep(0.02)
                    continue
                ready, _, _ = select.select(self._ends, [], [], 0.1)
                for end in ready:
                    data = end.recv(65536)
                    if not data:
                        return
                    if time.monotonic() >= self.cut_until:
                        other[end].sendall(data)
                    else:  # it is carried later: nothing is lost on TCP
                        while time.monotonic() < self.cut_until and not self._reset:
                            time.sleep(0.02)
                        other[end].sendall(data)
        except OSError:
            pass
        finally:
            for end in self._ends:
                if self._reset:
                    with contextlib.suppress(OSError):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()

    def reset(self) -> None:
        self._reset = True


# -- the blows --------------------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What the logs say."""

    runs: int = 0
    blows: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    safe_states: int = 0
    leases: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    handed_over: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    leaving: int = 0
    """Commands that were leaving in the very moment in which their lease ended: the safe state came after them."""
    unwritten: int = 0
    """Commands that the audit log does not have because the gateway was killed."""
    misses: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    by_a_lost_lease: list[str] = field(default_factory=list)
    false_promises: list[str] = field(default_factory=list)
    audit: list[str] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    """Clients that ended by themselves: an error that no client of a gateway should meet."""

    @property
    def good(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> list[str]:
        return [*self.misses, *self.twice, *self.by_a_lost_lease, *self.false_promises, *self.audit, *self.died]

    def shown(self) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: len(value) if isinstance(value, list) else value for name, value in facts.items()}


class Siege:
    """A gateway with clients around it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.verdict = Verdict()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._gateway = self._start_gateway()
        self._nursery = _process("nurse", str(folder))
        self._proxy = Proxy(self._port)
        self._clients: list[int] = [self._new_client() for _ in range(CLIENTS)]
        self._asleep: dict[int, float] = {}
        self._admin: gateway.Connection | None = None
        self._gateway_sleeps_until = 0.0

    def _start_gateway(self) -> subprocess.Popen[bytes]:
        process = _process("serve", str(self.folder), str(self._port))
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", "the gateway did not start"
        return process

    def _new_client(self) -> int:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(f"{self._proxy.port} {self.random.randrange(2**30)}\n".encode())
        self._nursery.stdin.flush()
        return int(self._nursery.stdout.readline())

    def run(self, runs: int) -> None:
        """As many blows, one after the other."""
        blows = [
            (self.kill_client, 40),
            (self.stop_client, 20),
            (self.reset_link, 15),
            (self.cut_link, 10),
            (self.revoke, 15),
            (self.press_stop, 3),
            (self.stop_gateway, 2),
            (self.kill_gateway, 1),
        ]
        kinds, weights = [blow for blow, _ in blows], [weight for _, weight in blows]
        for _ in range(runs):
            time.sleep(self.random.uniform(0.01, 0.12))
            self._waken()
            (blow,) = self.random.choices(kinds, weights)
            blow()
            self.verdict.runs += 1
            self.verdict.blows[blow.__name__] += 1

    def kill_client(self) -> None:
        index = self.random.randrange(CLIENTS)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._clients[index], signal.SIGKILL)
        self._asleep.pop(self._clients[index], None)
        self._clients[index] = self._new_client()

    def stop_client(self) -> None:
        pid = self.random.choice(self._clients)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        self._asleep[pid] = time.monotonic() + self._while()

    def reset_link(self) -> None:
        links = self._proxy.links()
        if links:
            self.random.choice(links).reset()

    def cut_link(self) -> None:
        links = self._proxy.links()
        if links:
            self.random.choice(links).cut_until = time.monotonic() + self._while()

    def revoke(self) -> None:
        with contextlib.suppress(GatewayError, OSError):
            self._as_admin().root.revoke_lease(self.random.choice(NAMES), "chaos")

    def press_stop(self) -> None:
        with contextlib.suppress(GatewayError, OSError):
            root = self._as_admin().root
            root.estop("chaos")
            root.estop_reset("it was chaos")

    def stop_gateway(self) -> None:
        self._gateway.send_signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(0.05, 1.5))
        self._gateway.send_signal(signal.SIGCONT)

    def kill_gateway(self) -> None:
        _end(self._gateway)
        self._gateway = self._start_gateway()

    def _while(self) -> float:
        """Mostly shorter than silence may last, at times longer."""
        return self.random.uniform(0.05, 1.0) if self.random.random() < 0.6 else self.random.uniform(4.0, 6.5)

    def _waken(self) -> None:
        now = time.monotonic()
        for pid, until in list(self._asleep.items()):
            if until <= now:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                del self._asleep[pid]

    def _as_admin(self) -> gateway.Connection:
        if self._admin is None or self._admin.closed:
            self._admin = gateway.connect(f"tcp://127.0.0.1:{self._port}", config={"sync_request_timeout": 5})
        return self._admin

    def settle(self) -> None:
        """End all clients, and wait until nobody has a device."""
        for pid in self._clients:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(GatewayError, OSError):
                described = self._as_admin().root.describe()
                if all(each["lease"] is None and each["waiting"] == 0 for each in described.values()):
                    break
            assert time.monotonic() < deadline, "a lease of a client that is gone goes on"
            time.sleep(0.05)
        time.sleep(0.5)  # what was begun comes to its end

    def close(self) -> None:
        for pid in self._clients:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._admin is not None:
            self._admin.close()
        self._proxy.close()
        _end(self._nursery)
        _end(self._gateway)

    # -- what happened ------------------------------------------------------------------------------------------------

    def judge(self) -> Verdict:
        """Read all logs."""
        verdict = self.verdict
        events = [json.loads(line) for line in (self.folder / "events").read_text().splitlines()]
        ended = {event["number"]: event["t"] for event in events if event["what"] == "ended"}
        inherited = {
            (event["number"], name) for event in events if event["what"] == "granted" for name in event["inherited"]
        }
        verdict.leases = sum(event["what"] == "granted" for event in events)
        verdict.ends = Counter(event["cause"] for event in events if event["what"] == "ended")
        executed: Counter[str] = Counter()
        for name in NAMES:
            executed += self._judge_device(name, ended, inherited)
        verdict.twice += [ticket for ticket, times in executed.items() if times > 1]
        verdict.commands = len(executed)
        self._judge_promises(executed)
        self._judge_audit(executed)
        verdict.died += [path.read_text().strip() for path in self.folder.glob("died-*")]
        return verdict

    def _judge_device(self, name: str, ended: dict[int, float], inherited: set[tuple[int, str]]) -> Counter[str]:
        verdict = self.verdict
        executed: Counter[str] = Counter()
        number, is_safe = 0, True
        safe_after: dict[int, float] = {}
        """Number of a lease -> when the device was first made safe after the end of that lease."""
        open_ends: set[int] = set()
        for line in (self.folder / name).read_text().splitlines():
            moment, word, what = line.split()
            at, by = float(moment), int(word)
            if what == SAFE:
                verdict.safe_states += 1
                is_safe = True
                for each in open_ends:
                    if each in ended and ended[each] <= at:
                        safe_after.setdefault(each, at)
                continue
            executed[what] += 1
            if by < number:
                verdict.by_a_lost_lease.append(f"{name}: {line}: after a command of lease {number}")
            elif by > number:
                if not is_safe and (by, name) not in inherited:
                    verdict.misses.append(f"{name}: {line}: the device was as lease {number} left it")
                verdict.handed_over += not is_safe
                number = by
            if by in safe_after and by == number:
                verdict.by_a_lost_lease.append(f"{name}: {line}: after its end and the safe state")
            elif by in ended and at > ended[by]:
                verdict.leaving += 1
            open_ends.add(by)
            is_safe = False
        if not is_safe:
            verdict.misses.append(f"{name}: lease {number} is over, and the device was never made safe")
        return executed

    def _judge_promises(self, executed: Counter[str]) -> None:
        for path in self.folder.glob("client-*"):
            for line in path.read_text().splitlines():
                words = line.split()
                if len(words) != 3 or words[2] == "sent":
                    continue
                ticket, _, outcome = words
                self.verdict.outcomes[outcome] += 1
                if outcome == "ok" and executed[ticket] != 1:
                    self.verdict.false_promises.append(f"{ticket} was said to be done")
                if outcome in NOT_DONE and executed[ticket]:
                    self.verdict.false_promises.append(f"{ticket} was said not to be done ({outcome})")

    def _judge_audit(self, executed: Counter[str]) -> None:
        written: Counter[str] = Counter()
        for path in sorted(self.folder.glob("audit*.jsonl*")):
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    if record.get("method") == "step" and record.get("outcome") == "ok":
                        written[_ticket(record["arguments"])] += 1
        for ticket in written.keys() - executed.keys():
            self.verdict.audit.append(f"{ticket} is written down as done, and the device knows nothing of it")
        self.verdict.unwritten = len(executed.keys() - written.keys())
        if self.verdict.unwritten > self.verdict.blows["kill_gateway"] * len(NAMES):
            self.verdict.audit.append(f"{self.verdict.unwritten} commands of the devices are not written down")


def _ticket(arguments: Any) -> str:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return "".join(each for each in text if each.isdigit() or each == ".")


def _process(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.server.chaos", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.wait()


@contextlib.contextmanager
def siege(folder: Path, seed: int) -> Iterator[Siege]:
    """A siege that leaves no process behind."""
    under = Siege(folder, seed)
    try:
        yield under
    finally:
        under.close()


def main() -> None:
    for_one = {"serve": serve, "nurse": nurse}.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if for_one is not None:
        for_one(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seed = random.randrange(2**30) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory() as folder, siege(Path(folder), seed) as under:
        begin = time.monotonic()
        under.run(options.runs)
        under.settle()
        verdict = under.judge()
    shown = {"seed": seed, "seconds": round(time.monotonic() - begin, 1), **verdict.shown()}
    if options.json:
        print(json.dumps(shown))
    else:
        for name, value in shown.items():
            print(f"{name:16} {dict(value) if isinstance(value, Counter) else value}")
        for problem in verdict.problems[:20]:
            print(f"  {problem}")
    sys.exit(0 if verdict.good else 1)


if __name__ == "__main__":
    main()
