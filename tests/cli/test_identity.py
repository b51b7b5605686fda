"""`gateway pair`, `gateway trust` and `gateway clients`, as users run them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.trust import rpyc_line
from tests.cli.conftest import Command

PAIR = ("pair", "--listen", "127.0.0.1", "--port", "0", "--json")


def pair(command: Command, *options: str, code: str | None = None) -> tuple[subprocess.CompletedProcess[str], int, str]:
    """Run both commands; what `trust` printed, the exit code of `pair`, and what that complained about."""
    with command.running(*PAIR, *options) as desk:
        document = desk.document()
        trust = ("trust", "127.0.0.1", "--port", str(document["port"]), "--json")
        done = command(*trust, typed=f"{code or document['code']}\n")
        if code is None:
            return done, desk.process.wait(20), desk.complaints()
        desk.stop()
        return done, 0, desk.complaints()


def test_a_client_is_paired_listed_and_revoked(command: Command) -> None:
    done, code, complaints = pair(command, "--role", "observe", "--device", "psu1=operate")
    assert (done.returncode, code) == (0, 0), done.stderr + complaints
    paired = json.loads(done.stdout)
    assert paired["address"] == "127.0.0.1:18871"
    folder = Path(paired["folder"])
    assert folder.parent == command.folder / "instrument-gateway" / "trusted"
    assert {path.name for path in folder.iterdir()} == {"gateway.json", "ca.pem", "client.pem", "client.key"}

    (listed,) = json.loads(command("clients", "list", "--json").stdout)["clients"]
    assert (listed["name"], listed["role"], listed["devices"]) == (paired["client"], "observe", {"psu1": "operate"})
    assert paired["client"] in command("clients", "list").stdout

    revoked = json.loads(command("clients", "revoke", paired["client"], "--json").stdout)
    assert revoked["revoked"]
    assert json.loads(command("clients", "list", "--json").stdout) == {"clients": []}
    assert json.loads(command("clients", "list", "--all", "--json").stdout)["clients"] == [revoked]
    assert "no clients yet" in command("clients", "list").stdout

    forgotten = command("trust", paired["name"], "--forget", "--json")
    assert json.loads(forgotten.stdout)["id"] == paired["id"]
    assert not folder.exists()


def test_a_wrong_code_pairs_nobody_and_says_so_on_both_sides(command: Command) -> None:
    done, _, _ = pair(command, code="00000000")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "unauthenticated"
    assert not (command.folder / "instrument-gateway" / "trusted").exists()
    assert json.loads(command("clients", "list", "--json").stdout) == {"clients": []}


def test_a_desk_where_nobody_came_in_ends_with_an_error(command: Command) -> None:
    with command.running(*PAIR) as desk:
        port = str(desk.document()["port"])
        for _ in range(3):
            assert command("trust", "127.0.0.1", "--port", port, "--code", "0000-0000").returncode == 1
        assert desk.process.wait(20) == 1
        assert desk.rest() == ""
        assert "no client was paired: 3 wrong codes were tried" in desk.complaints()


def test_a_person_sees_what_to_do_next(command: Command) -> None:
    with command.running("pair", "--listen", "127.0.0.1", "--port", "0") as desk:
        shown = desk.lines_until("on the client")
        code = re.search(r"code: (\d{4}-\d{4})", shown)
        port = re.search(r"gateway trust 127\.0\.0\.1 --port (\d+)", shown)
        assert code
        assert port
        done = command("trust", "127.0.0.1", "--port", port[1], "--code", code[1], "--as", "my bench", "--me", "alice")
        assert done.returncode == 0, done.stderr
        assert "paired with 'my bench', which calls this computer 'alice'" in done.stdout
        assert "conn = gateway.connect('my bench')" in done.stdout
        assert desk.process.wait(20) == 0
        assert "paired: alice (operate)" in desk.rest()


def test_a_paired_client_reads_a_gateway_over_tls_until_it_is_revoked(command: Command) -> None:
    with command.running("demo", "--listen", "tls://127.0.0.1:0", "--name", "tls-bench", "--json") as served:
        url = served.document()["url"]
        assert url.startswith("tls://127.0.0.1:")
        refused = command("read", "psu1.voltage", "--gateway", url)
        assert (refused.returncode, "run `gateway pair` there" in refused.stderr) == (1, True)
        config = command.folder / "paired.toml"
        config.write_text(f'[gateway]\nlisten = "{url}"\n[devices.d]\ndriver = "serial-console"\nport = "/dev/null"\n')
        done, code, _ = pair(command, "--config", str(config))
        assert (done.returncode, code) == (0, 0), done.stderr
        name = json.loads(done.stdout)["name"]
        for where in (url, name):
            read = command("read", "psu1.voltage", "--gateway", where, "--json")
            assert json.loads(read.stdout)["unit"] == "V", read.stderr
        client = json.loads(command("clients", "list", "--json").stdout)["clients"][0]["name"]
        assert command("clients", "revoke", client).returncode == 0
        again = command("read", "psu1.voltage", "--gateway", url)
        assert again.returncode == 4
        assert "may not know this computer any more" in again.stderr


@pytest.mark.interop
def test_exported_files_and_the_printed_line_work_with_a_stock_rpyc(command: Command) -> None:
    with command.running("demo", "--listen", "tls://127.0.0.1:0", "--name", "stock-bench", "--json") as served:
        port = served.document()["url"].rpartition(":")[2]
        folder = command.folder / "old script"
        words = ("clients", "add", "old-script", "--out", str(folder), "--host", "127.0.0.1", "--port", port)
        added = json.loads(command(*words, "--json").stdout)
        assert added["name"] == "old-script"
        assert {path.name for path in folder.iterdir()} == {"ca.pem", "client.pem", "client.key"}
        script = f"import rpyc, ssl\n{added['rpyc']}\nprint(conn.root.psu1.voltage + 1 > 0)\nconn.close()"
        line = [*command.network.prefix, sys.executable, "-c", script]
        done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=60)
        assert done.stdout == "True\n", done.stderr
        assert command(*words).returncode == 2  # never over somebody's files


def test_a_config_that_pairing_is_no_use_for_is_told(command: Command) -> None:
    config = command.folder / "bench.toml"
    config.write_text('[devices.d]\ndriver = "serial-console"\nport = "/dev/null"\n')
    with command.running(*PAIR, "--config", str(config)) as desk:
        desk.document()
        desk.stop()
        assert 'paired clients need listen = "tls://0.0.0.0:18871"' in desk.complaints()


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("trust", "127.0.0.1", "--port", "1", "--code", "12345678"), 4, "run `gateway pair` on the gateway first"),
        (("trust", "127.0.0.1", "--code", "1"), 1, "a code has 8 digits"),
        (("trust", "nobody", "--forget"), 3, "no gateway 'nobody' is trusted"),
        (("clients", "revoke", "nobody"), 3, "no client 'nobody'"),
        (("clients", "add", " x"), 2, "a client's name is 1 to 64 printable characters"),
        (("pair", "--device", "psu1"), 2, "is not NAME=ROLE, such as psu1=observe"),
        (("pair", "--device", "psu1=boss"), 2, "no role 'boss'; a role is observe, operate, admin"),
        (("pair", "--role", "boss"), 2, "boss"),
        (("pair", "--config", "none.toml"), 2, "none.toml: no such file"),
        (("clients",), 2, "Commands"),
    ],
)
def test_what_goes_wrong_is_one_line(command: Command, words: tuple[str, ...], code: int, complaint: str) -> None:
    done = command(*words)
    assert done.returncode == code, done.stderr
    assert complaint in done.stderr


def test_the_line_for_a_stock_client_believes_no_other_ca() -> None:
    line = rpyc_line("10.0.0.5", 18871, "/home/me/it's mine")
    compile(line, "line", "exec")
    assert "ssl_version=ssl.PROTOCOL_TLS_CLIENT" in line
