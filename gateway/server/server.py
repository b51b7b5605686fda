"""Server: accepts peers at a URL and serves each of them a service."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from threading import Condition, Event, RLock
from time import monotonic
from typing import Any, Final, Self

from gateway.channels import listen, redacted
from gateway.channels.base import Channel
from gateway.channels.listener import Listener
from gateway.errors import ConfigError, GatewayError, LinkDown, Unauthenticated
from gateway.limits import DEFAULT_LIMITS, Limits
from gateway.server import memory
from gateway.server.ledger import Account, Ledger
from gateway.service.service import Service, instance_of
from gateway.sync.connection import Connection
from gateway.sync.reactor import LINGER_S, REACTOR
from gateway.sync.workers import WORKERS

_log: Final = logging.getLogger(__name__)

DEFAULT_URL: Final = "tcp://127.0.0.1:18871"
_CLOSE_S: Final = 1.0
_AT_ONCE: Final = 16
"""Peers taken in before the reactor looks after the others again."""
_SWEEP_S: Final = 1.0
"""How long after a connection's end the process is looked at whether it has grown."""
_COMPLAIN_S: Final = 1.0
"""Refused connections are logged this often."""
_LOCAL: Final = "local"


class Server:
    """Serves `service` at `url`: a class makes a new service per connection, an instance is shared by all.

    `config` overrides DEFAULT_CONFIG for every connection. `strict` serves under the device policy: of the service and
    of all it returns only what is exposed can be reached, whatever the config says. `url` must name an address to be
    reachable from other machines; the default is this machine only. `introduce` is called with each connection and its
    channel before anything is served; what it raises refuses the peer.
    """

    def __init__(
        self,
        service: Service | type[Service],
        url: str = DEFAULT_URL,
        config: dict[str, Any] | None = None,
        *,
        limits: Limits | None = None,
        strict: bool = False,
        introduce: Callable[[Connection, Channel], None] | None = None,
    ) -> None:
        self._service = service
        self._introduce = introduce
        self._url = url
        self._config = dict(config or {})
        self._limits = limits or DEFAULT_LIMITS
        self._strict = strict
        self._listener: Listener | None = None
        self._connections: set[Connection] = set()
        self._admitted: Counter[str] = Counter()
        """Peers by host, from their acceptance on: a connection comes about a little later, in a worker."""
        self._ledger = Ledger(self._limits)
        self._sweeper = memory.Sweeper()
        self._sweeping = False
        self._refused = 0
        self._complained_at = -_COMPLAIN_S
        self._changed = Condition(RLock())
        self._closed = False
        self._ended = Event()
        self._exit: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Server at {redacted(self.url)} ({len(self._connections)} connections)>"

    @property
    def url(self) -> str:
        """Where it listens; with the real port once it is started."""
        return self._listener.url if self._listener is not None else self._url

    @property
    def local_only(self) -> bool:
        """Whether only this machine can reach it."""
        return self._listener is None or self._listener.local_only

    @property
    def connections(self) -> int:
        """How many peers are connected."""
        return len(self._connections)

    def start(self) -> None:
        """Listen; returns once peers can connect.

        Raises ConfigError where `url` can't be listened at, LinkDown if the server was closed: that is for good.
        """
        if self._closed:
            raise LinkDown(f"the server at {redacted(self.url)} was closed; make a new one")
        if self._listener is not None:
            return
        memory.tune()
        self._listener = listen(self._url, limits=self._limits)
        reach = "from this machine only" if self._listener.local_only else "from other machines too"
        _log.info("serving at %s, reachable %s", redacted(self._listener.url), reach)
        REACTOR.add_listener(self._listener.fileno(), self._accept)

    def serve_forever(self) -> None:
        """Serve until `close` is called in another thread, or until a handler's SystemExit or KeyboardInterrupt ends
        it.
        """
        if not self._ended.is_set():
            self.start()
        self._ended.wait()
        if self._exit is not None:
            raise self._exit

    def serve_channel(self, channel: Channel) -> Connection:
        """Serve one peer over a channel that is open already, such as standard input and output."""
        with self._changed:
            self._admitted[_LOCAL] += 1
        conn = self._connection(channel, _LOCAL)
        self._begin(conn)
        return conn

    def close(self) -> None:
        """Stop listening and close all connections, within about a second. Idempotent."""
        with self._changed:
            self._closed = True
            conns = list(self._connections)
        if self._listener is not None and not self._listener.closed:
            REACTOR.remove_listener(self._listener.fileno())
            self._listener.close()
        for conn in conns:
            WORKERS.submit(conn.close)
        deadline = monotonic() + _CLOSE_S
        with self._changed:
            while self._connections and monotonic() < deadline:
                self._changed.wait(deadline - monotonic())
            left = list(self._connections)
        for conn in left:
            conn.abandon(LinkDown("the server closed"))
        self._ended.set()

    # -- peers ------------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        """Take in the peers that wait. Runs in the reactor's thread."""
        listener = self._listener
        if listener is None:
            return
        try:
            for _ in range(_AT_ONCE):
                channel = None if self._closed else listener.accept()
                if channel is None:
                    break
                self._admit(channel, listener.peer_host(channel))
            if not self._closed and listener.retry_after_s > 0:
                REACTOR.remove_listener(listener.fileno())
                REACTOR.call_later(listener.retry_after_s, self._accept_again)
        except LinkDown as error:
            if not self._closed:
                _log.error("%s: no more peers are accepted: %s", redacted(self.url), error)

    def _accept_again(self) -> None:
        if not self._closed and self._listener is not None:
            REACTOR.add_listener(self._listener.fileno(), self._accept)
            self._accept()

    def _admit(self, channel: Channel, host: str) -> None:
        """Have a worker begin a connection, unless there are too many. Making its service may take time."""
        with self._changed:
            total, own = self._admitted.total(), self._admitted[host]
            if total < self._limits.connections and own < self._limits.connections_per_host:
                self._admitted[host] += 1
                WORKERS.submit(self._welcome, channel, host)
                return
        self._complain(f"{host} has {own}, all have {total}")
        channel.close()

    def _complain(self, why: str) -> None:
        self._refused += 1
        now = monotonic()
        if now - self._complained_at >= _COMPLAIN_S:
            _log.warning("%d connections were refused; the last one: %s", self._refused, why)
            self._refused, self._complained_at = 0, now

    def _welcome(self, channel: Channel, host: str) -> None:
        try:
            conn = self._connection(channel, host)
        except (Unauthenticated, ConfigError) as error:
            _log.warning("a peer from %s is not let in: %s", host, error)
        except Exception:
            _log.exception("no connection for a peer from %s: making its service failed", host)
        else:
            self._begin(conn)

    def _connection(self, channel: Channel, host: str) -> Connection:
        """A connection for an admitted peer. Raises what making its service raises; the channel is closed then."""
        config = {**self._config, "endpoints": channel.endpoints}
        if self._strict:
            config["sync_request_timeout"] = self._callback_time(config.get("sync_request_timeout"))
        try:
            conn = Connection(instance_of(self._service), channel, config, limits=self._limits, strict=self._strict)
        except BaseException:
            self._dismiss(host)
            channel.close()
            raise
        try:
            if self._introduce is not None:
                self._introduce(conn, channel)
        except BaseException as error:
            self._dismiss(host)
            conn.abandon(LinkDown(f"refused: {error}"))
            raise
        conn.calls.account = account = self._ledger.open(host)
        channel.charge_to(account)
        conn.on_lost.append(lambda conn: self._forget(conn, host, account))
        conn.on_exit = self._end_by
        with self._changed:
            self._connections.add(conn)
        return conn

    def _callback_time(self, configured: float | None) -> float:
        return min(configured or self._limits.callback_s, self._limits.callback_s)

    def _begin(self, conn: Connection) -> None:
        if self._closed:  # since it was admitted, so that `close` did not see it
            conn.abandon(LinkDown("the server closed"))
            return
        try:
            conn.local_root.on_connect(conn)
        except Exception as error:
            if not isinstance(error, GatewayError):
                _log.exception("on_connect of %r failed; the connection is closed", conn)
            conn.abandon(LinkDown("the service refused the connection"))
            return
        REACTOR.add(conn, LINGER_S, serve_now=True)

    def _forget(self, conn: Connection, host: str, account: Account) -> None:
        conn.calls.forget()
        account.close()
        with self._changed:
            self._connections.discard(conn)
            self._dismiss(host)
            self._changed.notify_all()
            if not self._sweeping:
                self._sweeping = True
                REACTOR.call_later(max(_SWEEP_S, self._sweeper.pause_s), lambda: WORKERS.submit(self._sweep))

    def _sweep(self) -> None:
        self._sweeping = False
        self._sweeper.sweep()

    def _dismiss(self, host: str) -> None:
        with self._changed:
            self._admitted[host] -= 1
            if not self._admitted[host]:
                del self._admitted[host]

    def _end_by(self, error: BaseException) -> None:
        self._exit = error
        WORKERS.submit(self.close)
