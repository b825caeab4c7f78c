"""float16 and bfloat16: computed in float32, gradients in the dtype of the inputs; autocast."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import stnls
import torch
from compare import assert_same_bits, noise
from torch import Tensor

Operator = Callable[..., Sequence[Tensor]]


def one(function: Callable[..., Tensor]) -> Operator:
    return lambda *tensors: (function(*tensors),)


VIDEO, KEY = noise(1, 3, 4, 8, 9, seed=1), noise(1, 3, 4, 8, 9, seed=2)
FLOWS, FLOW = 2 * noise(1, 3, 2, 2, 8, 9), 2 * noise(1, 3, 2, 8, 9)
WEIGHTS, PLACES = noise(1, 2, 3, 8, 9, 2), noise(1, 2, 3, 8, 9, 2, 3)
# The operator, its inputs, and whether its result has their dtype rather than float32.
OPERATORS: dict[str, tuple[Operator, list[Tensor], bool]] = {
    "search": (stnls.search.NonLocalSearch(3, 1, 3, 4), [VIDEO, KEY, FLOWS], False),
    "integer search": (
        *(stnls.search.NonLocalSearch(3, 1, 3, 4, itype="int"), [VIDEO, KEY, FLOWS], False),
    ),
    "composed search": (
        *(stnls.search.NonLocalSearch(3, 1, 3, 4), [VIDEO, KEY, FLOW, FLOW.flip(1)], False),
    ),
    "paired search": (
        stnls.search.PairedSearch(3, 3, 4, stride0=1),
        [VIDEO[:, 0], KEY[:, 1], FLOW[:, 0]],
        False,
    ),
    "refine": (
        stnls.search.RefineSearch(9, 9, 3, 4, -1, 3, nheads=2, stride0=1),
        [VIDEO, KEY, PLACES],
        False,
    ),
    "paired refine": (
        stnls.search.PairedRefine(9, 3, 4, -1, 3, nheads=2),
        [VIDEO[:, 0], KEY[:, 1], PLACES[:, :, 0, ..., 1:]],
        False,
    ),
    "search flow": (one(lambda f, b: stnls.nn.search_flow(f, b, 1)), [FLOW, FLOW.flip(1)], False),
    "compose flow": (one(stnls.nn.compose_flow), [FLOW], False),
    "patch sum": (one(stnls.agg.WeightedPatchSum(3, 1)), [VIDEO, WEIGHTS, PLACES], True),
    "gather": (one(stnls.agg.NonLocalGather(3, 1)), [VIDEO, WEIGHTS, PLACES], True),
    "gather add": (one(stnls.agg.NonLocalGatherAdd(3, 1, 1)), [VIDEO, WEIGHTS, PLACES], True),
    "scatter add": (one(stnls.agg.NonLocalScatterAdd(3, 1, 1)), [VIDEO, WEIGHTS, PLACES], True),
}
HALF = [torch.float16, torch.bfloat16]


def run(
    operator: Operator, inputs: Sequence[Tensor], narrow: torch.dtype | None = None
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Outputs and gradients; with `narrow`, outputs are rounded to it before the loss."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    outputs = list(operator(*leaves))
    if narrow is not None:
        outputs = [y.to(narrow) if y.is_floating_point() else y for y in outputs]
    real = [y for y in outputs if y.requires_grad]
    weights = [noise(*y.shape, seed=n).to(y) for n, y in enumerate(real)]
    grads = torch.autograd.grad(real, leaves, weights, allow_unused=True)
    return [y.detach() for y in outputs], list(grads)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", OPERATORS)
def test_results_are_those_of_the_same_numbers_in_float32(
    name: str, dtype: torch.dtype, device: str
) -> None:
    operator, inputs, keeps = OPERATORS[name]
    there = [x.to(device, dtype) for x in inputs]
    outputs, grads = run(operator, there)
    wide, wide_grads = run(operator, [x.float() for x in there], dtype if keeps else None)
    if device == "cuda" and name == "scatter add":  # float32 sums may differ by their order
        torch.testing.assert_close(outputs, wide, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)
    else:
        assert_same_bits(outputs, wide)
    assert outputs[0].dtype == (dtype if keeps else torch.float32)
    for x, grad, other in zip(there, grads, wide_grads, strict=True):
        assert (grad is None) == (other is None)
        if grad is not None and other is not None:
            assert grad.dtype == dtype
            assert grad.shape == x.shape
            # As above: on the GPU sums may round otherwise.
            rtol = 0.0 if device == "cpu" else 2 * torch.finfo(dtype).eps
            atol = 0.0 if device == "cpu" else 1e-3
            torch.testing.assert_close(grad, other.to(dtype), rtol=rtol, atol=atol)


@pytest.mark.parametrize("dtype", HALF)
def test_weights_and_offsets_may_be_wider_than_the_video(dtype: torch.dtype) -> None:
    video = VIDEO.to(dtype)
    out = stnls.agg.WeightedPatchSum(3, 1)(video, WEIGHTS, PLACES)
    expected = stnls.agg.WeightedPatchSum(3, 1)(video.float(), WEIGHTS, PLACES)
    assert_same_bits((out,), (expected.to(dtype),))


def test_sums_of_many_small_terms_do_not_stop_growing() -> None:
    """In float16 itself, 2048 + 1 is 2048."""
    video = torch.full((1, 1, 4096, 1, 3), 1.0, dtype=torch.float16)
    dists, _ = stnls.search.NonLocalSearch(1, 0, 1, 1, dist_type="prod")(video, video)
    assert bool((dists == 4096).all())
    query = video[:, :, :1].clone().requires_grad_()
    search = stnls.search.NonLocalSearch(1, 0, 1, -1, dist_type="prod")
    flows = torch.zeros(1, 1, 1, 2, 1, 3, dtype=torch.float16, requires_grad=True)
    search(query, query.detach(), flows)[0].sum().backward()
    assert query.grad is not None
    assert query.grad.dtype == torch.float16
    assert flows.grad is not None
    assert flows.grad.dtype == torch.float16


MIXED: dict[str, tuple[Operator, list[Tensor]]] = {
    "videos": (stnls.search.NonLocalSearch(3, 1, 3, 4), [VIDEO.bfloat16(), KEY, FLOWS]),
    "flow": (stnls.search.NonLocalSearch(3, 1, 3, 4), [VIDEO, KEY, FLOWS.double()]),
    "entries": (
        stnls.search.RefineSearch(9, 9, 3, 4, -1, 3, nheads=2, stride0=1),
        [VIDEO, KEY, PLACES.double()],
    ),
    "weights": (one(stnls.agg.WeightedPatchSum(3, 1)), [VIDEO, WEIGHTS.double(), PLACES]),
    "flows": (one(lambda f, b: stnls.nn.search_flow(f, b, 1)), [FLOW, FLOW.double()]),
}


@pytest.mark.parametrize("name", MIXED)
def test_several_dtypes_are_an_error_except_under_autocast(name: str, device: str) -> None:
    operator, inputs = MIXED[name]
    there = [x.to(device) for x in inputs]
    with pytest.raises(stnls.StnlsTypeError, match=r"one dtype, not torch\.\w+ and torch\.\w+"):
        operator(*there)
    with torch.autocast(device, dtype=torch.bfloat16):
        outputs, grads = run(operator, there)
    assert outputs[0].dtype in (torch.float32, torch.float64)
    assert [g.dtype for g in grads if g is not None] == [x.dtype for x in there]


def test_autocast_takes_the_widest_dtype(device: str) -> None:
    videos = [VIDEO.to(device).bfloat16(), KEY.to(device)]
    search = stnls.search.NonLocalSearch(3, 1, 3, 4)
    with torch.autocast(device, dtype=torch.bfloat16):
        found = search(*videos, FLOWS.to(device))
        out = stnls.agg.WeightedPatchSum(3, 1)(videos[0], found[0], found[1])
    expected = search(videos[0].float(), videos[1], FLOWS.to(device))
    assert_same_bits(found, expected)
    assert out.dtype == torch.bfloat16
    # A model's convolution is narrow under autocast, and its flow is not.
    layer = torch.nn.Conv2d(4, 4, 1).to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        query = layer(videos[1][0])[None]
        assert query.dtype == torch.bfloat16
        dists, _ = search(query, query, FLOWS.to(device))
    assert dists.dtype == torch.float32
    dists[torch.isfinite(dists)].sum().backward()
    assert layer.weight.grad is not None


def test_integers_and_complex_numbers_are_no_videos() -> None:
    for dtype in (torch.int32, torch.uint8, torch.complex64, torch.bool):
        with pytest.raises(stnls.StnlsTypeError, match=f"not {dtype}"):
            stnls.search.NonLocalSearch(3, 1)(VIDEO.to(dtype), KEY.to(dtype))
