"""Whether the result of a search is right: rank by rank in distance, entry by entry in the
table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import HealthCheck, Phase, settings
from reference import Candidates, SearchOptions, select
from torch import Tensor

# The same examples in every run, reduced to a small one when they fail.
PROPERTY = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

# Float32 sums of up to some hundred terms, in another order than the reference's.
TOLERANCE = 4e-6


def assert_search(
    o: SearchOptions,
    table: Candidates,
    found: tuple[Tensor, Tensor],
    *,
    exact: bool = False,
    direct: bool = False,
    tolerance: float = TOLERANCE,
    offset_tolerance: float = 0.0,
) -> None:
    """The found (dists, inds) are those of the table's best candidates.

    exact: bit for bit, ties by the lowest raster index. Otherwise the distance of every rank may
    differ by `tolerance` of its size and of the mean, and an entry may be any candidate that has
    that distance, none twice. direct: no distance was computed from others (see `Candidates`).
    """
    dists, inds = (x.detach().cpu() for x in found)
    expected_dists, expected_inds = select(o, table)
    assert dists.shape == expected_dists.shape
    assert inds.shape == expected_inds.shape
    if exact:
        torch.testing.assert_close(dists, expected_dists.to(dists.dtype), rtol=0, atol=0)
        torch.testing.assert_close(inds, expected_inds.to(inds.dtype), rtol=0, atol=0)
        return
    atol = tolerance * mean_size(table.dists) + table.rounding
    atol += 0.0 if direct else table.cancellation
    torch.testing.assert_close(dists.double(), expected_dists, rtol=tolerance, atol=atol)
    assert_in_table(
        *(o, table, dists, inds),
        atol=2 * atol,
        rtol=2 * tolerance,
        offset_tolerance=offset_tolerance,
    )


def mean_size(dists: Tensor) -> float:
    """Mean of the finite distances' sizes."""
    finite = dists[torch.isfinite(dists)]
    return float(finite.abs().mean()) if finite.numel() else 0.0


def assert_in_table(
    o: SearchOptions,
    table: Candidates,
    dists: Tensor,
    inds: Tensor,
    *,
    rtol: float,
    atol: float,
    offset_tolerance: float = 0.0,
) -> None:
    """Every (distance, offset) pair is a candidate of the table, none comes twice in a query."""
    if dists.numel() == 0:
        return
    of_table = table.dists.flatten(-2)
    at, distance = nearest_entries(inds, table.inds.flatten(-3, -2))
    if o.self_action in ("anchor", "anchor_self"):
        # The entry in front carries the offset (0, 0, 0) wherever the grid only came near it.
        distance[..., 0].masked_fill_((inds[..., 0, :] == 0).all(-1), 0)
    assert distance.max() <= offset_tolerance, f"an offset {distance.max()} from every candidate"
    there = torch.gather(of_table, -1, at)
    torch.testing.assert_close(dists.double(), there, rtol=rtol, atol=atol)
    if o.self_action in ("anchor", "anchor_self"):
        at = at[..., 1:]  # the anchored one and another may carry the same offset
        dists = dists[..., 1:]
    # Invalid ones may carry the offset of others, or all the mark of an empty entry.
    each = -1 - torch.arange(at.shape[-1])
    ordered = torch.where(torch.isfinite(dists), at, each).sort(-1).values
    assert bool((ordered[..., 1:] != ordered[..., :-1]).all()), "a candidate came twice"


def nearest_entries(inds: Tensor, of_table: Tensor) -> tuple[Tensor, Tensor]:
    """For (..., K, 3) offsets the nearest of the table's (..., N, 3): its number and distance."""
    numbers, distances = [], []
    for k in range(inds.shape[-2]):
        away = (inds[..., k, None, :].double() - of_table.double()).abs().sum(-1)
        nearest = away.min(-1)
        numbers.append(nearest.indices)
        distances.append(nearest.values)
    return torch.stack(numbers, -1), torch.stack(distances, -1)


def assert_same_bits(first: Sequence[Tensor], *others: Sequence[Tensor]) -> None:
    for other in others:
        for a, b in zip(first, other, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bytes_like(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator).float()
