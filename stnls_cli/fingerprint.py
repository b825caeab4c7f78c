"""What a run depends on, compared between an earlier run and the one asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_SHOWN = 4


def normalised(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from JSON: tuples are lists, keys are strings and sorted."""
    text = json.dumps(dict(fingerprint), sort_keys=True, allow_nan=False)
    plain: dict[str, Any] = json.loads(text)
    return plain


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Each differing parameter with both values: "ws 9, now 11"; nested ones as "flow.lambda",
    but of another flow the name alone."""
    before, after = _flat(old), _flat(new)
    names = [
        name
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) or (name in before) != (name in after)
    ]
    if "flow.name" in names:
        names = [name for name in names if name == "flow.name" or not name.startswith("flow.")]
    return [f"{name} {_shown(before, name)}, now {_shown(after, name)}" for name in names]


def told(found: list[str]) -> str:
    """The first few differences in one line."""
    more = len(found) - _SHOWN
    return "; ".join(found[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "not set"
    value = values[name]
    if value is None:
        return "unset"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return str(value)
