"""The video-alignment experiment of Gauen & Chan (arXiv 2309.16849), in the two forms that are
known of it: the settings of docs/compare.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

GREYS = ("luma", "wrapped")
"""What the flow may see of a frame: see grey.py."""
SEARCH: dict[str, Any] = {
    "method": "none,flow,shifted-nls",
    "ws": "1,3,11,15,21,27,33",
    "ps": "3",
    "sigma": "15",
    "wt": 1,
    "metrics": "psnr",
    "grid": "float",
    "stride1": 1.0,
    "k": 1,
    "dist": "l2",
    "weights": "best",
    "aggregate": "patch",
    "prior": 0.0,
    "subpixel": "none",
    "patch_weights": "uniform",
    "sampling": "bilinear",
    "slots": True,
}
"""What both forms have in common: the paper's search, without what stnls adds to it."""


@dataclass(frozen=True)
class Protocol:
    """`given`: options; those that are named on the command line take their place. `claim`: what
    the paper says of the result."""

    name: str
    summary: str
    given: Mapping[str, Any]
    claim: str = "more than 3 dB over the flow"


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            Protocol(
                "paper-text",
                "as the text has it: ten frames, TV-L1 flow of the noisy frames",
                {**SEARCH, "frames": 10, "flow": "tvl1", "seed": 0},
            ),
            Protocol(
                "paper-script",
                "as its published script has it: five frames, Farneback flow of a grey image that "
                "overflows 8 bits, windows that are not moved back into the frame",
                {
                    **SEARCH,
                    "frames": 5,
                    "flow": "farneback",
                    "seed": 123,
                    "grey": "wrapped",
                    "full_ws": False,
                },
            ),
        )
    }
)


def slots(t: int, wt: int, count: int) -> list[int]:
    """dt of the frames that are searched for frame t of `count`: the 2 wt + 1 frames around it,
    slid inward at the ends of the clip, in the order of the library's temporal slots."""
    shift = min(0, t - wt) + max(0, t + wt - (count - 1))
    last = min(count - 1, t + wt - shift)
    frames = (t + s if t + s <= last else last - s for s in range(1, 2 * wt + 1))
    return [frame - t for frame in frames if 0 <= frame < count]
