"""Gradients against differences of the operators themselves, in double precision.

Positions keep away from whole pixels, where the slope jumps, and choices from ties. Jacobians are
compared along random directions; the slow tests compare them entry by entry.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import stnls
import torch
from torch import Tensor

Check = Callable[..., None]

STEP = 1e-6
T, H, W = 3, 6, 7


class Draw:
    """Double-precision leaves on a device."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.generator = torch.Generator().manual_seed(1)

    def noise(self, *shape: int) -> Tensor:
        values = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return values.to(self.device).requires_grad_()

    def offsets(self, *shape: int, size: float = 1.5) -> Tensor:
        """Real numbers whose fraction is from 0.1 to 0.4, and so is that of half-pixel steps."""
        whole = torch.randn(shape, generator=self.generator, dtype=torch.float64).mul(size).round()
        fraction = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return (whole + 0.1 + 0.3 * fraction).to(self.device).requires_grad_()

    def entries(self, *shape: int, components: int = 3) -> Tensor:
        """Offsets (dt, dh, dw), or (dh, dw)."""
        inds = self.offsets(*shape, components).detach()
        if components == 3:
            dt = torch.randint(-1, 2, tuple(shape), generator=self.generator)
            inds[..., 0] = dt.to(self.device)
        return inds.requires_grad_()


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "complete"])
def check(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`check(function, inputs)`."""
    return functools.partial(compare, complete=request.param)


def compare(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], *, complete: bool
) -> None:
    """Real outputs, of which infinite distances are left out."""

    def finite(*tensors: Tensor) -> tuple[Tensor, ...]:
        outputs = [out for out in function(*tensors) if out.is_floating_point()]
        return tuple(torch.where(torch.isfinite(out), out, 0.0) for out in outputs)

    inputs = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
    # On the GPU, the terms of a gradient are added in any order.
    assert torch.autograd.gradcheck(
        finite, inputs, eps=STEP, atol=1e-5, nondet_tol=1e-10, fast_mode=not complete
    )


SEARCHES: list[dict[str, Any]] = [
    {},
    {"ps": 2, "use_adj": True},
    {"ps": 4, "dilation": 2, "slots": 3},  # taps around whole pixels may mirror each other
    {"stride0": 2},
    {"reflect_bounds": False},
    {"full_ws": False},
    {"nheads": 2},
    {"k_agg": 2},
    {"self_action": "anchor_each", "topk_mode": "each", "k": 2},
    {"self_action": "remove_ref_frame"},
    {"k": -1, "ws": 2},
    {"off_Hq": 1, "off_Wq": -2},
]


def named(options: dict[str, Any]) -> str:
    return ",".join(f"{k}={v}" for k, v in options.items()) or "plain"


def settings_of(options: dict[str, Any], itype: str, dist_type: str) -> dict[str, Any]:
    common = {"ps": 3, "stride0": 1, "stride1": 0.5, "dist_type": dist_type, "itype": itype}
    return {**common, **options}


@pytest.mark.parametrize("dist_type", ["l2", "prod"])
@pytest.mark.parametrize("itype", ["float", "int"])
@pytest.mark.parametrize("options", SEARCHES, ids=named)
def test_non_local_search(
    options: dict[str, Any], itype: str, dist_type: str, device: str, check: Check
) -> None:
    draw = Draw(device)
    s = settings_of({"ws": 3, "wt": 1, "k": 4, **options}, itype, dist_type)
    grid = ((H - 1) // s["stride0"] + 1, (W - 1) // s["stride0"] + 1)
    videos = [draw.noise(1, T, 2, H, W) for _ in range(2)]
    flows = draw.offsets(1, T, s.pop("slots", 2), 2, *grid)
    limited = s.pop("k_agg", -1)
    plain = stnls.search.NonLocalSearch(**s)
    flows.requires_grad_(itype == "float")
    if limited < 0:
        check(plain, [*videos, flows])
        return
    # Only the first neighbours have gradients: differences must look at these alone.
    search = stnls.search.NonLocalSearch(**s, k_agg=limited)

    def first(*inputs: Tensor) -> list[Tensor]:
        dists, inds = search(*inputs)
        return [dists[..., :limited], inds[..., :limited, :]]

    check(first, [*videos, flows])


@pytest.mark.parametrize("itype", ["float", "int"])
def test_non_local_search_of_a_smaller_query(itype: str, device: str, check: Check) -> None:
    draw = Draw(device)
    search = stnls.search.NonLocalSearch(3, 0, 3, 3, stride0=2, strideQ=1, stride1=0.5, itype=itype)
    flows = draw.offsets(1, 1, 1, 2, 3, 4).requires_grad_(itype == "float")
    check(search, [draw.noise(1, 1, 2, 3, 4), draw.noise(1, 1, 2, H, W), flows])


def test_non_local_search_with_flow_for_every_slot_and_head(device: str, check: Check) -> None:
    draw = Draw(device)
    search = stnls.search.NonLocalSearch(3, 1, 3, 3, nheads=2, stride1=0.5)
    videos = [draw.noise(1, 2, T, 1, H, W) for _ in range(2)]
    check(search, [*videos, draw.offsets(1, 2, T, 3, 2, H, W)])


def test_non_local_search_along_composed_flow(device: str, check: Check) -> None:
    draw = Draw(device)
    search = stnls.search.NonLocalSearch(2, 1, 1, 3, stride1=0.5)
    videos = [draw.noise(1, T, 1, 5, 4).detach() for _ in range(2)]
    check(search, [*videos, *(draw.offsets(1, T, 2, 5, 4, size=0.7) for _ in range(2))])


@pytest.mark.parametrize("dist_type", ["l2", "prod"])
@pytest.mark.parametrize("itype", ["float", "int"])
@pytest.mark.parametrize(
    "options",
    [{}, {"stride0": 2, "ps": 2}, {"nheads": 2}, {"flow_heads": 3}, {"self_action": "anchor"}],
    ids=named,
)
def test_paired_search(
    options: dict[str, Any], itype: str, dist_type: str, device: str, check: Check
) -> None:
    draw = Draw(device)
    s = settings_of({"ws": 3, "k": 4, **options}, itype, dist_type)
    heads = s.pop("flow_heads", 1)
    grid = ((H - 1) // s["stride0"] + 1, (W - 1) // s["stride0"] + 1)
    frames = [draw.noise(1, 2, H, W) for _ in range(2)]
    flow = draw.offsets(1, heads, 2, *grid).requires_grad_(itype == "float")
    check(stnls.search.PairedSearch(**s), [*frames, flow])


REFINEMENTS: list[dict[str, Any]] = [
    {},
    {"ps": 2, "use_adj": True},
    {"ps": 4, "dilation": 2},
    {"stride0": 2},
    {"reflect_bounds": False, "full_ws": False},
    {"nheads": 2},
    {"kr": 2},
    {"self_action": "anchor", "topk_mode": "each", "k": 2},
    {"wr": 1, "k": -1},
]


@pytest.mark.parametrize("dist_type", ["l2", "prod"])
@pytest.mark.parametrize("itype", ["float", "int"])
@pytest.mark.parametrize("options", REFINEMENTS, ids=named)
def test_refine_search(
    options: dict[str, Any], itype: str, dist_type: str, device: str, check: Check
) -> None:
    draw = Draw(device)
    s = settings_of({"ws": 9, "wt": 9, "wr": 2, "k": 4, "kr": -1, **options}, itype, dist_type)
    grid = ((H - 1) // s["stride0"] + 1, (W - 1) // s["stride0"] + 1)
    videos = [draw.noise(1, T, 2, H, W) for _ in range(2)]
    prior = draw.entries(1, s.get("nheads", 1), T, *grid, 3).requires_grad_(itype == "float")
    check(stnls.search.RefineSearch(**s), [*videos, prior])


@pytest.mark.parametrize("dist_type", ["l2", "prod"])
@pytest.mark.parametrize("itype", ["float", "int"])
@pytest.mark.parametrize("options", [{}, {"nheads": 2, "stride0": 2}, {"k": -1}], ids=named)
def test_paired_refine(
    options: dict[str, Any], itype: str, dist_type: str, device: str, check: Check
) -> None:
    draw = Draw(device)
    s = settings_of({"ws": 9, "wr": 2, "k": 2, "kr": -1, **options}, itype, dist_type)
    grid = ((H - 1) // s["stride0"] + 1, (W - 1) // s["stride0"] + 1)
    frames = [draw.noise(1, 2, H, W) for _ in range(2)]
    prior = draw.entries(1, *grid, 3, components=2).requires_grad_(itype == "float")
    check(stnls.search.PairedRefine(**s), [*frames, prior])


@pytest.mark.parametrize("itype", ["float", "int"])
def test_searches_and_refinements_of_all_pairs(itype: str, device: str, check: Check) -> None:
    draw = Draw(device)
    videos = [draw.noise(1, T, 1, 5, 4) for _ in range(2)]
    flows = draw.offsets(1, T, 2, 2, 5, 4).requires_grad_(itype == "float")
    paired = stnls.search.PairedSearch(2, 1, 2, stride0=1, stride1=0.5, itype=itype)
    check(lambda *x: paired.paired_vids(*x, 1), [*videos, flows])
    refine = stnls.search.PairedRefine(9, 2, 2, -1, 1, stride1=0.5, itype=itype)
    prior = draw.entries(1, 1, T, 5, 4, 3).detach()
    prior[..., 0] = torch.tensor([[0.0, 1, 2], [0, 1, -1], [0, -1, -2]]).view(T, 1, 1, 3)
    prior.requires_grad_(itype == "float")
    check(lambda *x: refine.paired_vids(*x, 1), [*videos, prior])


@pytest.mark.parametrize(("wt", "stride0", "frames"), [(1, 1, 3), (2, 2, 4), (2, 1, 5), (3, 2, 2)])
@pytest.mark.parametrize("size", [0.7, 20.0])
def test_search_flow(
    wt: int, stride0: int, frames: int, size: float, device: str, check: Check
) -> None:
    draw = Draw(device)
    flows = [draw.offsets(1, frames, 2, 5, 4, size=size) for _ in range(2)]
    check(lambda *x: [stnls.nn.search_flow(*x, wt, stride0)], flows)


@pytest.mark.parametrize("stride0", [1, 2])
@pytest.mark.parametrize("size", [0.7, 20.0])
def test_compose_flow(stride0: int, size: float, device: str, check: Check) -> None:
    flow = Draw(device).offsets(1, 4, 2, 6, 5, size=size)
    check(lambda x: [stnls.nn.compose_flow(x, stride0=stride0)], [flow])


def test_accumulate_flow(device: str, check: Check) -> None:
    draw = Draw(device)
    flows = [draw.offsets(1, 4, 2, 5, 4, size=0.7) for _ in range(2)]

    def both(*x: Tensor) -> list[Tensor]:
        accumulated = stnls.nn.accumulate_flow(*x)
        slots = stnls.nn.extract_search_from_accumulated(*accumulated, 1, 2)
        return [*accumulated, slots]

    check(both, flows)


OPERATORS: dict[str, Callable[..., Any]] = {
    "WeightedPatchSum": stnls.agg.WeightedPatchSum,
    "NonLocalGather": stnls.agg.NonLocalGather,
    "NonLocalGatherAdd": lambda ps, s, **o: stnls.agg.NonLocalGatherAdd(ps, s, s, **o),
    "NonLocalScatterAdd": lambda ps, s, **o: stnls.agg.NonLocalScatterAdd(ps, s, s, **o),
}


@pytest.mark.parametrize("itype", ["float", "int"])
@pytest.mark.parametrize(
    ("ps", "stride0", "options"),
    [
        (1, 1, {}),
        (3, 1, {"dilation": 2}),
        (3, 2, {}),
        (4, 2, {"reflect_bounds": False}),
        (2, 1, {"use_adj": True}),
    ],
)
@pytest.mark.parametrize("name", OPERATORS)
def test_aggregation(
    name: str, ps: int, stride0: int, options: dict[str, Any], itype: str, device: str, check: Check
) -> None:
    draw = Draw(device)
    grid = ((H - 1) // stride0 + 1, (W - 1) // stride0 + 1)
    video, weights = draw.noise(1, T, 2, H, W), draw.noise(1, 2, T, *grid, 2)
    inds = draw.entries(1, 2, T, *grid, 2).requires_grad_(itype == "float")
    operator = OPERATORS[name](ps, stride0, itype=itype, **options)
    check(lambda *x: [operator(*x)], [video, weights, inds])


@pytest.mark.parametrize("itype", ["float", "int"])
def test_stack_conv(itype: str, device: str, check: Check) -> None:
    draw = Draw(device)
    torch.manual_seed(0)
    module = stnls.agg.StackConv(2, 3, nheads=2, channels=2, itype=itype).double().to(device)
    video, weights = draw.noise(1, 2, 2, 5, 4), draw.noise(1, 2, 2, 5, 4, 4)
    inds = draw.entries(1, 2, 2, 5, 4, 4).requires_grad_(itype == "float")

    def convolved(kernel: Tensor, bias: Tensor, *x: Tensor) -> list[Tensor]:
        parameters = {"conv.weight": kernel, "conv.bias": bias}
        return [torch.func.functional_call(module, parameters, x)]

    check(convolved, [module.conv.weight, module.conv.bias, video, weights, inds])


def test_a_layer_of_attention(device: str, check: Check) -> None:
    """Flow, search, softmax and aggregation, from the flows and the videos to the output."""
    draw = Draw(device)
    search = stnls.search.NonLocalSearch(2, 1, 3, 3, stride1=0.5)
    operator = stnls.agg.WeightedPatchSum(3, 1)

    def layer(query: Tensor, key: Tensor, value: Tensor, *flow: Tensor) -> list[Tensor]:
        dists, inds = search(query, key, *flow)
        return [operator(value, torch.softmax(-0.1 * dists, -1), inds)]

    videos = [draw.noise(1, T, 1, 5, 4) for _ in range(3)]
    check(layer, [*videos, *(draw.offsets(1, T, 2, 5, 4, size=0.7) for _ in range(2))])
