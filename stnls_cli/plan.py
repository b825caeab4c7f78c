"""How much of a clip is worked on at a time, and the memory that takes on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stnls_cli.flow import MethodSource

if TYPE_CHECKING:
    import torch

    from stnls_cli.flow import FlowSource
    from stnls_cli.options import AlignOptions
    from stnls_cli.video import ClipInfo

GPU_PIXELS = 2**22
"""Pixels that fill a GPU: as many pairs of frames are aligned together, at most."""
FLOW_PIXELS = 2**23
"""The same for flow, whose coarse scales are small."""
FRAMES_ON_GPU = 6
"""Reference frames that may wait for their scores, pictures and files."""


@dataclass(frozen=True)
class Plan:
    """`ahead`: frames read beyond the temporal window; `pairs`: neighbours aligned together;
    `flow_pairs`: flows computed together on the device, 0 where threads compute them;
    `under_way`: reference frames that wait to be recorded."""

    ahead: int
    pairs: int
    flow_pairs: int
    under_way: int


def plan_for(
    options: AlignOptions,
    info: ClipInfo,
    device: torch.device,
    threads: int,
    source: FlowSource | None,
) -> Plan:
    """What suits the frames and the device."""
    if device.type == "cuda":
        return gpu_plan(options, info.height, info.width, source)
    computed = source is not None and source.needs_frames
    return Plan(
        # Each frame brings two flows for the threads; many cores shall not cost much memory.
        ahead=min(threads // 2 + 1, 8) if computed else 1,
        pairs=1,
        flow_pairs=0,
        under_way=-(-threads // (2 * options.wt)),
    )


def gpu_plan(options: AlignOptions, height: int, width: int, source: FlowSource | None) -> Plan:
    """Batches that fill the GPU."""
    pixels = height * width
    native = isinstance(source, MethodSource) and source.method.native is not None
    flow_pairs = max(2, min(FLOW_PIXELS // pixels, 16)) if native else 0
    return Plan(
        ahead=max(1, flow_pairs // 2) if native else 4,
        pairs=max(1, min(GPU_PIXELS // pixels, 2 * options.wt)),
        flow_pairs=flow_pairs,
        under_way=FRAMES_ON_GPU,
    )
