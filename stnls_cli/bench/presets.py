"""The named sets of problems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from stnls_cli.bench.problem import Problem

QUICK_ALIGNMENT = (16, 24)
QUICK_ATTENTION = 12


def _alignment(height: int, width: int, frames: int) -> Problem:
    return Problem(
        operator="NonLocalSearch",
        frames=frames,
        channels=3,
        height=height,
        width=width,
        ws=9,
        wt=1,
        ps=7,
    )


def _pair(video: Problem) -> Problem:
    return replace(video, operator="PairedSearch", frames=1, wt=0)


def _alignment_480p(cuda: bool) -> Iterator[Problem]:
    video = _alignment(480, 854, 5)
    pair = _pair(video)
    yield pair
    yield replace(pair, flow="zero")
    yield replace(pair, k=10)
    yield replace(pair, grid="float")
    yield replace(pair, grid="float", stride1=0.5)
    yield replace(pair, operator="WeightedPatchSum", grid="float", search_ps=pair.ps)
    if not cuda:
        yield replace(pair, k=10, stride0=4)
        yield replace(video, frames=3)
        yield video
        return
    yield video
    yield replace(video, k=10)
    yield replace(video, k=10, stride0=4)
    yield replace(video, k=0)
    yield replace(video, wt=2)
    yield replace(video, grid="float")
    fine = replace(video, grid="float", stride1=0.5)
    yield fine
    yield replace(fine, stride0=2)
    for search in (video, fine):
        yield replace(search, flow="wild")


def _alignment_1080p(cuda: bool) -> Iterator[Problem]:
    video = _alignment(1080, 1920, 5)
    pair = _pair(video)
    yield pair
    yield replace(pair, grid="float", stride1=0.5)
    if not cuda:
        yield replace(video, frames=3)
        return
    yield video
    yield replace(video, wt=2)
    yield replace(video, grid="float", stride1=0.5)


def _alignment_4k(cuda: bool) -> Iterator[Problem]:
    video = _alignment(2160, 3840, 3)
    yield _pair(video)
    if cuda:
        yield video


def _with_sums(search: Problem, patches: tuple[int, ...]) -> Iterator[Problem]:
    """A search and the patch sums of its result, each forward, and forward and backward."""
    yield search
    yield replace(search, gradients="videos")
    yield from _sums(search, patches)


def _sums(search: Problem, patches: tuple[int, ...]) -> Iterator[Problem]:
    for ps in patches:
        patch_sum = replace(search, operator="WeightedPatchSum", ps=ps, search_ps=search.ps)
        yield patch_sum
        yield replace(patch_sum, gradients="videos")


def _readme_attention(cuda: bool) -> Iterator[Problem]:
    search = Problem(
        operator="NonLocalSearch",
        frames=5,
        channels=16,
        height=128,
        width=128,
        ws=5,
        wt=2,
        ps=3,
        k=10,
        heads=2,
        stride1=0.5,
        grid="float",
        anchor=True,
    )
    yield from _with_sums(search, (3,))
    if cuda:
        yield replace(search, gradients="all")
    yield from _with_sums(replace(search, grid="int", stride1=1.0), (3,))


def _attention_256(cuda: bool) -> Iterator[Problem]:
    search = Problem(
        operator="NonLocalSearch",
        frames=5 if cuda else 3,
        channels=64,
        height=256,
        width=256,
        ws=9,
        wt=1,
        ps=1,
        k=9,
        heads=4,
        stride1=0.5,
        grid="float",
    )
    whole = replace(search, grid="int", stride1=1.0)
    if not cuda:
        # Some cores take long for these: fewer frames, and a part of the rows.
        for one in (search, whole):
            yield one
            yield replace(one, operator="WeightedPatchSum", search_ps=1)
        return
    yield from _with_sums(search, (1, 3))
    yield replace(search, ps=3)
    yield replace(search, ps=3, gradients="videos")
    yield replace(search, k=0)
    yield replace(search, ps=3, stride0=2)
    yield replace(search, ps=7, stride0=4)  # as networks that restore videos
    yield from _with_sums(whole, (1, 3))


def _neighbourhood(cuda: bool) -> Iterator[Problem]:
    """What the peers for attention compute too: every position of the window, no flow."""
    side = 128 if cuda else 64
    yield Problem(
        operator="NeighbourhoodAttention",
        frames=1,
        channels=64,
        height=side,
        width=side,
        ws=9,
        k=0,
        heads=4,
        flow="zero",
    )


_PRESETS = {
    "alignment-480p": _alignment_480p,
    "alignment-1080p": _alignment_1080p,
    "alignment-4k": _alignment_4k,
    "readme-attention": _readme_attention,
    "attention-256": _attention_256,
    "neighbourhood": _neighbourhood,
}
PRESETS = tuple(_PRESETS)


def problems(preset: str, *, cuda: bool, quick: bool = False) -> list[Problem]:
    """The rows of a preset: fewer and smaller ones for processors. `quick`: small frames."""
    found = list(_PRESETS[preset](cuda))
    return list(dict.fromkeys(map(_small, found))) if quick else found


def _small(problem: Problem) -> Problem:
    """The same problem on frames that take milliseconds."""
    if problem.channels == 3:
        height, width = QUICK_ALIGNMENT
    else:
        height = width = QUICK_ATTENTION
    frames = min(problem.frames, problem.slots)
    return replace(problem, frames=frames, height=height, width=width)
