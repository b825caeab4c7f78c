"""`non_local_inds` against the search, the reference and the original's outputs."""

from __future__ import annotations

from pathlib import Path

import golden
import pytest
import stnls
import torch
from cases import Pick, draw_flow, drawn, seeded
from compare import PROPERTY, assert_same_bits, noise
from hypothesis import given, note, settings
from hypothesis import strategies as st
from reference.positions import fold, slot_frames, window
from stnls.nn import index_grid, non_local_inds
from torch import Tensor


def draw(pick: Pick) -> tuple[Tensor, Tensor, int, int, int, float, bool]:
    batch, frames, size = pick((0, 1, 2)), pick((1, 2, 3, 5)), (pick((1, 2, 5)), pick((1, 3, 8)))
    shape, dtype = (batch, frames, 2, *size), pick((torch.float32, torch.float64))
    fflow, bflow = (draw_flow(pick, shape, max(size)).to(dtype) for _ in range(2))
    options = pick((1, 2, 3, 5)), pick((0, 1, 2)), pick((1, 2, 4))
    return fflow, bflow, *options, pick((0.3, 0.5, 1, 1.25, 2)), pick((True, False))


def expected(
    flows: Tensor, size: tuple[int, int], ws: int, wt: int, stride0: int, stride1: float, full: bool
) -> Tensor:
    """Positions for composed flow (B, T, S - 1, 2, nH, nW)."""
    step = torch.tensor(stride1, dtype=flows.dtype)
    batch, frames, _, _, rows, columns = flows.shape
    own = (torch.arange(rows) * stride0)[:, None], torch.arange(columns) * stride0
    out = []
    for b in range(batch):
        for t in range(frames):
            slots = []
            for slot, frame in enumerate(slot_frames(t, wt, frames)):
                dw, dh = flows[b, t, slot - 1] if slot else torch.zeros(2, rows, columns)
                axes = [
                    window(fold(start.to(flows.dtype) + d, length), step, ws, length, full)[0]
                    for start, d, length in zip(own, (dh, dw), size, strict=True)
                ]
                h, w = axes[0][..., :, None], axes[1][..., None, :]
                at = torch.broadcast_tensors(torch.full_like(h, frame), h, w)
                slots.append(torch.stack(at, -1).flatten(0, 1))
            out.append(torch.stack(slots, 1))
    return torch.stack(out).unflatten(0, (batch, frames)).flatten(1, 2)


@settings(PROPERTY, max_examples=100)
@given(st.data())
def test_positions_of_the_reference(data: st.DataObject) -> None:
    fflow, bflow, *options = draw(drawn(data))
    note(f"{tuple(fflow.shape)} {fflow.dtype} {options}")
    found = non_local_inds(fflow, bflow, *options)
    ws, wt, stride0, *_ = options
    flows = stnls.nn.search_flow(fflow, bflow, wt, stride0)
    batch, frames, slots, _, *grid = flows.shape
    assert found.dtype == fflow.dtype
    assert found.shape == (batch, frames * grid[0] * grid[1], slots + 1, ws, ws, 3)
    if batch == 0:
        return
    finite = torch.isfinite(found).all(-1)
    wanted = expected(flows.nan_to_num(0, 0, 0), (fflow.shape[3], fflow.shape[4]), *options)
    assert torch.equal(found[finite], wanted[finite])
    lost = ~torch.isfinite(flows).all(3).movedim(2, -1).flatten(1, 3)
    assert torch.equal(~finite[:, :, 1:, 0, 0], lost)
    assert bool(finite[:, :, 0].all())


@pytest.mark.parametrize("stride1", [1, 0.5, 2])
@pytest.mark.parametrize("full_ws", [True, False])
def test_positions_of_the_search(stride1: float, full_ws: bool) -> None:
    video = noise(2, 5, 1, 12, 15)
    fflow, bflow = (6 * noise(2, 5, 2, 12, 15, seed=seed) for seed in (1, 2))
    search = stnls.search.NonLocalSearch(4, 2, stride0=3, stride1=stride1, full_ws=full_ws)
    _, inds = search(video, video, fflow, bflow)
    inds = inds[:, 0].unflatten(4, (5, 4, 4))
    found = non_local_inds(fflow, bflow, 4, 2, 3, stride1, full_ws).view(inds.shape)
    own = torch.meshgrid(*(torch.arange(n) for n in inds.shape[1:4]), indexing="ij")
    away = found - (torch.stack(own, -1) * torch.tensor([1, 3, 3]))[:, :, :, None, None, None]
    assert_same_bits((away,), (inds,))


def test_half_precision_is_taken_as_single() -> None:
    flow = [noise(1, 3, 2, 5, 6, seed=seed).half() for seed in (1, 2)]
    wide = (x.float() for x in flow)
    assert_same_bits((non_local_inds(*flow, 3, 1, 2, 1),), (non_local_inds(*wide, 3, 1, 2, 1),))


def test_gradient() -> None:
    flow = [noise(1, 3, 2, 4, 5, seed=seed).double().requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(lambda f, b: non_local_inds(f, b, 3, 1, 2, 0.5), flow)


@pytest.mark.parametrize("name", golden.names("misc", "nlinds_*"))
def test_golden(name: str, device: str, shared: Path) -> None:
    config, arrays = golden.case("misc", name)
    flow = (arrays[x].to(device) for x in ("fflow", "bflow"))
    options = (config[x] for x in ("ws", "wt", "s0", "s1"))
    found = non_local_inds(*flow, *options).cpu()
    torch.testing.assert_close(found, arrays["inds"], rtol=0, atol=5e-5)


def test_index_grid(device: str) -> None:
    grid = index_grid(2, 3, device=device)
    assert grid.dtype == torch.float32
    assert grid.tolist() == [[[[0, 1, 2], [0, 1, 2]], [[0, 0, 0], [1, 1, 1]]]]
    assert index_grid(2, 3, dtype=torch.int64).dtype == torch.int64
    with pytest.raises(stnls.StnlsValueError, match="W must be at least 1, not 0"):
        index_grid(2, 0)
    for dtype in ("x", torch.bool, torch.complex64, torch.float8_e5m2):
        with pytest.raises(stnls.StnlsTypeError, match="dtype must be a dtype of real numbers"):
            index_grid(2, 3, dtype=dtype)  # type: ignore[arg-type]
    with pytest.raises(stnls.StnlsValueError, match=r"int8 holds .* 127, but the grid reaches 128"):
        index_grid(2, 129, dtype=torch.int8)
    assert index_grid(2, 128, dtype=torch.int8).max() == 127
    with pytest.raises(stnls.StnlsValueError, match="device must be a device such as cpu"):
        index_grid(2, 3, device="zzz")


def test_arguments_are_checked() -> None:
    flow = torch.zeros(1, 3, 2, 4, 5)
    for options, kind, message in (
        ((0, 1, 1, 1), ValueError, "ws must be at least 1, not 0"),
        ((3, -1, 1, 1), ValueError, "wt must be at least 0, not -1"),
        ((3, 1, 0, 1), ValueError, "stride0 must be at least 1, not 0"),
        ((3, 1, 1, 0.0), ValueError, "stride1 must be above 0 and finite, not 0.0"),
        ((3, 1, 1, "1"), TypeError, "stride1 must be a number, not '1'"),
    ):
        with pytest.raises(kind, match=message) as raised:
            non_local_inds(flow, flow, *options)  # type: ignore[arg-type]
        assert isinstance(raised.value, stnls.StnlsError)
    with pytest.raises(ValueError, match=r"\(1, 3, 2, 4, 5\) and \(1, 3, 2, 4, 4\)"):
        non_local_inds(flow, flow[..., 1:], 3, 1, 1, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("seed", range(20))
def test_cuda_has_the_bits_of_the_cpu(seed: int) -> None:
    fflow, bflow, *options = draw(seeded(seed))
    on_cpu = non_local_inds(fflow, bflow, *options)
    on_cuda = non_local_inds(fflow.cuda(), bflow.cuda(), *options).cpu()
    torch.testing.assert_close(on_cuda, on_cpu, rtol=0, atol=0, equal_nan=True)
