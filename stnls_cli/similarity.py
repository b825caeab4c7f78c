"""Structural similarity of many frames with one reference, for a GPU.

Wang et al. 2004 with a Gaussian window of 11 x 11 and sigma 1.5, applied along columns, then rows,
to all planes at once; in float32, with the middle grey taken off before squares are summed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from kornia.filters import get_gaussian_kernel1d
from torch import Tensor
from torch.nn.functional import conv2d

WINDOW = 11
SIGMA = 1.5
PEAK = 255.0
MIDDLE = 128.0
MOST_VALUES = 2**25
"""Numbers of an intermediate result: of large frames some rows are worked on at a time."""


def similarities(reference: Tensor, frames: Tensor, most: int = MOST_VALUES) -> Tensor:
    """Mean over the windows inside the frame and the channels: (M,) float64.

    `reference` (C, H, W), `frames` (M, C, H, W), float32 on the 0-255 scale, 11 pixels and more.
    """
    count, channels, height, width = frames.shape
    rows, columns = height - WINDOW + 1, width - WINDOW + 1
    total = frames.new_zeros(count, dtype=torch.float64)
    for top, bottom in _bands(rows, max(1, most // ((3 * count + 2) * channels * width))):
        lines = slice(top, bottom + WINDOW - 1)
        windows = similarity_of_windows(reference[:, lines], frames[:, :, lines])
        total += windows.double().sum(dim=(1, 2, 3))
    return total / (channels * rows * columns)


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


def _bands(rows: int, height: int) -> Iterator[tuple[int, int]]:
    """First row and last + 1 of bands of `height` rows."""
    for top in range(0, rows, height):
        yield top, min(top + height, rows)


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
