"""The original library's aggregations, forward and backward, against the kernels and the reference.

Its `NonLocalGatherAdd` and summed `NonLocalGather` are also this library's `WeightedPatchSum`.
`PooledPatchSum` is not part of this library.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import pytest
import stnls
import torch
from golden import Arrays
from gradients import gradients
from reference import PatchOptions, gather_add, patch_stack, scatter_add
from torch import Tensor

FOLDS = "positions that overshoot by more than the frame keep folding; the original reflects once"
BORDER = "at the last pixel the slope is that of the mirrored image; the original takes zero there"
UNRELATED = "the original divides the scatter's gradient by counts, of which its result knows none"
# Patterns of cases and arrays.
DEVIATIONS = {
    "gadd_*_std12p0_*.*": FOLDS,
    "gadd_f_srcnls_s02.gflows": BORDER,
    "sadd_i_*.g*": UNRELATED,
}
# Of the largest number in the array, as the README of the outputs states, and our rounding.
TOLERANCE = 3e-6

CASES = golden.names("agg", "gadd_*", "gath_*", "sadd_*")
REFERENCES = {
    "NonLocalGather": patch_stack,
    "NonLocalGatherAdd": gather_add,
    "NonLocalScatterAdd": scatter_add,
}


@pytest.fixture(autouse=True)
def golden_outputs(shared: Path) -> None:
    """Skips without the shared data."""


def deviation(name: str, array: str) -> str | None:
    full = f"{name}.{array}"
    return next((why for p, why in DEVIATIONS.items() if fnmatch.fnmatch(full, p)), None)


def options(config: dict[str, Any]) -> dict[str, Any]:
    names = ("ps", "dilation", "reflect_bounds", "use_adj", "itype")
    return {k: v for k, v in config.items() if k in names}


def operator(config: dict[str, Any]) -> Callable[..., Tensor]:
    s, o = config["s0"], options(config)
    if config["cls"] == "NonLocalGather":
        return stnls.agg.NonLocalGather(stride0=s, **o)
    return getattr(stnls.agg, config["cls"])(strideIn=s, strideOut=s, **o)


def by_head(config: dict[str, Any], arrays: Arrays) -> Tensor:
    return arrays["vid0"].unflatten(2, (config["nheads"], -1)).transpose(1, 2)


def derive(
    function: Callable[..., Tensor], inputs: list[Tensor], arrays: Arrays
) -> dict[str, Tensor | None]:
    """The output and the gradients by the names of the stored arrays."""
    leaves = [x.clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    out = function(*leaves)
    weights = golden.loss_weights(tuple(arrays["out"].shape)).to(out)
    grads = gradients([out], leaves, [weights])
    named = dict(zip(("gvid", "gweights", "gflows"), grads, strict=True))
    found = {"out": out.detach(), **named}
    return {name: None if x is None else x.cpu() for name, x in found.items()}


def inputs_of(config: dict[str, Any], arrays: Arrays) -> list[Tensor]:
    video = by_head(config, arrays) if config.get("vid_ndim") == 6 else arrays["vid0"]
    return [video, golden.weights(tuple(arrays["in_flows"].shape[:-1])), arrays["in_flows"]]


def reference(config: dict[str, Any], arrays: Arrays) -> dict[str, Tensor | None]:
    function = REFERENCES[config["cls"]]
    o = PatchOptions(stride0=config["s0"], **options(config))
    _, weights, inds = inputs_of(config, arrays)
    inputs = [by_head(config, arrays), weights, inds]
    found = derive(lambda *x: function(*x, o), inputs, arrays)
    gvid = found["gvid"]
    if config.get("vid_ndim") != 6 and gvid is not None:
        found["gvid"] = gvid.transpose(1, 2).flatten(2, 3)
    return found


def unlike(found: Tensor, expected: Tensor) -> Tensor:
    atol = TOLERANCE * float(expected.abs().nan_to_num().max())
    return ~torch.isclose(found.double(), expected.double(), rtol=0, atol=atol)


@pytest.mark.parametrize("name", CASES)
def test_aggregation(name: str, device: str) -> None:
    config, arrays = golden.case("agg", name)
    inputs = [x.to(device) for x in inputs_of(config, arrays)]
    found = derive(operator(config), inputs, arrays)
    expected = reference(config, arrays)
    if config["itype"] == "int":
        assert found["gflows"] is None
    for array, value in found.items():
        by_reference = expected[array]
        if value is None or by_reference is None:
            continue
        assert not bool(unlike(value, by_reference).any()), array
        if array not in arrays:  # the original has no gradient there
            continue
        differs = unlike(value, arrays[array])
        why = deviation(name, array)
        assert bool(differs.any()) == (why is not None), f"{array}: {why}"
        if why == BORDER:
            assert not bool((differs & ~on_last_pixel(config, arrays)[..., None]).any())


def on_last_pixel(config: dict[str, Any], arrays: Arrays) -> Tensor:
    """(B, HD, T, nH, nW, K): some tap of the entry lies on the last row or column."""
    inds, ps, s = arrays["in_flows"], config["ps"], config["s0"]
    found = torch.zeros(inds.shape[:-1], dtype=torch.bool)
    for axis, length in ((1, arrays["vid0"].shape[-2]), (2, arrays["vid0"].shape[-1])):
        at = torch.arange(inds.shape[2 + axis]) * s
        at = inds[..., axis] + (at.view(-1, 1, 1) if axis == 1 else at.view(-1, 1))
        for tap in range(-(ps // 2), ps - ps // 2):
            found |= (at + tap).remainder(2 * (length - 1)) == length - 1
    return found


@pytest.mark.parametrize(
    "name", [n for n in CASES if not n.startswith("sadd") and deviation(n, "out") is None]
)
def test_weighted_patch_sum_is_the_gathered_sum(name: str, device: str) -> None:
    config, arrays = golden.case("agg", name)
    expected = arrays["out"].sum(2) if config["cls"] == "NonLocalGather" else arrays["out"]
    inputs = inputs_of(config, arrays)
    if inputs[0].ndim == 5:
        expected = expected.transpose(1, 2).flatten(2, 3)
    module = stnls.agg.WeightedPatchSum(stride0=config["s0"], **options(config))
    found = module(*(x.to(device) for x in inputs)).cpu()
    assert not bool(unlike(found, expected).any())


@pytest.mark.parametrize("name", golden.names("agg", "softmax_pipeline_f"))
def test_search_softmax_and_patch_sum(name: str, device: str) -> None:
    config, arrays = golden.case("agg", name)
    on = {key: value.to(device) for key, value in arrays.items()}
    flows = stnls.nn.search_flow(on["fflow"], on["bflow"], 2, 2)
    torch.testing.assert_close(flows.cpu(), arrays["flows"], rtol=0, atol=5e-5)
    search = stnls.search.NonLocalSearch(
        *(5, 2, 3, config["K"]), nheads=2, stride0=2, stride1=0.5, self_action="anchor"
    )
    # The original's own composed flow: the choice of matches hangs on its last bits.
    leaves = [on[name].clone().requires_grad_() for name in ("vid0", "vid1", "in_v")]
    dists, inds = search(*leaves[:2], on["flows"])
    weights = torch.softmax(-dists, -1)
    out = stnls.agg.NonLocalGatherAdd(3, 2, 2)(leaves[2], weights, inds)
    grads = gradients([out], leaves, [golden.loss_weights(tuple(out.shape)).to(device)])
    found = {"out": out.detach(), **dict(zip(("gq", "gk", "gv"), grads, strict=True))}
    for array, value in found.items():
        assert value is not None
        atol = 2e-4 * float(arrays[array].abs().max())
        torch.testing.assert_close(value.cpu(), arrays[array], rtol=0, atol=atol, msg=array)
    merged = stnls.agg.WeightedPatchSum(3, 2)(leaves[2], weights, inds)
    torch.testing.assert_close(merged, out.transpose(1, 2).flatten(2, 3))
