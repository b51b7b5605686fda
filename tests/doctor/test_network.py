"""The network: real sockets, and where root is, namespaces with real faults."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.discovery.interfaces import local_interfaces
from gateway.doctor import Verdict
from gateway.doctor.mdns import hears_itself
from gateway.systemd.tools import Output

OWN = ["unshare", "--net", "--mount"]
"""A network of its own, and mounts: /sys has to be looked at through the network that one is in."""


# -- the gateway's own port -------------------------------------------------------------------------------------------


def test_a_port_that_somebody_listens_at_is_told_with_who_it_is(machine: Any) -> None:
    machine.with_real_processes()
    with subprocess.Popen(
        [sys.executable, "-c", _LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        machine.wants(listen=f"tcp://127.0.0.1:{port}")
        finding = machine.one("listen", Verdict.PROBLEM)
        machine.wants(listen=f"tcp://127.0.0.2:{port}")
        beside = machine.check("listen")
        machine.wants(listen=f"tcp://0.0.0.0:{port}")
        above = machine.one("listen", Verdict.PROBLEM)
        process.communicate()
    assert f"(process {process.pid})" in finding.what
    assert finding.fix == (f"kill {process.pid}",)
    assert [each.verdict for each in beside] == [Verdict.OK]
    assert f"(process {process.pid})" in above.what


_LISTEN = """
import socket, sys
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_a_gateway_that_listens_already_is_well(machine: Any, tmp_path: Path) -> None:
    machine.with_real_processes()
    config = tmp_path / "bench.toml"
    config.write_text(
        '[gateway]\nlisten = "tcp://127.0.0.1:0"\nadvertise = false\n'
        '[devices.gone]\ndriver = "scpi-multimeter"\nport = "/dev/ttyNothing"\n',
        encoding="utf-8",
    )
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", str(config), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        machine.wants(listen=json.loads(process.stdout.readline())["url"])
        found = machine.check("listen")
        process.terminate()
        process.wait(30)
    assert [each.verdict for each in found] == [Verdict.OK], found
    assert "the gateway listens there" in found[0].what


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("tcp://192.0.2.77:18871", "no interface of this computer has that address"),
        ("tcp://127.0.0.1:502", "takes root"),
        ("tcp://no-such-host.invalid:18871", "has no address"),
    ],
)
def test_an_address_that_cannot_be_listened_at_is_told(machine: Any, listen: str, said: str) -> None:
    machine.wants(listen=listen)
    assert said in machine.one("listen", Verdict.PROBLEM).what


def test_a_free_port_is_well(machine: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as made:
        port = made.getsockname()[1]
    machine.wants(listen=f"tcp://127.0.0.1:{port}")
    machine.is_well("listen")
    machine.wants(listen="unix:///run/instrument-gateway/gateway.sock")
    machine.is_well("listen")


# -- the firewall -----------------------------------------------------------------------------------------------------

LAN = "tcp://192.0.2.7:18871"
IPTABLES = "-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 18871 -j ACCEPT\n"


def test_a_gateway_on_loopback_needs_no_hole_in_the_firewall(machine: Any) -> None:
    machine.answers["iptables", "-S"] = Output(0, "-P INPUT DROP\n")
    machine.is_well("firewall")


def test_what_iptables_drops_is_told_with_the_rule_that_lets_it_in(machine: Any) -> None:
    machine.wants(listen=LAN)
    machine.answers["iptables", "-S"] = Output(0, IPTABLES)
    finding = machine.one("firewall", Verdict.PROBLEM)
    assert "drops UDP port 5353" in finding.what
    assert finding.fix[0] == "sudo iptables -I INPUT -p udp --dport 5353 -j ACCEPT"
    machine.wants(advertise=False)
    machine.is_well("firewall")


def test_the_fix_is_for_the_program_that_keeps_the_rules(machine: Any) -> None:
    machine.wants(listen=LAN)
    machine.answers["iptables", "-S"] = Output(0, f"{IPTABLES}-N ufw-user-input\n")
    assert machine.one("firewall", Verdict.PROBLEM).fix == ("sudo ufw allow 5353/udp",)


def test_rules_that_cannot_be_read_are_not_taken_for_none(machine: Any) -> None:
    machine.wants(listen=LAN)
    machine.is_well("firewall")
    machine.uid = 1000
    machine.answers["nft", "--json", "list", "ruleset"] = Output(1, "", "Operation not permitted")
    machine.one("firewall", Verdict.SKIPPED)


# -- mDNS -------------------------------------------------------------------------------------------------------------


def test_avahi_that_keeps_others_out_is_told(machine: Any) -> None:
    machine.is_well("avahi")
    machine.write("/etc/avahi/avahi-daemon.conf", "[server]\n#disallow-other-stacks=no\n")
    machine.is_well("avahi")
    machine.write("/etc/avahi/avahi-daemon.conf", "[server]\ndisallow-other-stacks=yes\n")
    assert machine.one("avahi", Verdict.PROBLEM).fix[-1] == "sudo systemctl restart avahi-daemon"


def test_an_interface_that_is_not_there_is_told(machine: Any) -> None:
    machine.wants(interfaces=("192.0.2.77",))
    assert "192.0.2.77: no interface" in machine.one("mdns", Verdict.PROBLEM).what
    machine.wants(advertise=False)
    machine.is_well("mdns")


@pytest.mark.multicast
def test_a_question_to_ourselves_comes_back_on_loopback() -> None:
    loopback = [interface for interface in local_interfaces() if interface.address == "127.0.0.1"]
    assert [hears_itself(interface, timeout_s=10) for interface in loopback] == [True] * len(loopback)


def why_no_namespace() -> str:
    if any(shutil.which(tool) is None for tool in ("unshare", "ip", "mount")):
        return "unshare, ip and mount are needed"
    done = subprocess.run(
        [*OWN, "sh", "-c", "ip link set lo up && mount -t sysfs igw-test /sys"],
        check=False,
        capture_output=True,
        text=True,
    )
    return "" if done.returncode == 0 else f"no network namespace can be made here: {done.stderr.strip()}"


@pytest.fixture(scope="module")
def need_namespace() -> None:
    reason = why_no_namespace()
    if reason:
        pytest.skip(reason)


CONFIG = """
[gateway]
listen = "tcp://{address}:18871"
insecure_lan = true
[devices.dmm1]
driver = "scpi-multimeter"
port = "/dev/ttyNothing"
"""


def doctor_in_namespace(folder: Path, script: str, *checks: str, address: str = "127.0.0.1") -> Any:
    """The doctor's findings in a network of its own that `script` (of the shell) has prepared."""
    (folder / "bench.toml").write_text(CONFIG.format(address=address), encoding="utf-8")
    only = " ".join(f"--only {check}" for check in checks)
    doctor = f"{sys.executable} -m gateway doctor --config bench.toml --json {only}"
    whole = f"mount -t sysfs igw-test /sys\nip link set lo up\n{script}\n{doctor}\n"
    done = subprocess.run(
        [*OWN, "sh", "-c", whole], check=False, capture_output=True, text=True, timeout=60, cwd=folder
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["findings"]


@pytest.mark.multicast
@pytest.mark.usefixtures("need_namespace")
def test_port_5353_in_the_hands_of_a_program_that_does_not_share_it_is_told(tmp_path: Path) -> None:
    hold = "import socket,sys; s=socket.socket(2,2); s.bind(('',5353)); print(flush=True); sys.stdin.read()"
    script = f'mkfifo pipe; {sys.executable} -c "{hold}" <pipe >said & exec 9>pipe; until [ -s said ]; do :; done'
    (found,) = doctor_in_namespace(tmp_path, script, "mdns")
    assert found["verdict"] == "problem"
    assert "UDP port 5353 is held by python" in found["what"]
    assert found["fix"][0].startswith("kill ")


@pytest.mark.multicast
@pytest.mark.usefixtures("need_namespace")
def test_an_interface_without_multicast_is_told(tmp_path: Path) -> None:
    script = """
        ip link add va type veth peer name vb && ip addr add 10.77.8.1/24 dev va || exit 1
        ip link set va multicast off; ip link set va up; ip link set vb up
    """
    (found,) = doctor_in_namespace(tmp_path, script, "mdns", address="10.77.8.1")
    assert found["verdict"] == "problem"
    assert found["fix"][0] == "sudo ip link set va multicast on"


@pytest.mark.multicast
@pytest.mark.usefixtures("need_namespace")
@pytest.mark.skipif(shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin") is None, reason="nft is not installed")
def test_a_firewall_that_drops_mdns_is_found_by_its_rules_and_by_the_silence(tmp_path: Path) -> None:
    script = """
        ip link add va type veth peer name vb && ip addr add 10.77.8.1/24 dev va || exit 1
        ip link set va up; ip link set vb up
        nft -f - <<'RULES'
        table inet bench {
            chain incoming {
                type filter hook input priority filter; policy drop;
                ct state established,related accept
                tcp dport { 22, 18871 } accept
            }
        }
RULES
    """
    found = doctor_in_namespace(tmp_path, script, "firewall", "mdns", "listen", address="10.77.8.1")
    rules, silence, port = found
    assert (rules["check"], rules["verdict"]) == ("firewall", "problem")
    assert "UDP port 5353" in rules["what"]
    assert rules["fix"][0] == "sudo nft insert rule inet bench incoming udp dport 5353 accept"
    assert (silence["check"], silence["verdict"]) == ("mdns", "problem")
    assert (port["check"], port["verdict"]) == ("listen", "ok")
    mended = doctor_in_namespace(
        tmp_path,
        f"{script}\nnft insert rule inet bench incoming udp dport 5353 accept",
        "firewall",
        "mdns",
        address="10.77.8.1",
    )
    assert [each["verdict"] for each in mended] == ["ok", "ok"], mended
