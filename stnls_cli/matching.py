"""Search for the matches of one frame in another, and the aligned frame made of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from stnls.agg import WeightedPatchSum, blend_patches
from stnls.nn import compose_flow
from stnls.search import PairedSearch
from torch import Tensor

from stnls_cli.choice import charge, confidence
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
        return motion_of(self.offset)

    def pair(self, n: int) -> Matches:
        """Those of one of N pairs."""
        return Matches(self.offset[n], self.distance[n], self.position[n])

    def pairs(self, some: slice) -> Matches:
        """Those of some of N pairs."""
        return Matches(self.offset[some], self.distance[some], self.position[some])


def motion_of(offset: Tensor) -> Tensor:
    """(..., 2, H, W) = (dx, dy) of the best of the matches (..., H, W, k, 2) = (dy, dx)."""
    return offset[..., 0, :].float().movedim(-1, -3).flip(-3)


class Matcher:
    """The search and the aggregation that the options ask for.

    `full_ws`: windows that would leave the frame are moved back inside.
    """

    def __init__(self, options: AlignOptions, *, full_ws: bool = True) -> None:
        self._options = options
        self._values = 3 * options.ps**2
        self._search = PairedSearch(
            options.ws,
            options.ps,
            options.k,
            stride0=1,
            stride1=options.stride1,
            dist_type=options.dist,
            full_ws=full_ws,
            itype=options.grid,
            charge=charge(options.sigma, options.prior_used()),
        )
        self._taps = options.ps if options.aggregate == "patch" else 1
        self._sum = WeightedPatchSum(self._taps, 1, itype=options.grid)

    def search(self, reference: Tensor, neighbour: Tensor, flow: Tensor) -> Matches:
        """Matches of `reference` in `neighbour`, both (3, H, W), around `flow` (2, H, W)."""
        return self.search_pairs(reference[None], neighbour[None], flow[None]).pair(0)

    def search_pairs(self, references: Tensor, neighbours: Tensor, flows: Tensor) -> Matches:
        """The same for N pairs at once, each with a leading N."""
        given = references, neighbours, flows
        if self._options.subpixel_used() != "parabola":
            distance, offset = (x[:, 0] for x in self._search(*given))
            return Matches(offset, distance, offset[..., 0, :])
        distance, offset, moved = self._search.subpixel(*given)
        distance, offset = distance[:, 0], offset[:, 0]
        best_first = moved[..., None, :]
        if self._options.k > 1:
            best_first = torch.cat((best_first, offset[..., 1:, :]), dim=-2)
        return Matches(best_first, distance, offset[..., 0, :])

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
    ways = [(sign, steps) for sign, steps in ((1, forward), (-1, backward)) if steps]
    alike = len({len(steps) for _, steps in ways}) == 1
    flows: dict[int, Tensor] = {}
    # Both ways at once, but for the ends of the clip.
    for together in [ways] if alike else [[way] for way in ways]:
        steps = torch.stack([flow for _, steps in together for flow in steps])
        composed = compose_flow(steps.unflatten(0, (len(together), -1)))
        for (sign, _), found in zip(together, composed.unbind(), strict=True):
            flows.update({sign * (n + 1): flow for n, flow in enumerate(found.unbind())})
    return flows
