"""`accumulate_flow` and `extract_search_from_accumulated`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import golden
import numpy as np
import pytest
import reference
import stnls
import torch
from cases import Pick, draw_flow, drawn, seeded
from compare import PROPERTY, assert_same_bits, noise
from hypothesis import given, note, settings
from hypothesis import strategies as st
from stnls.nn import accumulate_flow, extract_search_from_accumulated
from torch import Tensor


def flows(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [scale * noise(*shape, seed=seed).to(dtype) for seed in (1, 2)]


def draw(pick: Pick) -> tuple[Tensor, Tensor]:
    batch, frames, size = pick((0, 1, 2)), pick((1, 2, 3, 5)), (pick((1, 2, 5)), pick((1, 3, 8)))
    shape, dtype = (batch, frames, 2, *size), pick((torch.float32, torch.float64))
    fflow, bflow = (draw_flow(pick, shape, max(size)).to(dtype) for _ in range(2))
    return fflow, bflow


@settings(PROPERTY, max_examples=60)
@given(st.data())
def test_each_frame_is_the_start_of_two_paths(data: st.DataObject) -> None:
    pick = drawn(data)
    (fflow, bflow), stride0 = draw(pick), pick((1, 2, 3))
    note(f"{tuple(fflow.shape)} {fflow.dtype} stride0={stride0}")
    found = accumulate_flow(fflow, bflow, stride0)
    batch, frames, _, height, width = fflow.shape
    grid = (height - 1) // stride0 + 1, (width - 1) // stride0 + 1
    for accumulated in found:
        assert accumulated.shape == (batch, frames, frames - 1, 2, *grid)
        assert accumulated.dtype == fflow.dtype
    for t in range(frames):
        ahead = stnls.nn.compose_flow(fflow[:, t : frames - 1], stride0=stride0)
        back = stnls.nn.compose_flow(bflow[:, 1 : t + 1].flip(1), stride0=stride0)
        for accumulated, path in ((found.fflow, ahead), (found.bflow, back)):
            steps = path.shape[1]
            torch.testing.assert_close(
                *(accumulated[:, t, :steps], path), rtol=0, atol=0, equal_nan=True
            )
            assert not bool(accumulated[:, t, steps:].any())


def test_smooth_flow_equals_the_reference() -> None:
    ramp = torch.linspace(-3, 2, 7)[:, None] + torch.linspace(-1, 3, 9)
    fflow, bflow = (ramp * sign + torch.zeros(2, 4, 2, 1, 1) for sign in (1.0, -0.5))
    found = accumulate_flow(fflow, bflow)
    for t in range(4):
        for accumulated, steps in (
            (found.fflow[:, t, : 3 - t], fflow[:, t:3]),
            (found.bflow[:, t, :t], bflow[:, 1 : t + 1].flip(1)),
        ):
            expected = reference.compose_flow(steps)
            torch.testing.assert_close(accumulated.double(), expected, rtol=1e-4, atol=1e-3)


@settings(PROPERTY, max_examples=60)
@given(st.data())
def test_the_slots_of_a_search(data: st.DataObject) -> None:
    pick = drawn(data)
    (fflow, bflow), wt, stride0 = draw(pick), pick((0, 1, 2, 3)), pick((1, 2, 3))
    note(f"{tuple(fflow.shape)} {fflow.dtype} wt={wt} stride0={stride0}")
    found = extract_search_from_accumulated(*accumulate_flow(fflow, bflow), wt, stride0)
    expected = stnls.nn.search_flow(fflow, bflow, wt, stride0)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_both_flows_in_one_argument() -> None:
    fflow, bflow = flows(1, 3, 2, 5, 6)
    expected = accumulate_flow(fflow, bflow)
    assert_same_bits(expected, accumulate_flow({"fflow": fflow, "bflow": bflow}))
    assert_same_bits(expected, accumulate_flow(SimpleNamespace(fflow=fflow, bflow=bflow)))
    assert expected._fields == ("fflow", "bflow")


def test_the_result_is_a_tuple_with_names() -> None:
    flow = noise(1, 3, 2, 5, 6)
    found = accumulate_flow(flow, -flow)
    for key, value in zip(("fflow", "bflow"), found, strict=True):
        assert found[key] is getattr(found, key) is value  # the original returns a dictionary
    assert found[-1] is found.bflow
    assert found[:1] == (found.fflow,)
    with pytest.raises(KeyError, match="flow"):
        found["flow"]
    wt, stride0 = 1, 2
    traced = torch.compile(
        lambda flow: accumulate_flow(flow, -flow)["fflow"], fullgraph=True, backend="aot_eager"
    )
    assert torch.equal(traced(flow), found.fflow)
    slots = extract_search_from_accumulated(found["fflow"], found["bflow"], wt, stride0)
    assert torch.equal(slots, stnls.nn.search_flow(flow, -flow, wt, stride0))


def test_dtype_of_the_result() -> None:
    fflow, bflow = flows(1, 3, 2, 5, 6)
    expected = accumulate_flow(fflow, bflow)
    for dtype in (torch.float16, torch.float64):
        found = accumulate_flow(fflow, bflow, 1, dtype)
        assert_same_bits(found, [x.to(dtype) for x in expected])
    halves = fflow.half(), bflow.half()
    assert_same_bits(accumulate_flow(*halves), accumulate_flow(*(x.float() for x in halves)))


def test_a_single_frame_has_no_flow() -> None:
    fflow, bflow = flows(2, 1, 2, 5, 6)
    found = accumulate_flow(fflow, bflow)
    assert [x.shape for x in found] == [(2, 1, 0, 2, 5, 6)] * 2
    assert extract_search_from_accumulated(*found, 2, 2).shape == (2, 1, 0, 2, 3, 3)


def test_gradient() -> None:
    flow = [x.requires_grad_() for x in flows(1, 3, 2, 4, 5, dtype=torch.float64)]
    for stride0 in (1, 2):
        assert torch.autograd.gradcheck(lambda f, b, s=stride0: accumulate_flow(f, b, s), flow)


def test_gradient_of_extraction() -> None:
    flow = [x.requires_grad_() for x in flows(1, 3, 2, 2, 4, 3, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda f, b: extract_search_from_accumulated(f, b, 1, 2), flow)


ACCUMULATED = golden.names("misc", "acc_*_pytorch")


@pytest.mark.parametrize("name", ACCUMULATED)
def test_golden(name: str, device: str, shared: Path) -> None:
    config, arrays = golden.case("misc", name)
    flow = (arrays[x].to(device) for x in ("fflow", "bflow"))
    found = accumulate_flow(*flow, config["s0"], fwd_mode=config["mode"])
    for accumulated, expected in zip(found, (arrays["pfflow"], arrays["pbflow"]), strict=True):
        torch.testing.assert_close(accumulated.cpu(), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", ACCUMULATED)
def test_golden_gradient(name: str, device: str, shared: Path) -> None:
    config, arrays = golden.case("misc", name)
    flow = [arrays[x].clone().to(device).requires_grad_() for x in ("fflow", "bflow")]
    found = accumulate_flow(*flow, config["s0"])
    of_output = [
        stored(found.fflow.shape, 0.5, 0.7311).to(device),
        stored(found.bflow.shape, 1.25, 0.377).to(device),
    ]
    torch.autograd.backward(list(found), of_output)
    for x, expected in zip(flow, (arrays["gfflow"], arrays["gbflow"]), strict=True):
        assert x.grad is not None
        atol = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(x.grad.cpu(), expected, rtol=0, atol=atol)


def stored(shape: tuple[int, ...], phase: float, step: float) -> Tensor:
    """A gradient of an output, which the golden files do not hold."""
    values = np.cos(step * np.arange(int(np.prod(shape)), dtype=np.float64) + phase)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


@pytest.mark.parametrize("name", golden.names("misc", "extract_*"))
def test_golden_extraction(name: str, device: str, shared: Path) -> None:
    config, arrays = golden.case("misc", name)
    flow = (arrays[x].to(device) for x in ("fflow", "bflow"))
    found = extract_search_from_accumulated(*accumulate_flow(*flow), config["wt"], config["s0"])
    torch.testing.assert_close(found.cpu(), arrays["flows"], rtol=0, atol=5e-5)


FLOW = torch.zeros(1, 3, 2, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((FLOW, FLOW, 0), ValueError, "stride0 must be at least 1, not 0"),
        ((FLOW, FLOW, 1, None, "stnls"), ValueError, "only its default, 'pytorch'"),
        ((FLOW, FLOW, 1, "x"), TypeError, "dtype must be one of torch.float32, .*, not 'x'"),
        ((FLOW, FLOW, 1, torch.int32), TypeError, "dtype must be one of .*, not torch.int32"),
        ((FLOW,), TypeError, "bflow must be a tensor .*, not NoneType"),
        (({"fflow": FLOW},), TypeError, "bflow must be a tensor .*, not NoneType"),
        (({"fflow": FLOW, "bflow": FLOW}, FLOW), TypeError, "bflow must be None .*, not Tensor"),
        ((FLOW, FLOW[:, 1:]), ValueError, r"\(1, 3, 2, 4, 5\) and \(1, 2, 2, 4, 5\)"),
        ((FLOW, FLOW.double()), TypeError, "torch.float32 and torch.float64"),
        ((FLOW[:, :, :1], FLOW[:, :, :1]), ValueError, r"\(1, 3, 2, 4, 5\), not \(1, 3, 1, 4, 5\)"),
        ((FLOW[:, :0], FLOW[:, :0]), ValueError, r"at least 1 frame, not \(1, 0, 2, 4, 5\)"),
        ((FLOW[..., :0], FLOW[..., :0]), ValueError, r"one column, not \(1, 3, 2, 4, 0\)"),
    ],
)
def test_arguments_are_checked(
    arguments: tuple[Any, ...], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as raised:
        accumulate_flow(*arguments)
    assert isinstance(raised.value, stnls.StnlsError)


def test_arguments_of_extraction_are_checked() -> None:
    found = accumulate_flow(FLOW, FLOW)
    for options, message in (
        ((*found, -1, 1), "wt must be at least 0, not -1"),
        ((*found, 1, 0), "stride0 must be at least 1, not 0"),
        ((FLOW, FLOW, 1, 1), r"fflow must have shape \(B, T, T - 1, 2, H, W\), not"),
        ((found.fflow[:, 1:],) * 2 + (1, 1), r"\(1, 2, 1, 2, 4, 5\), not \(1, 2, 2, 2, 4, 5\)"),
    ):
        with pytest.raises(stnls.StnlsValueError, match=message):
            extract_search_from_accumulated(*options)


@pytest.mark.gpu
@pytest.mark.parametrize("seed", range(20))
def test_cuda_has_the_bits_of_the_cpu(seed: int) -> None:
    pick = seeded(seed)
    flow, wt, stride0 = draw(pick), pick((0, 1, 2)), pick((1, 2))
    runs = []
    for device in ("cpu", "cuda"):
        found = accumulate_flow(*(x.to(device) for x in flow))
        slots = extract_search_from_accumulated(*found, wt, stride0)
        runs.append([x.cpu() for x in (*found, slots)])
    for on_cpu, on_cuda in zip(*runs, strict=True):
        torch.testing.assert_close(on_cuda, on_cpu, rtol=0, atol=0, equal_nan=True)
