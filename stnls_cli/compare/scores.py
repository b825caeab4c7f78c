"""Scores of one aligned frame: over the whole frame, where the pixels are visible, and of the
match."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stnls_cli.compare.options import NEEDS_MASK
from stnls_cli.matching import Matches
from stnls_cli.metrics import PEAK, compare_frames, measure_flow, ssim_of_windows
from stnls_cli.options import AlignOptions


@dataclass(frozen=True)
class Truth:
    """True motion of a pair: `flow` (2, H, W) = (dx, dy), and where it is known, (H, W) bool."""

    flow: Tensor
    known: Tensor


@dataclass(frozen=True)
class Scorer:
    """Measures the metrics `names`, leaving `margin` pixels of the frame's border out."""

    names: tuple[str, ...]
    margin: int

    def __call__(
        self,
        reference: Tensor,
        aligned: Tensor,
        *,
        flow: Tensor | None,
        motion: Tensor | None,
        mask: Tensor | None,
        truth: Truth | None,
        at_edge: float | None,
    ) -> dict[str, float | None]:
        """Scores by name; None where there is none.

        `reference`, `aligned`: (3, H, W); `flow`: (2, H, W) that the method used; `motion`:
        (2, H, W) = (dx, dy) that it found; `mask`: (H, W) bool, the visible pixels.
        """
        height, width = reference.shape[1:]
        rows = slice(self.margin, height - self.margin)
        columns = slice(self.margin, width - self.margin)
        a, b = reference[:, rows, columns].contiguous(), aligned[:, rows, columns].contiguous()
        scores = compare_frames([n for n in self.names if n in ("psnr", "ssim", "mae")], a, b)
        if flow is not None:
            scores.update(measure_flow([n for n in self.names if n == "out_of_frame"], flow))
        if mask is not None:
            found = visible_scores(self.names, a, b, mask[rows, columns])
            scores.update({name: found[name] for name in self.names if name in found})
        if "epe" in self.names and truth is not None and motion is not None:
            scores["epe"] = end_point_error(
                motion[:, rows, columns], truth.flow[:, rows, columns], truth.known[rows, columns]
            )
        if "at_edge" in self.names:
            scores["at_edge"] = at_edge
        return scores


def visible_scores(
    names: tuple[str, ...], a: Tensor, b: Tensor, mask: Tensor
) -> dict[str, float | None]:
    """PSNR, SSIM and MAE over the pixels of `mask`, and their share; SSIM over the windows whose
    middle is in it."""
    share = float(mask.double().mean())
    scores: dict[str, float | None] = {"visible": share}
    if share == 0:
        return scores | dict.fromkeys(NEEDS_MASK - {"visible"})
    difference = (a - b)[:, mask].double()
    error = float(difference.square().mean())
    scores["psnr_visible"] = math.inf if error == 0 else 10 * math.log10(PEAK**2 / error)
    scores["mae_visible"] = float(difference.abs().mean())
    if "ssim_visible" in names:
        windows, middles = ssim_of_windows(a, b), mask[5:-5, 5:-5]
        scores["ssim_visible"] = None
        if windows is not None and bool(middles.any()):
            scores["ssim_visible"] = float(windows[:, middles].double().mean())
    return scores


def end_point_error(motion: Tensor, truth: Tensor, known: Tensor) -> float | None:
    """Mean distance in pixels between two motions (2, H, W), over the pixels of `known`."""
    if not bool(known.any()):
        return None
    return float((motion - truth)[:, known].double().square().sum(0).sqrt().mean())


def share_at_edge(matches: Matches, flow: Tensor, options: AlignOptions) -> float | None:
    """Share of pixels whose best match lies at the rim of its window, where a larger one might
    have a better match; None for a window of one position.

    Windows that were moved back into the frame do not count: they end at its border.
    """
    if options.ws == 1:
        return None
    half, step = options.ws // 2, options.stride1
    anchor = flow.flip(0)
    if options.grid == "int":
        anchor = anchor.round()
    steps = ((matches.position.permute(2, 0, 1) - anchor) / step).round().abs()
    at_rim = torch.zeros_like(steps[0], dtype=torch.bool)
    for axis, side in enumerate(flow.shape[1:]):
        place = torch.arange(side, device=flow.device, dtype=flow.dtype)
        centre = anchor[axis] + (place[:, None] if axis == 0 else place)
        moved = (centre - step * half < 0) | (centre + step * half > side - 1)
        at_rim |= (steps[axis] >= half) & ~moved
    return float(at_rim.double().mean())
