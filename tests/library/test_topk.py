"""`topk` and `topk_each` against a sort in Python."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import stnls
import torch
from compare import PROPERTY, assert_same_bits, bytes_like, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from stnls.nn import topk, topk_each
from torch import Tensor

INF, NAN = float("inf"), float("nan")
# Few values, so that most are there more than once.
VALUES = st.sampled_from([-INF, -1.0, -0.0, 0.0, 0.5, 2.0, INF, NAN])


def expected_order(row: list[float], k: int, anchor: bool, descending: bool) -> list[int]:
    if k <= 0:
        return list(range(len(row)))

    def cost(n: int) -> tuple[float, int]:
        value = -row[n] if descending else row[n]
        return (INF if math.isnan(value) else value), n

    first = [0] if anchor else []
    return (first + sorted(range(len(first), len(row)), key=cost))[:k]


@settings(PROPERTY, max_examples=100)
@given(st.data())
def test_topk_is_a_stable_sort(data: st.DataObject) -> None:
    count, others = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 3))
    rows = [data.draw(st.lists(VALUES, min_size=count, max_size=count)) for _ in range(others)]
    k = data.draw(st.integers(-1, count + 2))
    anchor, descending = data.draw(st.booleans()), data.draw(st.booleans())
    dists = torch.tensor(rows)
    inds = torch.arange(dists.numel() * 3).view(others, count, 3)
    for dim in (1, -1, 0):
        turned = (dists, inds) if dim else (dists.T, inds.transpose(0, 1))
        kept, offsets, order = topk(*turned, k, dim, anchor, descending, return_order=True)
        if dim == 0:
            kept, offsets, order = kept.T, offsets.transpose(0, 1), order.T
        assert order.tolist() == [expected_order(row, k, anchor, descending) for row in rows]
        for n, at in enumerate(order):
            torch.testing.assert_close(kept[n], dists[n, at], rtol=0, atol=0, equal_nan=True)
            assert torch.equal(offsets[n], inds[n, at])


@settings(PROPERTY, max_examples=60)
@given(st.data())
def test_topk_each_sorts_every_group_by_itself(data: st.DataObject) -> None:
    groups, count = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    row_of_group = st.lists(VALUES, min_size=count, max_size=count)
    rows = [data.draw(row_of_group) for _ in range(2 * groups)]
    K, anchor = data.draw(st.integers(-1, count + 1)), data.draw(st.booleans())
    descending = data.draw(st.booleans())
    dists = torch.tensor(rows).view(2, groups, count)
    inds = torch.arange(dists.numel() * 3).view(2, groups, count, 3)
    kept, offsets = topk_each(dists, inds, K, descending, anchor)
    for n, row in enumerate(rows):
        order = expected_order(row, K, anchor, descending)
        assert torch.equal(offsets.flatten(0, 1)[n], inds.flatten(0, 1)[n][order])
        assert str(kept.flatten(0, 1)[n].tolist()) == str([row[at] for at in order])


def test_each_is_the_order_of_a_search() -> None:
    video = bytes_like(1, 3, 2, 7, 8, seed=0)
    options: dict[str, Any] = {"ws": 3, "wt": 1, "ps": 3, "itype": "int"}
    table = stnls.search.NonLocalSearch(k=-1, **options)(video, video)
    for mode, choose in (
        ("all", lambda dists, inds: topk(dists, inds, 4, -1, False, False)),
        ("each", lambda dists, inds: topk_each(dists, inds, 4, False)),
    ):
        found = stnls.search.NonLocalSearch(k=4, topk_mode=mode, **options)(video, video)
        dists, inds = table
        if mode == "each":
            dists, inds = dists.unflatten(-1, (3, 9)), inds.unflatten(-2, (3, 9))
        kept, offsets = choose(dists, inds)
        assert_same_bits(found, (kept.reshape(found[0].shape), offsets.reshape(found[1].shape)))


@pytest.mark.parametrize("anchor", [False, True])
def test_gradients_flow_to_what_is_kept(anchor: bool) -> None:
    dists, inds = noise(3, 5).double(), noise(3, 5, 3, seed=1).double()

    def kept(d: Tensor, i: Tensor) -> tuple[Tensor, ...]:
        return (*topk(d, i, 3, anchor=anchor), *topk_each(d[:, None], i[:, None], 2, False))

    assert torch.autograd.gradcheck(kept, (dists.requires_grad_(), inds.requires_grad_()))


def test_the_default_is_the_largest_along_dimension_1() -> None:
    dists = torch.tensor([[1.0, 3.0, 2.0]])
    kept, inds = topk(dists, torch.arange(9).view(1, 3, 3), 2)
    assert kept.tolist() == [[3, 2]]
    assert inds.tolist() == [[[3, 4, 5], [6, 7, 8]]]


def test_what_is_given_stays() -> None:
    dists = noise(2, 5)
    before = dists.clone()
    topk(dists, torch.zeros(2, 5, 3), 3, anchor=True)
    topk(dists, torch.zeros(2, 5, 3), 3, descending=False)
    assert torch.equal(dists, before)


def test_empty_tensors() -> None:
    for shape in ((0, 5), (3, 0)):
        kept, inds = topk(torch.zeros(shape), torch.zeros(*shape, 3), 2, anchor=True)
        assert kept.shape == (shape[0], min(2, shape[1]))
        assert inds.shape == (*kept.shape, 3)


def test_compiles_without_breaks() -> None:
    inputs = noise(4, 9), noise(4, 9, 3)
    compiled = torch.compile(topk, fullgraph=True, backend="aot_eager")
    assert_same_bits(compiled(*inputs, 3), topk(*inputs, 3))


@pytest.mark.parametrize(
    ("keywords", "kind", "message"),
    [
        ({"unique": True}, ValueError, "unique=True is not supported: it takes only its default"),
        ({"k": 1.0}, TypeError, "k must be an int, not 1.0"),
        ({"dim": 2}, ValueError, r"dim must be from -2 to 1 .* \(2, 5\), not 2"),
        ({"inds": torch.zeros(2, 4, 3)}, ValueError, r"\(2, 5, 3\), not \(2, 4, 3\)"),
        ({"inds": torch.zeros(2, 5)}, ValueError, r"inds must have shape .*, not \(2, 5\)"),
        ({"dists": torch.zeros(2, 5).int()}, TypeError, "floating-point numbers, not torch.int32"),
        ({"dists": None}, TypeError, "dists must be a tensor .*, not NoneType"),
    ],
)
def test_arguments_are_checked(
    keywords: dict[str, Any], kind: type[Exception], message: str
) -> None:
    correct = {"dists": torch.zeros(2, 5), "inds": torch.zeros(2, 5, 3), "k": 2}
    with pytest.raises(kind, match=message) as raised:
        topk(**{**correct, **keywords})
    assert isinstance(raised.value, stnls.StnlsError)


def test_arguments_of_topk_each_are_checked() -> None:
    with pytest.raises(ValueError, match=r"dists must have shape \(..., G, S\), not \(5,\)"):
        topk_each(torch.zeros(5), torch.zeros(5, 3), 1, True)
    with pytest.raises(TypeError, match="K must be an int, not None"):
        topk_each(torch.zeros(2, 5), torch.zeros(2, 5, 3), None, True)  # type: ignore[arg-type]


@pytest.fixture
def deterministic() -> Iterator[None]:
    """PyTorch refuses what is not deterministic."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
@pytest.mark.parametrize("count", [1, 7, 300, 5000])
def test_cuda_has_the_bits_of_the_cpu(count: int, deterministic: None) -> None:
    generator = torch.Generator().manual_seed(count)
    for anchor in (False, True):
        for descending in (False, True):
            dists = torch.randint(-9, 9, (6, 3, count), generator=generator) / 4
            dists[0, 0, ::3], dists[1, 1, ::2], dists[2, 2, ::2] = NAN, INF, -INF
            inds = torch.arange(dists.numel() * 3).view(6, 3, count, 3)
            runs = []
            for device in ("cpu", "cuda"):
                there = dists.clone().to(device).requires_grad_()
                both = there, inds.to(device)
                out = topk(*both, 40, 2, anchor, descending, return_order=True)
                each = topk_each(*both, 40, descending, anchor)
                (out[0] + each[0]).nan_to_num(posinf=0, neginf=0).square().sum().backward()
                assert there.grad is not None
                runs.append([x.detach().nan_to_num().cpu() for x in (*out, *each, there.grad)])
            assert_same_bits(*runs)
