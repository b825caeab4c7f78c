"""Counter-based noise: the generator's known answers, the distribution, and its manners."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stnls_cli import noise
from stnls_cli.errors import UserError
from stnls_cli.noise import add_noise, philox4x32, standard_normal

# Counter, key, answer: lines "philox4x32 10" of the file kat_vectors of Random123.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def words(line: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in line.split())


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter: str, key: str, answer: str) -> None:
    c, k, expected = words(counter), words(key), words(answer)
    assert philox4x32(c, k) == expected
    as_numpy = philox4x32(tuple(np.array([word]) for word in c), k)
    assert tuple(int(word[0]) for word in as_numpy) == expected
    as_torch = philox4x32(tuple(torch.tensor([word]) for word in c), k)
    assert tuple(int(word[0]) for word in as_torch) == expected


def test_seven_rounds_too() -> None:
    assert philox4x32((0, 0, 0, 0), (0, 0), rounds=7) == words(
        "5f6fb709 0d893f64 4f121f81 4f730a48"
    )


def test_words_are_counted_by_pixel_frame_and_block() -> None:
    """The sample of one pixel, worked out with Python's integers and math alone."""
    seed, index, x, y = 0x123456789ABCDEF0, 41, 13, 7
    image = standard_normal(8, 10, 20, seed, index)
    for block in (0, 1):
        w = philox4x32((x, y, index, block), (seed & 0xFFFFFFFF, seed >> 32))
        for pair in (0, 1):
            radius = math.sqrt(-2 * math.log((w[2 * pair] + 0.5) / 2**32))
            word = w[2 * pair + 1]
            angle = ((word & 0x3FFFFFFF) + 0.5) / 2**30 * math.pi / 2
            expected = [
                radius * math.cos(angle) * (-1 if word >> 31 else 1),
                radius * math.sin(angle) * (-1 if word >> 30 & 1 else 1),
            ]
            channel = 4 * block + 2 * pair
            assert image[channel : channel + 2, y, x].tolist() == pytest.approx(expected, rel=1e-6)


def test_radius_at_both_ends_and_between() -> None:
    rng = np.random.default_rng(0)
    word = np.concatenate(
        [[0, 1, 2, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], rng.integers(0, 2**32, 10000)]
    )
    exact = np.array([math.sqrt(-2 * math.log1p((w + 0.5) / 2**32 - 1)) for w in word.tolist()])
    # The cut-off of the series, below 1e-12 in the square, shows where the radius is near 1e-5.
    np.testing.assert_allclose(noise._radius(word), exact, rtol=1e-9, atol=1e-7)
    assert noise._radius(np.array([2**32 - 1]))[0] > 0


def test_direction_is_on_the_circle() -> None:
    word = np.random.default_rng(1).integers(0, 2**32, 10000)
    x, y = noise._direction(word)
    np.testing.assert_allclose(np.hypot(x, y), 1, rtol=1e-11)
    quadrants = np.bincount((x > 0) * 2 + (y > 0), minlength=4)
    assert quadrants.min() > 2300


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    """1.2 million samples: 3 channels, 500 x 800 pixels."""
    return standard_normal(3, 500, 800, 0, 5).numpy().astype(np.float64)


def test_moments(sample: np.ndarray) -> None:
    n = sample.size
    assert abs(sample.mean()) < 4 / math.sqrt(n)
    assert abs(sample.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((sample**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((sample**4).mean() - 3) < 4 * math.sqrt(96 / n)


def test_normality(sample: np.ndarray) -> None:
    """Kolmogorov's distance; above 1.95 / sqrt(n) once in a thousand seeds."""
    ordered = np.sort(sample.ravel())
    n = ordered.size
    exact = 0.5 * (1 + torch.erf(torch.from_numpy(ordered) / math.sqrt(2)).numpy())
    steps = np.arange(n + 1) / n
    distance = max((steps[1:] - exact).max(), (exact - steps[:-1]).max())
    assert distance < 1.95 / math.sqrt(n)


def test_independence(sample: np.ndarray) -> None:
    def correlation(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) * math.sqrt(a.size)

    later = standard_normal(3, 500, 800, 0, 6).numpy()
    other_seed = standard_normal(3, 500, 800, 1, 5).numpy()
    high_seed = standard_normal(3, 500, 800, 1 << 32, 5).numpy()
    pairs = [
        (sample, later),
        (sample, other_seed),
        (sample, high_seed),
        (sample[0], sample[1]),
        (sample[0], sample[2]),
        (sample[1], sample[2]),
        (sample[:, 1:], sample[:, :-1]),
        (sample[:, :, 1:], sample[:, :, :-1]),
    ]
    for a, b in pairs:
        assert abs(correlation(a, b)) < 4
        assert abs(correlation(a**2, b**2)) < 4


def test_the_same_again_and_in_a_crop() -> None:
    large = standard_normal(3, 90, 700, 9, 2)
    assert torch.equal(standard_normal(3, 90, 700, 9, 2), large)
    assert torch.equal(standard_normal(3, 41, 57, 9, 2), large[:, :41, :57])
    assert torch.equal(standard_normal(1, 90, 700, 9, 2), large[:1])


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = standard_normal(3, 37, 53, 4, 0)
    monkeypatch.setattr(noise, "TILE", 1)
    assert torch.equal(standard_normal(3, 37, 53, 4, 0), whole)


def test_torch_and_numpy_give_the_same_bits() -> None:
    """The path that CUDA takes, here on the CPU."""
    x, y = torch.arange(300), torch.arange(200)[:, None]
    planes = torch.empty(4, 200, 300)
    noise._box_muller(philox4x32((x, y, 3, 0), (11, 0)), planes)
    assert torch.equal(planes, standard_normal(4, 200, 300, 11, 3))


def test_add_noise_is_scaled_and_not_clipped() -> None:
    frame = torch.zeros(3, 64, 64)
    frame[:, 32:] = 255
    noisy = add_noise(frame, 15, 3, 8)
    assert noisy.dtype == torch.float32
    assert noisy.min() < -30
    assert noisy.max() > 285
    assert torch.equal(noisy, frame + 15 * standard_normal(3, 64, 64, 3, 8))
    assert frame[:, :32].abs().max() == 0
    assert torch.equal(add_noise(frame, 0, 3, 8), frame)


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf])
def test_bad_sigma(sigma: float) -> None:
    with pytest.raises(UserError, match="sigma must be"):
        add_noise(torch.zeros(3, 2, 2), sigma, 0, 0)


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_bad_seed(seed: int) -> None:
    with pytest.raises(UserError, match="seed must lie between"):
        add_noise(torch.zeros(3, 2, 2), 1, seed, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("index", range(8))
def test_cuda_gives_the_same_bits(index: int) -> None:
    frame = torch.rand(3, 480, 854) * 255
    seed = 0xFEDCBA9876543210 + index
    on_cpu = add_noise(frame, 15, seed, index)
    assert torch.equal(add_noise(frame.cuda(), 15, seed, index).cpu(), on_cpu)
