"""Options from what users configure with: dictionaries, or objects with attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def options(cfg: object, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options named in `defaults`, from `cfg` where it has them; its other keys are ignored."""
    if isinstance(cfg, Mapping):
        return {name: cfg.get(name, default) for name, default in defaults.items()}
    return {name: getattr(cfg, name, default) for name, default in defaults.items()}
