"""The operators as citizens of PyTorch: opcheck, compile, export, graphs, vmap, counters."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
import stnls
import torch
from compare import noise
from stnls._ops import PatchSettings, SearchSettings
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

SEARCH = SearchSettings(
    *(3, 1, 3, 4, "all", "none", 0, 1, 1.0, 0.5, 1, "l2", 1, True, True, False, 0, 0),
    *(True, True, -1, False),
)
PATCHES = PatchSettings(3, 1, 1, True, False, True, False, True, False)


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return noise(*shape, seed=seed).requires_grad_()


def operators() -> list[tuple[str, tuple[object, ...]]]:
    video, other = leaf(1, 2, 3, 2, 5, 6), leaf(1, 2, 3, 2, 5, 6, seed=1)
    flow = leaf(1, 1, 3, 2, 2, 5, 6, seed=2)
    prior, weights = leaf(1, 2, 3, 5, 6, 2, 3, seed=3), leaf(1, 2, 3, 5, 6, 2, seed=4)
    pair = noise(2, 1, 1, 3, 5, 6), noise(2, 1, 1, 3, 5, 6), noise(2, 1, 1, 1, 2, 5, 6)
    neighbours = leaf(1, 3, 2, 5, 6, seed=5), leaf(1, 3, 2, 5, 6, seed=6)
    return [
        ("search", (video, other, flow, *SEARCH)),
        ("search", (video, other, None, *SEARCH._replace(keep="each", k=2, dist_type="prod"))),
        ("search", (video, other, flow.detach(), *SEARCH._replace(float_grid=False))),
        ("refine", (video, other, prior, 2, *SEARCH._replace(wt=0))),
        ("compose_slots", (*neighbours, 1, 2, 2)),
        ("compose_chain", (neighbours[0], 1)),
        ("patch_sum", (video, weights, prior, *PATCHES)),
        ("patch_sum", (video, weights, prior, *PATCHES._replace(stacked=True))),
        ("patch_sum", (video, weights, prior, *PATCHES._replace(heads_last=True))),
        ("patch_blend", (noise(1, 2, 5, 6), noise(1, 5, 6, 2), torch.ones(1, 5, 6), 3)),
        ("error_sums", (noise(1, 3, 12, 13), noise(2, 3, 12, 13))),
        ("ssim_sums", (noise(1, 3, 12, 13), noise(2, 3, 12, 13), 1.0)),
        ("subpixel", (noise(2, 3, 5, 6), noise(2, 3, 5, 6), noise(2, 5, 6, 2), 3, 1.0)),
        ("subpixel_search", (*pair, *SEARCH._replace(wt=0, with_time=False))),
        ("patch_scatter", (video, weights, prior, False, *PATCHES._replace(normalize=False))),
    ]


@pytest.mark.parametrize(("name", "arguments"), operators())
def test_operators_pass_opcheck(name: str, arguments: tuple[object, ...], device: str) -> None:
    there = tuple(
        a.detach().to(device).requires_grad_(a.requires_grad) if isinstance(a, Tensor) else a
        for a in arguments
    )
    torch.library.opcheck(getattr(torch.ops.stnls, name).default, there)


class Recorder(TorchDispatchMode):
    """The calls of the library's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace == "stnls":
            copies = (x.detach().clone() if isinstance(x, Tensor) else x for x in args)
            self.calls.append((func, tuple(copies)))
        return func(*args, **(kwargs or {}))


def test_operators_of_gradients_pass_opcheck() -> None:
    recorder = Recorder()
    for name, arguments in operators():
        outputs = getattr(torch.ops.stnls, name).default(*arguments)
        real = [
            out
            for out in (outputs if isinstance(outputs, tuple) else (outputs,))
            if out.requires_grad
        ]
        if real:
            with recorder:
                torch.stack([out[torch.isfinite(out)].sum() for out in real]).sum().backward()
    names = {func.__name__.split(".")[0] for func, _ in recorder.calls}
    assert names >= {"search_gradient", "compose_slots_gradient", "compose_chain_gradient"}
    assert names >= {"patch_gradient", "patch_dot"}
    for func, arguments in recorder.calls:
        torch.library.opcheck(func, arguments)


class Attention(nn.Module):
    """Search, softmax and patch sum over learned queries, keys and values."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.search = stnls.search.NonLocalSearch(
            5, 1, 3, 4, nheads=2, stride1=0.5, self_action="anchor"
        )
        self.sum = stnls.agg.WeightedPatchSum(3, 1)

    def forward(self, video: Tensor, fflow: Tensor, bflow: Tensor) -> Tensor:
        q, k, v = (conv(video.flatten(0, 1)).unflatten(0, video.shape[:2]) for conv in self.project)
        dists, inds = self.search(q, k, fflow, bflow)
        out: Tensor = self.sum(v, torch.softmax(-dists, -1), inds)
        return out


def model_and_inputs(device: str) -> tuple[Attention, tuple[Tensor, Tensor, Tensor]]:
    torch.manual_seed(0)
    video, fflow, bflow = noise(1, 3, 8, 12, 14), noise(1, 3, 2, 12, 14), noise(1, 3, 2, 12, 14)
    # In float64, so that another convolution does not change which candidate is the nearest.
    inputs = tuple(x.double().to(device).requires_grad_() for x in (video, fflow, bflow))
    return Attention().double().to(device), inputs


def gradients(model: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(out.square().sum(), [*model.parameters(), *inputs]))


@pytest.mark.parametrize("dynamic", [False, True])
def test_traced_model(dynamic: bool, device: str) -> None:
    check_compiled("aot_eager", dynamic, device)


@pytest.mark.slow
def test_compiled_model_on_the_cpu() -> None:
    check_compiled("inductor", False, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_model_on_the_gpu(dynamic: bool) -> None:
    check_compiled("inductor", dynamic, "cuda")


def check_compiled(backend: str, dynamic: bool, device: str) -> None:
    model, inputs = model_and_inputs(device)
    eager = model(*inputs)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend, dynamic=dynamic)
    out = compiled(*inputs)
    tolerance = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(out, eager, **tolerance)
    pairs = gradients(model, inputs, out), gradients(model, inputs, eager)
    for found, expected in zip(*pairs, strict=True):
        torch.testing.assert_close(found, expected, **tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [True, None])
def test_compiled_model_takes_other_sizes(dynamic: bool | None) -> None:
    check_sizes(dynamic, "cpu")


@pytest.mark.gpu
def test_compiled_model_takes_other_sizes_on_the_gpu() -> None:
    check_sizes(True, "cuda")


class Strided(nn.Module):
    """Queries on every second pixel, composed flow, and a patch sum back onto the frame."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Conv3d(4, 4, 1)
        self.search = stnls.search.NonLocalSearch(3, 1, 3, 4, stride0=2)
        self.sum = stnls.agg.WeightedPatchSum(3, 2)

    def forward(self, video: Tensor, fflow: Tensor, bflow: Tensor) -> Tensor:
        q = self.project(video.transpose(1, 2)).transpose(1, 2)
        flows = stnls.nn.search_flow(fflow, bflow, 1, 2)
        dists, inds = self.search(q, q, flows)
        out: Tensor = self.sum(video, torch.softmax(-dists, -1), inds)
        return out


def check_sizes(dynamic: bool | None, device: str) -> None:
    torch.manual_seed(0)
    model = Strided().double().to(device)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic)
    for b, t, h, w in ((2, 4, 12, 14), (1, 3, 9, 14), (3, 5, 16, 9)):
        video, fflow, bflow = noise(b, t, 4, h, w), noise(b, t, 2, h, w), noise(b, t, 2, h, w)
        inputs = tuple(x.double().to(device).requires_grad_() for x in (video, fflow, bflow))
        out, eager = compiled(*inputs), model(*inputs)
        torch.testing.assert_close(out, eager, rtol=1e-9, atol=1e-9)
        pairs = gradients(model, inputs, out), gradients(model, inputs, eager)
        for found, expected in zip(*pairs, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_functional_forms_compile_without_breaks() -> None:
    video, flow = noise(1, 3, 2, 6, 7), noise(3, 2, 6, 7)
    inds = torch.zeros(1, 1, 3, 6, 7, 2, 3)
    pairs = stnls.search.PairedRefine(9, 3, 2, -1, 3)
    slots = torch.zeros(1, 1, 3, 6, 7, 6, 3)
    calls = (
        lambda: stnls.search.nls(video, video, None, 3, 1, 3, 2),
        lambda: stnls.search.paired_search(video[0], video[0], flow, 3, 3, 2, stride0=1),
        lambda: stnls.search.refine(video, video, inds, 9, 9, 3, 2, -1, 3, stride0=1),
        lambda: stnls.agg.gather_add(video, inds[..., 0], inds, 3, 1, 1),
        lambda: pairs.paired_vids(video, video, slots, 1, check_time=False),
    )
    for call in calls:
        torch._dynamo.reset()
        compiled = torch.compile(call, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(), call(), rtol=0, atol=0)


def test_exported_model(device: str) -> None:
    model, inputs = model_and_inputs(device)
    inputs = tuple(x.detach() for x in inputs)
    program = torch.export.export(model, inputs)
    torch.testing.assert_close(program.module()(*inputs), model(*inputs), rtol=0, atol=0)


def test_exported_model_takes_other_sizes(device: str) -> None:
    model, inputs = model_and_inputs(device)
    inputs = tuple(x.detach() for x in inputs)
    auto = torch.export.Dim.AUTO
    program = torch.export.export(model, inputs, dynamic_shapes=({3: auto, 4: auto},) * 3)
    larger = tuple(torch.nn.functional.pad(x, (0, 5, 0, 3)) for x in inputs)
    torch.testing.assert_close(program.module()(*larger), model(*larger), rtol=0, atol=0)


def test_vmap_runs_one_call_for_each(device: str) -> None:
    search = stnls.search.NonLocalSearch(3, 1, 3, 2)
    videos = noise(2, 1, 3, 4, 6, 7).to(device)
    dists, inds = torch.vmap(lambda video: search(video, video))(videos)
    for video, one_dists, one_inds in zip(videos, dists, inds, strict=True):
        expected = search(video, video)
        torch.testing.assert_close((one_dists, one_inds), expected, rtol=0, atol=0)


def test_function_transforms_of_gradients_are_refused() -> None:
    search = stnls.search.NonLocalSearch(3, 1, 3, 2)
    with pytest.raises(RuntimeError, match="functorch transforms"):
        torch.func.grad(lambda video: search(video, video)[0].sum())(noise(1, 3, 4, 6, 7))


def test_counted_operations() -> None:
    video, weights = noise(1, 3, 4, 6, 7), noise(1, 2, 3, 6, 7, 5)
    inds = torch.zeros(1, 2, 3, 6, 7, 5, 3)
    search = stnls.search.NonLocalSearch(3, 1, 3, 5, nheads=2)
    total = stnls.agg.WeightedPatchSum(3, 1)
    with FlopCounterMode(display=False) as counter:
        search(video, video)
        total(video, weights, inds)
    counts = counter.get_flop_counts()["Global"]
    by_hand = 2 * 3 * 6 * 7 * (3 * 3 * 3) * (3 * 3) * 2 * (3 + 7)
    assert counts[torch.ops.stnls.search] == by_hand == search.flops(1, 3, 4, 6, 7)
    by_hand = 2 * 3 * 6 * 7 * 5 * (3 * 3) * 2 * (2 + 7)
    assert counts[torch.ops.stnls.patch_sum] == by_hand == total.flops(1, 2, 3, 4, 6, 7, 5)


def test_counted_operations_of_refinements_and_gradients() -> None:
    video, prior = leaf(1, 3, 4, 6, 7), torch.zeros(1, 2, 3, 6, 7, 4, 3)
    refine = stnls.search.RefineSearch(5, 1, 3, 2, 2, 3, nheads=2, stride0=1)
    search = stnls.search.NonLocalSearch(3, 1, 3, 5, nheads=2)
    flows = leaf(1, 3, 2, 2, 6, 7, seed=1)
    with FlopCounterMode(display=False) as counter:
        refine(video, video, prior)
        dists, _ = search(video, video, flows)
    counts = counter.get_flop_counts()["Global"]
    by_hand = 2 * 3 * 6 * 7 * (2 * 3 * 3) * (3 * 3) * 2 * (3 + 7)
    assert counts[torch.ops.stnls.refine] == by_hand == refine.flops(1, 3, 4, 6, 7, Ks=4)
    with FlopCounterMode(display=False) as counter:
        dists.sum().backward()
    counts = counter.get_flop_counts()["Global"]
    taps = 2 * 3 * 6 * 7 * 5 * (3 * 3) * 2
    # Read, subtract, multiply and add for both videos, which are one here; two slopes for places.
    assert counts[torch.ops.stnls.search_gradient] == taps * (2 * (7 + 4) + 2 * 7 + 4)


def test_counted_operations_of_flow() -> None:
    flow = leaf(2, 4, 2, 6, 7)
    with FlopCounterMode(display=False) as counter:
        stnls.nn.search_flow(flow, flow, 1, 2)
        composed = stnls.nn.compose_flow(flow)
        frames = torch.rand(2, 1, 16, 20)
        stnls.flow.tvl1(frames, frames, nscales=1, warps=2, innerIterations=3, outerIterations=4)
    counts = counter.get_flop_counts()["Global"]
    # A step reads two components between pixels and adds them.
    assert counts[torch.ops.stnls.compose_slots] == 2 * 4 * 2 * 3 * 4 * (2 * 7 + 2)
    assert counts[torch.ops.stnls.compose_chain] == 2 * 4 * 6 * 7 * (2 * 7 + 2)
    assert counts[torch.ops.stnls.tvl1_scale] == 2 * 16 * 20 * 2 * (3 * 4 * 36 + 190)
    with FlopCounterMode(display=False) as counter:
        composed.sum().backward()
    counts = counter.get_flop_counts()["Global"]
    assert counts[torch.ops.stnls.compose_chain_gradient] == 2 * 4 * 6 * 7 * 44


def test_every_operator_has_a_formula() -> None:
    names = [
        name.split("::")[1]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("stnls::")
    ]
    assert "search" in names
    assert [name for name in names if getattr(torch.ops.stnls, name) not in flop_registry] == []


def test_the_profiler_and_modes_see_the_operators() -> None:
    """Where nobody looks, their kernels are called without a way through the dispatcher."""
    video = noise(1, 3, 4, 6, 7)
    search = stnls.search.NonLocalSearch(3, 1, 3, 5)
    expected = search(video, video)
    with torch.profiler.profile() as profile:
        found = search(video, video)
    assert "stnls::search" in {event.key for event in profile.key_averages()}
    with Calls() as calls:
        also = search(video, video)
    assert torch.ops.stnls.search.default in calls.seen
    for a, b, c in zip(expected, found, also, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


class Calls(TorchDispatchMode):
    """Notes which operators are called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[object] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.seen.add(func)
        return func(*args, **(kwargs or {}))


def test_subclasses_of_tensors_keep_their_say() -> None:
    class Noted(Tensor):
        calls: ClassVar[list[object]] = []

        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> object:
            cls.calls.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    video = noise(1, 3, 4, 6, 7)
    stnls.search.NonLocalSearch(3, 1, 3, 5)(video.as_subclass(Noted), video)
    assert torch.ops.stnls.search.default in Noted.calls


def test_shapes_alone_on_the_meta_device() -> None:
    video, flow = (torch.empty(1, 3, c, 8, 9, device="meta") for c in (4, 2))
    flows = stnls.nn.search_flow(flow, flow, 1)
    dists, inds = stnls.search.NonLocalSearch(3, 1, 3, 5, nheads=2)(video, video, flows)
    assert (dists.shape, inds.shape) == ((1, 2, 3, 8, 9, 5), (1, 2, 3, 8, 9, 5, 3))
    out = stnls.agg.WeightedPatchSum(3, 1)(video, dists, inds)
    assert (out.shape, out.device.type) == (video.shape, "meta")


def test_modules_have_no_state_and_can_be_copied() -> None:
    model = nn.ModuleList([stnls.search.NonLocalSearch(3, 1), stnls.agg.WeightedPatchSum(3, 1)])
    assert model.state_dict() == {}
    assert repr(copy.deepcopy(model)) == repr(model)


@pytest.mark.gpu
def test_captured_in_a_cuda_graph() -> None:
    model, inputs = model_and_inputs("cuda")
    static = tuple(x.detach().clone() for x in inputs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.no_grad():
        model(*static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        out = model(*static)
    for seed in (7, 8):
        fresh = tuple(noise(*x.shape, seed=seed).to(x) for x in static)
        for to, new in zip(static, fresh, strict=True):
            to.copy_(new)
        graph.replay()
        torch.testing.assert_close(out, model(*fresh), rtol=0, atol=0)


@pytest.mark.gpu
def test_forward_and_backward_captured_in_a_cuda_graph() -> None:
    model, inputs = model_and_inputs("cuda")
    captured = torch.cuda.make_graphed_callables(model, inputs)
    model, inputs = model_and_inputs("cuda")
    found = gradients(captured, inputs, captured(*inputs))
    expected = gradients(model, inputs, model(*inputs))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def far_apart(device: str) -> tuple[Tensor, Tensor]:
    """Two videos of three small frames; those of the second lie over 2**31 elements apart. On the
    CPU only the pages that are touched take up memory."""
    video = noise(1, 3, 2, 6, 8).to(device)
    apart = 2**30 + 2**20
    store = torch.empty(2 * apart + 2 * 6 * 8, device=device)
    far = store.as_strided(video.shape, (0, apart, 48, 8, 1))
    far.copy_(video)
    return video, far


def test_addresses_beyond_32_bits(device: str) -> None:
    if device == "cuda" and torch.cuda.mem_get_info()[0] < 20 * 2**30:
        pytest.skip("less than 20 GiB of GPU memory are free")
    video, far = far_apart(device)
    search, total = stnls.search.NonLocalSearch(3, 1, 3, 4), stnls.agg.WeightedPatchSum(3, 1)
    expected = search(video, video)
    torch.testing.assert_close(search(far, far), expected, rtol=0, atol=0)
    weights = torch.softmax(-expected[0], -1)
    torch.testing.assert_close(
        total(far, weights, expected[1]), total(video, weights, expected[1]), rtol=0, atol=0
    )
