"""`stnls.utils`: offsets and places."""

from __future__ import annotations

import pytest
import stnls
import torch
from stnls.utils import flow2inds, inds2flow
from torch import Tensor


def offsets(*shape: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-40, 40, (*shape, 3), generator=generator)
    return values.to(dtype) / 4 if dtype.is_floating_point else values.to(dtype)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32, torch.float64])
@pytest.mark.parametrize("heads", [(), (2,)])
@pytest.mark.parametrize("stride0", [1, 4])
def test_there_and_back(
    dtype: torch.dtype, heads: tuple[int, ...], stride0: int, device: str
) -> None:
    flow = offsets(2, *heads, 3, 4, 5, 6, dtype=dtype)
    inds = flow2inds(flow.to(device), stride0).cpu()
    assert inds.dtype == dtype
    for t in range(3):
        for i in range(4):
            for j in range(5):
                own = torch.tensor([t, i * stride0, j * stride0], dtype=dtype)
                assert torch.equal(inds[..., t, i, j, :, :], flow[..., t, i, j, :, :] + own)
    back = inds2flow(inds.to(device), stride0).cpu()
    assert back.dtype == dtype
    assert torch.equal(back, flow)


def test_what_is_given_stays() -> None:
    flow = torch.zeros(1, 2, 3, 3, 1, 3)
    inds2flow(flow2inds(flow, 2), 2)
    assert not bool(flow.any())


def test_gradient() -> None:
    flow = offsets(1, 1, 2, 2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: flow2inds(x, 2), (flow,))
    assert torch.autograd.gradcheck(lambda x: inds2flow(x, 2), (flow,))


def test_arguments_are_checked() -> None:
    for function, name in ((flow2inds, "flow"), (inds2flow, "inds")):
        with pytest.raises(ValueError, match=rf"{name} must have shape .*, not \(1, 3, 3, 1, 3\)"):
            function(torch.zeros(1, 3, 3, 1, 3), 1)
        with pytest.raises(ValueError, match=r"\(1, 2, 3, 3, 1, 3\), not \(1, 2, 3, 3, 1, 2\)"):
            function(torch.zeros(1, 2, 3, 3, 1, 2), 1)
        with pytest.raises(TypeError, match=f"{name} must hold real numbers, not torch.bool"):
            function(torch.zeros(1, 2, 3, 3, 1, 3).bool(), 1)
        with pytest.raises(stnls.StnlsValueError, match="stride0 must be at least 1, not 0"):
            function(torch.zeros(1, 2, 3, 3, 1, 3), 0)


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.int8, 127), (torch.float16, 2048), (torch.bfloat16, 256)]
)
def test_a_grid_that_the_dtype_does_not_hold(dtype: torch.dtype, limit: int) -> None:
    fits = torch.zeros(1, 1, 1, limit + 1, 1, 3, dtype=dtype)
    assert flow2inds(fits, 1)[0, 0, 0, :, 0, 2].double().tolist() == list(range(limit + 1))
    wide = torch.zeros(1, 1, 2, 2, 1, 3, dtype=dtype)
    for function, name in ((flow2inds, "flow"), (inds2flow, "inds")):
        message = f"{name} of {dtype} holds whole numbers up to {limit}, but .* {limit + 1}: "
        with pytest.raises(stnls.StnlsValueError, match=message):
            function(wide, limit + 1)
