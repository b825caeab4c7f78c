"""Dtypes that PyTorch itself has few operations for, and those that do not fit together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stnls
import torch
from compare import noise
from stnls.graph_opts import gather_tensor, scatter_labels, scatter_tensor, scatter_topk
from stnls.nn import anchor_self, index_grid, topk, topk_each
from stnls.utils import flow2inds, inds2flow
from torch import Tensor

Take = Callable[[Tensor], Any]

# A frame of two pixels, each of which selects both.
FLOWS_K = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, -1]]).view(1, 1, 1, 1, 2, 2, 3)
_, LABELS = scatter_labels(None, FLOWS_K, 3, 0, 1, 1, 1, 2, True)
WHERE = (FLOWS_K, LABELS, 1, 1, 1, 2)

# Of nine candidates the middle one is the query itself.
TABLE = torch.arange(9.0).view(1, 1, 1, 1, 3, 3) > 3
PLACES = torch.ones(1, 1, 1, 1, 3, 3, 3)
PLACES[0, 0, 0, 0, 1, 1] = 0


def anchored(dists: Tensor, inds: Tensor) -> tuple[Tensor, ...]:
    dists, inds = dists.clone(), inds.clone()
    return anchor_self(dists, inds, 1, 1, 1), dists, inds


def bits(*shape: int) -> Tensor:
    """0 and 1, which every dtype holds."""
    return (noise(*shape) > 0).float()


# What is moved about, its name, and a tensor that it may be.
MOVED: dict[str, tuple[Take, str, Tensor]] = {
    "topk": (lambda x: topk(noise(2, 4), x, 2), "inds", bits(2, 4, 3)),
    "topk_each": (
        lambda x: topk_each(noise(2, 2, 4), x, 2, True),
        *("inds", bits(2, 2, 4, 3)),
    ),
    "scatter_tensor": (
        lambda x: (scatter_tensor(x, *WHERE, invalid=0),),
        *("tensor", bits(1, 1, 1, 1, 2, 2)),
    ),
    "gather_tensor": (
        lambda x: (gather_tensor(x, *WHERE, invalid=0),),
        *("tensor", bits(1, 1, 2, 2)),
    ),
    "scatter_topk offsets": (
        lambda x: scatter_topk(noise(1, 1, 2, 2), x, bits(1, 1, 2, 2), 1),
        *("flows_k", bits(1, 1, 2, 2, 3)),
    ),
    "scatter_topk labels": (
        lambda x: scatter_topk(noise(1, 1, 2, 2), bits(1, 1, 2, 2, 3), x, 1),
        *("labels", bits(1, 1, 2, 2)),
    ),
    "anchor_self": (lambda x: anchored(x, PLACES), "dists", TABLE),
}
ADDED: dict[str, tuple[Take, str, Tensor]] = {
    "anchor_self offsets": (lambda x: anchored(TABLE, x), "inds", PLACES),
    "flow2inds": (lambda x: flow2inds(x, 1), "flow", torch.ones(1, 1, 1, 2, 2, 3)),
    "inds2flow": (lambda x: inds2flow(x, 1), "inds", torch.ones(1, 1, 1, 2, 2, 3)),
}


def refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(stnls.StnlsTypeError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MOVED)
def test_what_pytorch_cannot_move_is_refused(name: str) -> None:
    take, argument, value = MOVED[name]
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint64):
        message = rf"{argument} must have a dtype that .*, not {dtype}: convert it, to torch\.float"
        refused(lambda dtype=dtype: take(value.to(dtype)), message)  # type: ignore[misc]


@pytest.mark.parametrize("name", MOVED)
def test_everything_else_is_moved_as_it_is(name: str) -> None:
    take, _, value = MOVED[name]
    expected = take(value.float())
    for dtype in (torch.bool, torch.complex64, torch.int8, torch.int64, torch.bfloat16):
        for out, wanted in zip(take(value.to(dtype)), expected, strict=True):
            assert torch.equal(out.to(torch.complex128), wanted.to(torch.complex128))


@pytest.mark.parametrize("name", ADDED)
def test_offsets_that_pytorch_cannot_add_are_refused(name: str) -> None:
    take, argument, value = ADDED[name]
    for dtype in (torch.uint16, torch.uint32, torch.uint64):
        refused(lambda dtype=dtype: take(value.to(dtype)), rf"{argument} must have a dtype that")  # type: ignore[misc]
    for dtype in (torch.float8_e5m2, torch.bool, torch.complex64):
        refused(lambda dtype=dtype: take(value.to(dtype)), rf"{argument} must hold real numbers")  # type: ignore[misc]


def test_integers_that_arange_and_abs_do_not_know() -> None:
    assert index_grid(2, 300, dtype=torch.uint16).tolist() == index_grid(2, 300).tolist()
    video, offsets = torch.rand(1, 1, 2, 6, 6), torch.zeros(1, 1, 1, 6, 6, 2, 3)
    refine = stnls.search.PairedRefine(3, 3, 2, 1.0, 3)
    expected = refine.paired_vids(video, video, offsets, 0)
    found = refine.paired_vids(video, video, offsets.to(torch.uint16), 0)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    with pytest.raises(stnls.StnlsValueError, match="flows has dt=3 at frame 0 in slot 0"):
        refine.paired_vids(video, video, (offsets + 3).to(torch.uint16), 0)


@pytest.mark.filterwarnings("ignore:.*quantize")
def test_quantized_tensors_are_refused() -> None:
    value = torch.quantize_per_tensor(torch.ones(2, 4, 3), 0.5, 0, torch.quint8)
    refused(lambda: topk(torch.rand(2, 4), value, 2), "inds must be a dense .*, not a quantized")


STACK = (torch.rand(1, 2, 4, 6, 6), torch.rand(1, 1, 2, 6, 6, 2), torch.zeros(1, 1, 2, 6, 6, 2, 3))


@pytest.mark.parametrize(
    ("dtype", "weights"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float32),
        (torch.float32, torch.float64),
        (torch.float32, torch.bfloat16),
    ],
)
def test_a_convolution_of_another_dtype(dtype: torch.dtype, weights: torch.dtype) -> None:
    module = stnls.agg.StackConv(2, 3, 1, 4).to(weights)
    inputs = [x.to(dtype) for x in STACK]
    message = (
        f"vid must have the dtype of the convolution, {weights}, not {dtype}: convert one of them, "
        r"or use torch\.autocast"
    )
    refused(lambda: module(*inputs), message)
    assert module.to(dtype)(*inputs).dtype == dtype


def test_autocast_converts_all_but_double_precision() -> None:
    module = stnls.agg.StackConv(2, 3, 1, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert module(STACK[0].bfloat16(), *STACK[1:]).dtype == torch.bfloat16
        assert module(*STACK).dtype == torch.bfloat16
        doubles = [x.double() for x in STACK]
        refused(lambda: module(*doubles), "not torch.float64: .* all but float64")
        assert module.double()(*doubles).dtype == torch.float64
        refused(lambda: module(*STACK), "of the convolution, torch.float64, not torch.float32")


def test_a_convolution_on_another_device() -> None:
    module = stnls.agg.StackConv(2, 3, 1, 4).to("meta")
    refused(lambda: module(*STACK), "vid and the convolution must be on one device, not cpu and")
