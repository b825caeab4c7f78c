"""Values as strict JSON holds them: infinity is the string "inf", NaN is null."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from fractions import Fraction
from typing import Any


def plain(value: Any) -> Any:
    """`value` as nothing but dict, list, str, int, finite float, bool and None."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, os.PathLike)):
        # A file name that is not UTF-8 holds lone surrogates, which no UTF-8 file can.
        return os.fspath(value).encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Fraction):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(entry) for entry in value)
    return _number(value)


def from_plain(value: Any) -> Any:
    """A score read back: "inf" is infinity again."""
    if isinstance(value, str):
        return {"inf": math.inf, "-inf": -math.inf}.get(value, value)
    return value


def _number(value: Any) -> int | float | str | None:
    if hasattr(value, "item"):
        value = value.item()  # a NumPy or torch scalar
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return value
    raise TypeError(f"{type(value).__name__} has no place in a report: {value!r}")
