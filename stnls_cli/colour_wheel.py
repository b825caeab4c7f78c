"""Motion as colours: its direction is the hue, its length the saturation."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]


def wheel_colours(motion: Tensor, longest: float) -> Pixels:
    """Colours of a motion (2, H, W) = (dx, dy): its direction is the hue (right is red, down is
    yellow-green), its length the saturation, full at `longest` pixels."""
    from matplotlib.colors import hsv_to_rgb

    dx, dy = motion.float().cpu().numpy()
    hue = np.arctan2(dy, dx) / np.float32(2 * np.pi) % np.float32(1)
    saturation = np.clip(np.hypot(dx, dy) / np.float32(longest), 0, 1)
    hsv = np.stack((hue, saturation, np.ones_like(hue)), axis=-1)
    colours: Pixels = np.rint(hsv_to_rgb(np.nan_to_num(hsv)) * 255).astype(np.uint8)
    return colours


def wheel_disc(size: int = 120) -> Pixels:
    """The key to `wheel_colours`: the motion from the middle to each place of a disc."""
    line = torch.linspace(-1, 1, size)
    motion = torch.stack((line.expand(size, size), line[:, None].expand(size, size)))
    pixels = wheel_colours(motion, 1.0)
    pixels[motion.square().sum(0).sqrt().numpy() > 1] = 255
    return pixels
