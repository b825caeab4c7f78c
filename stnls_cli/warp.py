"""Backward warp: bring a neighbour frame onto the reference by a flow field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stnls_cli.positions import columns_and_rows

if TYPE_CHECKING:
    from torch import Tensor


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample `image` (C, H, W) bilinearly at each pixel's position + flow (2, H, W), (dx, dy).

    The flow is not rounded; outside the frame the border is replicated. Where the flow is not
    finite the pixel keeps its own position. The result has the image's shape and dtype.
    """
    _, height, width = image.shape
    if tuple(flow.shape) != (2, height, width):
        raise ValueError(f"flow must be (2, {height}, {width}), got {tuple(flow.shape)}")
    return warp_frames(image[None], flow[None])[0]


def warp_frames(images: Tensor, flows: Tensor) -> Tensor:
    """The same for `images` (N, C, H, W), each by its own of the `flows` (N, 2, H, W)."""
    import torch
    from torch.nn.functional import grid_sample

    height, width = images.shape[2:]
    # Positions scaled to -1..1 in float32 are off by 0.01 grey levels and more on wide frames.
    flows = flows.double()
    flows = torch.where(flows.abs().amax(1, keepdim=True) < torch.inf, flows, 0.0)  # NaN is not
    dx, dy = flows.unbind(1)
    x, y = columns_and_rows(height, width, flows.dtype, flows.device)
    across, down = 2 / max(width - 1, 1), 2 / max(height - 1, 1)
    places = (x * across - 1).add(dx, alpha=across), (y * down - 1).add(dy, alpha=down)
    grid = torch.stack(places, dim=-1)
    sampled = grid_sample(
        images.double(), grid, mode="bilinear", padding_mode="border", align_corners=True
    )
    return sampled.to(images.dtype)
