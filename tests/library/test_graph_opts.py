"""`stnls.graph_opts` against every entry visited in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import stnls
import torch
from cases import Pick, drawn, seeded
from compare import PROPERTY, assert_same_bits, noise
from hypothesis import given, note, settings
from hypothesis import strategies as st
from reference import graph as reference
from stnls.graph_opts import gather_tensor, scatter_labels, scatter_tensor, scatter_topk
from torch import Tensor

INF = float("inf")
EMPTY = -100000000


def draw(pick: Pick) -> tuple[Tensor, int, tuple[int, int]]:
    """Offsets (B, HD, T, nH, nW, K, 3) that often meet, with stride0 and (H, W)."""
    stride0, size = pick((1, 2, 3)), (pick((1, 2, 5)), pick((1, 3, 6)))
    grid = [(length - 1) // stride0 + 1 for length in size]
    shape = (pick((0, 1, 2)), pick((1, 2)), pick((1, 2, 3)), *grid, pick((0, 1, 2, 5)))
    generator = torch.Generator().manual_seed(pick(range(1000)))
    reach = pick((0, 1, 3))
    offsets = torch.randint(-reach, reach + 1, (*shape, 3), generator=generator)
    marked = torch.rand(shape, generator=generator) < pick((0, 0.2, 1))
    offsets[marked] = pick((EMPTY, -EMPTY, 10**7))
    return offsets.to(pick((torch.int32, torch.int64))), stride0, size


def labelled(
    flows_k: Tensor, stride0: int, size: tuple[int, int], stride1: int = 1
) -> tuple[Tensor, Tensor]:
    return scatter_labels(None, flows_k, 3, 1, stride0, stride1, *size, True)


@settings(PROPERTY, max_examples=150)
@given(st.data())
def test_labels(data: st.DataObject) -> None:
    flows_k, stride0, size = draw(drawn(data))
    note(f"{tuple(flows_k.shape)} stride0={stride0} size={size}")
    found = labelled(flows_k, stride0, size)
    assert_same_bits(found, reference.scatter_labels(flows_k, stride0, *size))


@settings(PROPERTY, max_examples=150)
@given(st.data())
def test_scatter_and_gather(data: st.DataObject) -> None:
    pick = drawn(data)
    flows_k, stride0, size = draw(pick)
    stride1, invalid = pick((1, 1, 2, 3)), pick((INF, 0.0, -1.5))
    note(f"{tuple(flows_k.shape)} stride0={stride0} stride1={stride1} size={size}")
    _, labels = labelled(flows_k, stride0, size, stride1)
    tensor = noise(*flows_k.shape[:6], *pick(((), (3,), (2, 2))))
    where = (flows_k, labels, stride0, stride1, *size, invalid)
    scattered = scatter_tensor(tensor, *where)
    assert_same_bits((scattered,), (reference.scatter_tensor(tensor, *where),))
    back = gather_tensor(scattered, *where)
    assert back.shape == tensor.shape
    kept = torch.zeros(labels.shape, dtype=torch.bool)
    for plane, q, k, (_, h, w) in reference.selected(flows_k, stride0, *size):
        kept[(*plane, q, k)] = h % stride1 == 0 and w % stride1 == 0
    kept = kept.view(flows_k.shape[:6])
    assert torch.equal(back[kept], tensor[kept])
    assert bool((back[~kept] == invalid).all())
    if stride1 == 1:
        assert torch.equal(kept, labels.view(kept.shape) >= 0)


def search_of(**options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    keywords = {"ws": 4, "wt": 1, "ps": 3, "k": 5, "nheads": 2, "stride0": 2, **options}
    videos = (noise(2, 4, 4, 9, 10, seed=seed) for seed in (1, 2))
    grid = [(n - 1) // keywords["stride0"] + 1 for n in (9, 10)]
    flows = 4 * noise(2, 2, 4, 2, 2, *grid, seed=3)
    dists, inds = stnls.search.NonLocalSearch(itype="int", **keywords)(*videos, flows)
    return dists, inds, keywords


@pytest.mark.parametrize("options", [{}, {"stride0": 1, "ws": 3}, {"stride1": 2}, {"k": -1}])
def test_round_trip_of_a_search(options: dict[str, Any]) -> None:
    dists, inds, keywords = search_of(**options)
    stride0 = keywords["stride0"]
    names, labels = labelled(inds, stride0, (9, 10))
    where = (inds, labels, stride0, 1, 9, 10)
    inside = (labels >= 0).view(dists.shape)
    assert torch.equal(inside, torch.isfinite(dists))
    assert_same_bits((gather_tensor(scatter_tensor(dists, *where), *where),), (dists,))
    back = gather_tensor(scatter_tensor(inds, *where, EMPTY), *where, EMPTY)
    assert back.dtype == inds.dtype
    assert torch.equal(back[inside], inds[inside])
    # names are the scattered (q, k) themselves
    queries = torch.arange(labels.shape[2])[:, None].expand(labels.shape[2:])
    entries = torch.arange(labels.shape[3]).expand(labels.shape[2:])
    pairs = torch.stack([queries, entries], -1).view((*dists.shape[2:], 2))
    pairs = pairs.expand(*dists.shape, 2)
    scattered = scatter_tensor(pairs, *where, -1)
    expected = names.flatten(3, 5).transpose(2, 3).long()
    assert torch.equal(scattered, expected)


def test_who_attends_to_me() -> None:
    flows_k = torch.zeros(1, 1, 1, 1, 3, 2, 3, dtype=torch.int32)
    # Queries at columns 0, 1, 2 select columns (1, 1), (1, 5: outside), (0, empty).
    flows_k[0, 0, 0, 0, :, :, 2] = torch.tensor([[1, 1], [0, 4], [-2, EMPTY]])
    names, labels = labelled(flows_k, 1, (1, 3))
    assert labels.tolist() == [[[[0, 1], [2, -1], [0, -1]]]]
    assert names[0, 0, :, 0, 0].tolist() == [
        [[2, 0], [0, 0], [-1, -1]],
        [[-1, -1], [0, 1], [-1, -1]],
        [[-1, -1], [1, 0], [-1, -1]],
    ]
    weights = torch.tensor([[[[[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]]]])
    scattered = scatter_tensor(weights, flows_k, labels, 1, 1, 1, 3, 0)
    assert scattered.tolist() == [[[[5, 0, 0], [1, 2, 3], [0, 0, 0]]]]


def test_without_any_entry_there_are_no_layers() -> None:
    flows_k = torch.full((2, 1, 2, 3, 3, 4, 3), EMPTY)
    names, labels = labelled(flows_k, 1, (3, 3))
    assert names.shape == (2, 1, 0, 2, 3, 3, 2)
    assert bool((labels == -1).all())
    tensor = noise(*flows_k.shape[:6])
    scattered = scatter_tensor(tensor, flows_k, labels, 1, 1, 3, 3)
    assert scattered.shape == (2, 1, 18, 0)
    back = gather_tensor(scattered, flows_k, labels, 1, 1, 3, 3)
    assert back.shape == tensor.shape
    assert bool((back == INF).all())


def test_one_component_is_squeezed() -> None:
    _, inds, _ = search_of()
    _, labels = labelled(inds, 2, (9, 10))
    tensor, where = noise(*inds.shape[:6], 1), (inds, labels, 2, 1, 9, 10)
    expected = scatter_tensor(tensor[..., 0], *where)
    assert_same_bits((scatter_tensor(tensor, *where),), (expected,))


def test_integers_beside_a_real_filling() -> None:
    _, inds, _ = search_of()
    _, labels = labelled(inds, 2, (9, 10))
    scattered = scatter_tensor(inds, inds, labels, 2, 1, 9, 10)
    assert scattered.dtype == torch.float32
    assert gather_tensor(scattered.int(), inds, labels, 2, 1, 9, 10).dtype == torch.float32
    assert scatter_tensor(inds.half(), inds, labels, 2, 1, 9, 10).dtype == torch.float16


def test_fewer_layers_than_labels_are_not_read() -> None:
    dists, inds, _ = search_of()
    _, labels = labelled(inds, 2, (9, 10))
    where = (inds, labels, 2, 1, 9, 10)
    back = gather_tensor(scatter_tensor(dists, *where)[..., :2], *where)
    few = (labels < 2).view(dists.shape)
    assert torch.equal(back[few], dists[few])
    assert bool((back[~few] == INF).all())


def test_gradients() -> None:
    _, inds, _ = search_of(k=2)
    inds = inds[:1, :, :2, :2, :2]
    _, labels = labelled(inds, 2, (3, 3))
    where = (inds, labels, 2, 1, 3, 3, 0.0)
    tensor = noise(*inds.shape[:6], 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: scatter_tensor(x, *where), (tensor,))
    scattered = scatter_tensor(tensor.detach(), *where).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gather_tensor(x, *where), (scattered,))
    weights = noise(1, 1, 4, 5).double().requires_grad_()
    flows_k = noise(1, 1, 4, 5, 3, seed=1).double().requires_grad_()
    numbers = torch.arange(20).view(1, 1, 4, 5)
    assert torch.autograd.gradcheck(
        lambda w, f: scatter_topk(w, f, numbers, 3)[:2], (weights, flows_k)
    )


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("K", [-1, 0, 1, 3, 99])
def test_topk_of_every_key_pixel(K: int, descending: bool) -> None:
    dists, inds, _ = search_of()
    _, labels = labelled(inds, 2, (9, 10))
    where = (inds, labels, 2, 1, 9, 10)
    weights = scatter_tensor((dists * 2).round() / 2, *where)
    flows_k = scatter_tensor(inds, *where, EMPTY)
    own = scatter_tensor(labels.view(dists.shape), *where, -1)
    found = scatter_topk(weights, flows_k, own, K, descending)
    layers = weights.shape[3]
    count = min(K, layers) if K > 0 else layers
    assert [x.shape[3] for x in found] == [count] * 3
    for at in torch.cartesian_prod(*(torch.arange(n) for n in weights.shape[:3])):
        b, head, pixel = at.tolist()
        row = weights[b, head, pixel].tolist()
        cost = [INF if abs(w) == INF else (-w if descending else w) for w in row]
        order = sorted(range(layers), key=lambda n, c=cost: (c[n], n))[:count]  # type: ignore[misc]
        for x, y in zip((weights, flows_k, own), found, strict=True):
            assert torch.equal(x[b, head, pixel][order], y[b, head, pixel])


def arguments(**options: Any) -> dict[str, Any]:
    flows_k = torch.zeros(1, 2, 3, 4, 4, 5, 3, dtype=torch.int32)
    return {"flows_k": flows_k, "stride0": 2, "stride1": 1, "H": 7, "W": 8, **options}


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"stride0": 0}, ValueError, "stride0 must be at least 1, not 0"),
    ({"stride1": 0.5}, TypeError, "stride1 must be an int, not 0.5"),
    ({"H": 9}, ValueError, r"\(1, 2, 3, 5, 4, 5, 3\), not \(1, 2, 3, 4, 4, 5, 3\)"),
    ({"W": 0}, ValueError, "W must be at least 1, not 0"),
    ({"flows_k": torch.zeros(1, 2, 3, 4, 4, 5, 3)}, TypeError, "integers, not torch.float32"),
    ({"flows_k": torch.zeros(1, 2, 3, 4, 4, 3)}, ValueError, r"not \(1, 2, 3, 4, 4, 3\)"),
]


@pytest.mark.parametrize(("options", "kind", "message"), WRONG)
def test_arguments_are_checked(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    labels = torch.zeros(1, 2, 48, 5, dtype=torch.int32)
    right, wrong = arguments(), arguments(**options)
    calls = (
        lambda a: scatter_labels(None, ws=3, wt=1, full_ws=True, **a),
        lambda a: scatter_tensor(torch.zeros(1, 2, 3, 4, 4, 5), labels=labels, **a),
        lambda a: gather_tensor(torch.zeros(1, 2, 168, 2), labels=labels, **a),
    )
    for call in calls:
        call(right)
        with pytest.raises(kind, match=message) as raised:
            call(wrong)
        assert isinstance(raised.value, stnls.StnlsError)


def test_tensors_are_checked() -> None:
    labels = torch.zeros(1, 2, 48, 5, dtype=torch.int32)
    where = arguments(labels=labels)
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 4, 4, 5\), not \(1, 2, 3, 4, 4, 4\)"):
        scatter_tensor(torch.zeros(1, 2, 3, 4, 4, 4), **where)
    with pytest.raises(ValueError, match=r"\(1, 2, 168, 2\), not \(1, 2, 48, 2\)"):
        gather_tensor(torch.zeros(1, 2, 48, 2), **where)
    with pytest.raises(ValueError, match=r"\(1, 2, 48, 5\), not \(1, 2, 48, 4\)"):
        gather_tensor(torch.zeros(1, 2, 168, 2), **{**where, "labels": labels[..., 1:]})
    for label in (240, 2**40):
        wrong = {**where, "labels": labels.long().fill_(label)}
        with pytest.raises(stnls.StnlsValueError, match=f"of a head, 240, not {label}"):
            scatter_tensor(torch.zeros(1, 2, 3, 4, 4, 5), **wrong)
        assert bool(torch.isinf(gather_tensor(torch.zeros(1, 2, 168, 2), **wrong)).all())
    with pytest.raises(TypeError, match=r"labels must hold integers, not torch\.float32"):
        gather_tensor(torch.zeros(1, 2, 168, 2), **{**where, "labels": labels.float()})
    with pytest.raises(TypeError, match="invalid must be a number, not None"):
        scatter_tensor(torch.zeros(1, 2, 3, 4, 4, 5), **where, invalid=None)
    with pytest.raises(ValueError, match=r"from -128 to 127 for torch\.int8, not 128"):
        scatter_tensor(torch.zeros(1, 2, 3, 4, 4, 5).to(torch.int8), **where, invalid=128)
    with pytest.raises(ValueError, match=r"to 65504\.0 for torch\.float16, not 100000\.0"):
        gather_tensor(torch.zeros(1, 2, 168, 2).half(), **where, invalid=100000.0)
    with pytest.raises(ValueError, match=r"for torch\.complex64, not 1e\+40"):
        gather_tensor(torch.zeros(1, 2, 168, 2).to(torch.complex64), **where, invalid=1e40)
    unlabelled = {**where, "labels": labels - 1}
    filled = gather_tensor(torch.zeros(1, 2, 168, 2), **unlabelled, invalid=10**20)
    assert bool((filled == 1e20).all())
    weights, flows_k = torch.zeros(1, 2, 9, 4), torch.zeros(1, 2, 9, 4, 3)
    with pytest.raises(ValueError, match=r"\(1, 2, 9, 4\) and \(1, 2, 9, 3\)"):
        scatter_topk(weights, flows_k, weights[..., 1:], 2)
    with pytest.raises(ValueError, match=r"\(1, 2, 9, 4, 3\), not \(1, 2, 9, 4, 2\)"):
        scatter_topk(weights, flows_k[..., 1:], weights, 2)
    with pytest.raises(stnls.StnlsTypeError, match=r"K must be an int, not 2\.0"):
        scatter_topk(weights, flows_k, weights, 2.0)  # type: ignore[arg-type]


@pytest.fixture
def deterministic() -> Iterator[None]:
    """PyTorch refuses what is not deterministic."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
@pytest.mark.parametrize("seed", range(40))
def test_cuda_has_the_bits_of_the_cpu(seed: int, deterministic: None) -> None:
    pick = seeded(seed)
    flows_k, stride0, size = draw(pick)
    stride1, tensor = pick((1, 2)), noise(*flows_k.shape[:6])
    runs = []
    for device in ("cpu", "cuda"):
        offsets, x = flows_k.to(device), tensor.clone().to(device).requires_grad_()
        names, labels = labelled(offsets, stride0, size)
        where = (offsets, labels, stride0, stride1, *size)
        scattered = scatter_tensor(x, *where, 0.0)
        back = gather_tensor(scattered, *where, 0.0)
        at_keys = scatter_tensor(offsets, *where, EMPTY)
        sort = scatter_topk(scattered, at_keys, at_keys[..., 0], 3)
        (scattered.square().sum() + back.square().sum() + sort[0].square().sum()).backward()
        out = (names, labels, scattered, back, at_keys, *sort, x.grad)
        assert x.grad is not None
        runs.append([y.detach().cpu() for y in out if y is not None])
    assert_same_bits(*runs)
