"""A long day in virtual time: 50 clients drive devices, die, freeze, are revoked and hand over, and the clock jumps.

Each device keeps a record of its own: which number drove it last, and for whom. Whatever happens, no command reaches it
under a number that is over, and whoever is turned away is told the right reason.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.errors import Busy, GatewayError, LeaseConflict, LeaseLost, NotLeased
from gateway.server.leasing import Cause, Dropped, Ended, Granted, Holder, Lease, LeaseLimits, LeaseTable, Waiting

COMMANDS = 100_000
CLIENTS = 50
DEVICES = tuple(f"psu{number}" for number in range(8))
HARD_S = 60.0
LIMITS = LeaseLimits(soft_s=4, hard_s=HARD_S, grace_s=2, ask_again_s=3, waiting_per_device=20, remembered=4096)


@dataclass
class Device:
    """The hardware, with a memory of its own."""

    driven_by: int = 0
    """The number of the last command that reached it."""
    fenced: int = 0
    """The greatest number of a lease that was granted for it."""
    until: float = math.inf
    """The hard limit of that lease, by the device's own reckoning."""
    holder: Any = None
    safe: bool = True
    lane: deque[tuple[Client, str, int]] = field(default_factory=deque)
    """Calls that were let in and have not run yet."""


@dataclass
class Client:
    """What a client believes. It may be wrong: it is told nothing while it is frozen."""

    key: str
    number: int = 0
    devices: tuple[str, ...] = ()
    ticket: int = 0
    frozen_until: float = -math.inf
    running: list[int] = field(default_factory=list)

    @property
    def holder(self) -> Holder:
        return Holder(key=self.key, principal=self.key, program="sweep.py", host="lab-pc", pid=1)


class Day:
    """The table, what drives it, and the world around."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.table = LeaseTable(LIMITS)
        self.now = 0.0
        self.devices = {name: Device() for name in DEVICES}
        self.clients = [Client(f"client {number}") for number in range(CLIENTS)]
        self.by_key = {client.key: client for client in self.clients}
        self.endings: dict[int, tuple[Cause, str, str]] = {}
        self.live: dict[int, Lease] = {}
        self.counts: Counter[str] = Counter()
        self.losses: dict[tuple[str, str], tuple[str, str]] = {}
        self.generation = 0

    def run(self, commands: int) -> None:
        steps = (
            (self.command, 50),
            (self.run_lane, 60),
            (self.command_with_a_number, 10),
            (self.finish, 12),
            (self.want, 12),
            (self.give_back, 2),
            (self.give_up, 1),
            (self.kill, 0.3),
            (self.freeze, 0.5),
            (self.revoke, 0.3),
            (self.seize, 0.1),
            (self.ask, 4),
            (self.answer, 3),
            (self.jump, 0.1),
        )
        functions, weights = zip(*steps, strict=True)
        while self.counts["commands"] < commands:
            for step in self.random.choices(functions, weights, k=1000):
                self.now += self.random.expovariate(100)
                if self.random.random() < 0.5:
                    # The timer is late as often as not.
                    self.table.handle_timeout(self.now)
                    self.listen()
                step()
                self.listen()

    # -- what clients do -------------------------------------------------------------------------------------------

    def command(self) -> None:
        """A call comes in over a client's connection, and has to wait for its turn on the device."""
        client = self.worker()
        device = self.random.choice(client.devices or DEVICES)
        self.counts["commands"] += 1
        try:
            number = self.table.admit(device, client.key, self.now)
        except GatewayError as problem:
            self.counts[problem.code] += 1
            self.is_the_right_refusal(problem, device, client)
            if isinstance(problem, LeaseLost):
                client.number, client.devices = 0, ()
        else:
            assert self.live[number].holder.key == client.key
            self.devices[device].lane.append((client, client.key, number))

    def worker(self) -> Client:
        """Mostly one that has a lease, or believes so; who has none tries now and then."""
        busy = [client for client in self.clients if client.devices and client.frozen_until < self.now]
        return self.random.choice(busy if busy and self.random.random() < 0.8 else self.clients)

    def run_lane(self) -> None:
        """The oldest call for a device leaves for the hardware, if it may still."""
        device = self.random.choice(DEVICES)
        if self.devices[device].lane:
            client, key, number = self.devices[device].lane.popleft()
            if self.drive(device, number):
                assert self.devices[device].holder.key == key, "somebody else's command passed"
                client.running.append(number)
                self.table.use(number, running=client.running.count(number), until=-math.inf)

    def command_with_a_number(self) -> None:
        """A client, or an instrument host, goes by the number that it believes in."""
        client = self.worker()
        self.counts["commands"] += 1
        if not self.drive(self.random.choice(client.devices or DEVICES), client.number) and self.random.random() < 0.5:
            client.number, client.devices = 0, ()

    def drive(self, device: str, number: int) -> bool:
        hardware = self.devices[device]
        try:
            self.table.check(device, number, self.now)
        except GatewayError as problem:
            self.counts[f"late {problem.code}"] += 1
            self.is_the_right_error(problem, device, number)
            return False
        self.counts["executed"] += 1
        assert number == hardware.fenced, "a stale number passed"
        assert number >= hardware.driven_by
        assert self.now < hardware.until, "the hard limit was exceeded"
        hardware.driven_by, hardware.safe = number, False
        return True

    def finish(self) -> None:
        client = self.random.choice(self.clients)
        for number in client.running:
            self.table.use(number, running=0, until=self.now)
        client.running.clear()

    def want(self) -> None:
        client = self.awake()
        if client is None or client.devices or client.ticket:
            return
        wanted = self.random.sample(DEVICES, self.random.choice([1, 1, 1, 2, 3]))
        self.asks_anew(client, wanted)
        try:
            got = self.table.request(
                client.holder,
                wanted,
                self.now,
                token=client.key,
                hard_s=self.random.choice([5.0, 20.0, HARD_S]),
                wait_s=self.random.choice([0.0, 5.0, math.inf]),
            )
        except (LeaseConflict, Busy):
            self.counts["not granted"] += 1
        else:
            client.ticket = got.ticket if isinstance(got, Waiting) else 0

    def give_back(self) -> None:
        client = self.awake()
        if client is not None and client.number:
            try:
                self.table.release(client.number, client.key, self.now)
            except LeaseLost:
                assert client.number not in self.live or self.now >= self.live[client.number].end
            client.number, client.devices = 0, ()

    def give_up(self) -> None:
        client = self.awake()
        if client is not None and client.ticket:
            self.tried(self.table.cancel, client.ticket, client.key, self.now)

    def ask(self) -> None:
        client = self.awake()
        if client is not None and client.ticket:
            self.tried(self.table.ask, client.ticket, client.key, self.now)

    def answer(self) -> None:
        for lease in self.table.leases():
            client = self.by_key.get(lease.holder.key)
            if lease.asker is not None and client is not None and client.frozen_until < self.now:
                answer = self.random.choice([self.table.agree, self.table.agree, self.table.refuse])
                self.tried(answer, lease.number, client.key, self.now)
                return

    # -- what happens to them --------------------------------------------------------------------------------------

    def kill(self) -> None:
        """The gateway sees the connection end; the client comes back under another key, with an old number in mind."""
        client = self.worker()
        self.table.holder_lost(client.key, "the gateway", "its connection ended", self.now)
        self.listen()
        del self.by_key[client.key]
        self.generation += 1
        client.key, client.ticket = f"{client.key.partition('/')[0]}/{self.generation}", 0
        self.by_key[client.key] = client
        self.counts["killed"] += 1

    def freeze(self) -> None:
        self.worker().frozen_until = self.now + self.random.expovariate(0.2)
        self.counts["frozen"] += 1

    def revoke(self) -> None:
        if self.tried(self.table.revoke, self.random.choice(DEVICES), "admin", "fire drill", self.now):
            self.counts["revoked"] += 1

    def seize(self) -> None:
        client = self.awake()
        if client is not None and not client.devices and not client.ticket:
            wanted = self.random.sample(DEVICES, 2)
            self.asks_anew(client, wanted)
            # Its lease may be live though the client does not know.
            self.tried(self.table.seize, client.holder, wanted, "fire drill", self.now, token=client.key)

    def jump(self) -> None:
        """The gateway's computer slept, or was busy."""
        self.now += self.random.choice([1.0, 10.0, 1000.0])
        self.counts["jumped"] += 1

    # -- what is known of it ---------------------------------------------------------------------------------------

    def awake(self) -> Client | None:
        client = self.random.choice(self.clients)
        return client if client.frozen_until < self.now else None

    def tried(self, method: Any, *words: Any, **options: Any) -> bool:
        try:
            method(*words, **options)
        except GatewayError:
            return False
        return True

    def listen(self) -> None:
        """What the gateway does with the events; clients that are awake hear of them."""
        for event in self.table.take_events():
            match event:
                case Granted(lease, _, inherited):
                    self.live[lease.number] = lease
                    for name in lease.devices:
                        device = self.devices[name]
                        assert lease.number > device.fenced
                        assert device.holder is None
                        assert device.safe or name in inherited
                        device.fenced, device.holder = lease.number, lease.holder
                        device.until = self.now + lease.wanted.hard_s
                    client = self.by_key[lease.holder.key]
                    client.number, client.devices, client.ticket = lease.number, lease.devices, 0
                case Ended(lease, cause, by, why, safe):
                    del self.live[lease.number]
                    self.endings[lease.number] = (cause, by, why)
                    self.counts[cause] += 1
                    for name in lease.devices:
                        self.devices[name].holder = None
                    for name in safe:
                        self.devices[name].safe = True
                    if cause is not Cause.RELEASED:
                        self.losses.update(
                            dict.fromkeys(((lease.holder.key, name) for name in lease.devices), (by, why))
                        )
                    client = self.by_key.get(lease.holder.key)
                    if client is not None and client.frozen_until < self.now and self.random.random() < 0.5:
                        client.number, client.devices = 0, ()
                case Dropped(waiting, _, _, _):
                    if client := self.by_key.get(waiting.holder.key):
                        client.ticket = 0

    def asks_anew(self, client: Client, devices: list[str]) -> None:
        self.table.handle_timeout(self.now)
        self.listen()
        for device in devices:
            self.losses.pop((client.key, device), None)

    def is_the_right_refusal(self, problem: GatewayError, device: str, client: Client) -> None:
        lease = next((each for each in self.live.values() if device in each.devices), None)
        loss = self.losses.get((client.key, device))
        if lease is not None and lease.holder.key == client.key:
            assert type(problem) is LeaseLost
            assert self.now >= lease.end, "the holder is turned away only when its time is over"
        elif loss is not None:
            assert type(problem) is LeaseLost
            assert (problem.by, problem.why) == loss
        else:
            assert type(problem) is (NotLeased if lease is None else LeaseConflict)

    def is_the_right_error(self, problem: GatewayError, device: str, number: int) -> None:
        lease = next((each for each in self.live.values() if device in each.devices), None)
        if number in self.endings:
            _, by, why = self.endings[number]
            assert type(problem) is LeaseLost
            assert (problem.by, problem.why, problem.device) in [
                (by, why, device),
                ("the gateway", "it ended long ago", device),
            ]
        elif lease is not None and lease.number == number:
            assert type(problem) is LeaseLost, "the holder is turned away only when its time is over"
            assert self.now >= lease.end
        elif lease is None:
            assert type(problem) is NotLeased
        else:
            assert type(problem) is LeaseConflict
            assert problem.holder == str(lease.holder)


@pytest.mark.parametrize("seed", [20_240_817])
def test_no_command_passes_under_a_stale_number_and_each_refusal_says_why(seed: int) -> None:
    day = Day(seed)
    day.run(COMMANDS)
    counts = day.counts
    assert counts["executed"] > 0.2 * COMMANDS
    for happened in (
        "lease-lost",
        "lease-conflict",
        "not-leased",
        "late lease-lost",
        "killed",
        "frozen",
        "revoked",
        "jumped",
    ):
        assert counts[happened] > 50, counts
    for cause in (
        Cause.RELEASED,
        Cause.IDLE,
        Cause.TIME_OVER,
        Cause.REVOKED,
        Cause.HOLDER_LOST,
        Cause.AGREED,
        Cause.UNANSWERED,
    ):
        assert counts[cause] > 10, counts
