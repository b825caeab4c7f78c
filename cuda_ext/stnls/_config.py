"""Options from what users configure with: dictionaries, or objects with attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stnls._errors import StnlsTypeError


def options(cfg: object, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options named in `defaults`, from `cfg` where it has them; its other keys are ignored."""
    if isinstance(cfg, Mapping):
        return {name: cfg.get(name, default) for name, default in defaults.items()}
    if cfg is None or isinstance(cfg, (str, bytes, Sequence, int, float)):
        raise StnlsTypeError(
            f"cfg must be a dictionary or an object with attributes, not {type(cfg).__name__}"
        )
    return {name: getattr(cfg, name, default) for name, default in defaults.items()}
