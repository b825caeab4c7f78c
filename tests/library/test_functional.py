"""Operators as functions, and from configurations."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import stnls
import torch
from compare import assert_same_bits, noise
from torch import Tensor

VIDEO, KEY = noise(1, 3, 2, 8, 9, seed=1), noise(1, 3, 2, 8, 9, seed=2)
FLOWS, PRIOR = 2 * noise(1, 3, 2, 2, 8, 9), torch.zeros(1, 1, 3, 8, 9, 2, 3)
FLOW, OFFSETS = 2 * noise(1, 2, 8, 9), noise(1, 8, 9, 2, 2)
WEIGHTS, PLACES = noise(1, 2, 3, 8, 9, 2), noise(1, 2, 3, 8, 9, 2, 3)

FUNCTIONS: dict[str, tuple[Any, Any, tuple[Tensor, ...], tuple[Any, ...], dict[str, Any]]] = {
    "nls": (
        *(stnls.search.nls, stnls.search.NonLocalSearch, (VIDEO, KEY, FLOWS)),
        *((3, 1, 3, 4), {"itype": "int"}),
    ),
    "refine": (
        *(stnls.search.refine, stnls.search.RefineSearch, (VIDEO, KEY, PRIOR)),
        *((9, 9, 3, 2, -1, 3), {"stride0": 1}),
    ),
    "paired_search": (
        *(stnls.search.paired_search, stnls.search.PairedSearch, (VIDEO[:, 0], KEY[:, 1], FLOW)),
        *((3, 3, 4), {"stride0": 1, "dist_type": "prod"}),
    ),
    "paired_refine": (
        *(stnls.search.paired_refine, stnls.search.PairedRefine),
        *((VIDEO[:, 0], KEY[:, 1], OFFSETS), (9, 3, 2, -1, 3), {"topk_mode": "all"}),
    ),
    "gather": (
        *(stnls.agg.gather, stnls.agg.NonLocalGather, (VIDEO, WEIGHTS, PLACES)),
        *((3, 1), {"dilation": 2}),
    ),
    "gather_add": (
        *(stnls.agg.gather_add, stnls.agg.NonLocalGatherAdd, (VIDEO, WEIGHTS, PLACES)),
        *((3, 1, 1), {"itype": "int"}),
    ),
    "scatter_add": (
        *(stnls.agg.scatter_add, stnls.agg.NonLocalScatterAdd, (VIDEO, WEIGHTS, PLACES)),
        *((3, 1, 1), {"reflect_bounds": False}),
    ),
}


def tuple_of(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_its_module_called_once(name: str) -> None:
    function, module, tensors, arguments, options = FUNCTIONS[name]
    expected = module(*arguments, **options)(*tensors)
    assert_same_bits(tuple_of(expected), tuple_of(function(*tensors, *arguments, **options)))


def test_functions_pass_gradients_on() -> None:
    video = VIDEO.clone().requires_grad_()
    dists, inds = stnls.search.nls(video, KEY, FLOWS, 3, 1, 3, 2)
    stnls.agg.gather_add(video, dists, inds, 3, 1, 1).sum().backward()
    assert video.grad is not None


def test_without_flow_it_is_zero() -> None:
    zero = torch.zeros_like(FLOWS)
    assert_same_bits(
        stnls.search.nls(VIDEO, KEY, None, 3, 1), stnls.search.nls(VIDEO, KEY, zero, 3, 1)
    )
    empty = stnls.search.empty_flow(VIDEO)
    assert empty.shape == (1, 3, 2, 8, 9)
    assert not bool(empty.any())


def test_frames_of_the_temporal_window() -> None:
    window = stnls.search.get_time_window_inds
    assert [window(t, 1, 5) for t in range(5)] == [
        [0, 1, 2],
        [1, 2, 0],
        [2, 3, 1],
        [3, 4, 2],
        [4, 3, 2],
    ]
    assert window(3, 2, 5) == [3, 4, 2, 1, 0]
    assert window(1, 3, 2) == [1, 0]
    with pytest.raises(stnls.StnlsValueError, match="t must be one of"):
        window(5, 1, 5)


SEARCHES = {
    "nls": (stnls.search.NonLocalSearch, ("exact", "nls", "nl")),
    "refine": (stnls.search.RefineSearch, ("refine",)),
    "paired": (stnls.search.PairedSearch, ("pair", "paired")),
    "paired_refine": (stnls.search.PairedRefine, ("paired_refine", "paired_ref")),
}
NEEDED = {
    "nls": {"ws": 5, "wt": 1},
    "refine": {"ws": 5, "wt": 1},
    "paired": {"ws": 5},
    "paired_refine": {"ws": 5},
}
# What a configuration leaves open; everything else as the class has it.
DEFAULTS: dict[str, dict[str, Any]] = {
    "nls": {},
    "refine": {"wr": 1, "k": 10, "kr": -1, "ps": 1},
    "paired": {"ps": 3, "k": 10, "stride0": 1},
    "paired_refine": {"wr": 1, "k": 10, "kr": -1, "ps": 1},
}


def same_module(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    assert type(found) is type(expected)
    assert repr(found) == repr(expected)
    assert getattr(found, "kr", None) == getattr(expected, "kr", None)
    assert getattr(found, "strideQ", None) == getattr(expected, "strideQ", None)


@pytest.mark.parametrize("kind", SEARCHES)
def test_searches_from_configurations(kind: str) -> None:
    module, names = SEARCHES[kind]
    for name in names:
        config = {**NEEDED[kind], "search_name": name, "unknown": 7}
        expected = module(**NEEDED[kind], **DEFAULTS[kind])
        same_module(stnls.search.init(config), expected)
        same_module(stnls.search.init(SimpleNamespace(**config)), expected)


OTHERS: dict[str, Any] = {
    "ws": 7,
    "wt": 2,
    "wr": 3,
    "k": 6,
    "kr": 2,
    "ps": 5,
    "nheads": 2,
    "stride0": 3,
    "stride1": 0.5,
    "dist_type": "prod",
    "dilation": 2,
    "reflect_bounds": False,
    "full_ws": False,
    "topk_mode": "each",
    "self_action": "anchor",
    "use_adj": True,
    "k_agg": 3,
    "off_Hq": 1,
    "off_Wq": -1,
    "strideQ": 2,
    "itype": "int",
    "restricted_radius": True,
    "charge": 0.5,
}


@pytest.mark.parametrize("kind", SEARCHES)
def test_every_parameter_can_be_configured(kind: str) -> None:
    module, names = SEARCHES[kind]
    taken = inspect.signature(module).parameters
    given = {name: value for name, value in OTHERS.items() if name in taken}
    assert set(taken) - set(given) <= {"pt", "ws_interior", "normalize_bwd"}
    same_module(stnls.search.init({**OTHERS, "search_name": names[0]}), module(**given))


def test_the_default_search_and_unknown_ones() -> None:
    search = stnls.search.init({"ws": 3, "wt": 1})
    assert isinstance(search, stnls.search.NonLocalSearch)
    assert search.options.k == -1
    for name in ("n3mm", "rand_inds", "none", None, 3):
        with pytest.raises(stnls.StnlsValueError, match=f"search_name must be one of.*{name!r}"):
            stnls.search.init({"ws": 3, "wt": 1, "search_name": name})


@pytest.mark.parametrize(("kind", "missing"), [("nls", "ws"), ("nls", "wt")])
def test_parameters_without_a_default(kind: str, missing: str) -> None:
    config = {name: value for name, value in NEEDED[kind].items() if name != missing}
    with pytest.raises(stnls.StnlsValueError, match=f"configuration of a search lacks {missing}"):
        stnls.search.init({**config, "search_name": kind})


@pytest.mark.parametrize("option", ["pt", "ws_interior", "normalize_bwd"])
def test_parameters_that_are_not_wanted_accept_only_their_default(option: str) -> None:
    with pytest.raises(stnls.StnlsValueError, match=f"{option}=5 is not supported"):
        stnls.search.init({"ws": 3, "wt": 1, option: 5})
    same_module(
        stnls.search.init({"ws": 3, "wt": 1, "pt": 1, "ws_interior": 0, "normalize_bwd": False}),
        stnls.search.NonLocalSearch(3, 1),
    )


AGGREGATIONS = {
    "wpsum": stnls.agg.WeightedPatchSum(3, 1),
    "gather": stnls.agg.NonLocalGather(),
    "nlgather": stnls.agg.NonLocalGather(),
    "nlstack": stnls.agg.NonLocalGather(),
    "gather_add": stnls.agg.NonLocalGatherAdd(3, 1, 1),
    "scatter_add": stnls.agg.NonLocalScatterAdd(3, 1, 1),
    "scatter_sum": stnls.agg.NonLocalScatterAdd(3, 1, 1),
}


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_aggregations_from_configurations(name: str) -> None:
    same_module(stnls.agg.init({"agg_name": name, "other": 1}), AGGREGATIONS[name])
    same_module(stnls.agg.init(SimpleNamespace(agg_name=name)), AGGREGATIONS[name])
    given: dict[str, Any] = {"ps": 5, "dilation": 2, "reflect_bounds": False, "use_adj": True}
    strides = ("strideIn", "strideOut") if "_" in name else ("stride0",)
    given |= {"itype": "int", **dict.fromkeys(strides, 2)}
    expected = type(AGGREGATIONS[name])(**given)
    found = stnls.agg.init({"agg_name": name, **given})
    same_module(found, expected)
    assert (found.options.dilation, found.options.reflect_bounds) == (2, False)


def test_the_default_aggregation_and_unknown_ones() -> None:
    assert isinstance(stnls.agg.init({}), stnls.agg.WeightedPatchSum)
    for name in ("pool", "scatter", None):
        with pytest.raises(stnls.StnlsValueError, match=f"agg_name must be one of.*{name!r}"):
            stnls.agg.init({"agg_name": name})


def test_a_stack_convolution_from_a_configuration() -> None:
    config = {"agg_name": "stack_conv", "k_agg": 2, "channels": 4, "nheads": 2, "dropout": 0.5}
    found = stnls.agg.init(config)
    assert isinstance(found, stnls.agg.StackConv)
    assert (found.k_agg, found.conv.groups, found.conv.in_channels, found.dropout.p) == (
        2,
        2,
        4,
        0.5,
    )
    for missing in ("k_agg", "channels"):
        left = {name: value for name, value in config.items() if name != missing}
        with pytest.raises(stnls.StnlsValueError, match=f"'stack_conv' lacks {missing}"):
            stnls.agg.init(left)


@pytest.mark.parametrize("cfg", [None, "nls", [1], 3])
def test_what_is_no_configuration(cfg: object) -> None:
    for init in (stnls.search.init, stnls.agg.init, stnls.normz.init):
        with pytest.raises(stnls.StnlsTypeError, match="cfg must be a dictionary or an object"):
            init(cfg)


@pytest.mark.parametrize(
    "options",
    [
        {"dilation": 2}, {"reflect_bounds": False}, {"use_adj": True}, {"itype": "int"},
        {"stride0": 1, "dilation": 2, "reflect_bounds": False, "use_adj": True, "itype": "int"},
    ],
    ids=str,
)  # fmt: skip
def test_a_stack_convolution_gathers_with_its_options(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = stnls.agg.StackConv(2, 3, nheads=2, channels=2, **options)
    weights, places = noise(1, 2, 3, 8, 9, 2), 3 * noise(1, 2, 3, 8, 9, 2, 3)
    if options.get("itype") == "int":
        places = places.round().int()
    stack = stnls.agg.NonLocalGather(3, **{"stride0": 1, **options})(VIDEO, weights, places)
    plain = stnls.agg.NonLocalGather(3, 1)(VIDEO, weights, places.float())
    assert not torch.allclose(stack, plain) or options == {"itype": "int"}
    frames = stack.permute(0, 3, 1, 4, 2, 5, 6).flatten(2, 3)[0]  # T, HD C, K, H, W
    expected = module.conv(frames).mean(2)
    torch.testing.assert_close(module(VIDEO, weights, places)[0], expected)


def test_a_stack_convolution_drops_in_training_alone() -> None:
    torch.manual_seed(0)
    module = stnls.agg.StackConv(1, 3, nheads=2, channels=2, dropout=0.5)
    inputs = VIDEO, noise(1, 2, 3, 8, 9, 1), noise(1, 2, 3, 8, 9, 1, 3)
    whole = module.eval()(*inputs)
    dropped = module.train()(*inputs)
    share = float((dropped == 0).float().mean())
    assert 0.3 < share < 0.7
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])


def test_a_stack_convolution_is_the_mean_of_convolved_groups_of_matches() -> None:
    torch.manual_seed(0)
    module = stnls.agg.StackConv(2, 3, nheads=2, channels=2)
    weights, places = noise(1, 2, 3, 8, 9, 5), noise(1, 2, 3, 8, 9, 5, 3)
    out = module(VIDEO, weights, places)
    stack = stnls.agg.NonLocalGather(3, 1)(VIDEO, weights, places)
    assert out.shape == VIDEO.shape
    for head in range(2):
        kernel, bias = module.conv.weight[head], module.conv.bias[head]
        groups = [
            torch.nn.functional.conv2d(
                stack[0, head, first : first + 2].transpose(0, 1).flatten(1, 2),
                kernel.flatten(0, 1)[None],
                bias[None],
                padding=1,
            )
            for first in (0, 2)  # the fifth match makes no group
        ]
        torch.testing.assert_close(out[0, :, head], sum(groups)[:, 0] / 2, rtol=1e-4, atol=1e-5)
    with pytest.raises(stnls.StnlsValueError, match="k_agg=2 matches, but there are 1"):
        module(VIDEO, weights[..., :1], places[..., :1, :])
