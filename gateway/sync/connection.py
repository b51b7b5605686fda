"""Connection: RPyC's, as the seed describes it, over any channel.

How threads share one (see `reading`): whoever waits for an answer reads the channel itself, so a lone caller pays for
no thread. A second caller finds the reading taken, sleeps, and is woken by its answer or by its turn to read. What the
peer calls meanwhile runs on a worker. Nothing is sent by a finalizer.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread, get_ident, get_native_id
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self

from gateway.channels.base import Channel
from gateway.errors import CallTimeout, LinkDown, OutcomeUnknown, ProtocolError
from gateway.limits import DEFAULT_LIMITS, Limits
from gateway.protocol.brine import load
from gateway.protocol.constants import Handler
from gateway.protocol.framing import Message, recycle
from gateway.protocol.messages import UNBOUND
from gateway.protocol.netref import IdPack
from gateway.protocol.peer import DEVICE_PROFILE, FIXED, HEARTBEATS, VERSION, Answer, Peer, Request
from gateway.service.device_policy import DevicePolicy
from gateway.service.policy import Policy
from gateway.service.seed_policy import SeedPolicy
from gateway.sync.calls import Calls
from gateway.sync.config import DEFAULT_CONFIG, NESTED_CALLBACKS
from gateway.sync.netref import BaseNetref, boxes_of
from gateway.sync.outbox import Outbox
from gateway.sync.proxies import Proxies
from gateway.sync.reading import Reading
from gateway.sync.result import AsyncResult, Slot
from gateway.sync.workers import WORKERS

if TYPE_CHECKING:
    from gateway.service.reading import Reading as Observed
    from gateway.sync.leasing import Lease

_log: Final = logging.getLogger(__name__)

_CLOSE_S: Final = 0.5
"""How long `close` waits for the peer's end of file, so that what was sent before is not lost with the connection."""
BEAT_S: Final = 1.9
"""A heartbeat leaves every two seconds: the reactor looks every second."""
_CALLATTR: Final = Handler.CALLATTR
_GETATTR: Final = Handler.GETATTR
_CLOSED_HERE: Final = "the connection was closed by this side"
_PING_DATA: Final = "abcdefghijklmnopqrstuvwxyz" * 20
_tokens: Final = itertools.count(1)


class PingError(Exception):
    """The echo of a ping was not what was sent."""


class Connection:
    """One conversation with a peer.

    No more than thirty attributes: CPython keeps the names of so many once for all objects of a class, and the
    thirty-first would make each idle connection one and a half KiB larger.

    `root` is the service this side shows, `channel` carries the messages, `config` overrides keys of DEFAULT_CONFIG.
    `strict` serves `root` and all it returns under the device policy, which no config key opens.
    """

    def __init__(
        self,
        root: Any,
        channel: Channel,
        config: dict[str, Any] = {},  # noqa: B006 - the seed's signature; never changed here
        *,
        limits: Limits | None = None,
        strict: bool = False,
    ) -> None:
        self.token = next(_tokens)
        """Distinguishes connections of this process, also after one is gone."""
        self._limits = limits = limits or DEFAULT_LIMITS
        self._config: dict[str, Any] = {**DEFAULT_CONFIG, **config}
        if self._config["connid"] is None:
            self._config["connid"] = f"conn{self.token}"
        self._channel = channel
        self._local_root = root
        self._remote_root: Any = None
        self._greeted = False
        self.closed = False
        """Whether the connection has been closed, by either side or by a fault."""
        self._closing = False
        self._lost: LinkDown | None = None
        self._state = Lock()
        self._pending: dict[int, Slot] = {}
        self._reading = Reading(self._receive, self._accept)
        self._proxies = Proxies(self, limits)
        self.learn = self._proxies.learn
        # A line without an end of file may still bring answers that were meant for an earlier connection over it.
        first_seq = 0 if channel.ends_with_eof else int.from_bytes(os.urandom(4)) >> 2
        self._peer = Peer(
            self,
            self._proxies.make,
            self.note_release,
            self._config,
            limits,
            Lock(),
            self._proxies.stand_in,
            first_seq,
        )
        policy: Policy = DevicePolicy(limits) if strict else SeedPolicy(self._config, limits)
        if isinstance(policy, DevicePolicy):
            policy.brief = channel.thrifty
        self._policy = policy
        self.calls = Calls(self, self._peer, policy, limits, strict=strict, config=self._config)
        self._outbox = Outbox(channel, self._peer, limits, self._lose)
        self.transmit: Callable[[Message], None] = self._outbox.send
        """Send. Raises LinkDown, or LimitExceeded where there is no room for it."""
        self._bound = bool(self._config["bind_threads"])
        self._nested = self._bound or bool(self._config.get(NESTED_CALLBACKS))
        self.looked_after = False
        """Whether the reactor does its housekeeping, so that heartbeats leave also while nobody calls."""
        self._beat_at = self._heard_at = monotonic()
        self.received = 0
        """Messages received so far."""
        self.on_lost: list[Callable[[Connection], None]] = []
        """Called once when the connection is gone, for whoever keeps an account of connections."""
        self.on_exit: Callable[[BaseException], None] = lambda error: None
        """Called with a SystemExit or KeyboardInterrupt that the config wants to end this side."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection {self._config['connid']!r} ({'closed' if self.closed else 'open'})>"

    # -- the seed's interface ---------------------------------------------------------------------------------------

    @property
    def root(self) -> Any:
        """The peer's root service. Raises LinkDown, CallTimeout."""
        if self._remote_root is None:
            self._remote_root = self._fetch_root()
        return self._remote_root

    def fileno(self) -> int:
        """The channel's descriptor."""
        return self._channel.fileno()

    def close(self) -> None:
        """Close the connection and release all it holds; within a second, also on a dead link. Idempotent."""
        with self._state:
            if self._closing or self._lost is not None:
                return
            self._closing = self.closed = True
        try:
            if self._config["before_closed"] is not None:
                self._config["before_closed"](self.root)
            deadline = monotonic() + _CLOSE_S
            self._say_goodbye(deadline)
            if self._channel.ends_with_eof:
                self._await_end(deadline)
        except (EOFError, TimeoutError):
            pass
        except Exception:
            if not self._config["close_catchall"]:
                raise
        finally:
            self._lose(LinkDown(_CLOSED_HERE))

    def ping(self, data: Any = None, timeout: float | None = 3) -> None:
        """Make sure that the peer answers. Raises PingError if the echo differs, CallTimeout, LinkDown (EOFError)."""
        sent = _PING_DATA if data is None else data
        if self.async_request(Handler.PING, sent, timeout=timeout).value != sent:
            raise PingError("the echo differs from what was sent")

    def sync_request(self, handler: int, *args: Any) -> Any:
        """Send a request and wait for its answer. Raises what the peer raised, CallTimeout, or LinkDown."""
        seq, message = self._peer.request(handler, args, self._own_threads())
        return self._call(seq, message, handler, args)

    def async_request(self, handler: int, *args: Any, **kwargs: Any) -> AsyncResult:
        """Send a request; its answer arrives in the AsyncResult. `timeout` (seconds) sets its expiry."""
        timeout = kwargs.pop("timeout", None)
        if kwargs:
            raise TypeError(f"unexpected keyword arguments {sorted(kwargs)}; only timeout is known")
        result = AsyncResult(self, _describe(handler, args))
        self._start(result, *self._peer.request(handler, args, self._own_threads()))
        if timeout is not None:
            result.set_expiry(timeout)
        return result

    def serve(self, timeout: float | None = 1, wait_for_lock: bool = True) -> bool:
        """Receive one message within `timeout` seconds (None: for ever) and act on it; False if none came.

        `wait_for_lock=False` gives up at once where another thread is reading. Raises LinkDown when the connection is
        gone.
        """
        deadline = None if timeout is None else monotonic() + max(0.0, timeout)
        if not (self._reading.await_turn(timeout) if wait_for_lock else self._reading.take()):
            self._raise_if_lost()
            return False
        received, task = self._reading.serve_one(_remaining(deadline))
        if not received:
            self._raise_if_lost()
        if task is not None:
            task()
        return received

    def poll(self, timeout: float | None = 0) -> bool:
        """Serve one transaction, should one arrive within `timeout` seconds."""
        return self.serve(timeout, wait_for_lock=False)

    def poll_all(self, timeout: float | None = 0) -> bool:
        """Serve all that arrives within `timeout` seconds; whether anything did."""
        deadline = None if timeout is None else monotonic() + timeout
        served = False
        with contextlib.suppress(EOFError):
            while self.poll(_remaining(deadline)):
                served = True
        return served

    def serve_all(self) -> None:
        """Serve until the connection is closed, by either side; then release all it holds."""
        try:
            while not self.closed:
                self.serve(None)
        except EOFError:
            pass
        finally:
            self.close()

    def serve_threaded(self, thread_count: int = 10) -> None:
        """The same with `thread_count` threads: the peer's requests run side by side, in no fixed order."""
        self.calls.lane = None
        threads = [Thread(target=self.serve_all, name=f"serve-{index}", daemon=True) for index in range(thread_count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # -- what gateways offer beyond that ----------------------------------------------------------------------------

    def lease(self, *devices: str, **how: Any) -> Lease:
        """The right to control these devices: `with conn.lease("psu1", "dmm1") as bench:`.

        `wait`: True waits for them, False does not, a number is the seconds to wait. `soft` and `hard`: seconds without
        a call, and in all, after which it ends. `ask`: ask who has them to hand them over, rather than only waiting.
        `on_wait(position, estimate_s)` is called while waiting, `on_ask(by)` when somebody asks for the devices (True
        hands them over), `on_lost(error)` when it is lost. `force` is an administrator's reason to take them from
        whoever has them, `program` what others see in place of this program's name.

        Raises LeaseConflict where they are not to be had, NotFound for a device that there is not.
        """
        from gateway.sync.leasing import Lease

        return Lease(self, devices, **how)

    def reading(self, target: str, max_age: float = 0.0) -> Observed:
        """A reading of `DEVICE.PROPERTY` with its time and unit, at most `max_age` seconds old."""
        from gateway.sync import observing

        return observing.reading(self, target, max_age)

    def subscribe(self, target: str, callback: Callable[[Observed], Any], **how: Any) -> Any:
        """Have `callback(reading)` called as readings of `DEVICE.PROPERTY` come: see `observing.subscribe`."""
        from gateway.sync import observing

        return observing.subscribe(self, target, callback, **how)

    def observe(self, target: str, **how: Any) -> Any:
        """Iterate over readings of `DEVICE.PROPERTY` as they come: see `observing.observe`."""
        from gateway.sync import observing

        return observing.observe(self, target, **how)

    # -- what netrefs ask -------------------------------------------------------------------------------------------

    def call_method(self, target: BaseNetref, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`target.name(*args, **kwargs)` at the peer, in one request."""
        try:
            prefix = target.____boxes__[name]
        except (AttributeError, KeyError):
            prefix = self._call_prefix(target, name)
        seq, message = self._peer.call(prefix, args, kwargs, self._own_threads() if self._bound else None)
        return self._call(seq, message, _CALLATTR, (target, name))

    def call(self, target: BaseNetref, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`target(*args, **kwargs)` at the peer."""
        prefix = self._call_prefix(target, None)
        seq, message = self._peer.call(prefix, args, kwargs, self._own_threads() if self._bound else None)
        return self._call(seq, message, Handler.CALL, (target,))

    def call_async(
        self, target: BaseNetref, name: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncResult:
        """The same without waiting; `name` None calls the target itself."""
        result = AsyncResult(self, f"{name or 'the call'}()")
        self._start(result, *self._peer.call(self._call_prefix(target, name), args, kwargs, self._own_threads()))
        return result

    def get_attribute(self, target: BaseNetref, name: str) -> Any:
        """`target.name` at the peer."""
        boxes = boxes_of(target)
        prefix = boxes.get((name,))
        if prefix is None:
            prefix = boxes[name,] = self._peer.prefix(_GETATTR, target, (name,))
        seq, message = self._peer.prefixed(prefix, self._own_threads() if self._bound else None)
        return self._call(seq, message, _GETATTR, (target, name))

    def note_release(self, id_pack: IdPack, times: int) -> None:
        """A proxy died. Called by finalizers: appending is all it does."""
        self._outbox.releases.append((id_pack, times))

    @property
    def allows_pickle(self) -> bool:
        return bool(self._config["allow_pickle"])

    def _call_prefix(self, target: BaseNetref, name: str | None) -> bytes:
        """What all calls of this method begin with, of the object itself where there is no `name`."""
        boxes = boxes_of(target)
        prefix = boxes.get(name)
        if prefix is None:
            handler, values = (Handler.CALL, ()) if name is None else (Handler.CALLATTR, (name,))
            prefix = boxes[name] = self._peer.prefix(handler, target, values, 2)
        return prefix

    # -- requests ---------------------------------------------------------------------------------------------------

    def _call(self, seq: int, message: Message, handler: int, what: tuple[Any, ...], slot: Slot | None = None) -> Any:
        """Send a request and give its answer."""
        slot = slot or Slot()
        timeout = self._config["sync_request_timeout"]
        if self._nested or not self._reading.take():
            answered = self._call_among_others(slot, seq, message, timeout)
        else:
            # Nearly always: this thread reads, from before the request leaves, and next comes the value it waits for.
            task = None
            try:
                deadline = None if timeout is None else monotonic() + timeout
                self._start(slot, seq, message)
                if self.calls.active:
                    task = self.calls.give_up_turn()
                reply = self._receive(timeout)
                if reply is not None and self._answers(slot, seq, reply):
                    return slot.answer
                answered = self._reading.wait(slot, deadline, taken=True, message=reply)
            finally:
                if task is not None:
                    task.waits_for_peer = False
                if not slot.led:
                    self._reading.give_back()
        if not answered:
            self._pending.pop(seq, None)
            raise CallTimeout(
                f"result expired: no answer to {_describe(handler, what)} within {timeout:g} s (sync_request_timeout)"
            )
        if slot.failure is not None:
            raise slot.failure
        if slot.new:
            self.learn(slot.new)
        return slot.answer

    def _call_among_others(self, slot: Slot, seq: int, message: Message, timeout: float | None) -> bool:
        """Send a request and wait, where another thread reads or this one may have to run calls of the peer."""
        # Taken before the request leaves, so that the answer finds its caller reading and wakes nobody else.
        taken = self._reading.take()
        try:
            with self._reading.expecting_calls(slot) if self._nested else contextlib.nullcontext():
                self._start(slot, seq, message)
                return self._wait(slot, timeout, taken=taken)
        finally:
            if taken and not slot.led:
                self._reading.give_back()

    def _start(self, slot: Slot, seq: int, message: Message, *, held: bool = False) -> None:
        self._pending[seq] = slot
        try:
            if self._lost is not None:
                raise LinkDown(str(self._lost))
            if held:
                self._outbox.hold(message)
            else:
                self.transmit(message)
        except BaseException:
            self._pending.pop(seq, None)
            raise

    def _answers(self, slot: Slot, seq: int, message: Message) -> bool:
        """Fill `slot` where the message is the value that it waits for, which is what comes nearly always."""
        head = self._peer.value_head(seq)
        if not message.startswith(head):
            return False
        try:
            answer = load(message, len(head), self._limits)
        except ProtocolError:
            return False  # `_accept` says what is wrong
        if self._pending.pop(seq, None) is None:
            return False  # the connection was lost meanwhile
        self.received += 1
        if type(message) is not bytes:
            recycle(message)
        if self._pending or self._outbox.unanswered_releases or self.calls.active:
            self._channel.acknowledge()  # as in `_accept`
        slot.answer = answer
        slot.done = True
        return True

    def _fetch_root(self) -> Any:
        """GETROOT, and the first time HELLO right before it: a stock peer refuses that and nothing is lost."""
        if self._greeted:
            return self.sync_request(Handler.GETROOT)
        self._greeted = True
        ours = self.calls.features
        greeting = _Greeting(self, ours)
        threads = self._own_threads()
        self._start(greeting, *self._peer.request(Handler.HELLO, (VERSION, tuple(sorted(ours))), threads), held=True)
        seq, message = self._peer.request(Handler.GETROOT, (), threads)
        return self._call(seq, message, Handler.GETROOT, (), _RootSlot(self, greeting))

    def met_own_kind(self) -> None:
        """The peer is one of ours: what only stock peers need can be left out."""
        self._channel.assume_prompt_peer()
        if isinstance(self._policy, DevicePolicy):
            self._policy.peer_takes_copies = self._peer.boxing.copies
            self._policy.peer_knows_fixed = FIXED in (self._peer.features or ())

    def _own_threads(self) -> tuple[int, int] | None:
        """`(this thread, the peer's thread that waits for it)` where messages are tied to threads."""
        if not self._bound:
            return None
        task = self.calls.active.get(get_ident())
        addressed = task.request.threads[0] if task is not None and task.request.threads else UNBOUND
        return get_native_id(), addressed  # get_ident() would tell an address of this process

    def wait_for(self, slot: Slot, timeout: float | None) -> bool:
        """Wait until `slot` is filled, reading the channel where nobody else does; whether it was filled in time."""
        if self._nested:
            with self._reading.expecting_calls(slot):
                return self._wait(slot, timeout)
        return self._wait(slot, timeout)

    def _wait(self, slot: Slot, timeout: float | None, *, taken: bool = False) -> bool:
        """`taken`: this thread has the reading already."""
        deadline = None if timeout is None else monotonic() + timeout
        task = self.calls.give_up_turn() if self.calls.active else None
        try:
            return self._reading.wait(slot, deadline, taken=taken)
        finally:
            if task is not None:
                task.waits_for_peer = False

    # -- receiving --------------------------------------------------------------------------------------------------

    def _receive(self, timeout: float | None) -> Message | None:
        """The next message; None if none came in time or the connection is gone. The caller holds the reading."""
        try:
            return self._channel.recv_within(timeout)
        except (EOFError, OSError, ProtocolError) as error:
            self._lose(error)
            return None

    def _accept(self, message: Message) -> Callable[[], None] | None:
        """Act on a message in the order of the wire. What it gives is to be run once nothing is held."""
        self.received += 1
        try:
            event = self._peer.receive(message)
        except ProtocolError as error:
            self._lose(error)
            return None
        if type(message) is not bytes:
            recycle(message)
        if isinstance(event, Answer):
            slot = self._pending.pop(event.seq, None)
            if slot is None and self._outbox.unanswered_releases:
                self._outbox.unanswered_releases -= 1
            if self._pending or self._outbox.unanswered_releases or self.calls.active:
                # Nothing of ours will carry the acknowledgement soon, and the peer may have more to say.
                self._channel.acknowledge()
            return slot.fill(event.value, event.error, event.new) if slot is not None else None
        if event.threads is not None:
            self._bound = True  # a bind_threads peer expects its prefix on everything we send
        try:
            if isinstance(event, Request):
                task = self.calls.accept(event)
                return None if self._bound and task is not None and self._reading.hand_over(task) else task
            self.calls.refuse(event.seq, event.error, event.threads)
        except LinkDown:
            pass
        return None

    def serve_burst(self, linger_s: float, alone: Callable[[], bool] = lambda: True) -> None:
        """Serve what has come and what comes within `linger_s` of it, unless another thread reads. For the reactor.

        Ends also when the connection is not `alone` any more.
        """
        take, serve_one = self._reading.take, self._reading.serve_one
        while self._lost is None and alone() and take():
            received, task = serve_one(linger_s)
            if not received:
                return
            if task is not None:
                task()

    def serve_ready(self) -> bool:
        """Serve what has come, and never wait; False where another thread reads, or should. For the crowd."""
        while self._lost is None and not self.calls.holds_reading() and self._reading.take():
            _, task = self._reading.serve_one(0.0)
            if task is not None:
                task()
            if not self._channel.buffered:
                return True
        return False

    @property
    def wants_reading(self) -> str:
        """What the reactor should do: "wait" (somebody reads, or should not), "serve" (messages are here), "watch"."""
        if self._reading.taken() or self.calls.holds_reading():
            return "wait"
        return "serve" if self._channel.buffered else "watch"

    def housekeep(self, now: float) -> None:
        """Called now and then by the reactor: give back what finalizers noted, end a frame that stands still.

        It may not wait for this peer, or all others would: workers do what can take time.
        """
        if self._outbox.releases:
            WORKERS.submit(self._give_back)
        if now >= self._beat_at + BEAT_S and self.peer_beats:
            self._beat_at = now
            self.beat()
        if self._channel.stalled(now):
            error = ProtocolError(f"a begun frame made no progress for {self._limits.progress_s:g} s")
            WORKERS.submit(self._lose, error)

    @property
    def peer_beats(self) -> bool:
        """Whether the peer sends heartbeats, so that its silence means something."""
        return self._peer.features is not None and HEARTBEATS in self._peer.features

    @property
    def lost_why(self) -> str:
        """Why the connection is gone; empty while it is not."""
        return "" if self._lost is None else str(self._lost)

    def silent_s(self, now: float) -> float:
        """For how many seconds nothing has come from the peer, as far as that was looked at."""
        if self._channel.heard():
            self._heard_at = now
        return now - self._heard_at

    def pardon_silence(self, now: float) -> None:
        """Count from now: it was this side that did not look."""
        self._heard_at = now

    def take_heartbeat(self) -> bool:
        """Take a heartbeat, where that is all that has come, and nobody reads. For the reactor: it never waits."""
        if not self._reading.take():
            return False
        try:
            return self._channel.take_heartbeat()
        finally:
            self._reading.give_back()

    def beat(self) -> None:
        """Send a heartbeat, unless something else is just leaving. Never waits."""
        with contextlib.suppress(LinkDown):
            self._outbox.beat()

    def _give_back(self) -> None:
        with contextlib.suppress(LinkDown):
            self._outbox.flush_releases()

    @property
    def peer_lists_exactly(self) -> bool:
        """Whether the peer's method tables hold what may be called and nothing else."""
        return self._peer.features is not None and DEVICE_PROFILE in self._peer.features

    # -- the end ----------------------------------------------------------------------------------------------------

    @property
    def local_root(self) -> Any:
        return self._local_root

    @property
    def config(self) -> dict[str, Any]:
        """This connection's configuration; RPyC's services change it in `on_connect`."""
        return self._config

    def abandon(self, reason: LinkDown) -> None:
        """End the connection without a word to the peer."""
        self._lose(reason)

    def _say_goodbye(self, deadline: float) -> None:
        """Send CLOSE. If need be by a worker: a peer that takes nothing holds a sender up for longer than `close` may
        last.
        """
        message = self._peer.request(Handler.CLOSE, (), self._own_threads())[1]
        if self._outbox.send_at_once(message):
            return
        sent = Event()

        def send() -> None:
            with contextlib.suppress(LinkDown):
                self._outbox.send_last(message)
            sent.set()

        WORKERS.submit(send)
        # In two parts: where the whole machine stood still, the first is over before the worker had its turn.
        patience_s = max(0.0, deadline - monotonic()) / 2
        _ = sent.wait(patience_s) or sent.wait(patience_s)

    def _await_end(self, deadline: float) -> None:
        """Read on until the peer's end of file: closing earlier could reset the connection under what is on its way."""
        while self._lost is None and monotonic() < deadline:
            if self._reading.await_turn(max(0.0, deadline - monotonic())):
                _, task = self._reading.serve_one(max(0.0, deadline - monotonic()))
                if task is not None:
                    WORKERS.submit(task)

    def _lose(self, error: BaseException) -> None:
        """The connection is gone because of `error`: close the channel, wake everybody, tell the service. Once."""
        with self._state:
            if self._lost is not None:
                return
            if self._closing and isinstance(error, LinkDown):
                error = LinkDown(_CLOSED_HERE)  # whichever side's end of file came first
            reason = str(error) or type(error).__name__
            self._lost = error if isinstance(error, LinkDown) else LinkDown(reason)
            self.closed = True
            _log.debug("%s ends: %s", self._config["connid"], reason)
            if not isinstance(error, LinkDown):
                self._lost.__cause__ = error
        self._channel.close()
        pending, self._pending = self._pending, {}
        for slot in list(pending.values()):
            task = slot.fill(None, OutcomeUnknown(f"{reason}; a call was on its way"), [])
            if task is not None:
                WORKERS.submit(task)
        self._reading.rouse_all()
        self._tell_service()
        self._peer.forget()
        self._remote_root = None
        for told in list(self.on_lost):
            try:
                told(self)
            except Exception:
                _log.exception("%s: unexpected error at its end; going on", self._config["connid"])

    def _tell_service(self) -> None:
        disconnected = getattr(self._local_root, "on_disconnect", None)
        if disconnected is None:
            return
        try:
            disconnected(self)
        except Exception:
            logger = self._config["logger"]
            if logger is not None:
                logger.exception("%s: on_disconnect failed", self._config["connid"])

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise LinkDown(str(self._lost)) from self._lost.__cause__


class _Greeting(Slot):
    """Where the answer to HELLO arrives: it must count before the next message is unboxed."""

    def __init__(self, conn: Connection, ours: frozenset[str]) -> None:
        self._conn = conn
        self._ours = ours
        self.root_methods: Any = None
        """What INSPECT of the root would answer; None where the peer did not say it."""

    def fill(self, answer: Any, failure: Exception | None, new: Sequence[Any]) -> Callable[[], None] | None:
        match answer:
            case (int(version), tuple(features), *rest):
                self._conn._peer.agree(version, features, self._ours)
                self._conn.met_own_kind()
                self.root_methods = rest[0] if rest else None
        return super().fill(answer, failure, new)


class _RootSlot(Slot):
    """Where the root arrives that was asked for together with the greeting: its class may be known by then."""

    def __init__(self, conn: Connection, greeting: _Greeting) -> None:
        self._conn = conn
        self._greeting = greeting

    def fill(self, answer: Any, failure: Exception | None, new: Sequence[Any]) -> Callable[[], None] | None:
        if len(new) == 1 and new[0] is answer and self._greeting.root_methods is not None:
            try:
                self._conn._proxies.know(answer, self._greeting.root_methods)
                new = ()
            except ProtocolError as error:
                answer, failure, new = None, error, ()
        return super().fill(answer, failure, new)


def _describe(handler: int, args: tuple[Any, ...]) -> str:
    """A request in words, for messages about its time."""
    name = Handler(handler).name if handler in Handler._value2member_map_ else f"handler {handler}"
    named = [arg for arg in args[:2] if type(arg) is str]
    return f"{name} {named[0]}" if named else name


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic())
