"""Search for the matches of one frame in another, and the aligned frame made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from stnls.agg import WeightedPatchSum, blend_patches
from stnls.nn import compose_flow
from stnls.search import PairedSearch, choose_match
from torch import Tensor

from stnls_cli.choice import (
    NEAR,
    SHORTLIST,
    Paraboloid,
    charge,
    charged,
    confidence,
    in_strips,
    is_among,
)
from stnls_cli.options import AlignOptions


@dataclass(frozen=True)
class Matches:
    """The k best matches of every pixel, best first; of one pair of frames, or of N with a leading
    dimension.

    `offset`: (H, W, k, 2) = (dy, dx) in pixels, int32 or float32; `distance`: (H, W, k) float32;
    `position`: (H, W, 2), the best one's offset on the grid, before it moved between positions.
    """

    offset: Tensor
    distance: Tensor
    position: Tensor

    def motion(self) -> Tensor:
        """(2, H, W) = (dx, dy) of the best match."""
        return self.offset[..., 0, :].float().movedim(-1, -3).flip(-3)

    def pair(self, n: int) -> Matches:
        """Those of one of N pairs."""
        return Matches(self.offset[n], self.distance[n], self.position[n])

    def pairs(self, some: slice) -> Matches:
        """Those of some of N pairs."""
        return Matches(self.offset[some], self.distance[some], self.position[some])


class Matcher:
    """The search and the aggregation that the options ask for.

    `full_ws`: windows that would leave the frame are moved back inside.
    """

    def __init__(self, options: AlignOptions, *, full_ws: bool = True) -> None:
        self._options = options
        self._full_ws = full_ws
        self._values = 3 * options.ps**2
        self._prior = options.prior_used()
        least = SHORTLIST if options.ws > NEAR else NEAR**2
        shortlist = max(options.k, least) if self._prior else options.k
        self._search = self._searching(options.ws, min(shortlist, options.ws**2))
        near = bool(self._prior) and options.ws > NEAR
        between = options.subpixel_used() == "parabola"
        # One match on the float grid is chosen and placed by a kernel of the library.
        self._by_kernel = options.k == 1 and options.grid == "float" and options.dist == "l2"
        self._kernel: dict[str, Any] = {
            "ps": options.ps,
            "stride1": options.stride1,
            "charge": charge(options.sigma, self._prior),
            "full_ws": full_ws,
            "near": near,
            "between": between,
        }
        slow = not self._by_kernel
        self._near = self._searching(NEAR, NEAR**2) if near and slow else None
        self._between = Paraboloid(options.ps, options.stride1) if between and slow else None
        self._taps = options.ps if options.aggregate == "patch" else 1
        self._sum = WeightedPatchSum(self._taps, 1, itype=options.grid)

    def _searching(self, ws: int, k: int) -> PairedSearch:
        options = self._options
        return PairedSearch(
            ws,
            options.ps,
            k,
            stride0=1,
            stride1=options.stride1,
            dist_type=options.dist,
            full_ws=self._full_ws,
            itype=options.grid,
        )

    def search(self, reference: Tensor, neighbour: Tensor, flow: Tensor) -> Matches:
        """Matches of `reference` in `neighbour`, both (3, H, W), around `flow` (2, H, W)."""
        return self.search_pairs(reference[None], neighbour[None], flow[None]).pair(0)

    def search_pairs(self, references: Tensor, neighbours: Tensor, flows: Tensor) -> Matches:
        """The same for N pairs at once, each with a leading N."""
        pairs = references, neighbours, flows
        distance, offset = (found[:, 0] for found in self._search(*pairs))
        if self._by_kernel:
            best, position, offset = choose_match(*pairs, distance, offset, **self._kernel)
            return Matches(offset[..., None, :], best[..., None], position)
        if self._prior:
            near = [found[:, 0] for found in self._near(*pairs)] if self._near is not None else []
            centre = flows.flip(1).permute(0, 2, 3, 1)
            chosen = in_strips(self._choose, centre, distance, offset, *near)
            distance, offset = chosen[..., 0].contiguous(), chosen[..., 1:].to(offset.dtype)
        position = offset[..., 0, :]
        if self._between is not None:
            best = self._between(references, neighbours, position)
            offset = torch.cat((best[..., None, :], offset[..., 1:, :]), dim=-2)
        return Matches(offset, distance, position)

    def _choose(self, centre: Tensor, distance: Tensor, offset: Tensor, *near: Tensor) -> Tensor:
        """The k matches that cost least, (rows, W, k, 3): distance, dy, dx."""
        cost = self._cost(distance, offset, centre)
        if near:
            # What lies next to the flow is charged least: it may win without being on the
            # shortlist. Where several matches are wanted none may be taken twice.
            if self._options.k > 1:
                cost[is_among(offset, near[1], 0.01 * self._options.stride1)] = torch.inf
            cost = torch.cat((self._cost(near[0], near[1], centre), cost), dim=-1)
            distance, offset = torch.cat((near[0], distance), -1), torch.cat((near[1], offset), 2)
        order = cost.argsort(dim=-1, stable=True)[..., : self._options.k, None]
        matches = torch.cat((distance[..., None], offset.to(distance.dtype)), dim=-1)
        return matches.gather(2, order.expand(*order.shape[:3], 3))

    def _cost(self, distance: Tensor, offset: Tensor, centre: Tensor) -> Tensor:
        return charged(
            distance,
            offset,
            centre,
            values=self._values,
            sigma=self._options.sigma,
            prior=self._prior,
        )

    def align(self, neighbour: Tensor, matches: Matches) -> Tensor:
        """`neighbour` (3, H, W), moved onto the reference by its matches."""
        alone = Matches(matches.offset[None], matches.distance[None], matches.position[None])
        return self.align_pairs(neighbour[None], alone)[0]

    def align_pairs(self, neighbours: Tensor, matches: Matches) -> Tensor:
        """The same for N pairs at once, each with a leading N."""
        options, best = self._options, matches.distance[..., 0]
        trust = torch.ones_like(best)
        if options.patch_weights_used() == "confidence":
            trust = confidence(best, values=self._values, sigma=options.sigma)
        if options.sampling_used() == "bicubic":
            pixels = neighbours, matches.offset[..., 0, :], trust
            return blend_patches(*pixels, self._taps).clamp_(0, 255)  # bicubic kernels overshoot
        weights = self._weights(matches.distance) * trust[..., None]
        total = self._patch_sum(neighbours, weights, matches)
        if options.patch_weights_used() == "uniform":
            return total
        return total / self._patch_sum(torch.ones_like(neighbours[:, :1]), weights, matches)

    def _patch_sum(self, neighbours: Tensor, weights: Tensor, matches: Matches) -> Tensor:
        offset = matches.offset[..., : weights.shape[-1], :]
        time = torch.zeros_like(offset[..., :1])
        inds = torch.cat((time, offset), dim=-1)
        # (B, heads, T, H, W, k, 3): every pair is a video of one frame.
        total: Tensor = self._sum(neighbours[:, None], weights[:, None, None], inds[:, None, None])
        return total[:, 0]

    def _weights(self, distance: Tensor) -> Tensor:
        if self._options.weights == "best":
            return torch.ones_like(distance[..., :1])
        scale = 1 / (self._values * self._options.bandwidth**2)
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
