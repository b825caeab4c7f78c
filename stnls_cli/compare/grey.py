"""What the flow sees of a frame, by the name in a protocol."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from stnls_cli.flow.luma import luma8

BT601 = (0.299, 0.587, 0.114)


def luma_wrapped(rgb: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Luma of a frame, each value taken modulo 256 as a cast to 8 bits takes it: noise beyond white
    turns black, and the other way round."""
    total = np.zeros(rgb.shape[:2], dtype=np.float32)
    for channel, weight in enumerate(BT601):
        total += np.float32(weight) * rgb[..., channel].astype(np.float32)
    return np.floor(total).astype(np.int64).astype(np.uint8)


GREY_OF = MappingProxyType({"luma": luma8, "wrapped": luma_wrapped})
