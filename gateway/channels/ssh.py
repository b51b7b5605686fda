"""ssh://[user@]host[:port][/path/of/gateway] - RPyC through OpenSSH: runs `gateway stdio` on the host.

    ssh://pi@bench3                                     `gateway stdio`, found by the login's PATH
    ssh://bench3/opt/gateway/bin/gateway                that program, with the argument stdio
    ssh://bench3?command=docker exec -i gw gateway stdio
    ssh://bench3?identity=/home/me/.ssh/bench&config=/home/me/bench.conf

User, port, keys and jump hosts that the URL leaves out come from ssh's own config. ssh never asks anything here: keys
(or an agent) must work, and the host's key must be known.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Final

from gateway.channels.base import Channel
from gateway.channels.pipe import NO_SERVER, command_channel
from gateway.channels.url import READ, ChannelUrl, Options, Scheme, text
from gateway.errors import ConfigError
from gateway.limits import Limits

SSH: Final = "ssh"
ALIVE_PROBES: Final = 3
SSH_FAILED: Final = 255
"""ssh's exit code for its own failures; any other one is the remote command's (ssh(1))."""
NO_SUCH_COMMAND: Final = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class SshOptions(Options):
    command: str | None = field(default=None, metadata={READ: text})
    """The whole remote command, instead of `gateway stdio`; the host's shell reads it."""
    identity: str | None = field(default=None, metadata={READ: text})
    """File of the private key, as in `ssh -i`."""
    config: str | None = field(default=None, metadata={READ: text})
    """ssh's config file, as in `ssh -F`."""


SCHEME: Final = Scheme(options=SshOptions, takes=frozenset({"user", "host", "port", "path"}), no_server=NO_SERVER)

ADVICE: Final = (
    # What ssh says, in lower case, and what to do about it; {target} is the host as ssh takes it.
    ("permission denied", "put your public key on the host (ssh-copy-id {target}), or load it (ssh-add)"),
    ("too many authentication failures", "name the right key with the option identity"),
    ("identification has changed", "find out why the host's key is new; then ssh-keygen -R it and log in once by hand"),
    ("host key verification failed", "log in once by hand (ssh {target}) to check and accept the host's key"),
    ("could not resolve", "check the host's name"),
    ("connection refused", "check that the host runs an ssh server, on this port"),
    ("timed out", "check the address, the network and a firewall"),
    ("no route to host", "check the address and the network"),
    ("command not found", "install the gateway on the host, or give its path: ssh://host/path/of/gateway"),
    ("no such file", "check the path in the URL: ssh://host/path/of/gateway"),
)


def check(url: ChannelUrl[SshOptions]) -> None:
    if not url.host:
        raise ConfigError(f"{url.shown!r} names no host")
    if url.port == 0:
        raise ConfigError(f"{url.shown!r}: there is no port 0")
    if url.options.command and url.path not in {"", "/"}:
        raise ConfigError(f"{url.shown!r}: give the gateway's path or the option command, not both")


def arguments(url: ChannelUrl[SshOptions], limits: Limits, timeout: float) -> list[str]:
    """The command line for `url`."""
    words = [SSH, "-T", "-x", "-a", "-e", "none"]
    for setting in (
        "BatchMode=yes",
        "ClearAllForwardings=yes",
        "Compression=no",  # frames that get smaller by it are deflated already, where that is asked for
        f"ConnectTimeout={max(1, round(timeout))}",
        f"ServerAliveInterval={max(1, round(limits.liveness_s / ALIVE_PROBES))}",
        f"ServerAliveCountMax={ALIVE_PROBES}",
    ):
        words += ["-o", setting]
    given = (("-l", url.user), ("-p", url.port), ("-i", url.options.identity), ("-F", url.options.config))
    for switch, value in given:
        if value is not None:
            words += [switch, str(value)]
    return [*words, "--", str(url.host), _remote_command(url)]


def _remote_command(url: ChannelUrl[SshOptions]) -> str:
    if url.options.command:
        return url.options.command
    program = "gateway" if url.path in {"", "/"} else url.path
    return f"{shlex.quote(program)} stdio"


def connect(url: ChannelUrl[SshOptions], limits: Limits, timeout: float) -> Channel:
    """Start ssh, which has `timeout` seconds for reaching the host.

    Returns at once: whether the login worked shows when the channel is used. Then a LinkDown of one line holds ssh's
    own words and what to do. Raises ConfigError if there is no ssh.
    """
    target = f"{url.user}@{url.host}" if url.user else str(url.host)

    def advice(code: int, complaint: str) -> str:
        said = complaint.lower()
        for words, fix in ADVICE:
            if words in said and code in {SSH_FAILED, NO_SUCH_COMMAND}:
                return fix.format(target=target)
        return ADVICE[-2][1] if code == NO_SUCH_COMMAND else ""

    return command_channel(
        arguments(url, limits, timeout), str(url), limits, compress=bool(url.options.compress), advice=advice
    )
