"""What decides which match is taken, and how much it counts: evidence against staying at the flow,
trust in a matched patch."""

from __future__ import annotations

from torch import Tensor

LEAST_SIGMA = 5.0
"""Noise that the frames of any camera have, in grey levels: what the prior reckons with."""
MOST_CHARGE = 1e12
"""Beyond, nothing is farther from the flow than it must be."""
TRUSTED = 20.0
"""Mean squared difference beyond the noise that halves a patch's weight, in grey levels squared."""


def charge(sigma: float, prior: float) -> float:
    """What a match costs for each squared pixel from the flow, as a mean squared difference.

    A patch of n numbers with noise of deviation s has a mean squared difference that varies by some
    s^2 * sqrt(8 / n) by chance, so that the best of a window of wrong matches beats the right one.
    Charging `prior` * max(sigma, 5)^2 for each squared pixel keeps such matches near the flow (a
    Gaussian prior on the flow's error: the maximum a posteriori match).
    """
    return min(prior * max(sigma, LEAST_SIGMA) ** 2, MOST_CHARGE)


def confidence(distance: Tensor, *, values: int, sigma: float) -> Tensor:
    """Weights of matched patches: less for a larger difference than noise explains.

    1 / (max(d - 2 sigma^2, 0) + 20), d the mean squared difference of `values` numbers: two noisy
    pixels of one value differ by 2 sigma^2 in the mean. Never 0, also where there is no match.
    """
    beyond = (distance / values - 2 * sigma**2).clamp(min=0)
    return (1 / (beyond + TRUSTED)).clamp(min=1e-9)
