"""Grey frames for the flow methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

# ITU-R BT.601 luma weights 0.299, 0.587, 0.114 in fifteen binary places, as OpenCV has them.
PLACES = 15
RED, GREEN, BLUE = 9798, 19235, 3735


def luma8(rgb: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """8-bit luma (H, W) of an (H, W, 3) RGB frame on the 0-255 scale; strided views are fine.

    Whole-number frames are taken as they are; real-valued ones (deep or noisy sources) are first
    rounded and clipped to 0-255, as a player would show them.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected an (H, W, 3) RGB frame, got the shape {rgb.shape}")
    total = np.full(rgb.shape[:2], 1 << (PLACES - 1), dtype=np.uint32)
    for channel, weight in enumerate((RED, GREEN, BLUE)):
        plane = rgb[..., channel]
        if plane.dtype != np.uint8:
            plane = np.clip(np.rint(plane), 0, 255)
        weighted = plane.astype(np.uint32)
        weighted *= np.uint32(weight)
        total += weighted
    total >>= np.uint32(PLACES)
    return total.astype(np.uint8)


def luma8_of_tensor(frame: torch.Tensor) -> torch.Tensor:
    """The same of one or several (..., 3, H, W) float32 frames, on their device: (..., H, W)
    uint8."""
    if frame.ndim < 3 or frame.shape[-3] != 3:
        raise ValueError(f"expected (..., 3, H, W) RGB frames, got the shape {tuple(frame.shape)}")
    # Whole numbers below 2**24: float32 is exact. Numbers, not a tensor of weights, which would
    # have to be copied to a GPU each time.
    red, green, blue = frame.round().clamp_(0, 255).unbind(-3)
    total = red * float(RED) + float(1 << (PLACES - 1))
    total.add_(green, alpha=float(GREEN)).add_(blue, alpha=float(BLUE))
    return total.mul_(2.0**-PLACES).floor_().byte()
