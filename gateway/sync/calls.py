"""The peer's calls: which lane each waits in, running it, and answering.

Requests about the conversation itself (PING, GETROOT, DEL, INSPECT, HELLO, CLOSE) are answered by the thread that reads
them, in the order of the wire. All others become a Task. Under the seed profile the tasks of a connection run one at a
time, in order; a method that calls the peer back gives up its turn while it waits. Under the device profile a task
waits for its device, and calls for different devices run side by side.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from threading import get_ident, get_native_id
from typing import TYPE_CHECKING, Any, Final

from gateway.channels.base import Account
from gateway.errors import Busy, GatewayError, LimitExceeded, LinkDown
from gateway.limits import Limits
from gateway.protocol.constants import Handler
from gateway.protocol.framing import Message
from gateway.protocol.messages import UNBOUND
from gateway.protocol.netref import Netref
from gateway.protocol.peer import DEVICE_PROFILE, FEATURES, HEARTBEATS, SMALL, VERSION, Peer, Request
from gateway.protocol.vinegar import is_remote
from gateway.protocol.weight import weight
from gateway.service.device_policy import DevicePolicy, Member
from gateway.service.handlers import HANDLERS
from gateway.service.permit import Visit, here
from gateway.service.policy import Policy
from gateway.sync.lane import Lane
from gateway.sync.tracebacks import format_traceback
from gateway.sync.workers import WORKERS

if TYPE_CHECKING:
    from gateway.sync.connection import Connection

_log: Final = logging.getLogger(__name__)
_references: Final = count(1)
_INSTANCECHECK: Final = Handler.INSTANCECHECK
_PING: Final = Handler.PING
_ADDRESS: Final = r"\b0x[0-9a-fA-F]{4,}\b"
_PATH: Final = r"(?<![\w.])(?:/[\w.+-]+){2,}"


class Task:
    """One call of the peer."""

    # Class attributes: a task is made for every call, and most stay as they are here.
    in_lane = False
    abandoned = False
    """It took too long and was answered by somebody else."""
    begun = False
    waits_for_peer = False
    """Its thread is inside a call to the same peer right now."""
    result: Any = None
    """Held until the answer has left: a proxy that died earlier would be given back in front of it."""

    def __init__(self, calls: Calls, request: Request, lane: Lane[Task] | None) -> None:
        self.calls = calls
        self.request = request
        self.lane = lane
        self.charged = request.charged
        """What its arguments weigh on the account, still."""

    def __call__(self) -> None:
        """Run it, now that it is in its lane, and what queued there meanwhile if it is of the same connection."""
        following: Task | None = self
        while following is not None:
            task = following
            following = task.calls.run(task)
            if task.charged:
                task.calls._refund(task)

    def abandon(self, error: Exception) -> bool:
        """Answer with `error` though it still runs, and let the next one into its lane; whether it did run still."""
        return self.calls.abandon(self, error)


class Calls:
    """Runs what one peer asks for."""

    def __init__(
        self, conn: Connection, peer: Peer, policy: Policy, limits: Limits, *, strict: bool, config: dict[str, Any]
    ) -> None:
        self._conn = conn
        self._peer = peer
        self._policy = policy
        self._limits = limits
        self._strict = strict
        self._config = config
        self.lane: Lane[Task] | None = Lane("this connection", limits.pending_calls)
        self.active: dict[int, Task] = {}
        """The task that each thread is in."""
        self._waiting: set[Task] = set()
        self._many = min(limits.callback_depth, limits.pending_calls)
        """From so many calls on it is looked whether they are too many."""
        self.open_visit: Callable[[Task], Visit] | None = None
        """Gives the permit under which a task runs (see `service.permit`), if there is anybody to give it."""
        self.account: Account | None = None
        """What the arguments of calls are charged to, if anybody counts."""
        peer.charge = self._charge

    @property
    def is_over(self) -> bool:
        """Whether the connection that these are the calls of is gone."""
        return self._conn.closed

    # -- accepting --------------------------------------------------------------------------------------------------

    def accept(self, request: Request) -> Task | None:
        """Answer what needs no lane. For all else a Task that the caller is to run, or None where it has to queue.

        Called in the order of the wire, by the thread that reads: so the lanes are entered in that order too.
        """
        answer = _CONVERSATION.get(request.handler)
        if answer is not None and (request.handler is not _PING or request.size <= SMALL):
            self._converse(request, answer)
            return None
        # Under the seed profile all calls of a connection share a lane, unless they are tied to threads.
        lane = self.lane if not self._strict and request.threads is None else self._lane_of(request)
        task = Task(self, request, lane)
        try:
            if len(self.active) + len(self._waiting) >= self._many:
                self._check_depth(task)
            if lane is not None:
                if lane.owner is not None:
                    self._refuse_deadlock(lane)
                if not lane.enter(task):
                    self._waiting.add(task)
                    if task.begun:  # in another thread, just now
                        self._waiting.discard(task)
                    return None
                task.in_lane = True
        except Busy as error:
            self._refund(task)
            request.args.clear()  # they may be large, and the peer may not take the answer soon
            self._send_fault(request, error)
            return None
        return task

    def _converse(self, request: Request, answer: Callable[..., Any]) -> None:
        """Answer a request about the conversation itself."""
        if request.charged and self.account is not None:
            self.account.give(request.charged)
        try:
            value = answer(self, *request.args)
        except Exception as error:
            self._send_fault(request, error)
        else:
            if request.handler is not Handler.CLOSE and not (request.handler is Handler.DEL and self._peer.quiet):
                self._conn.transmit(self._peer.reply(request.seq, value, None, self._threads(request)))

    def _lane_of(self, request: Request) -> Lane[Task] | None:
        target = request.target
        if not self._strict and request.threads is not None and request.threads[1] != UNBOUND:
            return None  # the thread it is addressed to waits for it, and no other may run it
        if not self._strict or target is None:
            return self.lane
        # A proxy of a third party would ask its owner for the attribute, and wait.
        own = None if isinstance(target.obj, Netref) else getattr(target.obj, "gateway_lane", None)
        lane = own or target.owner or self.lane
        return None if lane is self.lane and self._is_urgent(request) else lane  # type: ignore[return-value]

    def _charge(self, args: list[Any], size: int) -> int:
        if self.account is None:
            return 0
        weighs = weight(args, size)
        problem = ""
        try:
            self.account.take(weighs)
        except LimitExceeded as error:
            problem = str(error)
        if problem:  # raised here, it has no context whose frames would hold the arguments
            raise Busy(f"{problem}; nothing was done")
        return weighs

    def _refund(self, task: Task) -> None:
        if task.charged and self.account is not None:
            self.account.give(task.charged)
            task.charged = 0

    # -- running ----------------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """The connection is gone: hold nothing for calls that still wait for a device."""
        for task in list(self._waiting):
            task.request = task.request._replace(args=[], target=None, new=[])

    def _is_urgent(self, request: Request) -> bool:
        """Whether it is a call of the root that waits behind nothing, such as the emergency stop."""
        target = request.target.obj if request.target is not None else None
        name = ""
        if request.handler is Handler.CALLATTR and target is self._conn.local_root:
            name = request.args[1]
        elif request.handler is Handler.CALL and type(target) is Member and target.target is self._conn.local_root:
            name = target.exposure.name
        return type(name) is str and name in getattr(self._conn.local_root, "gateway_urgent", ())

    def _check_depth(self, task: Task) -> None:
        nested = sum(task.waits_for_peer for task in list(self.active.values()))
        running, waiting = len(self.active), len(self._waiting)
        if task.lane is None and running + waiting < 2 * self._limits.pending_calls and self._is_urgent(task.request):
            return
        if nested >= self._limits.callback_depth or running + waiting >= self._limits.pending_calls:
            raise Busy(
                f"{running} calls of this connection run, {nested} of them wait for it, {waiting} wait to run;"
                " nothing was done"
            )

    def _refuse_deadlock(self, lane: Lane[Task]) -> None:
        """A device that waits for this peer's callback can't take this peer's call before it has the answer."""
        owner = lane.owner
        if owner is not None and owner.waits_for_peer and owner.calls is self:
            raise Busy(f"{lane.name} waits for an answer of yours and can't be called meanwhile; nothing was done")

    def run(self, task: Task) -> Task | None:
        """Run a task that is in its lane; gives the next of the lane if this thread is to run it."""
        thread = get_ident()
        outer = self.active.get(thread)
        self.active[thread] = task
        task.begun = True
        if self._waiting:
            self._waiting.discard(task)
        answer = None
        try:
            answer = self._execute(task)
        finally:
            if outer is None:
                del self.active[thread]
            else:
                self.active[thread] = outer
            # The lane is left before the answer is sent: a client that doesn't read must not hold the device.
            following = self._leave_lane(task) if task.in_lane else None
            if following is not None and (following.calls is not self or answer is None):
                WORKERS.submit(following)
                following = None
        if task.abandoned:
            self._refund(task)
            return following
        if task.charged and task.result is None:  # else the arguments may be part of what has to live until then
            task.request.args.clear()
            self._refund(task)
        try:
            if answer:
                self._conn.transmit(answer)
        except LinkDown:
            pass  # nobody is there to be told
        except LimitExceeded as error:  # there is no room for it
            with suppress(LinkDown):
                self._conn.transmit(self._peer.fault(task.request.seq, error, None, self._threads(task.request)))
        return following

    def _leave_lane(self, task: Task) -> Task | None:
        if task.lane is None or not task.in_lane:
            return None
        task.in_lane = False
        was_owner, following = task.lane.leave(task)
        task.abandoned = not was_owner
        if following is not None:
            following.in_lane = True
        return following

    def abandon(self, task: Task, error: Exception) -> bool:
        """See `Task.abandon`."""
        if task.lane is None:
            return False
        was_owner, following = task.lane.leave(task)
        if following is not None:
            following.in_lane = True
            WORKERS.submit(following)
        if was_owner:
            WORKERS.submit(
                self._send_fault, task.request, error
            )  # the client may take nothing, and nobody waits for it
        return was_owner

    def give_up_turn(self) -> Task | None:
        """This thread is about to wait for the peer: let the connection's next call run meanwhile (seed profile).

        Gives the task that waits, for `waits_for_peer` to be reset; None if this thread is in no call of the peer.
        """
        task = self.active.get(get_ident())
        if task is not None:
            task.waits_for_peer = True
            if not self._strict:
                following = self._leave_lane(task)
                if following is not None:
                    WORKERS.submit(following)
        return task

    def holds_reading(self) -> bool:
        """Whether nothing should be read ahead: under the seed profile the next request could not run anyway."""
        owner = self.lane.owner if self.lane is not None and not self._strict else None
        return owner is not None and not owner.waits_for_peer

    def _execute(self, task: Task) -> Message:
        request = task.request
        if self._conn.closed:
            return b""
        try:
            if request.new:
                self._conn.learn(request.new)
            handle = HANDLERS.get(request.handler)
            if handle is None:
                value = self._is_instance(*request.args) if request.handler is _INSTANCECHECK else request.args[0]
            elif self.open_visit is None:
                value = task.result = handle(self._policy, *request.args)
            else:  # here and not in a method of its own: this is the way of nearly every call of a gateway
                visit = self.open_visit(task)
                outer, here.visit = here.visit, visit
                try:
                    value = task.result = handle(self._policy, *request.args)
                except BaseException as error:
                    here.visit = outer
                    visit.close(error)
                    raise
                here.visit = outer
                visit.close(None)
        except (SystemExit, KeyboardInterrupt) as error:
            self._propagate(error)
            return self._fault(request, error)
        except BaseException as error:
            return self._fault(request, error)
        owner = task.lane if self._strict else None
        return self._peer.reply(request.seq, value, owner, request.threads and self._threads(request))

    def _propagate(self, error: SystemExit | KeyboardInterrupt) -> None:
        """End this side where the config says so."""
        if self._config[f"propagate_{type(error).__name__}_locally"]:
            self._conn.abandon(LinkDown(f"the other side ended: {type(error).__name__} in a handler"))
            self._conn.on_exit(error)
            raise error

    # -- answering --------------------------------------------------------------------------------------------------

    def refuse(self, seq: int, error: Exception, threads: tuple[int, int] | None) -> None:
        """Answer a request that was wrong in itself."""
        own = None if threads is None else (get_native_id(), threads[0])
        self._conn.transmit(self._peer.fault(seq, error, None, own))

    def _send_fault(self, request: Request, error: BaseException) -> None:
        with suppress(LinkDown):
            self._conn.transmit(self._fault(request, error))

    def _fault(self, request: Request, error: BaseException) -> bytes:
        if type(error) is not StopIteration:
            self._log_exception(request, error)
        text = None
        if self._policy.shows_traceback() and type(error) is not StopIteration:
            text = format_traceback(error)
        if self._strict and not isinstance(error, GatewayError | StopIteration) and not is_remote(error):
            error = _without_details(error)
        return self._peer.fault(request.seq, error, text, self._threads(request))

    def _log_exception(self, request: Request, error: BaseException) -> None:
        logger = self._config["logger"]
        if logger is not None and self._config["log_exceptions"]:
            logger.debug("%s: exception in %s", self._config["connid"], request.handler.name, exc_info=error)

    def _threads(self, request: Request) -> tuple[int, int] | None:
        return None if request.threads is None else (get_native_id(), request.threads[0])

    # -- the conversation -------------------------------------------------------------------------------------------

    def _is_instance(self, cls: Any, id_pack: Any) -> bool:
        try:
            other = self._peer.boxing.loans.find(id_pack).obj
        except GatewayError:
            other = None
        return self._policy.is_instance(cls, other, id_pack)

    def _ping(self, data: Any) -> Any:
        return data

    def _close(self) -> None:
        self._conn.abandon(LinkDown("the peer closed the connection"))

    def _root(self) -> Any:
        return self._conn.local_root

    def _released(self) -> None:
        """The Peer has done it, in the order of the wire."""

    def _inspect(self, id_pack: Any) -> Any:
        return self._policy.methods(self._peer.boxing.loans.find(id_pack).obj)

    def _hello(self, version: int, features: tuple[Any, ...]) -> Any:
        ours = self.features
        self._peer.agree(version, features, ours)
        self._conn.met_own_kind()
        return VERSION, tuple(sorted(ours)), self._policy.methods(self._conn.local_root)

    @property
    def features(self) -> frozenset[str]:
        """What this side announces in HELLO."""
        features = FEATURES | {HEARTBEATS} if self._conn.looked_after else FEATURES
        return features | {DEVICE_PROFILE} if self._strict else features


_CONVERSATION: Final[dict[Handler, Callable[..., Any]]] = {
    Handler.PING: Calls._ping,
    Handler.CLOSE: Calls._close,
    Handler.GETROOT: Calls._root,
    Handler.DEL: Calls._released,
    Handler.INSPECT: Calls._inspect,
    Handler.HELLO: Calls._hello,
}


def _without_details(error: BaseException) -> BaseException:
    """The same error for a client who must see no path and no address; the log has all of it under a reference."""
    reference = f"{next(_references):04x}"
    if _never_began(error):
        _log.warning("[%s] a client called a method with wrong arguments: %s", reference, error)
    else:
        _log.error("[%s] unexpected error in a device", reference, exc_info=error)
    builtin = next(base for base in type(error).__mro__ if base.__module__ == "builtins")
    try:
        text = re.sub(_PATH, "...", re.sub(_ADDRESS, "...", f"{error}"))
    except Exception:  # its own code, or an int with too many digits
        text = ""
    stand_in: BaseException
    try:
        stand_in = builtin(text)
    except TypeError:  # a class that takes other arguments, such as UnicodeDecodeError
        stand_in = RuntimeError(text)
    stand_in.reference = reference  # type: ignore[attr-defined]
    return stand_in


def _never_began(error: BaseException) -> bool:
    """Whether the call itself failed, for want of the right arguments, before any of the device's code ran."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return (
        type(error) is TypeError
        and traceback is not None
        and traceback.tb_frame.f_globals.get("__name__") == DevicePolicy.__module__
    )
