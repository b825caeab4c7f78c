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
    dx, dy = motion.float().cpu().numpy()
    hue = np.nan_to_num(np.arctan2(dy, dx) * np.float32(3 / np.pi))  # in sixths of the circle
    saturation = np.nan_to_num(np.clip(np.hypot(dx, dy) / np.float32(longest), 0, 1))
    colours = np.empty((*hue.shape, 3), dtype=np.uint8)
    # HSV to RGB: a colour falls to nothing two to four sixths from its own hue.
    for channel, own in enumerate((5, 3, 1)):
        place = (hue + np.float32(own)) % np.float32(6)
        missing = np.clip(np.minimum(place, 4 - place), 0, 1)
        colours[..., channel] = np.rint((1 - saturation * missing) * 255)
    return colours


def wheel_disc(size: int = 120) -> Pixels:
    """The key to `wheel_colours`: the motion from the middle to each place of a disc."""
    line = torch.linspace(-1, 1, size)
    motion = torch.stack((line.expand(size, size), line[:, None].expand(size, size)))
    pixels = wheel_colours(motion, 1.0)
    pixels[motion.square().sum(0).sqrt().numpy() > 1] = 255
    return pixels
