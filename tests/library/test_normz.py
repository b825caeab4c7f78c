"""`stnls.normz`: weights from distances."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import stnls
import torch
from compare import PROPERTY, assert_same_bits, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

INF = float("inf")


def distances(*shape: int, invalid: float = INF, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Distances of which a third is invalid, one whole row among them, and offsets."""
    dists, empty = noise(*shape, seed=seed).abs(), noise(*shape, seed=seed + 1) > 0.4
    empty.view(-1, shape[-1])[0] = True
    offsets = torch.arange(dists.numel() * 3).view(*shape, 3)
    return dists.masked_fill(empty, invalid), offsets


@settings(PROPERTY, max_examples=60)
@given(
    scale=st.floats(0.1, 50),
    dist_type=st.sampled_from(["l2", "prod"]),
    k_agg=st.integers(-1, 7),
    seed=st.integers(0, 1000),
)
def test_weights_are_those_of_the_definition(
    scale: float, dist_type: str, k_agg: int, seed: int
) -> None:
    sign = -1 if dist_type == "l2" else 1
    dists, inds = distances(1, 2, 3, 2, 2, 5, invalid=-sign * INF, seed=seed)
    cfg = {"normz_scale": scale, "dist_type": dist_type, "k_agg": k_agg}
    weights, kept = stnls.normz.init(cfg)(dists, inds)
    count = k_agg if 0 < k_agg < 5 else 5
    assert weights.shape == (1, 2, 3, 2, 2, count)
    assert torch.equal(kept, inds[..., :count, :])
    for row, found in zip(dists.view(-1, 5).tolist(), weights.view(-1, count), strict=True):
        finite = torch.tensor([sign * scale * d for d in row[:count] if abs(d) < INF]).double()
        expected = iter(torch.softmax(finite, 0).tolist())
        wanted = [next(expected) if abs(d) < INF else 0.0 for d in row[:count]]
        torch.testing.assert_close(found.tolist(), wanted, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    """Ten times these distances is more than float16 holds."""
    dists = (9000 + 4000 * noise(1, 1, 2, 3, 4, 5).abs()).to(dtype)
    inds = torch.zeros(*dists.shape, 3)
    weights, _ = stnls.normz.SoftmaxWeights(scale=10)(dists, inds)
    assert weights.dtype == dtype
    expected = torch.softmax(-10 * dists.double(), -1)
    torch.testing.assert_close(weights.double(), expected, rtol=1e-2, atol=1e-3)
    small = (dists / 1e5).to(dtype)
    weights, _ = stnls.normz.SoftmaxWeights(scale=30)(small, inds)
    expected = torch.softmax(-30 * small.double(), -1)
    tolerance = float(torch.finfo(dtype).eps)
    torch.testing.assert_close(weights.double(), expected, rtol=tolerance, atol=tolerance / 8)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("invalid", [INF, -INF])
@pytest.mark.parametrize("dist_type", ["l2", "prod"])
def test_a_row_of_nothing_valid_is_zero_and_so_is_its_gradient(
    dist_type: str, invalid: float
) -> None:
    dists, inds = distances(1, 1, 3, 4, 5, 6, invalid=invalid)
    dists.requires_grad_()
    with torch.autograd.detect_anomaly(check_nan=True):
        weights, _ = stnls.normz.init({"dist_type": dist_type})(dists, inds)
        (weights * noise(*weights.shape)).sum().backward()
    assert dists.grad is not None
    empty = torch.isinf(dists.detach())
    assert bool((weights[empty] == 0).all())
    assert bool((dists.grad[empty] == 0).all())
    assert bool(torch.isfinite(dists.grad).all())
    assert weights.view(-1, 6)[0].tolist() == [0.0] * 6
    rows = weights.sum(-1)[(~empty).any(-1)]
    torch.testing.assert_close(rows, torch.ones_like(rows))


def test_gradient() -> None:
    dists, inds = distances(1, 1, 1, 2, 3, 4)
    valid, normz = torch.isfinite(dists), stnls.normz.init({"normz_scale": 2, "k_agg": 3})

    def weights(values: Tensor) -> Tensor:
        filled = torch.full(dists.shape, INF, dtype=torch.float64)
        return normz(filled.masked_scatter(valid, values), inds)[0]  # type: ignore[no-any-return]

    values = dists[valid].double().requires_grad_()
    assert torch.autograd.gradcheck(weights, (values,))
    assert torch.autograd.gradgradcheck(weights, (values,))


def test_distances_without_limit_do_not_make_nan() -> None:
    dists = torch.tensor([[1e38, 1e38, INF], [0.0, 1e38, 3e38]])
    weights, _ = stnls.normz.init({})(dists, torch.zeros(2, 3, 3))
    assert weights.tolist() == [[0, 0, 0], [1, 0, 0]]


def test_nan_is_not_hidden() -> None:
    weights, _ = stnls.normz.init({})(torch.tensor([[1.0, float("nan")]]), torch.zeros(1, 2, 3))
    assert bool(weights.isnan().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    dists, inds = distances(2, 3, 8)
    dists = (dists * 1000).to(dtype)
    weights, _ = stnls.normz.init({})(dists, inds)
    assert weights.dtype == dtype
    wide, _ = stnls.normz.init({})(dists.double(), inds)
    torch.testing.assert_close(weights.double(), wide, rtol=torch.finfo(dtype).eps, atol=1e-7)


def test_autocast_changes_nothing() -> None:
    dists, inds = distances(2, 3, 8)
    expected = stnls.normz.init({})(dists, inds)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_bits(stnls.normz.init({})(dists, inds), expected)


def test_dropout_is_for_training() -> None:
    dists, inds = torch.zeros(50, 60, 4), torch.zeros(50, 60, 4, 3)
    normz = stnls.normz.init({"normz_drop_rate": 0.25})
    torch.manual_seed(0)
    weights, _ = normz(dists, inds)
    values, counts = weights.unique(return_counts=True)
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / 3]))
    assert abs(counts[0] / weights.numel() - 0.25) < 0.02
    assert set(normz.eval()(dists, inds)[0].unique().tolist()) == {0.25}


def test_configurations() -> None:
    described = "scale=3.0, drop_rate=0.5, dist_type='prod', k_agg=2"
    cfg = {"normz_scale": 3, "normz_drop_rate": 0.5, "dist_type": "prod", "k_agg": 2, "ws": 5}
    for each in (cfg, SimpleNamespace(**cfg)):
        assert stnls.normz.init(each).extra_repr() == described
    default = "scale=10.0, drop_rate=0.0, dist_type='l2', k_agg=-1"
    assert stnls.normz.init({}).extra_repr() == default


def test_it_is_a_module_with_hooks_and_without_state() -> None:
    normz, calls = stnls.normz.init({}), []
    normz.register_forward_hook(lambda *_: calls.append("after"))
    normz.register_forward_pre_hook(lambda *_: calls.append("before"))
    normz(*distances(1, 2, 3))
    assert calls == ["before", "after"]
    assert dict(normz.state_dict()) == {}
    assert list(normz.parameters()) == []


def test_compiles_without_breaks() -> None:
    normz, inputs = stnls.normz.init({"k_agg": 3}), distances(1, 2, 5)
    compiled = torch.compile(normz, fullgraph=True, backend="aot_eager")
    assert_same_bits(compiled(*inputs), normz(*inputs))


@pytest.mark.parametrize(
    ("cfg", "kind", "message"),
    [
        ({"normz_name": "none"}, ValueError, "normz_name must be one of 'softmax', not 'none'"),
        ({"normz_scale": INF}, ValueError, "normz_scale must be finite, not inf"),
        ({"normz_scale": -0.5}, ValueError, "normz_scale must be at least 0, not -0.5"),
        ({"normz_scale": "1"}, TypeError, "normz_scale must be a number, not '1'"),
        ({"normz_drop_rate": 1.5}, ValueError, "^drop_rate must be from 0 to 1, not 1.5"),
        ({"dist_type": "l1"}, ValueError, "dist_type must be one of 'l2', 'prod', not 'l1'"),
        ({"k_agg": 1.0}, TypeError, "k_agg must be an int, not 1.0"),
    ],
)
def test_parameters_are_checked(cfg: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        stnls.normz.init(cfg)
    assert isinstance(raised.value, stnls.StnlsError)


def test_tensors_are_checked() -> None:
    normz = stnls.normz.init({})
    with pytest.raises(ValueError, match=r"components, \(2, 5, 3\), not \(2, 4, 3\)"):
        normz(torch.zeros(2, 5), torch.zeros(2, 4, 3))
    with pytest.raises(TypeError, match=r"dists must hold floating-point numbers, not torch.int64"):
        normz(torch.zeros(2, 5).long(), torch.zeros(2, 5, 3))
    with pytest.raises(stnls.StnlsTypeError, match=r"inds must be a tensor .*, not list"):
        normz(torch.zeros(2, 5), [])
    with pytest.raises(stnls.StnlsTypeError, match="must be on one device, not cpu and meta"):
        normz(torch.zeros(2, 5), torch.zeros(2, 5, 3, device="meta"))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_cuda_agrees_with_the_cpu(dtype: torch.dtype) -> None:
    dists, inds = distances(2, 3, 4, 5, 6, 7)
    runs = []
    for device in ("cpu", "cuda"):
        there = dists.clone().to(device, dtype).requires_grad_()
        weights, kept = stnls.normz.init({"k_agg": 5})(there, inds.to(device))
        (weights * noise(*weights.shape).to(device, dtype)).sum().backward()
        assert there.grad is not None
        assert torch.equal(kept.cpu(), inds[..., :5, :])
        runs.append((weights.detach().cpu(), there.grad.cpu()))
    for found, expected in zip(runs[1], runs[0], strict=True):
        tolerance = 4 * torch.finfo(dtype).eps
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=10 * tolerance)
