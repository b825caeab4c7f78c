"""The original library's gradients of searches, refinements and composed flow."""

from __future__ import annotations

import fnmatch
import inspect
from pathlib import Path
from typing import Any

import golden
import pytest
import stnls
import torch
from compare import nearest_entries
from gradients import gradients
from reference import (
    entries_of_refinement,
    entries_of_search,
    options_of,
    refine_candidates,
    with_time,
)
from reference import search_flow as reference_search_flow
from torch import Tensor

FOLDS = "positions that overshoot by more than the frame keep folding; the original reflects once"
REFUSED = "normalize_bwd accepts only its default"
BORDER = "at the last pixel the slope is that of the mirrored image; the original takes zero there"
# Patterns of cases and arrays.
DEVIATIONS = {
    "f_flow_std12p0_sD_stride04.g*": FOLDS,
    "*_normalize_bwdTrue_*": REFUSED,
    "f_stride11_int_flowTrue.gflows": BORDER,
}
# Of the largest number in the array, as the README of the outputs states, and our rounding.
TOLERANCE = 3e-6
COMPOSED_TOLERANCE = 2e-4


@pytest.fixture(autouse=True)
def golden_outputs(shared: Path) -> None:
    """Skips without the shared data."""


def deviation(name: str, array: str) -> str | None:
    full = f"{name}.{array}"
    return next((why for p, why in DEVIATIONS.items() if fnmatch.fnmatch(full, p)), None)


def unlike(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> bool:
    assert found.shape == expected.shape
    atol = tolerance * float(expected.abs().max()) if expected.numel() else 0.0
    return not torch.allclose(found.double(), expected.double(), rtol=0, atol=atol)


def leaves_of(inputs: list[Tensor], device: str = "cpu") -> list[Tensor]:
    return [x.clone().to(device).requires_grad_() for x in inputs]


def module_of(config: dict[str, Any]) -> Any:
    search = getattr(stnls.search, config.get("cls", "NonLocalSearch"))
    names = inspect.signature(search).parameters
    return search(**{k: v for k, v in config.items() if k in names})


def by_reference(
    config: dict[str, Any], inputs: list[Tensor], found: list[Tensor], weights: list[Tensor]
) -> list[Tensor | None]:
    """The gradients by the reference at the entries that were found."""
    leaves = leaves_of(inputs)
    vid0, vid1, *flow = leaves
    k_agg = config.get("k_agg", -1)
    kind = config.get("cls", "NonLocalSearch")
    size = config["wr"] if "Refine" in kind else config["ws"]
    o = options_of({**config, "ws": size, "wt": 0 if kind != "NonLocalSearch" else config["wt"]})
    paired = kind.startswith("Paired")
    if paired:
        vid0, vid1 = with_time((vid0, vid1), o.nheads, o.nheads)
        found = [found[0].unsqueeze(2), torch.nn.functional.pad(found[1], (1, 0)).unsqueeze(2)]
    if "Refine" in kind:
        prior = torch.nn.functional.pad(flow[0], (1, 0))[:, :, None] if paired else flow[0]
        table = refine_candidates(o, vid0.detach(), vid1.detach(), prior.detach())
        source = nearest_entries(found[1], table.inds.flatten(-3, -2))[0] // o.ws**2
        if o.k <= 0:
            source = (torch.arange(found[1].shape[-2]) // o.ws**2).expand(found[0].shape)
        entries = entries_of_refinement(o, (vid0, vid1, prior), tuple(found), source, k_agg)
    else:
        if config.get("mode") == "fb":
            flows = reference_search_flow(flow[0], flow[1], o.wt, o.stride0)
        else:
            flows = flow[0][:, :, None, None] if paired else flow[0]
        entries = entries_of_search(o, (vid0, vid1, flows), tuple(found), k_agg)
    if paired:
        entries = entries[0].squeeze(2), entries[1].squeeze(2)[..., 1:]
    return gradients(entries, leaves, weights)


def check_search(file: str, name: str, device: str) -> None:
    config, arrays = golden.case(file, name)
    module, inputs = module_of(config), golden.search_inputs(config, arrays)
    leaves = leaves_of(inputs, device)
    outputs = list(module(*leaves))
    weights = golden.search_weights(config, arrays["dists"], arrays["inds"])
    found = gradients(outputs, leaves, [w.to(device) for w in weights])
    at = [x.detach().cpu() for x in outputs]
    expected = by_reference(config, inputs, at, weights)
    composed = config.get("mode") == "fb"
    names = ["gvid0", "gvid1", *(["gfflow", "gbflow"] if composed else ["gflows"])]
    names = [n if n in arrays or n != "gflows" else "gflow" for n in names]
    real = config["itype"] == "float"
    for array, gradient, other in zip(names, found, expected, strict=True):
        if gradient is None:  # flow on the integer grid
            assert not real
            assert other is None
            assert array not in arrays or not bool(arrays[array].any())
            continue
        assert other is not None
        tolerance = COMPOSED_TOLERANCE if composed and real else TOLERANCE
        assert not unlike(gradient.cpu(), other, tolerance), f"{array} by the reference"
        if array not in arrays:  # the original was not asked for it
            continue
        why = deviation(name, array)
        assert unlike(gradient.cpu(), arrays[array], tolerance) == (why is not None), array


@pytest.mark.parametrize("name", golden.names("grads", "*"))
def test_non_local_search(name: str, device: str) -> None:
    if deviation(name, "") == REFUSED:
        config, _ = golden.case("grads", name)
        with pytest.raises(ValueError, match="normalize_bwd=True is not supported"):
            module_of(config)
        return
    check_search("grads", name, device)


@pytest.mark.parametrize("name", golden.names("misc", "bwd_*"))
def test_paired_search_and_refinements(name: str, device: str) -> None:
    check_search("misc", name, device)


@pytest.mark.parametrize("name", golden.names("misc", "search_flow_*"))
def test_search_flow(name: str, device: str) -> None:
    config, arrays = golden.case("misc", name)
    leaves = leaves_of([arrays["fflow"], arrays["bflow"]], device)
    flows = stnls.nn.search_flow(*leaves, config["wt"], config["s0"])
    weights = golden.loss_weights(tuple(flows.shape)).to(device)
    found = gradients([flows], leaves, [weights])
    if "gfflow" not in arrays:  # no temporal window
        assert flows.numel() == 0
        return
    for array, gradient in zip(("gfflow", "gbflow"), found, strict=True):
        assert gradient is not None
        assert not unlike(gradient.cpu(), arrays[array]), array


@pytest.mark.parametrize("name", golden.names("misc", "acc_*_pytorch"))
def test_accumulate_flow(name: str, device: str) -> None:
    _, arrays = golden.case("misc", name)
    leaves = leaves_of([arrays["fflow"], arrays["bflow"]], device)
    flows = list(stnls.nn.accumulate_flow(*leaves))
    shape = tuple(flows[0].shape)
    weights = golden.loss_weights(shape), golden.loss_weights(shape, 1.25, 0.377)
    found = gradients(flows, leaves, [w.to(device) for w in weights])
    for array, gradient in zip(("gfflow", "gbflow"), found, strict=True):
        assert gradient is not None
        assert not unlike(gradient.cpu(), arrays[array]), array
