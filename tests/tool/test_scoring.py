"""Scores of many frames at once are those of each one."""

from __future__ import annotations

import math

import pytest
import torch

from stnls_cli.metrics import mae, out_of_frame, psnr, ssim
from stnls_cli.scoring import flow_scores, frame_scores, score, score_names
from stnls_cli.similarity import similarity_of_windows

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ],
    ),
]


def pictures(count: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height)
    reference = torch.rand(3, height, width, generator=generator) * 255
    noise = torch.randn(count, 3, height, width, generator=generator)
    spread = torch.tensor([0.5, 5.0, 40.0, 120.0])[:count, None, None, None]
    return reference, (reference + spread * noise).clamp(0, 255)


@pytest.mark.parametrize("device", DEVICES)
def test_frames(device: str) -> None:
    reference, frames = pictures(4, 40, 57)
    frames[2] = reference
    places = reference[None].to(device), frames.to(device)
    table = frame_scores(("ssim", "psnr", "mae"), *places).cpu()
    assert table.shape == (4, 3)
    assert table.dtype == torch.float64
    for row, frame in zip(table.tolist(), frames, strict=True):
        assert score("ssim", row[0]) == pytest.approx(ssim(reference, frame), abs=2e-5)
        assert score("psnr", row[1]) == pytest.approx(psnr(reference, frame), abs=1e-9)
        assert score("mae", row[2]) == pytest.approx(mae(reference, frame), rel=1e-12)
    assert score("psnr", table[2, 1].item()) == math.inf


@pytest.mark.parametrize("device", DEVICES)
def test_each_frame_has_its_reference(device: str) -> None:
    """Frame n that of n modulo the number of references."""
    references, frames = pictures(3, 30, 43)[1].to(device), pictures(4, 30, 43)[1].to(device)
    frames = torch.cat((frames, frames.flip(0), frames[:1]))
    names = ("psnr", "ssim", "mae")
    table = frame_scores(names, references, frames)
    for n in range(9):
        alone = frame_scores(names, references[n % 3, None], frames[n, None])
        assert torch.equal(table[n], alone[0])


@pytest.mark.parametrize("device", DEVICES)
def test_windows_have_the_mean_of_the_frame(device: str) -> None:
    reference, frames = pictures(3, 40, 31)
    windows = similarity_of_windows(reference.to(device), frames.to(device))
    assert windows.shape == (3, 3, 30, 21)
    expected = [ssim(reference, frame) for frame in frames]
    assert windows.double().mean((1, 2, 3)).tolist() == pytest.approx(expected, abs=2e-5)


def test_too_small_for_ssim() -> None:
    frames = torch.zeros(2, 3, 10, 50)
    table = frame_scores(("ssim",), frames[:1], frames)
    assert [score("ssim", value) for value in table[:, 0].tolist()] == [None, None]


@pytest.mark.parametrize("device", DEVICES)
def test_flows(device: str) -> None:
    flows = torch.randn(5, 2, 20, 30, generator=torch.Generator().manual_seed(0)) * 8
    flows[1, 0, 0, 0] = math.nan
    table = flow_scores(("out_of_frame",), flows.to(device))
    expected = [out_of_frame(flow) for flow in flows]
    found = [score("out_of_frame", value) for value in table[:, 0].tolist()]
    assert found == pytest.approx(expected, rel=1e-12)


def test_names_by_what_they_measure() -> None:
    names = ("psnr", "ssim", "mae", "out_of_frame")
    assert score_names(names) == (("psnr", "ssim", "mae"), ("out_of_frame",))
    assert score_names(("out_of_frame",)) == ((), ("out_of_frame",))
    assert frame_scores((), torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 4, 4)).shape == (2, 0)
