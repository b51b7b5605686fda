"""tls://host:port - RPyC over TLS 1.3, where both ends prove who they are.

    tls://192.168.1.20:18871                       a gateway that this computer was paired with, at its last address
    tls://bench3:18871?identity=/path/to/folder    ... or the certificates in this folder: see gateway.identity.trust
    tls://0.0.0.0:18871                            listen, with the gateway's own CA: see gateway.identity.ca
    tls://0.0.0.0:18871?identity=/path/to/folder   ... in this folder

A client believes one CA, the one of the gateway it was paired with, and no other; a gateway lets in whoever has a
certificate of its CA and stands in its list of clients. There are no session tickets: every connection is proved anew,
so nobody who was revoked comes back by an old session.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Final

from gateway.channels import tcp
from gateway.channels.base import Channel
from gateway.channels.doorman import Doorman
from gateway.channels.listener import Listener
from gateway.channels.sockets import SocketStream
from gateway.channels.stream import StreamChannel
from gateway.channels.tls_stream import Engine, TlsStream
from gateway.channels.url import DEFAULT_PORT, READ, ChannelUrl, Options, Scheme, text
from gateway.errors import ConfigError, LinkDown, Unauthenticated, Unreachable
from gateway.identity import trust
from gateway.identity.places import check_secret, gateway_folder
from gateway.limits import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions(Options):
    identity: str | None = field(default=None, metadata={READ: text})
    """The folder with the certificates."""


_CHUNK: Final = 16 * 1024
SCHEME: Final = Scheme(options=TlsOptions, takes=frozenset({"host", "port"}), default_port=DEFAULT_PORT)


def check(url: ChannelUrl[TlsOptions]) -> None:
    """Nothing beyond what `parse_url` checks."""


# -- the client's end ---------------------------------------------------------------------------------------------


def connect(url: ChannelUrl[TlsOptions], limits: Limits, timeout: float) -> Channel:
    """Connect, and make sure within `timeout` seconds that it is the trusted gateway which answers.

    Raises Unauthenticated where it is not, or where none is trusted at this address; ConfigError for certificates that
    can't be used; NotFound and Unreachable as for tcp. That the gateway refuses this client shows when it is read from.
    """
    context = client_context(_client_folder(url))
    deadline = monotonic() + timeout
    under = tcp.dial(url, limits, timeout)
    engine = Engine.of(context, server=False)
    try:
        _shake_hands(under, engine, url, deadline)
    except BaseException:
        under.close()
        raise
    return StreamChannel(TlsStream(under, engine), limits, compress=bool(url.options.compress))


def client_context(folder: Path) -> ssl.SSLContext:
    """What a client with the certificates in `folder` shows and believes. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Whoever has a server's certificate from this CA is the gateway: there is only one, and it may be called anything.
    context.check_hostname = False
    return _prepared(context, folder / trust.CA, folder / trust.CERTIFICATE, folder / trust.KEY)


def _client_folder(url: ChannelUrl[TlsOptions]) -> Path:
    if url.options.identity is not None:
        return Path(url.options.identity)
    host, port = url.host or tcp.LOOPBACK, url.port or DEFAULT_PORT
    trusted = trust.TrustStore().at(host, port)
    if trusted is None:
        raise Unauthenticated(
            f"{url}: this computer has not been paired with a gateway at that address; run `gateway pair` there, and "
            f"`gateway trust {host}` here"
        )
    return trusted.folder


def _shake_hands(under: SocketStream, engine: Engine, url: ChannelUrl[Any], deadline: float) -> None:
    try:
        done = False
        while not done:
            done = engine.handshake()
            sealed = engine.outgoing.read()
            if sealed:
                under.write(sealed, max(0.0, deadline - monotonic()))
            if not done:
                chunk = under.read(_CHUNK, max(0.0, deadline - monotonic()))
                if chunk is None:
                    raise Unreachable(f"can't reach {url}: who listens there says nothing; is it a gateway?")
                engine.incoming.write(chunk)
    except ssl.SSLCertVerificationError as problem:
        raise Unauthenticated(
            f"{url} is not the gateway that was paired with: {problem.verify_message}; "
            "if it was set up anew, pair again"
        ) from None
    except ssl.SSLError as problem:
        raise Unreachable(f"can't reach {url}: {_no_tls(problem)}") from None
    except Unreachable:
        raise
    except LinkDown as lost:
        raise Unreachable(f"can't reach {url}: {lost} during the handshake; does it serve at a tls:// URL?") from None


def _no_tls(problem: ssl.SSLError) -> str:
    reason = (problem.reason or str(problem)).lower().replace("_", " ")
    return f"what answers speaks no TLS 1.3 ({reason}); does it serve at a tls:// URL?"


# -- the gateway's end --------------------------------------------------------------------------------------------


def listen(url: ChannelUrl[TlsOptions], limits: Limits) -> Listener:
    """Bind, listen, and let in who is in the list of clients. The CA is made where there is none yet.

    Raises ConfigError if the address or the certificates can't be used, NotFound for an unknown name.
    """
    from gateway.identity.ca import Authority
    from gateway.identity.clients import Clients
    from gateway.identity.principal import fingerprint

    folder = Path(url.options.identity) if url.options.identity is not None else gateway_folder()
    Authority.open(folder)
    context = server_context(folder)
    clients = Clients(folder)
    clients.all()  # a list that can't be read is said now, and not to each client

    def admit(certificate: bytes) -> str:
        return clients.admit(fingerprint(certificate)).name

    return Doorman(tcp.listen(url, limits), context, admit, limits, compress=bool(url.options.compress))


def server_context(folder: Path) -> ssl.SSLContext:
    """What a gateway with the identity in `folder` shows and asks for. Raises ConfigError."""
    from gateway.identity import ca

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    return _prepared(context, folder / ca.CA_CERTIFICATE, folder / ca.SERVER_CERTIFICATE, folder / ca.SERVER_KEY)


def _prepared(context: ssl.SSLContext, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    check_secret(key)
    try:
        context.load_verify_locations(ca)
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as problem:
        raise ConfigError(
            f"{ca.parent}: the certificates there can't be used: {problem.strerror or problem}; pair again"
        ) from None
    return context
