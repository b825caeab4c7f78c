"""What many scores come to: mean, median, the worst twentieth, the worst of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stnls_cli.metrics import METRICS, counted, mean_score

WORST = 3
"""How many of the worst are named."""


@dataclass(frozen=True)
class Aggregate:
    """No PSNR counts for more than 100 dB. `percentile_5`: that share of the scores is
    worse, by linear interpolation; `worst` holds (name, score), the worst first."""

    mean: float
    median: float
    percentile_5: float
    worst: tuple[tuple[Any, float], ...]


def aggregate(metric: str, scores: Mapping[Any, float | None]) -> Aggregate | None:
    """Of the scores by frame, or by whatever names them; None where there are none."""
    present = {name: value for name, value in scores.items() if value is not None}
    mean = mean_score(metric, list(present.values()))
    if mean is None:
        return None
    falls = METRICS[metric].falls
    finite = np.array([counted(metric, v) for v in present.values()])
    worst = sorted(present.items(), key=lambda item: (-item[1] if falls else item[1], item[0]))
    return Aggregate(
        mean,
        float(np.median(finite)),
        float(np.percentile(finite, 95 if falls else 5)),
        tuple(worst[:WORST]),
    )
