"""Structural similarity window by window, for a GPU: `stnls.metrics.ssim` has the means alone."""

from __future__ import annotations

import functools

import torch
from kornia.filters import get_gaussian_kernel1d
from torch import Tensor
from torch.nn.functional import conv2d

WINDOW = 11
SIGMA = 1.5
PEAK = 255.0
MIDDLE = 128.0


def similarity_of_windows(reference: Tensor, frames: Tensor) -> Tensor:
    """The similarity of every window inside the frame, (M, C, H - 10, W - 10) float32."""
    count, channels, height, width = frames.shape
    x, y = frames.float() - MIDDLE, reference.float() - MIDDLE
    planes = x.new_empty((3 * count + 2, channels, height, width))
    planes[:count] = x
    torch.mul(x, x, out=planes[count : 2 * count])
    torch.mul(x, y, out=planes[2 * count : 3 * count])
    planes[-2] = y
    torch.mul(y, y, out=planes[-1])
    blurred = _blurred(planes.flatten(0, 1)).unflatten(0, (-1, channels))
    mean_x, square_x, product = blurred[:-2].split(count)
    mean_y, square_y = blurred[-2], blurred[-1]
    variance = square_x - mean_x * mean_x + (square_y - mean_y * mean_y)
    covariance = product - mean_x * mean_y
    mean_x, mean_y = mean_x + MIDDLE, mean_y + MIDDLE
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    scores: Tensor = above / ((mean_x * mean_x + mean_y * mean_y + c1) * (variance + c2))
    return scores


@functools.cache
def _taps(device: torch.device) -> Tensor:
    return get_gaussian_kernel1d(WINDOW, SIGMA, dtype=torch.float64)[0].float().to(device)


def _blurred(planes: Tensor) -> Tensor:
    """(P, H, W) under the window, where that lies inside: (P, H - 10, W - 10)."""
    count = planes.shape[0]
    taps = _taps(planes.device).expand(count, 1, -1)
    # cuDNN may take TF32, too coarse for a variance; PyTorch's own convolution does not.
    with torch.backends.cudnn.flags(enabled=False):
        along = conv2d(planes[None], taps[:, :, None], groups=count)
        return conv2d(along, taps[..., None], groups=count)[0]
