"""The config file: what it means, and the one line that each mistake gets."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import app
from gateway.config import (
    MAX_FILE,
    RESERVED_NAMES,
    Config,
    GatewaySection,
    default_path,
    driver_options,
    load,
    nearest,
    parse,
)
from gateway.errors import ConfigError
from gateway.limits import Limits

FULL = b"""\
[gateway]
name = "bench-3"
listen = "tcp://0.0.0.0:0"
advertise = false
interfaces = ["127.0.0.1"]
log_level = "debug"

[devices.psu1]
driver = "scpi-power-supply"
port = "/dev/ttyUSB0"
baudrate = 115200

[devices.dmm]
driver = "package.module:Class"

[limits]
connections = 3
progress_s = 2.5
"""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    port: str
    baudrate: int = 9600
    timeout_s: float = 1.0
    parity: str | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.timeout_s > 60:
            raise ValueError("'timeout_s' must be at most 60")


def mistake(text: str | bytes, file: str = "bench.toml") -> str:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as raised:
        config = parse(data, file=file)
        for section in config.devices:
            driver_options(section, Options)
    message = str(raised.value)
    assert "\n" not in message
    return message


def parsed(text: str | bytes) -> Config:
    return parse(text.encode() if isinstance(text, str) else text, file="bench.toml")


def test_a_whole_file_becomes_frozen_structs() -> None:
    config = parsed(FULL)
    assert (config.gateway.name, config.gateway.listen) == ("bench-3", "tcp://0.0.0.0:0")
    assert (config.gateway.advertise, config.gateway.interfaces) == (False, ("127.0.0.1",))
    assert config.gateway.log_level == "debug"
    assert [(device.name, device.driver) for device in config.devices] == [
        ("psu1", "scpi-power-supply"),
        ("dmm", "package.module:Class"),
    ]
    assert config.devices[0].options == {"port": "/dev/ttyUSB0", "baudrate": 115200}
    assert (config.limits.connections, config.limits.progress_s) == (3, 2.5)
    assert config.limits.frame == Limits().frame
    with pytest.raises(AttributeError):
        config.gateway.name = "other"  # type: ignore[misc]


def test_everything_but_a_device_may_be_left_out() -> None:
    config = parsed('[devices.dmm]\ndriver = "scpi-multimeter"\n')
    assert config.gateway.listen == "tcp://127.0.0.1:18871"
    assert config.gateway.advertise is True
    assert config.gateway.interfaces == ()
    assert config.gateway.name
    assert config.limits == Limits()


def test_a_file_saved_on_windows_is_read() -> None:
    config = parsed(b"\xef\xbb\xbf" + FULL.replace(b"\n", b"\r\n"))
    assert config.devices[0].options["port"] == "/dev/ttyUSB0"


def test_options_become_the_drivers_own_struct() -> None:
    options = driver_options(parsed(FULL).devices[0], Options)
    assert options == Options(port="/dev/ttyUSB0", baudrate=115200)


DEVICE = '[devices.psu1]\ndriver = "x"\nport = "/dev/ttyUSB0"\n'

MISTAKES = [
    # unknown keys, with the nearest known one
    (
        '[devices.psu1]\ndriver = "x"\nprot = 1\n',
        "bench.toml:3: [devices.psu1] unknown key 'prot'; did you mean 'port'?",
    ),
    (
        DEVICE + "zzz = 1\n",
        "bench.toml:4: [devices.psu1] unknown key 'zzz'; known: baudrate, parity, port, tags, timeout_s",
    ),
    (
        "[gateway]\nlisten = 'tcp://127.0.0.1:1'\nadvertize = true\n" + DEVICE,
        "bench.toml:3: [gateway] unknown key 'advertize'; did you mean 'advertise'?",
    ),
    (DEVICE + "[limits]\nfram = 3\n", "bench.toml:5: [limits] unknown key 'fram'; did you mean 'frame'?"),
    ("[device.psu1]\ndriver = 'x'\n", "bench.toml:1: unknown table 'device'; did you mean 'devices'?"),
    # wrong types: the key, what was expected, what was found
    (
        DEVICE + "\n# the speed\nbaudrate = '9600'\n",
        "bench.toml:6: [devices.psu1] 'baudrate' must be a whole number, not the text '9600'",
    ),
    (DEVICE + "baudrate = true\n", "bench.toml:4: [devices.psu1] 'baudrate' must be a whole number, not true"),
    (
        DEVICE + "baudrate = 9600.5\n",
        "bench.toml:4: [devices.psu1] 'baudrate' must be a whole number, not the number 9600.5",
    ),
    (DEVICE + "timeout_s = [1]\n", "bench.toml:4: [devices.psu1] 'timeout_s' must be a number, not a list"),
    (DEVICE + "parity = {a = 1}\n", "bench.toml:4: [devices.psu1] 'parity' must be text in quotes, not a table"),
    (
        DEVICE + "tags = [\n 'a',\n 3,\n]\n",
        "bench.toml:4: [devices.psu1] 'tags.1' must be text in quotes, not the number 3",
    ),
    (DEVICE + "parity = 2024-01-01\n", "bench.toml:4: [devices.psu1] 'parity' must be text in quotes, not 2024-01-01"),
    (
        DEVICE + "[gateway]\nadvertise = 'yes'\n",
        "bench.toml:5: [gateway] 'advertise' must be true or false, not the text 'yes'",
    ),
    (
        DEVICE + "[gateway]\nlog_level = 'inf'\n",
        "bench.toml:5: [gateway] 'log_level' must be one of debug, error, info, warning, not the text 'inf'; "
        "did you mean 'info'?",
    ),
    (
        DEVICE + "[limits]\nframe = 'big'\n",
        "bench.toml:5: [limits] 'frame' must be a whole number, not the text 'big'",
    ),
    (
        DEVICE + "[limits]\nframe = 0x" + "f" * 4000 + "\n",
        "bench.toml:5: [limits] 'frame' must be below 1e+15: no limit can be switched off",
    ),
    ("gateway = 3\n" + DEVICE, "bench.toml:1: 'gateway' must be a table, [gateway], not the number 3"),
    (
        "[devices]\npsu1 = 'x'\n",
        "bench.toml:2: [devices.psu1] 'psu1' must be a table, [devices.psu1], not the text 'x'",
    ),
    # missing and refused values
    ("[devices.psu1]\ndriver = 'x'\n", "bench.toml:1: [devices.psu1] missing key 'port'"),
    (
        "[devices.psu1]\nport = 'x'\n",
        "bench.toml:1: [devices.psu1] missing key 'driver'; name a driver, such as driver = \"scpi-multimeter\"",
    ),
    (
        "[devices.psu1]\ndriver = 3\n",
        "bench.toml:2: [devices.psu1] 'driver' must be the name of a driver, not the number 3",
    ),
    (DEVICE + "timeout_s = 61\n", "bench.toml:4: [devices.psu1] 'timeout_s' must be at most 60"),
    (
        DEVICE + "[limits]\nframe = -1\n",
        "bench.toml:5: [limits] Limits.frame must be a number above 0, not -1",
    ),
    (
        DEVICE + "[limits]\nprogress_s = inf\n",
        "bench.toml:5: [limits] 'progress_s' must be below 1e+15: no limit can be switched off",
    ),
    (
        "[gateway]\nname = ''\n" + DEVICE,
        "bench.toml:2: [gateway] 'name' must be 1 to 63 bytes of printable text, not 0 bytes",
    ),
    (
        f"[gateway]\nname = '{'é' * 32}'\n" + DEVICE,
        "bench.toml:2: [gateway] 'name' must be 1 to 63 bytes of printable text, not 64 bytes",
    ),
    (
        "[gateway]\nlisten = '127.0.0.1'\n" + DEVICE,
        "bench.toml:2: [gateway] 'listen': '127.0.0.1' is no channel URL; write one like tcp://host:18871",
    ),
    (
        "[gateway]\nlisten = 'tcp://user:secret@host'\n" + DEVICE,
        "bench.toml:2: [gateway] 'listen': 'tcp://***@host': a channel URL holds no password; ssh:// works with keys",
    ),
    (
        "[gateway]\nname = ' bench '\n" + DEVICE,
        "bench.toml:2: [gateway] 'name' has blanks at its ends; write 'bench'",
    ),
    (
        "[gateway]\ninterfaces = ['127.0.0.1', 'eth0']\n" + DEVICE,
        "bench.toml:2: [gateway] 'interfaces' has 'eth0', which is no IP address of an interface",
    ),
    # device names
    (
        "[devices.'psu 1']\ndriver = 'x'\n",
        "bench.toml:1: [devices.psu 1] 'psu 1' is no device name; use letters, digits and _ after a letter, "
        "such as 'psu1'",
    ),
    (
        "[devices.class]\ndriver = 'x'\n",
        "bench.toml:1: [devices.class] 'class' is no device name; use letters, digits and _ after a letter, "
        "such as 'psu1'",
    ),
    (
        "[devices.describe]\ndriver = 'x'\n",
        "bench.toml:1: [devices.describe] 'describe' is a name the gateway uses; choose another, such as 'psu1'",
    ),
    (
        f"[devices.{'a' * 41}]\ndriver = 'x'\n",
        f"bench.toml:1: [devices.{'a' * 40}] the device name '{'a' * 40}'... is longer than 40 characters",
    ),
    # files that are no config
    ("", "bench.toml: the file is empty; write one like examples/bench.toml"),
    ("\n \n", "bench.toml: the file is empty; write one like examples/bench.toml"),
    ("[gateway]\n", "bench.toml: no [devices.NAME] table: nothing to serve"),
    ("[gateway]\nname = \n", "bench.toml:2: not TOML: invalid value"),
    ("[gateway]\nname = 'a'\nname = 'b'\n", "bench.toml:3: not TOML: cannot overwrite a value"),
    ("a = " + "[" * 5000, "bench.toml: lists or tables nested too deeply"),
    (b"[gateway]\nname = '\xff'\n", "bench.toml:2: not UTF-8 text; save it as UTF-8"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_one_line_that_names_file_line_and_key(text: str | bytes, message: str) -> None:
    assert mistake(text) == message


def test_a_number_of_too_many_digits_is_refused_in_one_line() -> None:
    assert mistake("a = " + "9" * 5000).startswith("bench.toml: exceeds the limit")


@pytest.mark.parametrize(
    "name", sorted(RESERVED_NAMES | {"exposed_psu", "_psu", "1psu", "psu.1", "def", "ps\u00fc", "x" * 41})
)
def test_a_name_that_clients_could_not_use_is_refused(name: str) -> None:
    assert "bench.toml:1: " in mistake(f'[devices."{name}"]\ndriver = "x"\n')


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("devices.psu1 = {driver = 'x', prot = 1}\n", 1),
        ("\ndevices.psu1.driver = 'x'\ndevices.psu1.prot = 1\n", 3),
        ("[devices]\n[devices.psu1] # the supply\ndriver='x'\nprot=1\n", 4),
        ("[devices.'psu1']\n'driver' = 'x'\n\"prot\" = 1\n", 3),
        ("[devices.psu1]\ndriver = '''\nprot = 3\n'''\nprot = 1\n", 5),
        ("[devices.psu1]\ndriver = 'x' # [devices.psu2]\n  prot\t= 1\n", 3),
    ],
)
def test_the_line_is_found_however_the_key_is_written(text: str, line: int) -> None:
    assert mistake(text) == f"bench.toml:{line}: [devices.psu1] unknown key 'prot'; did you mean 'port'?"


def test_a_missing_file_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match=r"^/nowhere/bench\.toml: no such file; write one like examples/bench\.toml$"):
        load("/nowhere/bench.toml")


def test_a_folder_is_no_config(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match="cannot read it: Is a directory"):
        load(str(tmp_path))


def test_a_file_without_end_is_read_no_further_than_the_limit() -> None:
    with pytest.raises(ConfigError, match=f"/dev/zero: larger than {MAX_FILE} bytes"):
        load("/dev/zero")


def test_the_users_own_config_comes_before_the_machines(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert str(default_path()) == "/etc/instrument-gateway/gateway.toml"
    own = tmp_path / "instrument-gateway" / "gateway.toml"
    own.parent.mkdir()
    own.write_bytes(FULL)
    assert default_path() == own
    assert load(default_path()).gateway.name == "bench-3"


def test_nearest_lists_what_is_known_where_nothing_is_near() -> None:
    assert nearest("voltag", ["voltage", "current"]) == "did you mean 'voltage'?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("zzz", []) == "none is known"


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
def test_no_bytes_are_anything_but_a_config_or_a_config_error(data: bytes) -> None:
    try:
        parse(data, file="x")
    except ConfigError as problem:
        assert str(problem).startswith("x:")


@given(cut=st.integers(0, len(FULL)), at=st.integers(0, len(FULL) - 1), byte=st.integers(0, 255))
def test_a_damaged_file_is_a_config_or_a_config_error(cut: int, at: int, byte: int) -> None:
    damaged = bytearray(FULL)
    damaged[at] = byte
    for data in (bytes(damaged), FULL[:cut]):
        try:
            parse(data, file="x")
        except ConfigError as problem:
            assert str(problem).startswith("x:")


# -- the reference page and the example ------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]


def test_the_reference_page_has_every_key_with_its_default() -> None:
    page = (ROOT / "docs" / "reference" / "config.md").read_text(encoding="utf-8")
    for row in dataclasses.fields(Limits):
        assert f"\n| `{row.name}` | {row.default} |" in page, row.name
    for key in msgspec.structs.fields(GatewaySection):
        assert re.search(rf"\n\| `{key.name}` \|", page), key.name
    assert f'`"{GatewaySection().listen}"`' in page


def test_the_example_is_a_config_that_the_drivers_take() -> None:
    config = load(ROOT / "examples" / "bench.toml")
    gateway = app.build(config)
    assert [device.name for device in gateway.devices] == ["psu1", "dmm1", "board"]


def test_what_the_example_shows_as_defaults_are_the_defaults() -> None:
    text = (ROOT / "examples" / "bench.toml").read_text(encoding="utf-8")
    config = parse(re.sub(r"^# (?=(listen|advertise|log_level) = )", "", text, flags=re.MULTILINE).encode(), file="x")
    defaults = GatewaySection()
    assert (config.gateway.listen, config.gateway.advertise) == (defaults.listen, defaults.advertise)
    assert config.gateway.log_level == defaults.log_level
