"""The JSON Schema of a config: it accepts what the gateway accepts, and refuses what a schema can see."""

from __future__ import annotations

import re
import socket
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import COMMON_KEYS
from gateway.config.schema import DRAFT, json_schema
from gateway.drivers import installed_drivers

ROOT = Path(__file__).parents[2]
TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}


class Channel(msgspec.Struct):
    gain: float = 1.0


class Options(msgspec.Struct, kw_only=True):
    port: str = ""
    channels: list[Channel] = []


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema({name: driver.Options for name, driver in installed_drivers().items()})


def accepts(schema: Any, value: Any, root: dict[str, Any]) -> bool:
    """What JSON Schema 2020-12 says, for the words that the schema uses; an unknown word fails the test."""
    if isinstance(schema, bool):
        return schema
    return all(_rule(word, rule, schema, value, root) for word, rule in schema.items())


def _rule(word: str, rule: Any, schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match word:
        case "$schema" | "$defs" | "title" | "description" | "default" | "examples" | "then" | "prefixItems":
            return True
        case "$ref":
            return accepts(root["$defs"][rule.removeprefix("#/$defs/")], value, root)
        case "type":
            return number if rule == "number" else isinstance(value, TYPES[rule]) and (rule != "integer" or number)
        case "const":
            return bool(value == rule)
        case "enum":
            return value in rule
        case "properties":
            return not isinstance(value, dict) or all(
                accepts(rule[key], value[key], root) for key in rule if key in value
            )
        case "additionalProperties":
            others = [each for key, each in value.items() if key not in schema.get("properties", {})]
            return all(accepts(rule, each, root) for each in others)
        case "propertyNames":
            return all(accepts(rule, key, root) for key in value)
        case "required":
            return all(key in value for key in rule)
        case "items":
            prefix = schema.get("prefixItems", [])
            rest = all(accepts(rule, each, root) for each in value[len(prefix) :])
            return rest and all(accepts(each, item, root) for each, item in zip(prefix, value, strict=False))
        case "anyOf" | "oneOf":
            fitting = sum(accepts(each, value, root) for each in rule)
            return fitting == 1 if word == "oneOf" else fitting > 0
        case "allOf":
            return all(accepts(each, value, root) for each in rule)
        case "not":
            return not accepts(rule, value, root)
        case "if":
            return not accepts(rule, value, root) or accepts(schema["then"], value, root)
        case "pattern":
            return not isinstance(value, str) or re.search(rule, value) is not None
        case "minLength" | "maxLength":
            return not isinstance(value, str) or (len(value) >= rule if word == "minLength" else len(value) <= rule)
        case "minItems" | "maxItems":
            return not isinstance(value, list) or (len(value) >= rule if word == "minItems" else len(value) <= rule)
        case "minimum" | "exclusiveMinimum" | "maximum":
            if not number:
                return True
            return bool(value >= rule if word == "minimum" else value > rule if word != "maximum" else value <= rule)
    raise AssertionError(f"the schema has a word that this test does not know: {word}")


PSU = {"driver": "scpi-power-supply", "port": "/dev/ttyUSB0"}
HOST = {"hosts": {"bench2": {"url": "tcp://x"}}}


def device(**table: Any) -> dict[str, Any]:
    return {"devices": {"psu1": table}}


def test_the_example_fits(schema: dict[str, Any]) -> None:
    assert accepts(schema, tomllib.loads((ROOT / "examples" / "bench.toml").read_text(encoding="utf-8")), schema)


@pytest.mark.parametrize(
    "document",
    [
        device(**PSU),
        device(driver="scpi-power-supply", match={"serial_number": "A", "vid_pid": "0403:6001"}),
        device(**PSU, limits={"voltage": [0, 12.5], "ramp": {"volts": [0, 1]}}, safe={"output": False, "voltage": 0}),
        device(**PSU, max_voltage=3, owner="Ada", cache={"voltage": 0.5}, lease=True, disabled="x"),
        device(driver="package.module:Class", anything=[1, 2], notes="x"),
        HOST,
        {"gateway": {"log_level": "info", "interfaces": ["127.0.0.1"]}, "limits": {"frame": 4096}, **HOST},
    ],
)
def test_what_the_gateway_accepts_fits(schema: dict[str, Any], document: dict[str, Any]) -> None:
    assert accepts(schema, document, schema)


@pytest.mark.parametrize(
    "document",
    [
        {"device": {}},
        {"gateway": {"lisen": "x"}},
        {"gateway": {"log_level": "inf"}},
        {"limits": {"fram": 1}},
        {"hosts": {"bench2": {}}},
        {"devices": {"a b": PSU}},
        device(port="/dev/ttyUSB0"),
        device(driver="scpi-power-supply"),
        device(**PSU, match={"path": "1-1"}),
        device(**PSU, baudrate="9600"),
        device(**PSU, parity="odd "),
        device(**PSU, prot="x"),
        device(**PSU, limits={"voltage": [0]}),
        device(**PSU, deadline_s=0),
        device(driver="scpi-power-supply", match={"vid_pid": "403"}),
        device(driver="package.module:Class", owner=3),
    ],
)
def test_a_mistake_does_not_fit(schema: dict[str, Any], document: dict[str, Any]) -> None:
    assert not accepts(schema, document, schema)


def test_every_driver_has_a_definition_with_its_options_and_the_common_keys(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == DRAFT
    for name, driver in installed_drivers().items():
        properties = schema["$defs"][f"device-{name}"]["properties"]
        assert properties.keys() == {"driver", *driver.Options.__struct_fields__} | COMMON_KEYS


def test_nothing_of_this_machine_is_in_it(schema: dict[str, Any]) -> None:
    assert "default" not in schema["$defs"]["GatewaySection"]["properties"]["name"]
    assert socket.gethostname() not in str(schema)


def test_an_option_that_is_a_struct_of_its_own_is_defined_once_for_each_driver() -> None:
    made = json_schema({"acme": Options})
    assert made["$defs"]["device-acme"]["properties"]["channels"]["items"] == {"$ref": "#/$defs/acme-Channel"}
    assert accepts(made, {"devices": {"a": {"driver": "acme", "channels": [{"gain": 2}]}}}, made)
    both = {"driver": "acme", "port": "x", "match": {"path": "1-1"}}
    assert not accepts(made, {"devices": {"a": both}}, made)
