"""Gradients of every operator on the CPU: by autograd through the reference, and their rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stnls
import torch
from cases import draw_composition, drawn, seeded
from cases_aggregation import draw_aggregation
from cases_refine import draw_paired_refine, draw_refine
from cases_search import draw_gradient, draw_paired, draw_search
from compare import PROPERTY, assert_same_bits, noise
from gradients import assert_gradients, derive, expected
from hypothesis import currently_in_test_context, given, note, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

SEARCHES = [draw_search, draw_paired, draw_refine, draw_paired_refine]


def check(case: Any, seed: int = 0) -> None:
    if currently_in_test_context():
        shapes = [(tuple(x.shape), x.dtype) for x in case.inputs()]
        note(f"{case}\n{shapes}")
    derived = derive(case, seed=seed)
    case.assert_outputs(derived.outputs)
    assert_gradients(case, derived, expected(case, derived))


def check_composition(case: Any, seed: int = 0) -> None:
    # A rounded position may lie beyond a pixel, where the slope is another.
    case.flows = [flow.double() for flow in case.flows]
    check(case, seed)


@pytest.mark.parametrize("draw", SEARCHES)
@settings(PROPERTY, max_examples=60)
@given(st.data())
def test_any_search_has_the_gradients_of_the_reference(
    draw: Callable[..., Any], data: st.DataObject
) -> None:
    check(draw_gradient(drawn(data), draw))


@settings(PROPERTY, max_examples=100)
@given(st.data())
def test_any_aggregation_has_the_gradients_of_the_reference(data: st.DataObject) -> None:
    check(draw_aggregation(drawn(data)))


@settings(PROPERTY, max_examples=50)
@given(st.data())
def test_any_composition_has_the_gradients_of_the_reference(data: st.DataObject) -> None:
    check_composition(draw_composition(drawn(data)))


@pytest.mark.slow
@pytest.mark.parametrize("draw", SEARCHES)
def test_many_searches_have_the_gradients_of_the_reference(draw: Callable[..., Any]) -> None:
    for seed in range(1000):
        check_seed(draw_gradient(seeded(seed), draw), seed, check)


@pytest.mark.slow
def test_many_aggregations_and_compositions_have_the_gradients_of_the_reference() -> None:
    for seed in range(1000):
        check_seed(draw_aggregation(seeded(seed)), seed, check)
        check_seed(draw_composition(seeded(seed)), seed, check_composition)


def check_seed(case: Any, seed: int, how: Callable[..., None]) -> None:
    try:
        how(case, seed)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {case}\n{error}") from error


@settings(PROPERTY, max_examples=60)
@given(st.data())
def test_threads_do_not_change_a_bit(threads: None, data: st.DataObject) -> None:
    pick = drawn(data)
    draw = pick((*SEARCHES, draw_aggregation, draw_composition))
    case = draw_gradient(pick, draw) if draw in SEARCHES else draw(pick)
    runs = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        runs.append([g for g in derive(case).grads if g is not None])
    for run in runs[1:]:
        for a, b in zip(runs[0], run, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_entries_outside_the_frame_have_no_gradient() -> None:
    query, key = noise(1, 3, 2, 5, 6, seed=1), noise(1, 3, 2, 5, 6, seed=2)
    flows = 2.3 * noise(1, 3, 2, 2, 5, 6)
    flows[0, 1, 0, 0, 2, 3] = float("nan")
    for itype, dist_type in (("float", "l2"), ("float", "prod"), ("int", "l2"), ("int", "prod")):
        leaves = [x.clone().requires_grad_() for x in (query, key, flows)]
        search = stnls.search.NonLocalSearch(
            5, 1, 3, -1, full_ws=False, itype=itype, dist_type=dist_type
        )
        dists, inds = search(*leaves)
        outside = torch.isinf(dists)
        assert bool(outside.any())
        loss = [dists[outside].sum()]
        if itype == "float":
            loss.append(inds[outside].sum())
        grads = torch.autograd.grad(sum(loss), leaves, allow_unused=True)
        for grad in grads:
            assert grad is None or bool((grad == 0).all())


def test_empty_entries_of_a_refinement_have_no_gradient() -> None:
    video, prior = noise(1, 3, 2, 5, 6), noise(1, 1, 3, 5, 6, 2, 3)
    prior[..., 0] = 0
    prior[..., 0, :] = -1e8
    leaves = [x.clone().requires_grad_() for x in (video, video, prior)]
    dists, inds = stnls.search.RefineSearch(9, 9, 3, -1, -1, 3, stride0=1)(*leaves)
    (dists.sum() + inds.sum()).backward()
    gradient = leaves[2].grad
    assert gradient is not None
    assert bool((gradient[..., 0, :] == 0).all())
    assert bool((gradient[..., 1, 1:] != 0).any())


def test_integer_grids_have_no_gradient_to_places() -> None:
    video, flows = noise(1, 3, 2, 6, 7), noise(1, 3, 2, 2, 6, 7).requires_grad_()
    query = video.clone().requires_grad_()
    dists, inds = stnls.search.NonLocalSearch(3, 1, 3, 4, itype="int")(query, video, flows)
    assert dists.requires_grad
    assert not inds.requires_grad
    dists.sum().backward()
    assert flows.grad is None
    places = inds.double().requires_grad_()
    weights = torch.ones(dists.shape, requires_grad=True)
    stnls.agg.WeightedPatchSum(3, 1, itype="int")(video, weights, places).sum().backward()
    assert weights.grad is not None
    assert places.grad is None


@pytest.mark.parametrize("itype", ["float", "int"])
def test_k_agg_lets_gradients_reach_the_first_neighbours_only(itype: str) -> None:
    query, key, flows = noise(1, 3, 2, 6, 7), noise(1, 3, 2, 6, 7, seed=1), noise(1, 3, 2, 2, 6, 7)

    def grads(k_agg: int, entries: int) -> list[Tensor | None]:
        leaves = [x.clone().requires_grad_() for x in (query, key, flows)]
        search = stnls.search.NonLocalSearch(3, 1, 3, 6, itype=itype, k_agg=k_agg)
        dists, inds = search(*leaves)
        loss = dists[..., :entries].square().sum()
        if itype == "float":
            loss = loss + inds[..., :entries, :].square().sum()
        return list(torch.autograd.grad(loss, leaves, allow_unused=True))

    for k_agg in (1, 2, 3):
        for limited, sliced in zip(grads(k_agg, 6), grads(-1, k_agg), strict=True):
            assert (limited is None) == (sliced is None)
            if limited is not None and sliced is not None:
                torch.testing.assert_close(limited, sliced, rtol=1e-6, atol=1e-6)
    assert_same_bits(
        [g for g in grads(0, 6) if g is not None], [g for g in grads(6, 6) if g is not None]
    )


def test_the_derivative_at_the_last_pixel_is_that_of_the_mirrored_image() -> None:
    key = torch.tensor([[0.0, 1.0, 5.0, 12.0]]).view(1, 1, 1, 1, 4)
    query, weights = torch.zeros(1, 1, 1, 1, 4), torch.ones(1, 1, 1, 1, 4, 1)
    places = torch.tensor([0.0, 1.0, 2.0, 3.0])
    right_sided = torch.tensor([1.0, 4.0, 7.0, -7.0])  # the last: to pixel 2, at position 4
    flows = (places - torch.arange(4)).view(1, 1, 1, 1, 1, 4)
    flows = torch.cat([flows, torch.zeros_like(flows)], 3).requires_grad_()
    dists, _ = stnls.search.NonLocalSearch(1, 0, 1, 1, dist_type="prod")(query + 1, key, flows)
    dists.sum().backward()
    assert flows.grad is not None
    assert flows.grad[0, 0, 0, 0, 0].tolist() == right_sided.tolist()

    inds = torch.zeros(1, 1, 1, 1, 4, 1, 3, requires_grad=True)
    for operator in (
        stnls.agg.WeightedPatchSum(1, 1),
        stnls.agg.NonLocalGather(1, 1),
        stnls.agg.NonLocalGatherAdd(1, 1, 1),
    ):
        (grad,) = torch.autograd.grad(operator(key, weights, inds).sum(), inds)
        assert grad[0, 0, 0, 0, :, 0, 2].tolist() == right_sided.tolist()
    # The scatter's gradient is interpolated the same way.
    out = stnls.agg.NonLocalScatterAdd(1, 1, 1)(query + 1, weights, inds)
    (grad,) = torch.autograd.grad((out * key).sum(), inds)
    assert grad[0, 0, 0, 0, :, 0, 2].tolist() == right_sided.tolist()


def test_along_an_axis_of_one_pixel_nothing_moves() -> None:
    """Every flow leads to the only row, also one of zero."""
    video = noise(1, 1, 2, 1, 9)
    for value in (0.0, 0.25, -3.0):
        flows = torch.full((1, 1, 1, 2, 1, 9), value, requires_grad=True)
        dists, inds = stnls.search.NonLocalSearch(3, 0, 3, 2)(video, video, flows)
        (grad,) = torch.autograd.grad(dists.sum() + inds.sum(), flows)
        assert bool((grad[:, :, :, 1] == 0).all()), f"flow of {value}"


def test_equal_candidates_pass_gradients_to_the_entry_that_comes_first() -> None:
    video = noise(1, 1, 2, 6, 7, seed=1)
    prior = torch.full((1, 1, 1, 6, 7, 3, 3), 0.25)
    prior[..., 0] = 0
    prior.requires_grad_()
    search = stnls.search.RefineSearch(9, 9, 1, 1, -1, 3, stride0=1)
    dists, _ = search(video, noise(1, 1, 2, 6, 7, seed=2), prior)
    dists.sum().backward()
    assert prior.grad is not None
    assert bool((prior.grad[..., 0, 1:] != 0).any())
    assert bool((prior.grad[..., 1:, :] == 0).all())


def test_heads_that_share_flow_add_their_gradients() -> None:
    video, flows = noise(1, 3, 6, 6, 7), noise(1, 3, 2, 2, 6, 7)
    search = stnls.search.NonLocalSearch(3, 1, 3, 4, nheads=3)

    def grad(shape: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = flows.clone().requires_grad_()
        dists, inds = search(video, video.flip(-1), shape(leaf))
        (found,) = torch.autograd.grad(dists.sum() + inds.square().sum(), leaf)
        return found

    shared, own = grad(lambda f: f), grad(lambda f: f[:, None].expand(-1, 3, -1, -1, -1, -1, -1))
    torch.testing.assert_close(shared, own, rtol=1e-5, atol=1e-5)


PLACES = torch.zeros(1, 1, 3, 6, 7, 2, 3)
TWICE = {
    "search": lambda x: stnls.search.NonLocalSearch(3, 1, 3, 2)(x, x)[0],
    "refine": lambda x: stnls.search.RefineSearch(9, 9, 3, 2, -1, 3, stride0=1)(x, x, PLACES)[0],
    "search_flow": lambda x: stnls.nn.search_flow(x, x, 1),
    "compose_flow": lambda x: stnls.nn.compose_flow(x),
    "gather": lambda x: stnls.agg.WeightedPatchSum(3, 1)(x, PLACES[..., 0] + x.mean(), PLACES),
}


@pytest.mark.parametrize("run", TWICE.values(), ids=TWICE)
def test_second_derivatives_are_refused_in_so_many_words(run: Callable[[Tensor], Tensor]) -> None:
    x = noise(1, 3, 2, 6, 7).requires_grad_()
    (grad,) = torch.autograd.grad(run(x).square().sum(), x, create_graph=True)
    with pytest.raises(stnls.StnlsRuntimeError, match="second derivatives are not supported"):
        grad.square().sum().backward()


FORWARD = {
    **TWICE,
    "paired": lambda x: stnls.search.PairedSearch(3, 3, 2, stride0=1)(x[:, 0], x[:, 1], x[:, 2])[0],
    "flow of a search": lambda x: stnls.search.NonLocalSearch(3, 1, 3, 2)(
        x.detach(), x.detach(), x, x
    )[1],
    "accumulate_flow": lambda x: stnls.nn.accumulate_flow(x, x).fflow,
    "scatter": lambda x: stnls.agg.NonLocalScatterAdd(3, 1, 1)(x, PLACES[..., 0], PLACES),
    "weights": lambda x: stnls.agg.WeightedPatchSum(3, 1)(
        x.detach(), PLACES[..., 0] + x.mean(), PLACES
    ),
}


# Of torch itself, when it makes the first tensor with a tangent.
quiet = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


@quiet
@pytest.mark.parametrize("run", FORWARD.values(), ids=FORWARD)
def test_forward_mode_is_refused_instead_of_zero(run: Callable[[Tensor], Tensor]) -> None:
    x, tangent = noise(1, 3, 2, 6, 7, seed=1), noise(1, 3, 2, 6, 7, seed=2)
    words = "forward-mode derivatives .* are not supported"
    with forward_ad.dual_level():
        run(x)  # what has no tangent is computed
        with pytest.raises(stnls.StnlsRuntimeError, match=words):
            run(forward_ad.make_dual(x, tangent))
    with pytest.raises(stnls.StnlsRuntimeError, match=words):
        torch.func.jvp(run, (x,), (tangent,))
    with pytest.raises(stnls.StnlsRuntimeError, match=words):
        torch.vmap(lambda t: torch.func.jvp(run, (x,), (t,)))(tangent[None])


@quiet
def test_forward_mode_is_refused_in_a_compiled_module() -> None:
    x = noise(1, 3, 2, 6, 7)
    search = torch.compile(stnls.search.NonLocalSearch(3, 1, 3, 2), fullgraph=True, backend="eager")
    with forward_ad.dual_level():
        search(x, x)
        with pytest.raises(stnls.StnlsRuntimeError, match="forward-mode"):
            search(x, forward_ad.make_dual(x, x))


@quiet
def test_forward_mode_over_reverse_mode_is_refused() -> None:
    x = noise(1, 3, 2, 6, 7).requires_grad_()
    dists, _ = stnls.search.NonLocalSearch(3, 1, 3, 2)(x, x)
    with forward_ad.dual_level():
        weight = forward_ad.make_dual(torch.ones(()), torch.ones(()))
        with pytest.raises(stnls.StnlsRuntimeError, match="forward-mode"):
            torch.autograd.grad((weight * dists).sum(), x)


@quiet
def test_places_on_the_integer_grid_may_carry_a_tangent() -> None:
    video, flow = noise(1, 3, 2, 6, 7), noise(1, 3, 2, 2, 6, 7)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(flow, flow)
        dists, _ = stnls.search.NonLocalSearch(3, 1, 3, 2, itype="int")(video, video, dual)
        assert forward_ad.unpack_dual(dists).tangent is None


def test_gradients_have_the_shape_of_inputs_that_are_not_contiguous() -> None:
    video = noise(1, 3, 7, 6, 2).movedim(-1, 2).requires_grad_()
    flows = noise(1, 3, 7, 6, 2, 2).movedim((-1, -2), (2, 3)).requires_grad_()
    search = stnls.search.NonLocalSearch(3, 1, 3, 4)
    dists, inds = search(video, video, flows)
    grads = torch.autograd.grad(dists.sum() + inds.sum(), (video, flows))
    copies = [x.detach().contiguous().requires_grad_() for x in (video, flows)]
    dists, inds = search(copies[0], copies[0], copies[1])
    assert_same_bits(grads, torch.autograd.grad(dists.sum() + inds.sum(), copies))


def test_empty_batches_have_empty_gradients() -> None:
    video, flow = torch.zeros(0, 3, 2, 5, 6, requires_grad=True), torch.zeros(0, 3, 2, 5, 6)
    flow.requires_grad_()
    dists, inds = stnls.search.NonLocalSearch(3, 1, 3, 2)(video, video, flow, flow)
    weights = torch.softmax(-dists, -1)
    out = stnls.agg.WeightedPatchSum(3, 1)(video, weights, inds)
    out = out + stnls.agg.NonLocalScatterAdd(3, 1, 1)(video, weights, inds)[:, 0]
    grads = torch.autograd.grad(out.sum(), (video, flow))
    assert [g.shape for g in grads] == [video.shape, flow.shape]
