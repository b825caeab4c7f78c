"""What the modules say of themselves: operations, memory, window, state."""

from __future__ import annotations

import copy
import pickle
from itertools import product
from typing import Any

import pytest
import stnls
import torch
from compare import noise
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

B, T, C, H, W = 2, 5, 6, 7, 9

SEARCHES: list[dict[str, Any]] = [
    {},
    {"stride0": 3, "nheads": 2},
    {"dist_type": "prod", "itype": "int"},
    {"itype": "int", "self_action": "remove_ref_frame", "k": -1},
    {"self_action": "remove", "k": -1},
    {"topk_mode": "each", "k": 2},
    {"k": 1, "stride0": 1},
    {"k": 1000, "ps": 4},
    {"k": -1},
    {"itype": "int", "k": 1, "stride0": 3},
]


def search_of(options: dict[str, Any]) -> stnls.search.NonLocalSearch:
    return stnls.search.NonLocalSearch(**{"ws": 3, "wt": 2, "ps": 3, "k": 4, **options})


def operations(o: Any, frames: int, windows: int) -> int:
    """One by one: every tap and channel of every candidate of every query."""
    term = {"l2": 3, "prod": 2}[o.dist_type] + (7 if o.itype == "float" else 0)
    count = 0
    queries = product(range(frames), range(0, H, o.stride0), range(0, W, o.stride0))
    for _ in queries:
        for _ in product(range(windows), range(o.ws), range(o.ws)):
            count += o.ps * o.ps * C * term  # channels of all heads
    return count


@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_operations_of_a_search(options: dict[str, Any]) -> None:
    search = search_of(options)
    slots = 4 if options.get("self_action") == "remove_ref_frame" else 5
    assert search.flops(B, T, C, H, W) == B * operations(search.options, T, slots)


def test_operations_of_pairs_and_refinements() -> None:
    paired = stnls.search.PairedSearch(3, 3, 4, stride0=2)
    assert paired.flops(B, T, C, H, W) == B * operations(paired.options, T, 1)
    refine = stnls.search.RefineSearch(9, 9, 3, 4, 2, 3, stride0=2)
    assert refine.flops(B, T, C, H, W) == B * operations(refine.options, T, 2)
    pairs = stnls.search.PairedRefine(9, 3, 4, 2, 3)
    assert pairs.flops(B, T, C, H, W) == B * operations(pairs.options, T, 2)


@pytest.mark.parametrize("itype", ["float", "int"])
def test_operations_of_aggregations(itype: str) -> None:
    heads, k = 2, 4
    term = 2 + (7 if itype == "float" else 0)
    for module, stride0 in (
        (stnls.agg.WeightedPatchSum(3, 2, itype=itype), 2),
        (stnls.agg.NonLocalGather(3, 2, itype=itype), 2),
        (stnls.agg.NonLocalGatherAdd(3, 1, 1, itype=itype), 1),
        (stnls.agg.NonLocalScatterAdd(3, 3, 3, itype=itype), 3),
    ):
        queries = len(range(0, H, stride0)) * len(range(0, W, stride0)) * B * T
        expected = queries * k * 3 * 3 * C * term
        assert module.flops(B, heads, T, C, H, W, k) == expected


def size(*tensors: Tensor) -> int:
    return sum(x.untyped_storage().nbytes() for x in tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_memory_of_a_search(options: dict[str, Any], dtype: torch.dtype) -> None:
    search, video = search_of(options), noise(B, T, C, H, W).to(dtype)
    grid = (-(-H // search.options.stride0), -(-W // search.options.stride0))
    flows = torch.zeros(B, T, 4, 2, *grid, dtype=dtype)
    results = search(video, video, flows)
    copies = 2 * 2 * size(video) if dtype.itemsize == 2 else 0
    assert search.memory(B, T, C, H, W, dtype) == size(*results) + copies


@pytest.mark.parametrize("itype", ["float", "int"])
def test_memory_of_pairs_and_refinements(itype: str) -> None:
    video = noise(B, T, C, H, W)
    frames = video.flatten(0, 1)
    paired = stnls.search.PairedSearch(3, 3, 4, stride0=1, itype=itype)
    results = paired(frames, frames, torch.zeros(B * T, 2, H, W))
    assert paired.memory(B, T, C, H, W) == size(*results)
    # Refinements also note which of the earlier matches each entry comes from.
    refine = stnls.search.RefineSearch(9, 9, 3, 4, 2, 3, stride0=1, itype=itype)
    results = refine(video, video, torch.zeros(B, 1, T, H, W, 3, 3))
    assert refine.memory(B, T, C, H, W) == size(*results) + 4 * results[0].numel()
    pairs = stnls.search.PairedRefine(9, 3, 4, 2, 3, itype=itype)
    results = pairs(frames, frames, torch.zeros(B * T, H, W, 3, 2))
    assert pairs.memory(B, T, C, H, W) == size(*results) + 4 * results[0].numel()


class Allocations(TorchDispatchMode):
    """Notes the memory of every tensor that an operator within makes."""

    def __init__(self, *inputs: Tensor) -> None:
        super().__init__()
        self.known = {x.untyped_storage().data_ptr() for x in inputs}
        self.made: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in self.known:
                self.known.add(x.untyped_storage().data_ptr())
                self.made.append(x)  # kept, so that no other tensor gets its memory
        return out


def allocated(call: Any, *inputs: Tensor) -> int:
    with Allocations(*inputs) as allocations:
        call(*inputs)
    return size(*allocations.made)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_memory_of_a_search_that_composes_its_flow(
    options: dict[str, Any], dtype: torch.dtype
) -> None:
    search = search_of(options)
    inputs = [noise(B, T, c, H, W, seed=c).to(dtype) for c in (C, C, 2, 2)]
    taken = allocated(search, *inputs)
    assert search.memory(B, T, C, H, W, dtype, composed=True) == taken
    assert search.memory(B, T, C, H, W, dtype) < taken


@pytest.mark.parametrize("itype", ["float", "int"])
@pytest.mark.parametrize("k", [2, 1000, -1])
@pytest.mark.parametrize("kr", [-1, 0.5, 1.0, 1, 3, 99])
def test_memory_and_operations_of_any_number_of_matches(kr: float, k: int, itype: str) -> None:
    Ks = 4
    windows = {-1: 4, 0.5: 2, 1.0: 4, 3: 3, 99: 4}[kr] if kr != 1 or isinstance(kr, float) else 1
    video = noise(B, T, C, H, W)
    offsets = torch.int32 if itype == "int" else torch.float32  # no copy is needed
    for mode in ("all", "each"):
        refine = stnls.search.RefineSearch(
            9, 9, 3, k, kr, 3, stride0=2, topk_mode=mode, itype=itype
        )
        inputs = video, video.clone(), torch.zeros(B, 1, T, 4, 5, Ks, 3, dtype=offsets)
        assert refine.memory(B, T, C, H, W, Ks=Ks) == allocated(refine, *inputs)
        by_hand = B * operations(refine.options, T, windows)
        assert refine.flops(B, T, C, H, W, Ks=Ks) == by_hand
        pairs = stnls.search.PairedRefine(9, 3, k, kr, 3, stride0=2, topk_mode=mode, itype=itype)
        frames = video.flatten(0, 1)
        prior = torch.zeros(B * T, 4, 5, Ks, 2, dtype=offsets)
        assert pairs.memory(B, T, C, H, W, Ks=Ks) == allocated(pairs, frames, frames.clone(), prior)
        assert pairs.flops(B, T, C, H, W, Ks=Ks) == by_hand


def test_without_the_number_of_matches_one_is_assumed_or_kr() -> None:
    for kr, Ks in ((-1, 1), (0.5, 2), (1.0, 1), (3, 3), (3, 5)):
        refine = stnls.search.RefineSearch(9, 9, 3, 4, kr, 3)
        assert refine.memory(B, T, C, H, W) == refine.memory(B, T, C, H, W, Ks=Ks)
        assert refine.flops(B, T, C, H, W) == refine.flops(B, T, C, H, W, Ks=Ks)


@pytest.mark.gpu
@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_peak_memory_on_the_gpu(options: dict[str, Any]) -> None:
    search, video = search_of(options), noise(1, T, C, 64, 80).cuda()
    grid = (-(-64 // search.options.stride0), -(-80 // search.options.stride0))
    flows = torch.zeros(1, T, 4, 2, *grid, device="cuda")
    search(video, video, flows)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    results = search(video, video, flows)
    torch.cuda.synchronize()
    taken = torch.cuda.max_memory_allocated() - before
    assert search.memory(1, T, C, 64, 80) == size(*results)
    said = search.memory(1, T, C, 64, 80, device="cuda")
    assert said <= taken <= said + 8192  # the allocator rounds up


@pytest.mark.gpu
@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_peak_memory_with_composed_flow_on_the_gpu(options: dict[str, Any]) -> None:
    search = search_of(options)
    inputs = [noise(1, T, c, 64, 80, seed=c).cuda() for c in (C, C, 2, 2)]
    search(*inputs)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    search(*inputs)
    torch.cuda.synchronize()
    taken = torch.cuda.max_memory_allocated() - before
    said = search.memory(1, T, C, 64, 80, device="cuda", composed=True)
    assert said <= taken <= said + 8192  # the allocator rounds up


def test_radius_is_the_side_of_the_window() -> None:
    assert search_of({"ws": 5}).radius(64, 80) == 5
    assert stnls.search.PairedSearch(7, 3, 4).radius(64, 80) == 7
    assert stnls.search.RefineSearch(9, 9, 3, 4, -1, 3).radius(64, 80) == 3
    assert stnls.search.PairedRefine(9, 3, 4, -1, 3).radius(64, 80) == 3


MODULES: list[torch.nn.Module] = [
    search_of({}),
    stnls.search.PairedSearch(3, 3, 4),
    stnls.search.RefineSearch(9, 9, 3, 4, -1, 3),
    stnls.search.PairedRefine(9, 3, 4, -1, 3),
    stnls.agg.WeightedPatchSum(3, 1),
    stnls.agg.NonLocalGather(3, 1),
    stnls.agg.NonLocalGatherAdd(3, 1, 1),
    stnls.agg.NonLocalScatterAdd(3, 1, 1),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: type(m).__name__)
def test_modules_have_no_state(module: torch.nn.Module) -> None:
    assert list(module.state_dict()) == []
    assert list(module.parameters()) == []
    model = torch.nn.Sequential(module, torch.nn.Linear(2, 2))
    assert all(name.startswith("1.") for name in model.state_dict())
    assert "ps=" in repr(module)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: type(m).__name__)
def test_modules_are_copied_and_pickled(module: torch.nn.Module) -> None:
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(other) is type(module)
        assert repr(other) == repr(module)
    paired = stnls.search.PairedSearch(3, 3, 2, stride0=1, charge=0.5)
    assert pickle.loads(pickle.dumps(paired)).charge == 0.5


def test_a_stack_convolution_has_that_of_its_convolution() -> None:
    module = stnls.agg.StackConv(2, 3, 1, 4)
    assert sorted(module.state_dict()) == ["conv.bias", "conv.weight"]
    assert sorted(stnls.agg.StackConv(2, 3, 1, 4, bias=False).state_dict()) == ["conv.weight"]


@pytest.mark.parametrize("module", [stnls.agg.NonLocalGatherAdd, stnls.agg.NonLocalScatterAdd])
def test_strides_and_sizes_that_are_not_wanted(module: Any) -> None:
    with pytest.raises(stnls.StnlsValueError, match="strideOut must be equal, not 1 and 2"):
        module(3, 1, 2)
    inputs = noise(1, 1, 2, H, W), noise(1, 1, 1, H, W, 2), torch.zeros(1, 1, 1, H, W, 2, 3)
    assert module(3, 1, 1, H, W)(*inputs).shape == (1, 1, 1, 2, H, W)
    with pytest.raises(stnls.StnlsValueError, match=f"size of the video, {H} and {W}, not 3 and 0"):
        module(3, 1, 1, 3)(*inputs)


MODULES: list[tuple[torch.nn.Module, dict[str, Any]]] = [
    (
        stnls.search.NonLocalSearch(3, 1, 5, 4, strideQ=2, topk_mode="each"),
        {"ws": 3, "wt": 1, "ps": 5, "k": 4, "strideQ": 2, "topk_mode": "each", "stride1": 1.0},
    ),
    (stnls.search.PairedSearch(3, 5, 4), {"ws": 3, "ps": 5, "stride0": 4, "itype": "float"}),
    (
        stnls.search.RefineSearch(9, 9, 3, 4, 0.5, 1, strideQ=1),
        {"wr": 3, "kr": 0.5, "strideQ": 1, "topk_mode": "all"},
    ),
    (stnls.search.PairedRefine(9, 3, 4, 2, 1), {"wr": 3, "kr": 2, "topk_mode": "each"}),
    (stnls.agg.NonLocalGather(3, 2, itype="int"), {"ps": 3, "stride0": 2, "itype": "int"}),
    (stnls.agg.WeightedPatchSum(3, 2, dilation=2), {"ps": 3, "stride0": 2, "dilation": 2}),
    (stnls.agg.NonLocalGatherAdd(3, 2, 2), {"strideIn": 2, "strideOut": 2, "use_adj": False}),
    (stnls.agg.NonLocalScatterAdd(3, 1, 1, 8), {"outH": 8, "outW": 0}),
    (stnls.agg.StackConv(2, 3, 2, 4), {"k_agg": 2, "nheads": 2, "channels": 4}),
    (
        stnls.normz.SoftmaxWeights(0.5, 0.25, "prod", 3),
        {"scale": 0.5, "drop_rate": 0.25, "dist_type": "prod", "k_agg": 3},
    ),
]


@pytest.mark.parametrize(("module", "expected"), MODULES, ids=lambda x: type(x).__name__)
def test_parameters_are_attributes_that_cannot_be_set(
    module: torch.nn.Module, expected: dict[str, Any]
) -> None:
    assert {name: getattr(module, name) for name in expected} == expected
    for name in expected:
        with pytest.raises(stnls.StnlsAttributeError, match=f"{name} of {type(module).__name__}"):
            setattr(module, name, 7)
        assert getattr(module, name) == expected[name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((-1, 5, 6, 7, 9), "B must be at least 0, not -1"),
        ((1, 5, 6, 0, 9), "H must be at least 1, not 0"),
        ((1, 5, 6, "7", 9), "H must be an int, not '7'"),
        ((1, 5, 5, 7, 9), "the video has 5 channels, which nheads=2 does not divide"),
        ((1, 4, 6, 7, 9), "wt=2 needs at least 2\\*wt\\+1 = 5 frames, but the video has 4"),
    ],
)
def test_sizes_that_no_video_has(arguments: Any, words: str) -> None:
    search = search_of({"nheads": 2})
    for count in (search.flops, search.memory):
        with pytest.raises(stnls.StnlsError, match=words):
            count(*arguments)


def test_sizes_that_no_sum_has() -> None:
    total = stnls.agg.WeightedPatchSum(3, 1)
    with pytest.raises(stnls.StnlsError, match="the video has 4 channels, which HD=3 does not"):
        total.flops(1, 3, 5, 4, 7, 9, 2)
    with pytest.raises(stnls.StnlsError, match="K must be at least 0, not -2"):
        total.flops(1, 2, 5, 4, 7, 9, -2)


def test_memory_of_an_unknown_device() -> None:
    with pytest.raises(stnls.StnlsValueError, match="device must be a device such as cpu"):
        search_of({}).memory(1, 5, 6, 7, 9, device="xyz")
    with pytest.raises(stnls.StnlsTypeError, match="device must be a device or its name, not 3"):
        search_of({}).memory(1, 5, 6, 7, 9, device=3)  # type: ignore[arg-type]
