"""How far an aligned frame is from its reference, and how much of a flow leaves the frame.

Frames are float32 tensors (3, H, W) on the 0-255 scale, on any device; every metric is a Python
float, and sums are taken in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stnls_cli.errors import UserError
from stnls_cli.positions import columns_and_rows

if TYPE_CHECKING:
    from torch import Tensor

PEAK = 255.0
SSIM_WINDOW = 11
IDENTICAL_DB = 100.0
"""What a pair of identical frames counts for in a mean of PSNRs, in dB, and the most that one
does: of frames that differ by roundings alone, 300 dB would outweigh all others."""


@dataclass(frozen=True)
class FrameMetric:
    """A comparison of two frames; `None` where the frames are too small for it."""

    label: str
    unit: str
    decimals: int
    function: Callable[[Tensor, Tensor], float | None]
    falls: bool = False
    """Whether less is better."""


@dataclass(frozen=True)
class FlowMetric:
    """A figure of one flow field, (2, H, W) in pixels."""

    label: str
    unit: str
    decimals: int
    function: Callable[[Tensor], float]
    falls: bool = True


@dataclass(frozen=True)
class PairMetric:
    """What takes more than two frames or a flow to measure: see `compare/scores.py`."""

    label: str
    unit: str
    decimals: int
    falls: bool = False


Metric = FrameMetric | FlowMetric | PairMetric


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels, peak 255; inf if identical."""
    _check_pair(a, b)
    return decibels(float((a - b).double().square().mean()))


def decibels(error: float) -> float:
    """PSNR of a mean squared error."""
    return math.inf if error == 0 else 10.0 * math.log10(PEAK * PEAK / error)


def mae(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference over all pixels and channels, on the 0-255 scale."""
    _check_pair(a, b)
    return float((a - b).abs().double().mean())


def ssim(a: Tensor, b: Tensor) -> float | None:
    """Structural similarity (Wang et al. 2004), the mean over the channels.

    Gaussian window of 11 x 11 and sigma 1.5, K1 0.01, K2 0.03, range 255; only windows that lie
    wholly inside the frame count. `None` for frames under 11 pixels in height or width.
    """
    _check_pair(a, b)
    if min(a.shape[1:]) < SSIM_WINDOW:
        return None
    from stnls.metrics import ssim as mean_similarity

    return float(mean_similarity(b, a[None], PEAK)[0])


def ssim_of_windows(a: Tensor, b: Tensor) -> Tensor | None:
    """The structural similarity of every window inside the frame, (C, H - 10, W - 10)."""
    _check_pair(a, b)
    channels, height, width = a.shape
    if min(height, width) < SSIM_WINDOW:
        return None
    if a.device.type != "cpu":
        from stnls_cli.similarity import similarity_of_windows

        return similarity_of_windows(a, b[None])[0]
    from kornia.metrics import ssim as ssim_map

    bands = _cpu_bands(height)
    scores = ssim_map(
        _stack_bands(a, bands), _stack_bands(b, bands), SSIM_WINDOW, PEAK, padding="valid"
    )
    # The bands follow each other within a channel; rows below the frame come last.
    rows = scores.reshape(channels, -1, width - SSIM_WINDOW + 1)
    windows: Tensor = rows[:, : height - SSIM_WINDOW + 1]
    return windows


def out_of_frame(flow: Tensor) -> float:
    """Share of pixels whose flow target lies outside [0, W-1] x [0, H-1], in 0..1.

    `flow` is (2, H, W), (dx, dy) in pixels, before any reflection. A pixel whose flow is not
    finite has no target and counts as inside, as `warp` leaves it where it is.
    """
    if flow.ndim != 3 or flow.shape[0] != 2:
        raise ValueError(f"flow must be (2, H, W), got {tuple(flow.shape)}")
    return float(out_of_frame_shares(flow[None])[0])


def out_of_frame_shares(flows: Tensor) -> Tensor:
    """The same for flows (N, 2, H, W): (N,) float64 on their device."""
    import torch

    height, width = flows.shape[2:]
    x, y = columns_and_rows(height, width, flows.dtype, flows.device)
    dx, dy = flows.unbind(1)
    # Compared with the room left, not with x + dx, which float32 would round.
    outside = dx.clamp(-x, width - 1 - x) != dx
    outside |= dy.clamp(-y, height - 1 - y) != dy
    outside &= flows.abs().amax(1) < math.inf  # NaN is not
    return outside.mean(dim=(1, 2), dtype=torch.float64)


METRICS: dict[str, Metric] = {
    "psnr": FrameMetric("PSNR", "dB", 2, psnr),
    "ssim": FrameMetric("SSIM", "", 4, ssim),
    "mae": FrameMetric("MAE", "", 2, mae, falls=True),
    "out_of_frame": FlowMetric("out of frame", "", 4, out_of_frame),
    "psnr_visible": PairMetric("PSNR where visible", "dB", 2),
    "ssim_visible": PairMetric("SSIM where visible", "", 4),
    "mae_visible": PairMetric("MAE where visible", "", 2, falls=True),
    "visible": PairMetric("visible", "", 4),
    "epe": PairMetric("end-point error", "px", 2, falls=True),
    "at_edge": PairMetric("at the window's edge", "", 4, falls=True),
}
SHARES = frozenset({"out_of_frame", "visible", "at_edge"})
"""Shares in 0..1, which tables for a person show in per cent."""
ALIGN_METRICS = tuple(name for name, m in METRICS.items() if not isinstance(m, PairMetric))
"""Those of one aligned frame, or one flow."""


def parse_metrics(text: str, known: Sequence[str] = ALIGN_METRICS) -> tuple[str, ...]:
    """Names of `--metrics psnr,ssim`, in the registry's order, each once."""
    names = {part.strip().lower() for part in text.split(",") if part.strip()}
    unknown = sorted(names - set(known))
    if unknown:
        raise UserError(
            f"unknown metric {', '.join(map(repr, unknown))} in --metrics {text}; "
            f"choose from {', '.join(known)}"
        )
    if not names:
        raise UserError(f"--metrics names none; choose from {', '.join(known)}")
    return tuple(name for name in METRICS if name in names)


def compare_frames(names: Iterable[str], a: Tensor, b: Tensor) -> dict[str, float | None]:
    """The frame metrics among `names` for the frames `a` and `b`; flow metrics are passed over."""
    chosen = ((name, METRICS[name]) for name in names)
    return {
        name: metric.function(a, b) for name, metric in chosen if isinstance(metric, FrameMetric)
    }


def measure_flow(names: Iterable[str], flow: Tensor) -> dict[str, float | None]:
    """The flow metrics among `names` for one flow field."""
    chosen = ((name, METRICS[name]) for name in names)
    return {
        name: metric.function(flow) for name, metric in chosen if isinstance(metric, FlowMetric)
    }


def table_label(name: str) -> str:
    """A metric with the unit that `table_text` has."""
    metric = METRICS[name]
    unit = "%" if name in SHARES else metric.unit
    return f"{metric.label} ({unit})" if unit else metric.label


def table_text(name: str, value: float | None) -> str:
    """A score for a table that a person reads; identical frames are `inf`, none is empty."""
    if value is None:
        return ""
    return f"{100 * value:.1f}" if name in SHARES else f"{value:.{METRICS[name].decimals}f}"


def counted(metric: str, score: float) -> float:
    """What a score counts for in a mean. No PSNR counts for more than that of identical frames."""
    return min(score, IDENTICAL_DB) if METRICS[metric].unit == "dB" else score


def mean_score(metric: str, values: Sequence[float | None]) -> float | None:
    """Mean of the scores that are there, each as it counts."""
    present = [counted(metric, value) for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None


def _check_pair(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"frames must both be (C, H, W), got {tuple(a.shape)}, {tuple(b.shape)}")
    if not (a.is_floating_point() and b.is_floating_point()):
        raise ValueError(f"frames must be floating point, got {a.dtype} and {b.dtype}")


def _cpu_bands(height: int) -> int:
    # The CPU convolves all channels of a pixel at once: three fill 3 of 8 or 16 vector lanes, so
    # five bands of the frame are stacked as channels. Low frames would mostly repeat margins.
    return 5 if height >= 15 * SSIM_WINDOW else 1


def _stack_bands(image: Tensor, bands: int) -> Tensor:
    """(C, H, W) cut into overlapping bands of rows, stacked as channels: (1, C * bands, h, W)."""
    if bands == 1:
        return image[None].contiguous()
    from torch.nn.functional import pad

    channels, height, width = image.shape
    margin = SSIM_WINDOW - 1
    step = -(-(height - margin) // bands)
    image = pad(image, (0, 0, 0, step * bands + margin - height))
    return (
        image.unfold(1, step + margin, step)
        .transpose(2, 3)
        .reshape(1, channels * bands, step + margin, width)
    )
