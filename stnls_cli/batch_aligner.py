"""Pairs of frames that are aligned together: by every method, with their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stnls_cli.frame_pairs import BatchFrames, FramePair
from stnls_cli.matching import Matcher, Matches, motion_of
from stnls_cli.outputs import Outputs, Place
from stnls_cli.page.pictures import SmallPair, shrink_pair
from stnls_cli.scoring import NO_SCORE, flow_scores, frame_scores, score_names
from stnls_cli.transfer import Downloads, Leaving
from stnls_cli.warp import warp_frames

if TYPE_CHECKING:
    from stnls_cli.options import AlignOptions
    from stnls_cli.plan import Plan
    from stnls_cli.timings import Timings

SEARCHES = ("nls", "shifted-nls")


@dataclass(frozen=True)
class Measured:
    """The scores of pairs (t, dt) on their way, and what their pictures would be made of. Nothing
    else of them is held."""

    places: tuple[Place, ...]
    scores: Leaving
    small: list[Callable[[], SmallPair]]


class BatchAligner:
    """Aligns the neighbours of pairs by all methods of the options; several threads may use it.

    `methods` and `metrics` are in the order of the scores.
    """

    def __init__(self, options: AlignOptions, plan: Plan, timings: Timings) -> None:
        self.methods = options.method_names()
        self._of_frame, self._of_flow = score_names(options.metric_names())
        self._plan = plan
        self._timings = timings
        self._matcher = Matcher(options)
        self._downloads = Downloads(timings.device)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names, as `scoring.score` takes them."""
        return *self._of_frame, *self._of_flow

    def align(self, batch: Sequence[FramePair], outputs: Outputs) -> Measured:
        """All methods for some pairs. On a GPU the work is launched, no more."""
        places = tuple((pair.t, pair.dt) for pair in batch)
        frames = BatchFrames.of(batch)
        aligned: dict[str, Tensor] = {}
        motions: dict[str, Callable[[int], Tensor]] = {}
        if frames.flows is not None:
            motions["flow"] = frames.flows.__getitem__
        for methods in self._together():
            found = self._align(methods, frames)
            for method, (images, matches) in zip(methods, found, strict=True):
                aligned[method] = images
                if matches is None:
                    continue
                # For pictures alone, which few pairs have; without what else there is of a match.
                motions[method] = partial(_motion, matches.offset[..., :1, :].contiguous())
                if method == "shifted-nls":
                    with self._timings.host("write"):
                        outputs.aligned(places, images)
                        outputs.matches(places, matches)
        with self._timings.stage("metrics"):
            scores = self._downloads.get(self._scores(frames, aligned))
        small: list[Callable[[], SmallPair]] = []
        if self.methods != ("none",):
            references = [pair.reference.clean for pair in batch]
            make = partial(_shrunk, references, frames.clean, aligned, motions)
            small = [partial(make, n) for n in range(len(batch))]
        if self._plan.shrink_at_once:
            # The frames would take too much memory until their scores are known.
            with self._timings.stage("pictures"):
                small = [partial(_same, shrink()) for shrink in small]
        return Measured(places, scores, small)

    def _scores(self, frames: BatchFrames, aligned: dict[str, Tensor]) -> Tensor:
        """(pairs, methods, metrics) as numbers of `scoring.py`."""
        of_methods = [aligned[method] for method in self.methods]
        count = of_methods[0].shape[0]
        # All methods together, but for large frames, whose pairs come one by one.
        parts = [torch.cat(of_methods)] if count > 1 else of_methods
        table: Tensor = torch.cat(
            [frame_scores(self._of_frame, frames.clean_references, part) for part in parts]
        )
        table = table.unflatten(0, (len(aligned), count)).transpose(0, 1)
        if not self._of_flow:
            return table
        more = table.new_full((count, len(self._of_flow)), NO_SCORE)
        if frames.flows is not None:
            more = flow_scores(self._of_flow, frames.flows)
        return torch.cat((table, more[:, None].expand(-1, len(aligned), -1)), dim=2)

    def _together(self) -> list[tuple[str, ...]]:
        """Methods that are worked on at a time: both searches, where that fills a GPU better."""
        searches = tuple(method for method in self.methods if method in SEARCHES)
        if len(searches) < 2 or not self._plan.together:
            return [(method,) for method in self.methods]
        return [*((m,) for m in self.methods if m not in SEARCHES), searches]

    def _align(
        self, methods: tuple[str, ...], frames: BatchFrames
    ) -> list[tuple[Tensor, Matches | None]]:
        """The clean neighbours (N, 3, H, W) aligned by each of the methods, and the matches where
        they search."""
        clean, noisy, flows = frames.clean, frames.noisy, frames.flows
        if methods == ("none",):
            return [(clean, None)]
        if methods == ("flow",):
            assert flows is not None
            with self._timings.stage("warp"):
                return [(warp_frames(clean, flows), None)]
        around = []
        for method in methods:
            if method == "nls":
                around.append(clean.new_zeros((clean.shape[0], 2, *clean.shape[2:])))
            elif flows is not None:
                around.append(flows)
        count, times = clean.shape[0], len(around)
        references = frames.noisy_references
        same = noisy is clean
        if times > 1:
            clean = clean.repeat(times, 1, 1, 1)
            noisy = clean if same else noisy.repeat(times, 1, 1, 1)
            if references.shape[0] > 1:
                references = references.repeat(times, 1, 1, 1)
        references = references.expand_as(noisy)
        with self._timings.stage("search"):
            led = torch.cat(around) if times > 1 else around[0]
            matches = self._matcher.search_pairs(references, noisy, led)
        with self._timings.stage("aggregate"):
            aligned = self._matcher.align_pairs(clean, matches)
        parts = [slice(n * count, (n + 1) * count) for n in range(times)]
        return [(aligned[part], matches.pairs(part)) for part in parts]


def _shrunk(
    references: list[Tensor],
    neighbours: Tensor,
    aligned: dict[str, Tensor],
    motions: dict[str, Callable[[int], Tensor]],
    n: int,
) -> SmallPair:
    """Pair n of those aligned together."""
    of_pair = {name: images[n] for name, images in aligned.items() if name != "none"}
    return shrink_pair(
        reference=references[n],
        neighbour=neighbours[n],
        aligned=of_pair,
        motions={name: motions[name](n) for name in of_pair if name in motions},
    )


def _motion(offsets: Tensor, n: int) -> Tensor:
    return motion_of(offsets[n])


def _same(small: SmallPair) -> SmallPair:
    return small
