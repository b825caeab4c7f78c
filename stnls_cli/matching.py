"""Search for the matches of one frame in another, and the aligned frame made of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from stnls.agg import WeightedPatchSum
from stnls.nn import compose_flow
from stnls.search import PairedSearch
from torch import Tensor

from stnls_cli.options import AlignOptions


@dataclass(frozen=True)
class Matches:
    """The k best matches of every pixel, best first.

    `offset`: (H, W, k, 2) = (dy, dx) in pixels, int32 or float32; `distance`: (H, W, k) float32.
    """

    offset: Tensor
    distance: Tensor


class Matcher:
    """The search and the aggregation that the options ask for."""

    def __init__(self, options: AlignOptions) -> None:
        self._options = options
        self._search = PairedSearch(
            options.ws,
            options.ps,
            options.k,
            stride0=1,
            stride1=options.stride1,
            dist_type=options.dist,
            itype=options.grid,
        )
        self._sum = WeightedPatchSum(
            options.ps if options.aggregate == "patch" else 1, 1, itype=options.grid
        )

    def search(self, reference: Tensor, neighbour: Tensor, flow: Tensor) -> Matches:
        """Matches of `reference` in `neighbour`, both (3, H, W), around `flow` (2, H, W)."""
        distance, offset = self._search(reference[None], neighbour[None], flow[None])
        return Matches(offset[0, 0], distance[0, 0])

    def align(self, neighbour: Tensor, matches: Matches) -> Tensor:
        """`neighbour` (3, H, W), moved onto the reference by its matches."""
        weights = self._weights(matches.distance)
        offset = matches.offset[:, :, : weights.shape[-1]]
        time = torch.zeros_like(offset[..., :1])
        inds = torch.cat((time, offset), dim=-1)
        aligned: Tensor = self._sum(
            neighbour[None, None], weights[None, None, None], inds[None, None, None]
        )
        return aligned[0, 0]

    def _weights(self, distance: Tensor) -> Tensor:
        if self._options.weights == "best":
            return torch.ones_like(distance[..., :1])
        values = 3 * self._options.ps**2
        scale = 1 / (values * self._options.bandwidth**2)
        sign = -1 if self._options.dist == "l2" else 1
        return torch.softmax(sign * scale * distance, dim=-1)


def flow_to_neighbours(forward: list[Tensor], backward: list[Tensor]) -> dict[int, Tensor]:
    """Flow from the reference to every neighbour, by dt: composed along the steps both ways.

    `forward` and `backward` hold the neighbouring flows (2, H, W), nearest first.
    """
    flows: dict[int, Tensor] = {}
    for sign, steps in ((1, forward), (-1, backward)):
        if steps:
            composed = compose_flow(torch.stack(steps)[None])[0]
            flows.update({sign * (n + 1): flow for n, flow in enumerate(composed)})
    return flows
