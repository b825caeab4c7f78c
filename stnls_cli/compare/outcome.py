"""What a comparison came to, pair by pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stnls_cli.compare.setting import Setting
from stnls_cli.report import Row


@dataclass(frozen=True)
class CellRows:
    """A finished cell. `digest`: of the clip; `source`: path of the earlier run that it is from, if
    any, and `shared` what that run has for all its methods."""

    clip: str
    setting: Setting | None
    parameters: dict[str, Any]
    rows: tuple[Row, ...]
    digest: str
    source: str | None = None
    shared: tuple[Any, ...] = ()


@dataclass
class Outcome:
    """What a comparison came to. `failed`: by input, why it was left out."""

    clips: list[dict[str, Any]] = field(default_factory=list)
    cells: list[CellRows] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"computed": 0, "kept": 0})
    flows: dict[str, dict[str, int]] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    device: str = "cpu"
