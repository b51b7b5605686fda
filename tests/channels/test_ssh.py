"""ssh:// - the command line, and a real sshd that the test starts on a loopback port with keys of its own."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.channels import Channel, open_channel, parse_url
from gateway.channels.ssh import arguments
from gateway.errors import ConfigError, LinkDown
from gateway.limits import Limits

LIMITS = replace(Limits(), liveness_s=30.0)


def command_line(url: str) -> list[str]:
    return arguments(parse_url(url), LIMITS, 5.0)


# --------------------------------------------------------------------------------------------------- the command line


def test_ssh_runs_gateway_stdio_and_never_asks() -> None:
    words = command_line("ssh://bench3")
    assert words[0] == "ssh"
    assert words[-3:] == ["--", "bench3", "gateway stdio"]
    assert {"-T", "BatchMode=yes", "Compression=no", "ConnectTimeout=5", "ServerAliveInterval=10"} <= set(words)
    assert not {"-l", "-p", "-i", "-F"} & set(words)


def test_user_port_key_and_config_go_to_ssh_as_words_of_their_own() -> None:
    words = command_line("ssh://pi@bench3:2222?identity=/my keys/id&config=/etc/bench.conf")
    for switch, value in (("-l", "pi"), ("-p", "2222"), ("-i", "/my keys/id"), ("-F", "/etc/bench.conf")):
        assert words[words.index(switch) + 1] == value


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("ssh://bench3/", "gateway stdio"),
        ("ssh://bench3/opt/gateway/bin/gateway", "/opt/gateway/bin/gateway stdio"),
        ("ssh://bench3/opt/my%20gateway;reboot", "'/opt/my gateway;reboot' stdio"),
        ("ssh://bench3?command=docker exec -i gw gateway stdio", "docker exec -i gw gateway stdio"),
        ("ssh://bench3?command=a%20%26%26%20b", "a && b"),
    ],
)
def test_the_remote_command_is_a_path_or_the_users_own(url: str, command: str) -> None:
    assert command_line(url)[-1] == command


def test_an_ipv6_host_goes_to_ssh_without_brackets() -> None:
    assert command_line("ssh://[fe80::1%eth0]:22")[-2] == "fe80::1%eth0"


def test_without_ssh_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="can't run 'ssh': there is no such program"):
        open_channel("ssh://bench3")


@pytest.mark.parametrize(
    ("code", "said", "fix"),
    [
        (255, "ssh: Could not resolve hostname bench33: Name or service not known", "check the host's name"),
        (255, "ssh: connect to host bench3 port 22: Connection timed out", "check the address, the network"),
        (255, "ssh: connect to host bench3 port 22: No route to host", "check the address and the network"),
        (255, "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!", "ssh-keygen -R"),
        (255, "Received disconnect from ::1: 2: Too many authentication failures", "option identity"),
        (255, "kex_exchange_identification: something new", ""),
        (127, "", "install the gateway on the host"),
        (1, "Permission denied: '/dev/ttyUSB0'", ""),
    ],
)
def test_what_ssh_says_comes_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, said: str, fix: str
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho {shlex.quote(said)} >&2\nexit {code}\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with closing(open_channel("ssh://bench3")) as channel, pytest.raises(LinkDown) as caught:
        channel.recv()
    message = str(caught.value)
    assert message.startswith(f"ssh://bench3 ended with exit code {code}")
    assert said in message
    assert fix in message
    assert fix or " - " not in message


# --------------------------------------------------------------------------------------------------------- a real sshd

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)
missing = [name for name, path in {"sshd": SSHD, "ssh": shutil.which("ssh")}.items() if path is None]
needs_sshd = pytest.mark.skipif(bool(missing), reason=f"no {' and no '.join(missing)} (package openssh-server)")


@dataclass
class Server:
    folder: Path
    port: int

    def url(self, *, config: str = "config", path: str = "", command: str = "") -> str:
        options = f"?config={self.folder}/{config}" + (f"&command={command}" if command else "")
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}{options}"


def make_key(file: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    return Path(f"{file}.pub").read_text()


def write_client_config(folder: Path, name: str, *, key: str, known_hosts: str) -> None:
    (folder / name).write_text(
        f"IdentityFile {folder}/{key}\nIdentitiesOnly yes\nIdentityAgent none\n"
        f"UserKnownHostsFile {folder}/{known_hosts}\nGlobalKnownHostsFile /dev/null\n"
    )


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    assert SSHD is not None
    folder = tmp_path_factory.mktemp("sshd")
    folder.chmod(0o700)
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd, run as root, separates its privileges
    host_key, user_key = make_key(folder / "host"), make_key(folder / "user")
    make_key(folder / "stranger")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "authorized_keys").write_text(user_key)
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "other_hosts").write_text(f"[127.0.0.1]:{port} {user_key}")
    (folder / "no_hosts").touch()
    write_client_config(folder, "config", key="user", known_hosts="known_hosts")
    write_client_config(folder, "stranger.conf", key="stranger", known_hosts="known_hosts")
    write_client_config(folder, "changed.conf", key="user", known_hosts="other_hosts")
    write_client_config(folder, "unknown.conf", key="user", known_hosts="no_hosts")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n"
    )
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    with server.stderr:
        for line in server.stderr:
            if "Server listening" in line:
                break
        else:
            pytest.fail("sshd did not start")
        yield Server(folder, port)
        server.terminate()
        server.wait(10)


@pytest.fixture
def gateway_program(tmp_path: Path) -> Path:
    """What stands for `gateway` on the host: its `stdio` answers every message with the message doubled."""
    program = tmp_path / "gateway at work"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys\nfrom gateway.channels import stdio_channel\nfrom gateway.errors import LinkDown\n"
        "assert sys.argv[1:] == ['stdio']\nchannel = stdio_channel()\nprint('noise')\n"
        "try:\n    while True: channel.send(2 * channel.recv())\nexcept LinkDown: channel.close()\n"
    )
    program.chmod(0o755)
    return program


Open = Callable[..., Channel]


@pytest.fixture
def connect(sshd: Server) -> Iterator[Open]:
    opened: list[Channel] = []

    def start(**parts: str) -> Channel:
        opened.append(open_channel(sshd.url(**parts)))
        return opened[-1]

    yield start
    for channel in opened:
        channel.close()


def link_down(channel: Channel) -> str:
    with pytest.raises(LinkDown) as caught:
        channel.recv()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@needs_sshd
def test_messages_go_through_ssh_and_back(connect: Open, gateway_program: Path) -> None:
    channel = connect(path=str(gateway_program).replace(" ", "%20"))
    for message in (b"x", os.urandom(300_000), b"\n\0\r~."):
        channel.send(message)
        assert channel.recv() == 2 * message


@needs_sshd
def test_a_command_of_ones_own_is_run_by_the_hosts_shell(connect: Open, gateway_program: Path) -> None:
    channel = connect(command=f"cd {shlex.quote(str(gateway_program.parent))} %26%26 ./'gateway at work' stdio")
    channel.send(b"x")
    assert channel.recv() == b"xx"


@needs_sshd
def test_a_key_that_the_host_does_not_know_says_how_to_add_it(connect: Open) -> None:
    said = link_down(connect(config="stranger.conf"))
    assert "Permission denied (publickey)" in said
    assert f"ssh-copy-id {getpass.getuser()}@127.0.0.1" in said


@needs_sshd
def test_a_host_key_that_nobody_accepted_says_how_to_do_that(connect: Open) -> None:
    said = link_down(connect(config="unknown.conf"))
    assert "Host key verification failed" in said
    assert "log in once by hand" in said


@needs_sshd
def test_a_host_key_that_changed_says_so(connect: Open) -> None:
    assert "Host key verification failed" in link_down(connect(config="changed.conf"))


@needs_sshd
def test_a_host_without_a_gateway_says_how_to_name_one(connect: Open, tmp_path: Path) -> None:
    said = link_down(connect(path=f"{tmp_path}/nothing"))
    assert "exit code 127" in said
    assert "ssh://host/path/of/gateway" in said


@needs_sshd
def test_a_port_without_sshd_says_so(sshd: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = replace(sshd, port=free.getsockname()[1])
    with closing(open_channel(closed.url())) as channel:
        assert "check that the host runs an ssh server" in link_down(channel)
