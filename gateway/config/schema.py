"""The config file's JSON Schema (draft 2020-12), for editors that complete and check TOML.

What a schema can't say - that a name stands in one file only, that lowest is not above highest - `gateway check` finds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.config import name_pattern
from gateway.config.common import DeviceCommon, Match
from gateway.config.sections import GatewaySection, HostTable
from gateway.limits import Limits

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema(drivers: Mapping[str, type[Any]]) -> dict[str, Any]:
    """The schema of a config file; `drivers` are the options' structs by the name of their driver.

    A device with a driver that is not among them, such as a dotted name, may have any keys beside the common ones.
    """
    ours = (GatewaySection, HostTable, Limits, DeviceCommon, Match)
    _, components = msgspec.json.schema_components(ours, ref_template="#/$defs/{name}")
    common = components.pop("DeviceCommon")["properties"]
    row = common["limits"]["additionalProperties"]
    # "ramp.volts" without quotes is a table in a table.
    common["limits"]["additionalProperties"] = {"anyOf": [row, {"type": "object", "additionalProperties": row}]}
    components["GatewaySection"]["properties"]["name"].pop("default", None)  # this machine's own
    components["Limits"]["additionalProperties"] = False
    definitions = {name: _tidy(each) for name, each in components.items()}
    rules = []
    for name, options in sorted(drivers.items()):
        definitions[f"device-{name}"] = _device(name, options, common, definitions)
        rules.append(
            {"if": {"properties": {"driver": {"const": name}}}, "then": {"$ref": f"#/$defs/device-{name}"}},
        )
    device = {
        "type": "object",
        "title": "One device. Its name is what clients say.",
        "properties": {"driver": _driver(list(drivers)), **_tidy(common)},
        "required": ["driver"],
        "allOf": rules,
    }
    return {
        "$schema": DRAFT,
        "title": "instrument-gateway: gateway.toml",
        "type": "object",
        "properties": {
            "gateway": {"$ref": "#/$defs/GatewaySection"},
            "devices": {"type": "object", "propertyNames": {"pattern": name_pattern()}, "additionalProperties": device},
            "hosts": {
                "type": "object",
                "propertyNames": {"pattern": name_pattern()},
                "additionalProperties": {"$ref": "#/$defs/HostTable"},
            },
            "limits": {"$ref": "#/$defs/Limits"},
        },
        "additionalProperties": False,
        "$defs": dict(sorted(definitions.items())),
    }


def _driver(names: list[str]) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "examples": [*sorted(names), "package.module:Class"]}


def _device(name: str, options: type[Any], common: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The table of a device with this driver; the structs that its options refer to are added to `definitions`."""
    (schema,), components = msgspec.json.schema_components((options,), ref_template=f"#/$defs/{name}-{{name}}")
    own = components.pop(schema["$ref"].removeprefix(f"#/$defs/{name}-"))
    definitions |= {f"{name}-{key}": _tidy(each) for key, each in components.items()}
    required = [key for key in own.get("required", ()) if key != "port"]
    made: dict[str, Any] = {
        "type": "object",
        "properties": _tidy({"driver": {"const": name}, **own["properties"], **common}),
        "required": ["driver", *required],
        "additionalProperties": False,
    }
    if "port" in own.get("required", ()) or "resource" in own["properties"]:
        places = [key for key in ("port", "resource") if key in own["properties"]]
        made["oneOf"] = [{"required": [key]} for key in (*places, "match")]
    elif "port" in own["properties"]:
        made["not"] = {"required": ["port", "match"]}
    return made


def _tidy(schema: Any) -> Any:
    """Without what is of no use in a TOML file: null, for which it has no word."""
    if isinstance(schema, list):
        return [_tidy(each) for each in schema if each != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    tidy = {key: _tidy(value) for key, value in schema.items() if not (key == "default" and value is None)}
    alternatives = tidy.get("anyOf")
    if isinstance(alternatives, list) and len(alternatives) == 1:
        tidy = {**{key: value for key, value in tidy.items() if key != "anyOf"}, **alternatives[0]}
    if isinstance(tidy.get("description"), str):
        tidy["description"] = re.sub(r"\s+", " ", tidy["description"])
    return tidy
