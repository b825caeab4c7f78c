"""The original library's outputs (../shared/golden) against the kernels and against the reference.

`DEVIATIONS` lists where searches differ on purpose.
"""

from __future__ import annotations

import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import golden
import pytest
import stnls
import torch
from compare import TOLERANCE, assert_search
from golden import OFFSET_TOLERANCE, Arrays, differing
from reference import (
    Candidates,
    SearchOptions,
    candidates,
    options_of,
    paired_candidates,
)
from reference import search_flow as reference_search_flow
from torch import Tensor

FOLDS = "positions that overshoot by more than the frame keep folding; the original reflects once"
FIXED = "the original pins the wrong candidate of a slot (its time is one slot off)"
FIRST_SLOT = (
    "the query's own position is pinned in its own slot only; the original also pins the corner "
    "of the window in every other slot"
)
REFUSED = "ws_interior accepts only its default"
DEVIATIONS = {
    "[fi]_flow_std*": FOLDS,
    "*_self_actionanchor_and_remove_ref_frame_*": FIXED,
    "*_topk_modeeach_*_self_actionanchor": FIRST_SLOT,
    "rand09": FIRST_SLOT,
    "*_ws_interior*": REFUSED,
}

# Composed flow, as the input of a search on the real grid, differs by up to 2e-5 pixels.
COMPOSED_TOLERANCE = 2e-4
# Tables with more taps take the reference many seconds.
LARGE = 20_000_000

SEARCHES = golden.names("nls", "*")


@pytest.fixture(autouse=True)
def golden_outputs(shared: Path) -> None:
    """Skips without the shared data."""


def deviation(name: str) -> str | None:
    return next((why for p, why in DEVIATIONS.items() if fnmatch.fnmatch(name, p)), None)


class Search:
    """One case of NonLocalSearch."""

    def __init__(self, name: str) -> None:
        self.config, arrays = golden.case("nls", name)
        self.options = options_of(self.config)
        dtype = torch.float64 if self.config.get("dtype") == "float64" else torch.float32
        self.videos = tuple(self._heads(arrays[v].to(dtype)) for v in ("vid0", "vid1"))
        if "in_vid0" in arrays:
            self.videos = arrays["in_vid0"].to(dtype), self.videos[1]
        self.mode = self.config.get("mode", "flows")
        self.flow: tuple[Tensor, ...] = {
            "noflow": (),
            "fb": (arrays["fflow"], arrays["bflow"]),
            "flows": (arrays.get("in_flows"),),
        }[self.mode]
        self.dists, self.inds = arrays["dists"], arrays["inds"]
        composed = self.mode == "fb" and self.options.itype == "float"
        self.tolerance = COMPOSED_TOLERANCE if composed else TOLERANCE

    def _heads(self, video: Tensor) -> Tensor:
        if self.config.get("vid_ndim") != 6:
            return video
        heads = self.options.nheads
        return video.unflatten(2, (heads, video.shape[2] // heads)).transpose(1, 2)

    def run(self, device: str) -> tuple[Tensor, Tensor]:
        keywords = {k: v for k, v in self.config.items() if k in vars(self.options)}
        if "ws_interior" in self.config:
            keywords["ws_interior"] = self.config["ws_interior"]
        search = stnls.search.NonLocalSearch(**keywords)
        dists, inds = search(*(x.to(device) for x in (*self.videos, *self.flow)))
        return dists.cpu(), inds.cpu()

    @property
    def flows(self) -> Tensor | None:
        """The flow of every slot."""
        if self.mode == "fb":
            return stnls.nn.search_flow(*self.flow, self.options.wt, self.options.stride0)
        return self.flow[0] if self.flow else None

    def taps(self) -> int:
        o, (_, key) = self.options, self.videos
        queries = self.dists[..., 0].numel() * key.shape[-3]
        return queries * (2 * o.wt + 1) * (o.ws * o.ps) ** 2 * (4 if o.itype == "float" else 1)

    def overshoots(self) -> Tensor:
        """(B, 1, T, nH, nW): in some slot the flow leads further outside than the frame is long."""
        flows, (_, key) = self.flows, self.videos
        assert flows is not None
        beyond = torch.zeros(flows[:, :, :, 0, 0].shape, dtype=torch.bool)
        for axis, length in ((0, key.shape[-1]), (1, key.shape[-2])):
            count = flows.shape[-1 - axis]
            place = torch.arange(count) * self.options.stride0
            target = flows[:, :, :, :, axis] + (place if axis == 0 else place[:, None])
            last = length - 1
            beyond |= ((target < -last) | (target > 2 * last)).any(3)
        return beyond


@cache
def search_table(name: str) -> Candidates:
    case = Search(name)
    return candidates(case.options, *case.videos, case.flows)


@pytest.mark.parametrize("name", SEARCHES)
def test_non_local_search(name: str, device: str) -> None:
    case, why = Search(name), deviation(name)
    if why == REFUSED:
        with pytest.raises(ValueError, match="ws_interior=3 is not supported"):
            case.run(device)
        return
    found = case.run(device)
    assert found[0].shape == case.dists.shape
    assert found[1].dtype == case.inds.dtype
    in_distance, in_offset = differing(found, (case.dists, case.inds), case.tolerance)
    if why is not None:
        assert bool((in_distance | in_offset).any()), f"no longer deviates: {why}"
    if why == FOLDS:
        usual = ~case.overshoots()[..., None].expand_as(in_distance)
        in_distance, in_offset = in_distance & usual, in_offset & usual
    elif why == FIRST_SLOT:
        in_distance, in_offset = (
            in_distance[..., : case.options.k],
            in_offset[..., : case.options.k],
        )
    elif why == FIXED:
        in_distance = torch.zeros(())
    assert not bool(in_distance.any())
    # Other offsets at the same distances are ties, or a deviation: the table decides.
    if why is not None or bool(in_offset.any()):
        table = search_table(name)
        assert_search(case.options, table, found, tolerance=case.tolerance)


def reference_searches() -> list[Any]:
    if not golden.FOLDER.is_dir():
        return SEARCHES
    names = [name for name in SEARCHES if deviation(name) is None]
    slow = pytest.mark.slow
    return [pytest.param(n, marks=slow) if Search(n).taps() > LARGE else n for n in names]


@pytest.mark.parametrize("name", reference_searches())
def test_reference_of_non_local_search(name: str) -> None:
    case = Search(name)
    assert_search(
        *(case.options, search_table(name), (case.dists, case.inds)),
        tolerance=case.tolerance,
        offset_tolerance=OFFSET_TOLERANCE,
    )


def paired_case(name: str) -> tuple[dict[str, Any], SearchOptions, tuple[Tensor, ...], Arrays]:
    config, arrays = golden.case("misc", name)
    keywords = {**config, "wt": 0}
    if keywords.get("self_action") == "anchor":
        keywords["self_action"] = "anchor_each"
    frames = arrays["vid0"][:, 0], arrays["vid1"][:, 1], arrays["in_flow"]
    return config, options_of(keywords), frames, arrays


@pytest.mark.parametrize(
    "name",
    [n for n in golden.names("misc", "ps_*", "bwd_PairedSearch*") if "paired_vids" not in n],
)
def test_paired_search(name: str, device: str) -> None:
    config, o, tensors, arrays = paired_case(name)
    taken = (*("ws", "ps", "k", "nheads", "stride0", "stride1", "dist_type", "dilation"),)
    taken += ("full_ws", "self_action", "itype")
    search = stnls.search.PairedSearch(**{k: v for k, v in config.items() if k in taken})
    found = tuple(x.cpu() for x in search(*(x.to(device) for x in tensors)))
    expected = arrays["dists"], arrays["inds"]
    in_distance, in_offset = differing(found, expected, TOLERANCE)
    assert not bool(in_distance.any())
    assert not bool(in_offset.any())
    table = paired_candidates(o, *tensors)
    for dists, inds in (found, expected):
        with_time = torch.nn.functional.pad(inds, (1, 0))
        assert_search(
            *(o, table, (dists.unsqueeze(2), with_time.unsqueeze(2))),
            offset_tolerance=OFFSET_TOLERANCE,
        )


@pytest.mark.parametrize("name", golden.names("misc", "ps_*_paired_vids1"))
def test_paired_search_over_a_video_is_the_best_of_each_slot(name: str, device: str) -> None:
    config, arrays = golden.case("misc", name)
    taken = ("ws", "ps", "k", "nheads", "stride0", "stride1", "dist_type", "itype")
    keywords = {k: v for k, v in config.items() if k in taken}
    search = stnls.search.NonLocalSearch(wt=1, topk_mode="each", **keywords)
    inputs = (arrays[n].to(device) for n in ("vid0", "vid1", "in_flows"))
    found = tuple(x.cpu() for x in search(*inputs))
    for differ in differing(found, (arrays["dists"], arrays["inds"]), TOLERANCE):
        assert not bool(differ.any())


@pytest.mark.parametrize("name", golden.names("misc", "search_flow_*"))
def test_search_flow(name: str, device: str) -> None:
    config, arrays = golden.case("misc", name)
    flow = arrays["fflow"], arrays["bflow"]
    options = config["wt"], config["s0"]
    found = stnls.nn.search_flow(*(f.to(device) for f in flow), *options).cpu()
    for flows in (found, reference_search_flow(*flow, *options).float()):
        torch.testing.assert_close(flows, arrays["flows"], rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", golden.names("misc", "acc_*_s1_pytorch"))
def test_compose_flow_is_accumulated_flow(name: str, device: str) -> None:
    _, arrays = golden.case("misc", name)
    forward, backward = (arrays[n].to(device) for n in ("fflow", "bflow"))
    frames = forward.shape[1]
    for t in range(frames):
        ahead = stnls.nn.compose_flow(forward[:, t : frames - 1]).cpu()
        back = stnls.nn.compose_flow(backward[:, 1 : t + 1].flip(1)).cpu()
        for found, expected in ((ahead, arrays["pfflow"]), (back, arrays["pbflow"])):
            steps = found.shape[1]
            torch.testing.assert_close(found, expected[:, t, :steps], rtol=0, atol=5e-5)
