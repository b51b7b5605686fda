"""The keys that every device may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import config
from gateway.config import DeviceCommon, Match
from gateway.config.common import MAX_ENTRIES
from gateway.errors import ConfigError

DEVICE = "[devices.psu1]\ndriver = 'scpi-power-supply'\n"


def parsed(text: str) -> config.DeviceSection:
    (section,) = config.parse((DEVICE + text).encode(), file="bench.toml").devices
    return section


def mistake(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        parsed(text)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_common_keys_are_kept_apart_from_the_drivers_options() -> None:
    section = parsed(
        """\
match = {serial_number = "FT8", vid_pid = "0403:6001", interface = 1}
owner = "Ada"
notes = "the lid sticks"
disabled = "on repair"
hazardous = true
lease = false
deadline_s = 5
heartbeat_s = 0.5
allow = "door.closed and chiller.flow > 2"
baudrate = 9600
[devices.psu1.safe]
output = false
voltage = 0
mode = "local"
[devices.psu1.limits]
voltage = [0, 12]
ramp.volts = [-1.5, 5]
"ramp.seconds" = [0, 60]
[devices.psu1.cache]
measured_voltage = 0.5
"""
    )
    assert section.options == {"baudrate": 9600}
    assert section.common == DeviceCommon(
        match=Match(serial_number="FT8", vid_pid="0403:6001", interface=1),
        owner="Ada",
        notes="the lid sticks",
        disabled="on repair",
        hazardous=True,
        lease=False,
        deadline_s=5.0,
        heartbeat_s=0.5,
        safe={"output": False, "voltage": 0, "mode": "local"},
        limits={"voltage": (0.0, 12.0), "ramp.volts": (-1.5, 5.0), "ramp.seconds": (0.0, 60.0)},
        allow="door.closed and chiller.flow > 2",
        cache={"measured_voltage": 0.5},
    )


def test_without_common_keys_a_device_has_their_defaults() -> None:
    assert parsed("port = '/dev/ttyUSB0'\n").common == DeviceCommon()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("owner = 3\n", "bench.toml:3: [devices.psu1] 'owner' must be text in quotes, not the number 3"),
        ("disabled = ''\n", "bench.toml:3: [devices.psu1] 'disabled' must be text in quotes of length >= 1, not"),
        ("disabled = true\n", "bench.toml:3: [devices.psu1] 'disabled' must be text in quotes, not true"),
        ("lease = 'no'\n", "bench.toml:3: [devices.psu1] 'lease' must be true or false, not the text 'no'"),
        ("deadline_s = 0\n", "bench.toml:3: [devices.psu1] 'deadline_s' must be a number > 0.0, not the number 0"),
        ("deadline_s = inf\n", "bench.toml:3: [devices.psu1] 'deadline_s' must be a number <= 3600.0, not"),
        ("heartbeat_s = nan\n", "bench.toml:3: [devices.psu1] 'heartbeat_s' must be a number, not nan"),
        ("safe = 3\n", "bench.toml:3: [devices.psu1] 'safe' must be a table, not the number 3"),
        ("safe.output = []\n", "bench.toml:3: [devices.psu1] 'safe.output' must be true, false, a finite number or te"),
        ("safe.output = inf\n", "bench.toml:3: [devices.psu1] 'safe.output' must be true, false, a finite number or"),
        (f"safe.mode = '{'x' * 201}'\n", "bench.toml:3: [devices.psu1] 'safe.mode' must be at most 200 characters"),
        ("safe.'a b' = 1\n", "bench.toml:3: [devices.psu1] 'safe.a b' is not the name of a property"),
        (f"safe.x = 1{'0' * 400}\n", "bench.toml:3: [devices.psu1] 'safe.x' must be true, false, a finite number or"),
        ("limits.voltage = 12\n", "bench.toml:3: [devices.psu1] 'limits.voltage' must be [lowest, highest], not the n"),
        ("limits.voltage = [12]\n", "bench.toml:3: [devices.psu1] 'limits.voltage' must be [lowest, highest], two fin"),
        ("limits.voltage = [0, inf]\n", "bench.toml:3: [devices.psu1] 'limits.voltage' must be [lowest, highest], two"),
        ("limits.voltage = [0, true]\n", "bench.toml:3: [devices.psu1] 'limits.voltage' must be [lowest, highest], tw"),
        ("limits.voltage = [3, 1]\n", "bench.toml:3: [devices.psu1] 'limits.voltage' must be [lowest, highest]: 3 is "),
        ("\nlimits.ramp.volts = [3, 1]\n", "bench.toml:4: [devices.psu1] 'limits.ramp.volts' must be [lowest, highest"),
        ("limits.a.b.c = [0, 1]\n", "bench.toml:3: [devices.psu1] 'limits.a.b' must be [lowest, highest], not a table"),
        ("cache.voltage = 0\n", "bench.toml:3: [devices.psu1] 'cache.voltage' must be the seconds between two polls, "),
        ("match = {}\n", "bench.toml:3: [devices.psu1] 'match' is empty; say what the device is known by: serial_numb"),
        ("match = {probe = true}\n", "bench.toml:3: [devices.psu1] 'match' is empty"),
        ("match = {serial = 'x'}\n", "bench.toml:3: [devices.psu1] unknown key 'match.serial'; did you mean 'serial_n"),
        ("match = {vid_pid = '403'}\n", "bench.toml:3: [devices.psu1] 'match.vid_pid' must be text in quotes like '04"),
        ("match = {interface = 1}\n", "bench.toml:3: [devices.psu1] 'match.interface' needs a serial_number, vid_pid "),
        ("match = {idn = '*2000*'}\n", "bench.toml:3: [devices.psu1] 'match.idn' needs probe = true"),
        (
            "port = 'x'\nmatch = {path = '1-1.2'}\n",
            "bench.toml:4: [devices.psu1] 'match' and 'port' both say where the device is; keep one of them",
        ),
    ],
)  # fmt: skip
def test_a_wrong_common_key_is_one_line_that_names_its_place(text: str, message: str) -> None:
    assert mistake(text).startswith(message)


def test_rows_are_bounded() -> None:
    rows = "".join(f"p{number} = 1\n" for number in range(MAX_ENTRIES + 1))
    assert "'safe' has 65 rows; at most 64" in mistake(f"[devices.psu1.safe]\n{rows}")


def test_a_typo_of_a_common_key_is_recognised_among_the_drivers_options() -> None:
    from devices.power_supply import PowerSupplyOptions

    (problem,) = config.option_problems(parsed("port = 'x'\nownr = 'Ada'\n"), PowerSupplyOptions)
    assert str(problem).endswith("unknown key 'ownr'; did you mean 'owner'?")


def test_a_device_with_a_matcher_needs_no_port() -> None:
    from devices.power_supply import PowerSupplyOptions

    section = parsed("match = {path = '1-1.2'}\n")
    assert config.option_problems(section, PowerSupplyOptions) == []
    assert config.driver_options(config.with_port(section, "/dev/ttyUSB3"), PowerSupplyOptions).port == "/dev/ttyUSB3"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: value is not None)


@given(st.dictionaries(st.sampled_from([*sorted(config.COMMON_KEYS), "port"]), VALUES, max_size=6))
def test_whatever_a_table_holds_is_a_section_or_mistakes_of_one_line(table: dict[str, object]) -> None:
    try:
        made = config.from_tables({"psu1": {"driver": "x", **table}}, origin="here")
    except ConfigError as problem:
        assert str(problem).startswith("here: [devices.psu1] ")
        assert "\n" not in str(problem)
    else:
        assert made.devices[0].options.keys() <= {"port"}
