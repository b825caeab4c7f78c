"""Which match is taken, where between positions it lies, and how patches are averaged: against
plain NumPy in double precision."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from outcome import refused
from stnls.search import PairedSearch

from stnls_cli import align
from stnls_cli.choice import Paraboloid, charged, confidence, lowest
from stnls_cli.matching import Matcher
from stnls_cli.options import AlignOptions


def test_charge_and_confidence() -> None:
    distance = torch.tensor([[[75.0, 750.0]]])
    offset = torch.tensor([[[[2.5, -1.0], [0.5, 3.0]]]])  # (dy, dx)
    flow = torch.tensor([[[0.5, 1.0]]])  # (dy, dx)
    cost = charged(distance, offset, flow, values=75, sigma=10.0, prior=0.01)
    np.testing.assert_allclose(cost, [[[1 + (4 + 4) * 1.0, 10 + (0 + 4) * 1.0]]])
    cost = charged(distance, offset, flow * math.nan, values=75, sigma=0.0, prior=0.01)
    np.testing.assert_allclose(cost, [[[1 + 7.25 * 0.25, 10 + 9.25 * 0.25]]])
    weights = confidence(torch.tensor([0.0, 75 * 230.0, math.inf]), values=75, sigma=10.0)
    assert weights[0] == pytest.approx(1 / 20)
    assert weights[1] == pytest.approx(1 / 50)
    assert 0 < weights[2] < 1e-8


def patch_distances(a: np.ndarray, b: np.ndarray, ps: int) -> Any:
    """Sum of squared differences of the patches at (y, x) in a and (y2, x2) in b, inside."""
    reach = ps // 2

    def distance(y: int, x: int, y2: int, x2: int) -> float:
        one = a[:, y - reach : y + reach + 1, x - reach : x + reach + 1]
        two = b[:, y2 - reach : y2 + reach + 1, x2 - reach : x2 + reach + 1]
        return float(np.square(one - two).sum())

    return distance


def lowest_place(values: np.ndarray) -> tuple[float, float]:
    """Of the quadratic surface with the differences of 3x3 values, (dy, dx)."""
    gradient = np.array([values[2, 1] - values[0, 1], values[1, 2] - values[1, 0]]) / 2
    bends = np.diff(values, 2, axis=0)[0, 1], np.diff(values, 2, axis=1)[1, 0]
    twist = (values[2, 2] - values[2, 0] - values[0, 2] + values[0, 0]) / 4
    hessian = np.array([[bends[0], twist], [twist, bends[1]]])
    if min(bends) > 0 and np.linalg.det(hessian) > 0.3 * bends[0] * bends[1]:
        place = -np.linalg.solve(hessian, gradient)
        place *= min(1, 0.75 / np.abs(place).max())
        return place[0], place[1]
    each = [-g / h if h > 0 else 0.0 for g, h in zip(gradient, bends, strict=True)]
    return tuple(np.clip(each, -0.5, 0.5))


def test_paraboloid() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 255, (3, 16, 18))
    b = np.roll(a, (1, -1), (1, 2)) * 0.6 + 0.4 * rng.uniform(0, 255, a.shape)
    frames = [torch.from_numpy(v).float() for v in (a, b)]
    offset = torch.from_numpy(rng.integers(-2, 3, (16, 18, 2))).float()
    moved = Paraboloid(3, 1.0)(*(frame[None] for frame in frames), offset[None])[0].numpy()
    distance = patch_distances(a, b, 3)
    kinds = set()
    for y, x in itertools.product(range(5, 11), range(5, 13)):
        row, column = y + int(offset[y, x, 0]), x + int(offset[y, x, 1])
        values = [[distance(y, x, row + i, column + j) for j in (-1, 0, 1)] for i in (-1, 0, 1)]
        expected = lowest_place(np.array(values))
        assert moved[y, x] - offset[y, x].numpy() == pytest.approx(expected, abs=5e-3)
        kinds.add(tuple(np.sign(expected)))
    assert len(kinds) > 4
    # Matches whose neighbours lie outside the frame stay on that axis.
    pairs = [frame[None] for frame in frames]
    still = Paraboloid(3, 1.0)(*pairs, torch.zeros(1, 16, 18, 2))[0].numpy()
    assert (still[0, :, 0] == 0).all()
    assert (still[-1, :, 0] == 0).all()
    assert (still[:, 0, 1] == 0).all()
    assert np.abs(still[1:-1, 1:-1]).max() > 0.1


@given(
    st.tuples(*[st.floats(0.5, 3)] * 2),
    st.floats(-0.4, 0.4),
    st.tuples(*[st.floats(-0.7, 0.7)] * 2),
)
def test_lowest_place_of_a_paraboloid(
    bends: tuple[float, float], twist: float, place: tuple[float, float]
) -> None:
    y, x = np.mgrid[-1:2, -1:2] - np.array(place)[:, None, None]
    twist *= math.sqrt(bends[0] * bends[1])
    values = 0.5 * bends[0] * y**2 + 0.5 * bends[1] * x**2 + twist * y * x + 7
    found = lowest(torch.from_numpy(values.reshape(9)))
    np.testing.assert_allclose(found, place, atol=1e-9)


def test_no_lowest_place() -> None:
    flat, hill = torch.ones(9), torch.tensor([0.0, 1, 0, 1, 2, 1, 0, 1, 0])
    beside = torch.tensor([9.0, 9, 9, 9, math.inf, 9, 9, 9, 9])
    assert (lowest(torch.stack((flat, hill, beside))) == 0).all()


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
    cost = charged(matches.distance, matches.offset, centre, values=75, sigma=15.0, prior=0.02)
    assert (cost[..., 2:] >= cost[..., 1:-1] - 1e-3).all()


@pytest.mark.parametrize("k", [1, 5])
def test_shortlist_holds_the_best(k: int) -> None:
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
    cost = charged(distance, offset, centre, values=75, sigma=15.0, prior=0.02)
    best = cost.sort(-1).values[..., :k]
    values = charged(found.distance, found.offset, centre, values=75, sigma=15.0, prior=0.02)
    wrong = (values - best).abs() > 1e-3 * best.abs().clamp(min=1)
    assert wrong[..., 0].float().mean() < 0.01
    assert wrong.float().mean() < 0.2
    # No match twice.
    for one, other in itertools.combinations(range(k), 2):
        apart = (found.offset[:, :, one] - found.offset[:, :, other]).abs().amax(-1)
        assert (apart > 0.5).all()


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
