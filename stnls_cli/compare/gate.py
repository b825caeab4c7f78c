"""Thresholds by which a pipeline decides: which clips are below them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stnls_cli.compare.document import CellScores, ComparisonDocument, SettingScores
from stnls_cli.errors import UserError
from stnls_cli.fingerprint import differences, normalised, told

BESIDE = ("method", "flow", "sigma", "ws", "ps")
"""By which a person tells settings apart."""
SHARED = ("size", "margin", "grey", "full_ws")
"""Parameters of the whole comparison that scores depend on."""


@dataclass(frozen=True)
class Miss:
    """A setting on a clip whose mean PSNR is too low by `short` dB."""

    clip: str
    short: float
    text: str


@dataclass(frozen=True)
class Comparable:
    """A comparison beside its baseline: what is below it, one miss a clip; how many of the
    baseline's `total` cells were compared; why the others were not."""

    misses: list[Miss]
    compared: int
    total: int
    missing: list[str]


def below(document: ComparisonDocument, method: str, threshold: float) -> list[Miss]:
    """Clips on which the mean PSNR of any setting of `method` is lower than `threshold` dB, each
    with the setting that is lowest.

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
                    f"mean PSNR {summary.mean:.2f} dB of {setting.label} is below {threshold:g}; "
                    f"{_worst(cell)}"
                )
                misses.append(Miss(cell.clip, threshold - summary.mean, text))
    if not found:
        raise UserError(f"--fail-below: the comparison has no PSNR of {method} (--fail-method)")
    return _by_clip(misses)


def dropped(
    document: ComparisonDocument, baseline: ComparisonDocument, name: str, drop: float
) -> Comparable:
    """Clips with a setting whose mean PSNR is lower than in `baseline` by more than `drop` dB."""
    now: dict[str, list[CellScores]] = {}
    for setting in document.settings:
        for cell in setting.cells:
            now.setdefault(_known_by(document, setting, cell), []).append(cell)
    misses: list[Miss] = []
    missing: Counter[str] = Counter()
    compared = total = 0
    for setting in baseline.settings:
        for cell in setting.cells:
            was = cell.summary("psnr")
            if was is None:
                continue
            total += 1
            found = now.get(_known_by(baseline, setting, cell))
            own = found.pop(0) if found else None
            psnr = None if own is None else own.summary("psnr")
            if own is None or psnr is None:
                missing[_why(document, baseline, setting, cell)] += 1
                continue
            compared += 1
            if psnr.mean < was.mean - drop:
                text = (
                    f"mean PSNR {psnr.mean:.2f} dB of {setting.label} is "
                    f"{was.mean - psnr.mean:.2f} dB below that of {name} ({was.mean:.2f}); "
                    f"{_worst(own)}"
                )
                misses.append(Miss(own.clip, was.mean - drop - psnr.mean, text))
    told = [f"{why} ({count} cell{_s(count)})" for why, count in missing.items()]
    return Comparable(_by_clip(misses), compared, total, told)


def _by_clip(misses: Iterable[Miss]) -> list[Miss]:
    """The worst of each clip, the worst clip first."""
    clips: dict[str, list[Miss]] = {}
    for miss in sorted(misses, key=lambda miss: -miss.short):
        clips.setdefault(miss.clip, []).append(miss)
    shown = []
    for clip, (first, *others) in clips.items():
        more = f"; so are {len(others)} more settings" if len(others) > 1 else ""
        more = "; so is 1 more setting" if len(others) == 1 else more
        shown.append(Miss(clip, first.short, f"{clip}: {first.text}{more}"))
    return shown


def _known_by(document: ComparisonDocument, setting: SettingScores, cell: CellScores) -> str:
    """A clip by its content, a setting by its parameters, and the pairs that were measured."""
    known = [cell.digest or cell.clip, setting.parameters, _shared(document), cell.pairs]
    return json.dumps(known, sort_keys=True)


def _shared(document: ComparisonDocument) -> dict[str, Any]:
    return {name: document.parameters.get(name) for name in SHARED}


def _why(
    document: ComparisonDocument,
    baseline: ComparisonDocument,
    missed: SettingScores,
    cell: CellScores,
) -> str:
    """Why a cell of the baseline has no counterpart."""
    if changed := differences(_shared(baseline), _shared(document)):
        return f"it was measured with {told(changed)}"
    digest = cell.digest or cell.clip
    if not any(digest in setting.measured for setting in document.settings):
        same_name = cell.clip in document.clip_names
        return (
            f"clip {cell.clip} has other content now"
            if same_name
            else f"clip {cell.clip} is not among the clips"
        )
    beside = {name: missed.parameters.get(name) for name in BESIDE}
    alike = [
        setting
        for setting in document.settings
        if {name: setting.parameters.get(name) for name in BESIDE} == beside
    ]
    if not alike:
        return f"{missed.label} is not in the grid"
    for setting in alike:
        changed = differences(normalised(missed.parameters), normalised(setting.parameters))
        if not changed and digest in setting.measured:
            pairs = setting.measured[digest]
            return f"clip {cell.clip} had {len(cell.pairs)} pairs of frames, now other {len(pairs)}"
        if changed:
            return f"{missed.label} had {told(changed)}"
    return f"{missed.label} has no PSNR of {cell.clip}"


def _worst(cell: CellScores) -> str:
    found = cell.summary("psnr")
    worst = found.worst if found is not None else ()
    frames = "; ".join(f"{t}, dt {dt:+d} ({value:.2f})" for (t, dt), value in worst)
    return f"worst frame{_s(len(worst))} {frames}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
