"""Gaussian noise as a function of (seed, source frame, pixel, channel), with nothing to remember.

The random words are Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy
as 1, 2, 3; SC 2011) with the counter (x, y, frame index, channel block) and the seed as key. So a
frame has the same noise wherever a run starts, after a resume, on any worker, and a crop of a
larger frame (from its top left corner) has that frame's noise.

The words become normal deviates by Box and Muller's map. Its logarithm, sine and cosine are
short series made of float64 additions, multiplications, one division and one square root. IEEE 754
fixes the result of each of these, and every one is an operator call of its own, so that no
compiler can contract two into one: CPU and CUDA give the same bits. A library's log or cos
may differ in the last place from one device to the next.

The arithmetic is written once, in operators that NumPy arrays and torch tensors share. NumPy does
it on the CPU, where a torch call costs more than the few thousand pixels it works on.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from stnls_cli.errors import UserError

if TYPE_CHECKING:
    import torch

Array = Any
"""A NumPy array or a torch tensor; mypy knows no type that covers the operators of both."""

MOST_SIGMA = 10_000.0
"""Patch distances of such noise are still far from the largest float32."""

MASK32 = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

CHANNELS_PER_BLOCK = 4
"""One Philox call makes four words, hence two Box-Muller pairs: four channels of one pixel."""

TILE = 1 << 14
"""Pixels at a time on the CPU: the working set stays in the second-level cache."""

LN2 = math.log(2.0)
SQRT2 = math.sqrt(2.0)
# atanh(s) = s (1 + s²/3 + s⁴/5 + ...); |s| <= 0.1716 here, so what is cut off is below 1e-12.
ATANH = tuple(1.0 / k for k in range(1, 15, 2))
# cos(d)/√2 and sin(d)/(d √2) in powers of d²; |d| <= π/4, cut off below 1e-12.
COS = tuple((-1) ** k / (math.factorial(2 * k) * SQRT2) for k in range(7))
SIN = tuple((-1) ** k / (math.factorial(2 * k + 1) * SQRT2) for k in range(7))


def add_noise(rgb: torch.Tensor, sigma: float, seed: int, index: int) -> torch.Tensor:
    """Frame plus Gaussian noise of standard deviation `sigma`, not clipped.

    `rgb` is (C, H, W) float32 on the 0-255 scale, `index` the frame's number in its source clip.
    The result is on the same device; the same arguments give the same bits on any of them.
    """
    check_noise(sigma, seed)
    if sigma == 0:
        return rgb
    channels, height, width = rgb.shape
    noise = standard_normal(channels, height, width, seed, index, device=rgb.device)
    # Two steps, never add(alpha=...): one device might round once where another rounds twice.
    return noise.mul_(sigma).add_(rgb)


def check_noise(sigma: float, seed: int) -> None:
    """Refuse a standard deviation that is none and a seed that does not fit the 64-bit key."""
    if not 0 <= sigma <= MOST_SIGMA:
        raise UserError(f"--sigma must be 0 to {MOST_SIGMA:g} grey levels; got {sigma:g}")
    if not 0 <= seed < 1 << 64:
        raise UserError(f"--seed must lie between 0 and 2**64 - 1; got {seed}")


def standard_normal(
    channels: int,
    height: int,
    width: int,
    seed: int,
    index: int,
    *,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Independent standard normal deviates, (channels, height, width) float32."""
    import numpy as np
    import torch

    out = torch.empty((channels, height, width), dtype=torch.float32, device=device)
    if out.device.type == "cpu":
        planes: Array = out.numpy()
        x: Array = np.arange(width, dtype=np.int64)
        y: Array = np.arange(height, dtype=np.int64)[:, None]
        rows = max(1, TILE // max(1, width))
    else:
        planes = out
        x = torch.arange(width, dtype=torch.int64, device=device)
        y = torch.arange(height, dtype=torch.int64, device=device)[:, None]
        rows = max(1, height)
    key = (seed & MASK32, seed >> 32)
    for first in range(0, channels, CHANNELS_PER_BLOCK):
        block = planes[first : first + CHANNELS_PER_BLOCK]
        for top in range(0, height, rows):
            counter = (x, y[top : top + rows], index, first // CHANNELS_PER_BLOCK)
            _box_muller(philox4x32(counter, key), block[:, top : top + rows])
    return out


def philox4x32(
    counter: tuple[Array, Array, Array, Array], key: tuple[int, int], rounds: int = ROUNDS
) -> tuple[Array, Array, Array, Array]:
    """Four random 32-bit words for each counter.

    Counter words are int64 arrays of values below 2**32, or Python integers; they broadcast, and
    only widen when they meet, which saves most of the first two rounds. The product of two words
    fills 64 bits and wraps into the sign; its upper half is right again after the mask.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1 = _upper_xor(p1, c1 ^ k0), p1 & MASK32
        c2, c3 = _upper_xor(p0, c3 ^ k1), p0 & MASK32
        k0, k1 = (k0 + KEY_STEPS[0]) & MASK32, (k1 + KEY_STEPS[1]) & MASK32
    return c0, c1, c2, c3


def _upper_xor(product: Array, word: Array) -> Array:
    mixed = (product >> 32) ^ word
    mixed &= MASK32
    return mixed


def _box_muller(words: tuple[Array, Array, Array, Array], planes: Array) -> None:
    """Write normal deviates into up to four planes, (c, h, w) float32, from four words each."""
    for pair in range(0, len(planes), 2):
        radius = _radius(words[pair])
        coordinates = _direction(words[pair + 1])
        for offset in range(min(2, len(planes) - pair)):
            planes[pair + offset] = radius * coordinates[offset]


def _radius(word: Array) -> Array:
    """sqrt(-2 ln u) of u = (word + 1/2) / 2**32, float64.

    With u = m·2**e, m in [1, 2) and s = (m - √2) / (m + √2):
    ln u = (e + 1/2) ln 2 + 2 atanh(s).
    """
    u = _float64(word)
    u += 0.5
    u *= 2.0**-32
    bits = _bits(u)
    exponent = bits >> 52
    exponent *= 2
    exponent -= 2 * 1023 - 1  # now 2 e + 1
    square = _float64(exponent)
    square *= -LN2
    bits &= 0x000FFFFFFFFFFFFF
    bits |= 0x3FF0000000000000  # u itself is now m
    s = u - SQRT2
    u += SQRT2
    s /= u
    atanh = _series(s * s, ATANH)
    atanh *= s
    atanh *= 4.0
    square -= atanh
    return _root(square)


def _direction(word: Array) -> tuple[Array, Array]:
    """Coordinates of a point on the unit circle, float64, uniform in its angle.

    Thirty bits choose the angle π/4 + d in the first quadrant, two bits the signs.
    """
    d = _float64(word & 0x3FFFFFFF)
    d += 0.5
    d *= 2.0**-30
    d -= 0.5
    d *= math.pi / 2
    square = d * d
    cos = _series(square, COS)
    sin = _series(square, SIN)
    sin *= d
    x = cos - sin
    cos += sin
    x *= _sign(word >> 31)
    cos *= _sign((word >> 30) & 1)
    return x, cos


def _sign(bit: Array) -> Array:
    return _float64(1 - 2 * bit)


def _series(x: Array, coefficients: tuple[float, ...]) -> Array:
    """coefficients[0] + coefficients[1] x + ..., by Horner's rule."""
    total = x * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        total += coefficient
        total *= x
    total += coefficients[0]
    return total


def _float64(whole: Array) -> Array:
    """A new float64 array of the same values."""
    import numpy as np

    return whole.astype(np.float64) if isinstance(whole, np.ndarray) else whole.double()


def _bits(real: Array) -> Array:
    """The same memory, seen as int64."""
    import numpy as np
    import torch

    return real.view(np.int64 if isinstance(real, np.ndarray) else torch.int64)


def _root(real: Array) -> Array:
    import numpy as np

    return np.sqrt(real, out=real) if isinstance(real, np.ndarray) else real.sqrt_()
