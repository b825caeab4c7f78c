"""Which match is taken, where between positions it lies, and how patches are averaged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from outcome import refused
from stnls.search import PairedSearch

from stnls_cli import align
from stnls_cli.choice import charge, confidence
from stnls_cli.matching import Matcher
from stnls_cli.options import AlignOptions


def charged(
    distance: torch.Tensor, offset: torch.Tensor, centre: torch.Tensor, per_square: float
) -> torch.Tensor:
    """What matches (H, W, K) of patches of 5 x 5 pixels cost, with offsets (H, W, K, 2)."""
    away = (offset - centre[:, :, None]).square().sum(-1)
    return distance / 75 + per_square * away


def test_charge_and_confidence() -> None:
    assert charge(10.0, 0.01) == pytest.approx(1.0)
    assert charge(0.0, 0.01) == pytest.approx(0.25)
    assert charge(1e9, 1e6) == 1e12
    weights = confidence(torch.tensor([0.0, 75 * 230.0, math.inf]), values=75, sigma=10.0)
    assert weights[0] == pytest.approx(1 / 20)
    assert weights[1] == pytest.approx(1 / 50)
    assert 0 < weights[2] < 1e-8


def test_subpixel_shift_is_found() -> None:
    """A smooth texture moved by a fraction of a pixel, flow zero."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    generator = torch.Generator().manual_seed(0)
    waves = 2 * torch.rand(24, 3, generator=generator) - 1

    def texture(dy: float, dx: float) -> torch.Tensor:
        waved = [torch.sin(a * (y - dy) + b * (x - dx) + 3 * c) for a, b, c in waves.tolist()]
        return 128 + 20 * torch.stack(waved).sum(0).expand(3, -1, -1)

    reference, neighbour, flow = texture(0, 0), texture(1.3, -0.4), torch.zeros(2, 48, 64)
    errors = {}
    for subpixel in ("none", "parabola"):
        matcher = Matcher(AlignOptions(ws=5, subpixel=subpixel))
        matches = matcher.search(reference, neighbour, flow)
        inner = matches.offset[6:-6, 6:-6, 0]
        errors[subpixel] = float((inner - torch.tensor([1.3, -0.4])).abs().mean())
    assert errors["none"] == pytest.approx((0.3 + 0.4) / 2, abs=0.05)
    assert errors["parabola"] < 0.1


@pytest.mark.parametrize("flow", ["zero", "tvl1"])
def test_what_stands_still_stays(tmp_path: Path, textured: Any, encode: Any, flow: str) -> None:
    """By all the steps of the defaults: nothing is lost to a step that was not needed."""
    frames = [textured(1, 64, 96)[0]] * 3
    path = encode(tmp_path / "in.mkv", frames, codec="ffv1", pixel_format="bgr0")
    report = align(path, tmp_path / "out", wt=1, flow=flow, save="none", metrics="psnr")
    assert min(row.psnr for row in report.rows) > 100


def test_prior_keeps_what_has_no_evidence_at_the_flow() -> None:
    """Two frames of noise alone: every match is chance."""
    generator = torch.Generator().manual_seed(0)
    one, two = (15 * torch.randn(3, 40, 40, generator=generator) + 128 for _ in range(2))
    flow = torch.rand(2, 40, 40, generator=generator) * 2
    centre = flow.flip(0).permute(1, 2, 0)
    away = {}
    for prior in (0.0, 0.0056, 1e6):
        matcher = Matcher(AlignOptions(sigma=15.0, prior=prior, subpixel="none"))
        matches = matcher.search(one, two, flow)
        assert matches.offset.shape == (40, 40, 1, 2)
        inner = (matches.offset[:, :, 0] - centre)[8:-8, 8:-8]
        away[prior] = float(inner.square().sum(-1).sqrt().mean())
    assert away[1e6] == pytest.approx(0, abs=1e-3)
    assert away[0.0056] < away[0.0]
    # k best, best first: by cost, while what is returned is the plain distance.
    matches = Matcher(AlignOptions(sigma=15.0, k=6)).search(one, two, flow)
    assert matches.distance.shape == (40, 40, 6)
    inner = slice(8, -8), slice(8, -8)
    cost = charged(matches.distance, matches.offset, centre, 4.5)[inner]
    assert (cost[..., 2:] >= cost[..., 1:-1] - 1e-3).all()


@pytest.mark.parametrize("k", [1, 5])
def test_the_best_are_found(k: int) -> None:
    """Against the choice among all 81 candidates, of which the library returns every one."""
    generator = torch.Generator().manual_seed(1)
    texture = 255 * torch.rand(3, 40, 40, generator=generator)
    two = texture.roll((1, 2), (1, 2)) + 15 * torch.randn(3, 40, 40, generator=generator)
    flow = torch.rand(2, 40, 40, generator=generator) * 3
    centre = flow.flip(0).permute(1, 2, 0)
    options = AlignOptions(sigma=15.0, k=k, subpixel="none")
    found = Matcher(options).search(texture, two, flow)
    every = PairedSearch(9, 5, 0, stride0=1, itype="float")
    distance, offset = (x[0, 0] for x in every(texture[None], two[None], flow[None]))
    best = charged(distance, offset, centre, 4.5).sort(-1).values[..., :k]
    inner = slice(8, -8), slice(8, -8)  # elsewhere the flow may point out of the frame
    values = charged(found.distance, found.offset, centre, 4.5)
    np.testing.assert_allclose(values[inner], best[inner], rtol=1e-4, atol=1e-2)


def test_prefer_motion() -> None:
    given = AlignOptions(prefer="motion")
    assert (given.prior_used(), given.subpixel_used()) == (0.5, "none")
    assert "prefer" not in given.parameters()
    again = AlignOptions(prior=0.5, subpixel="none")
    assert again.parameters() == given.parameters()


def test_defaults_are_better_than_the_smallest_distance(tmp_path: Path, clip: Path) -> None:
    plain = {"prior": 0.0, "subpixel": "none", "patch_weights": "uniform", "sampling": "bilinear"}
    means = []
    for name, options in (("best", {}), ("plain", plain)):
        report = align(
            clip, tmp_path / name, flow="dis", wt=1, sigma=15.0, metrics="psnr",
            methods="shifted-nls", save="none", **options,
        )  # fmt: skip
        means.append(sum(row.psnr for row in report.rows) / len(report.rows))
        assert report.parameters["sampling"] == ("bicubic" if name == "best" else "bilinear")
    assert means[0] > means[1] + 0.1


@pytest.mark.parametrize(
    ("options", "used"),
    [
        ({}, (0.02, "parabola", "confidence", "bicubic")),
        ({"grid": "int"}, (0.02, "none", "confidence", "bilinear")),
        ({"dist": "prod"}, (0.0, "none", "uniform", "bicubic")),
        ({"k": 3, "weights": "softmax"}, (0.02, "parabola", "confidence", "bilinear")),
    ],
)
def test_what_defaults_stand_for(options: dict[str, Any], used: tuple[Any, ...]) -> None:
    given = AlignOptions(**options)
    names = ("prior", "subpixel", "patch_weights", "sampling")
    assert tuple(given.parameters()[name] for name in names) == used
    # What a report says can be asked for again.
    again = AlignOptions(**options, **dict(zip(names, used, strict=True)))
    assert again.parameters() == given.parameters()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prior", "-1"], "--prior must lie between 0 and 1e+06, not -1"),
        (["--prior", "nan"], "--prior must lie between 0 and 1e+06, not nan"),
        (["--prior", "1", "--dist", "prod"], "--prior needs --dist l2"),
        (["--prefer", "both"], "--prefer must be one of appearance, motion, not 'both'"),
        (["--subpixel", "cubic"], "--subpixel must be one of parabola, none, not 'cubic'"),
        (["--subpixel", "parabola", "--grid", "int"], "--subpixel parabola needs --grid float"),
        (["--subpixel", "parabola", "--dist", "prod"], "--subpixel parabola needs --dist l2"),
        (["--patch-weights", "best"], "--patch-weights must be one of confidence, uniform"),
        (["--patch-weights", "confidence", "--dist", "prod"], "confidence needs --dist l2"),
        (["--sampling", "nearest"], "--sampling must be one of bicubic, bilinear, not 'nearest'"),
        (["--sampling", "bicubic", "--grid", "int"], "--sampling bicubic needs --grid float"),
        (["--sampling", "bicubic", "-k", "2", "--weights", "softmax"], "needs --weights best"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options(cli: Any, clip: Path, tmp_path: Path, options: list[str], words: str) -> None:
    refused(cli("align", clip, "--flow=zero", *options), words)
    assert list(tmp_path.iterdir()) == []
