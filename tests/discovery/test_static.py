"""Fixed addresses from the environment and the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.discovery import resolve, static_gateways
from gateway.discovery.static import gateways_file, without_password
from gateway.errors import ConfigError, NotFound

NONE = Path("/nonexistent/gateways.toml")


def from_environment(text: str) -> dict[str, str]:
    return static_gateways({"INSTRUMENT_GATEWAYS": text}, NONE)


def from_file(tmp_path: Path, text: str | bytes) -> dict[str, str]:
    path = tmp_path / "gateways.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return static_gateways({}, path)


def test_the_environment_is_read() -> None:
    assert static_gateways({}, NONE) == {}
    assert from_environment("  ") == {}
    assert from_environment("bench=tcp://10.0.0.5:18871, lab 2 = ssh://pi@lab2 ,six=tcp://[fd00::5]:18871") == {
        "bench": "tcp://10.0.0.5:18871",
        "lab 2": "ssh://pi@lab2",
        "six": "tcp://[fd00::5]:18871",
    }


def test_the_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    text = """
    [gateways]
    bench = "tcp://10.0.0.5:18871"
    "lab 2" = "tls://lab2.example:18871"
    near = "unix:///run/gateway.sock"
    tunnel = "pipe:ssh lab2 gateway stdio"
    """
    assert from_file(tmp_path, text) == {
        "bench": "tcp://10.0.0.5:18871",
        "lab 2": "tls://lab2.example:18871",
        "near": "unix:///run/gateway.sock",
        "tunnel": "pipe:ssh lab2 gateway stdio",
    }
    environ = {"INSTRUMENT_GATEWAYS": "bench=tcp://127.0.0.1:1"}
    assert static_gateways(environ, tmp_path / "gateways.toml")["bench"] == "tcp://127.0.0.1:1"


def test_the_users_file_and_environment_are_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("INSTRUMENT_GATEWAYS", "near=tcp://127.0.0.1:1")
    assert gateways_file() == tmp_path / "instrument-gateway" / "gateways.toml"
    gateways_file().parent.mkdir()
    gateways_file().write_text('[gateways]\nbench = "tcp://10.0.0.5:18871"\n')
    assert static_gateways() == {"bench": "tcp://10.0.0.5:18871", "near": "tcp://127.0.0.1:1"}
    # No multicast is needed for a name that is there.
    assert resolve("bench", interfaces=[]) == "tcp://10.0.0.5:18871"
    assert resolve("BENCH", interfaces=[]) == "tcp://10.0.0.5:18871"
    with pytest.raises(NotFound, match="'bench' at tcp://10.0.0.5:18871"):
        resolve("other", interfaces=[])
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    assert gateways_file() == Path.home() / ".config/instrument-gateway/gateways.toml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bench", "entry 1, 'bench', is not NAME=URL"),
        ("a=tcp://h:1,", "entry 2, '', is not NAME=URL"),
        ("a=tcp://h:1,a=tcp://h:2", "'a' is there twice"),
        ("=tcp://h:1", "entry 1: a gateway's name is 1 to 63 bytes"),
        ("a=10.0.0.5:18871", "'10.0.0.5:18871' has no scheme; write tcp://10.0.0.5:18871"),
        ("a=bench.local:18871", "write tcp://bench.local:18871"),
        ("a=", "is no URL"),
        ("a=tcp://h 1", "is no URL"),
        ("a=tcp://h\x1b:1", "is no URL"),
        ("a=tcp://" + "h" * 2000, "is no URL"),
        ("a=tcp://:18871", "has no host"),
        ("a=tcp://h:99999", "Port out of range"),
        ("a=tcp://h:0", "port 0"),
        ("a=tcp://[::1:18871", "Invalid IPv6 URL"),
        (",".join(f"n{number}=tcp://h:1" for number in range(300)), "300 entries; at most 256"),
    ],
)
def test_a_wrong_entry_is_named_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_environment(text)
    assert said in str(caught.value)
    assert str(caught.value).startswith("INSTRUMENT_GATEWAYS: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gateway = 3", "unknown key 'gateway', only the table [gateways] belongs here; did you mean [gateways]?"),
        ("[zebra]\n", "unknown key 'zebra'"),
        ("gateways = 3", "gateways is a table"),
        ("[gateways]\nbench = 5", "[gateways] bench: a URL is text"),
        ("[gateways.bench]\nurl = 'tcp://h:1'", "[gateways] bench: a URL is text"),
        ("[gateways]\nbench = '10.0.0.5'", "[gateways] bench: '10.0.0.5' has no scheme"),
        ("[gateways]\nbench = 'ssh://pi:secret@lab 2'", "'ssh://pi:***@lab 2' is no URL"),
        ("[gateways\n", "not valid TOML"),
        (b"\xff", "not valid TOML"),
        (b"#" * 70_000, "larger than 65536 bytes"),
        ("[gateways]\n" + "\n".join(f"n{number} = 'tcp://h:1'" for number in range(300)), "at most 256"),
    ],
)
def test_a_wrong_file_is_named_with_the_key(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path, text)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/gateways.toml: ")
    assert "secret" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "gateways.toml").mkdir()
    with pytest.raises(ConfigError, match=r"gateways\.toml: cannot read it: Is a directory"):
        static_gateways({}, tmp_path / "gateways.toml")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ssh://pi:secret@lab2", "ssh://pi:***@lab2"),
        ("tcp://:p@ss@h:1/x", "tcp://:***@h:1/x"),
        ("ssh://pi@lab2", "ssh://pi@lab2"),
        ("tcp://[fd00::5]:18871", "tcp://[fd00::5]:18871"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
