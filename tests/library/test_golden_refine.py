"""The original library's outputs of `RefineSearch`, `PairedRefine` and `paired_vids`."""

from __future__ import annotations

import inspect
from pathlib import Path

import golden
import pytest
import stnls
from compare import TOLERANCE
from golden import differing
from reference import options_of, paired_refine_candidates, refine_candidates, select
from torch import Tensor

DEVIATIONS = {
    "rf_i_full_wsFalse": "the original hands its flags over in another order: full_ws is ignored",
}

REFINEMENTS = golden.names("misc", "rf_*", "pr_*", "bwd_RefineSearch_*", "bwd_PairedRefine_*")


@pytest.fixture(autouse=True)
def golden_outputs(shared: Path) -> None:
    """Skips without the shared data."""


def run(name: str, device: str, **changes: object) -> tuple[Tensor, Tensor]:
    config, arrays = golden.case("misc", name)
    search = getattr(stnls.search, config["cls"])
    names = inspect.signature(search).parameters
    module = search(**{k: v for k, v in {**config, **changes}.items() if k in names})
    dists, inds = module(*(x.to(device) for x in golden.search_inputs(config, arrays)))
    return dists.cpu(), inds.cpu()


@pytest.mark.parametrize("name", REFINEMENTS)
def test_refinement(name: str, device: str) -> None:
    _, arrays = golden.case("misc", name)
    found, expected = run(name, device), (arrays["dists"], arrays["inds"])
    assert found[0].shape == expected[0].shape
    assert found[1].dtype == expected[1].dtype
    if name in DEVIATIONS:
        in_distance, _ = differing(found, expected, TOLERANCE)
        assert bool(in_distance.any()), f"no longer deviates: {DEVIATIONS[name]}"
        found = run(name, device, full_ws=True)
    for differ in differing(found, expected, TOLERANCE):
        assert not bool(differ.any())


@pytest.mark.parametrize("name", REFINEMENTS)
def test_reference_of_refinement(name: str) -> None:
    config, arrays = golden.case("misc", name)
    paired = config["cls"] == "PairedRefine"
    options = {"topk_mode": "each" if paired else "all", **config, "ws": config["wr"], "wt": 0}
    if name in DEVIATIONS:
        options["full_ws"] = True
    o = options_of(options)
    inputs = golden.search_inputs(config, arrays)
    table = (paired_refine_candidates if paired else refine_candidates)(o, *inputs, config["kr"])
    dists, inds = select(o, table)
    if paired:
        dists, inds = dists.squeeze(2), inds.squeeze(2)[..., 1:]
    for differ in differing((dists, inds), (arrays["dists"], arrays["inds"]), TOLERANCE):
        assert not bool(differ.any())


@pytest.mark.parametrize("name", golden.names("misc", "*_paired_vids1"))
def test_searches_of_all_pairs(name: str, device: str) -> None:
    config, arrays = golden.case("misc", name)
    names = inspect.signature(stnls.search.PairedSearch).parameters
    search = stnls.search.PairedSearch(**{k: v for k, v in config.items() if k in names})
    inputs = (arrays[n].to(device) for n in ("vid0", "vid1", "in_flows"))
    found = [x.cpu() for x in search.paired_vids(*inputs, config["paired_vids"])]
    for differ in differing((found[0], found[1]), (arrays["dists"], arrays["inds"]), TOLERANCE):
        assert not bool(differ.any())
