"""Thresholds by which a pipeline decides: which clips are below them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from stnls_cli.compare.document import CellScores, ComparisonDocument, SettingScores
from stnls_cli.errors import UserError

SHOWN = 5
"""Clips that a message names."""


@dataclass(frozen=True)
class Miss:
    """A clip whose mean PSNR is too low by `short` dB."""

    short: float
    text: str


def below(document: ComparisonDocument, method: str, threshold: float) -> list[Miss]:
    """Clips on which the mean PSNR of any setting of `method` is lower than `threshold` dB.

    Raises UserError where the comparison has no PSNR of that method.
    """
    chosen = [setting for setting in document.settings if setting.method == method]
    misses = []
    found = False
    for setting in chosen:
        for cell in setting.cells:
            summary = cell.summary("psnr")
            if summary is None:
                continue
            found = True
            if summary.mean < threshold:
                text = (
                    f"{cell.clip}: mean PSNR {summary.mean:.2f} dB of {setting.label} is below "
                    f"{threshold:g}; worst {_worst(cell)}"
                )
                misses.append(Miss(threshold - summary.mean, text))
    if not found:
        raise UserError(f"--fail-below: the comparison has no PSNR of {method} (--fail-method)")
    return sorted(misses, key=lambda miss: -miss.short)


def dropped(
    document: ComparisonDocument, baseline: ComparisonDocument, name: str, drop: float
) -> list[Miss]:
    """Cells whose mean PSNR is lower than in `baseline` by more than `drop` dB.

    Raises UserError where no cell of the baseline is among them.
    """
    before = {_known_by(baseline, s, c): c for s in baseline.settings for c in s.cells}
    misses, common = [], 0
    for setting in document.settings:
        for cell in setting.cells:
            earlier = before.get(_known_by(document, setting, cell))
            was = None if earlier is None else earlier.summary("psnr")
            now = cell.summary("psnr")
            if was is None or now is None:
                continue
            common += 1
            if now.mean < was.mean - drop:
                text = (
                    f"{cell.clip}: mean PSNR {now.mean:.2f} dB of {setting.label} is "
                    f"{was.mean - now.mean:.2f} dB below that of {name} ({was.mean:.2f}); worst "
                    f"{_worst(cell)}"
                )
                misses.append(Miss(was.mean - drop - now.mean, text))
    if common == 0:
        raise UserError(f"--baseline {name} has no clip and setting in common with this comparison")
    return sorted(misses, key=lambda miss: -miss.short)


def _known_by(document: ComparisonDocument, setting: SettingScores, cell: CellScores) -> str:
    """A clip by its content, a setting by its parameters, and the pairs that were measured."""
    digest = next((c["digest"] for c in document.clips if c["clip"] == cell.clip), cell.clip)
    part: dict[str, Any] = {
        name: document.parameters.get(name) for name in ("size", "margin", "grey", "full_ws")
    }
    return json.dumps([digest, setting.parameters, part, cell.pairs], sort_keys=True)


def _worst(cell: CellScores) -> str:
    found = cell.summary("psnr")
    worst = found.worst if found is not None else ()
    frames = ", ".join(f"{t}{dt:+d} ({value:.2f})" for (t, dt), value in worst)
    return f"frame{'' if len(worst) == 1 else 's'} {frames}"
