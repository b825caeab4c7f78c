"""What users pass in wrongly: one message each, with the value found and the one expected."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy
import pytest
import stnls
import torch
from stnls import _checks
from torch import Tensor

Call = Callable[[], Any]


def video(*shape: int, **options: Any) -> Tensor:
    return torch.zeros(shape or (1, 3, 4, 8, 9), **options)


def search(*arguments: Any, **options: Any) -> Call:
    """A search of correct parameters but for `options`, called with `arguments`."""
    keywords = {"ws": 3, "wt": 1, "ps": 3, "k": 2, **options}
    return lambda: stnls.search.NonLocalSearch(**keywords)(*(arguments or (video(), video())))


def paired(*arguments: Any, **options: Any) -> Call:
    keywords = {"ws": 3, "ps": 3, "k": 2, "stride0": 1, **options}
    frame = video(1, 4, 8, 9)
    return lambda: stnls.search.PairedSearch(**keywords)(
        *(arguments or (frame, frame, video(1, 2, 8, 9)))
    )


def patch_sum(*arguments: Any, **options: Any) -> Call:
    keywords = {"ps": 3, "stride0": 1, **options}
    correct = (video(), video(1, 2, 3, 8, 9, 5), video(1, 2, 3, 8, 9, 5, 3))
    return lambda: stnls.agg.WeightedPatchSum(**keywords)(*(arguments or correct))


def nested() -> Tensor:
    sizes, strides = torch.tensor([[3, 4], [3, 4]]), torch.tensor([[4, 1], [4, 1]])
    # torch.nested would warn.
    return torch._nested_view_from_buffer(torch.zeros(24), sizes, strides, torch.tensor([0, 12]))


def nested_flow() -> Tensor:
    sizes, strides = torch.tensor([[3, 2, 8, 9]]), torch.tensor([[144, 72, 9, 1]])
    return torch._nested_view_from_buffer(torch.zeros(432), sizes, strides, torch.tensor([0]))


def narrow() -> Tensor:
    return video(1, 2, 3, 8, 9, 5, 3).to(torch.float8_e4m3fn)


def stack_conv(**options: Any) -> Call:
    keywords = {"k_agg": 2, "ps": 3, "nheads": 2, "channels": 4, **options}
    return lambda: stnls.agg.StackConv(**keywords)


def slots(*arguments: Any) -> Call:
    return lambda: stnls.nn.search_flow(*arguments)


def flows(slots: int = 2, **options: Any) -> Tensor:
    return video(1, 3, slots, 2, 8, 9, **options)


def neighbours(**options: Any) -> Tensor:
    return video(1, 3, 2, 8, 9, **options)


SEARCH: Any = stnls.search.NonLocalSearch(3, 1)
REFINE: Any = stnls.search.RefineSearch(9, 9, 3, 4, 0.5, 3)


def test_the_calls_that_the_others_spoil_are_right() -> None:
    stack_conv()()
    SEARCH.memory(1, 3, 4, 8, 9, torch.float64)
    REFINE.memory(1, 3, 4, 8, 9, torch.float16, Ks=2)
    search()()
    search(video(), video(), flows())()
    search(video(), video(), neighbours(), neighbours())()
    paired()()
    patch_sum()()
    slots(neighbours(), neighbours(), 1)()


PARAMETERS: list[tuple[Call, type[Exception], str]] = [
    (search(ws=0), ValueError, "ws must be at least 1, not 0"),
    (search(ws=3.0), TypeError, "ws must be an int, not 3.0"),
    (search(ws=True), TypeError, "ws must be an int, not True"),
    (search(wt=-1), ValueError, "wt must be at least 0, not -1"),
    (search(ps=0), ValueError, "ps must be at least 1, not 0"),
    (search(nheads=0), ValueError, "nheads must be at least 1, not 0"),
    (search(stride0=0), ValueError, "stride0 must be at least 1, not 0"),
    (search(dilation="2"), TypeError, "dilation must be an int, not '2'"),
    (search(strideQ=0), ValueError, "strideQ must be at least 1, not 0"),
    (search(k=1.5), TypeError, "k must be an int, not 1.5"),
    (search(k_agg=None), TypeError, "k_agg must be an int, not None"),
    (search(off_Hq=0.5), TypeError, "off_Hq must be an int, not 0.5"),
    (search(off_Wq="1"), TypeError, "off_Wq must be an int, not '1'"),
    (search(stride1=0), ValueError, "stride1 must be above 0 and finite, not 0"),
    (search(stride1=-0.5), ValueError, "stride1 must be above 0 and finite, not -0.5"),
    (search(stride1=float("inf")), ValueError, "stride1 must be above 0 and finite, not inf"),
    (search(stride1=float("nan")), ValueError, "stride1 must be above 0 and finite, not nan"),
    (search(stride1="1"), TypeError, "stride1 must be a number, not '1'"),
    (search(dist_type="l1"), ValueError, "dist_type must be one of 'l2', 'prod', not 'l1'"),
    (search(itype="3d"), ValueError, "itype must be one of 'float', 'int', not '3d'"),
    (search(self_action="x"), ValueError, "self_action must be one of None, 'anchor', .*'x'"),
    (search(topk_mode="best"), ValueError, "topk_mode must be one of 'all', .*not 'best'"),
    (search(topk_mode="none"), ValueError, "k must be 0 or less, not 2"),
    (search(self_action="remove", topk_mode="each"), ValueError, '"remove" .*not "each"'),
    (search(wt=0, self_action="remove_ref_frame"), ValueError, "wt must be at least 1, not 0"),
    (search(pt=2), ValueError, "pt=2 is not supported: it takes only its default, 1"),
    (search(ws_interior=3), ValueError, "ws_interior=3 is not supported.* 0"),
    (search(normalize_bwd=True), ValueError, "normalize_bwd=True is not supported.*False"),
    (paired(pt=2), ValueError, "pt=2 is not supported: it takes only its default, 1"),
    (paired(normalize_bwd=True), ValueError, "normalize_bwd=True is not supported.*False"),
    (paired(self_action="remove"), ValueError, "self_action must be one of .*not 'remove'"),
    (paired(k_agg=0.5), TypeError, "k_agg must be an int, not 0.5"),
    (patch_sum(ps=0), ValueError, "ps must be at least 1, not 0"),
    (patch_sum(stride0=0), ValueError, "stride0 must be at least 1, not 0"),
    (patch_sum(dilation=0), ValueError, "dilation must be at least 1, not 0"),
    (patch_sum(pt=2), ValueError, "pt=2 is not supported: it takes only its default, 1"),
    (patch_sum(itype="2d"), ValueError, "itype must be one of 'float', 'int', not '2d'"),
    (stack_conv(dropout="a"), TypeError, "dropout must be a number, not 'a'"),
    (stack_conv(dropout=1.5), ValueError, "dropout must be from 0 to 1, not 1.5"),
    (stack_conv(ps=2), ValueError, "ps must be odd, so that the kernel has a centre, not 2"),
    (stack_conv(nheads=3), ValueError, "has 4 channels, which nheads=3 does not divide"),
    (lambda: SEARCH.memory(1, 3, 4, 8, 9, "x"), TypeError, "dtype must be one of .*, not 'x'"),
    (
        lambda: SEARCH.memory(1, 3, 4, 8, 9, torch.int32),
        TypeError,
        "dtype must be one of torch.float32, .*, not torch.int32",
    ),
    (lambda: REFINE.memory(1, 3, 4, 8, 9, None), TypeError, "dtype must be one of .*, not None"),
    (lambda: REFINE.memory(1, 3, 4, 8, 9, Ks=0), ValueError, "Ks must be at least 1, not 0"),
    (lambda: REFINE.flops(1, 3, 4, 8, 9, Ks=1.5), TypeError, "Ks must be an int, not 1.5"),
    (lambda: REFINE.flops(1, 3, 4, 8, 9, Ks=1), ValueError, "kr=0.5 of 1 matches leaves none"),
    (slots(neighbours(), neighbours(), -1), ValueError, "wt must be at least 0, not -1"),
    (slots(neighbours(), neighbours(), 1, 0), ValueError, "stride0 must be at least 1, not 0"),
]

TENSORS: list[tuple[Call, type[Exception], str]] = [
    # Not a tensor, not a dense one, not of the right number of dimensions.
    (search([1], video()), TypeError, r"vid0 must be a tensor \(B, T, C, H, W\) or .*, not list"),
    (search(video().to_sparse(), video()), TypeError, "vid0 must be a dense tensor, not .*sparse"),
    (search(nested(), video()), TypeError, "vid0 must be a dense tensor, not a nested one"),
    (
        search(video(), video(), nested_flow(), nested_flow()),
        TypeError,
        "fflow must be a dense tensor, not a nested one",
    ),
    (
        lambda: stnls.search.PairedRefine(3, 3, 2, -1, 3).paired_vids(
            video(), video(), video(1, 1, 3, 8, 9, 3, 3, dtype=torch.complex64), 1
        ),
        TypeError,
        "flows must hold real numbers, not torch.complex64",
    ),
    (
        patch_sum(video(), video(1, 2, 3, 8, 9, 5), narrow()),
        TypeError,
        "inds must hold real numbers, not torch.float8_e4m3fn",
    ),
    (search(video(), video(3, 4, 8, 9)), ValueError, r"vid1 must have shape .*not \(3, 4, 8, 9\)"),
    (search(video(), video(), "zero"), TypeError, "flows must be a tensor .*, not str"),
    (paired(None, None, None), TypeError, "frame0 must be a tensor .*, not NoneType"),
    (patch_sum(video(), 1.0, None), TypeError, "weights must be a tensor .*, not float"),
    (slots(video(3, 2, 8, 9), neighbours(), 1), ValueError, r"fflow must have shape .*\(3, 2,"),
    # Another dtype.
    (search(video(dtype=torch.int64), video()), TypeError, "vid0 must be .*, not torch.int64"),
    (
        search(video(dtype=torch.float64), video()),
        TypeError,
        "vid0 and vid1 must have one dtype, not torch.float64 and torch.float32",
    ),
    (
        search(video(), video(), flows(dtype=torch.float64)),
        TypeError,
        "flows and vid0 must have one dtype, not torch.float64 and torch.float32",
    ),
    (
        search(video(), video(), flows(dtype=torch.complex64), itype="int"),
        TypeError,
        "flows must hold real numbers, not torch.complex64",
    ),
    (
        search(video(), video(), flows(dtype=torch.bool), itype="int"),
        TypeError,
        "flows must hold real numbers, not torch.bool",
    ),
    (
        search(video(), video(), flows(dtype=torch.bool)),
        TypeError,
        "flows must hold real numbers, not torch.bool",
    ),
    (
        lambda: REFINE(video(), video(), video(1, 1, 3, 2, 3, 4, 3, dtype=torch.bool)),
        TypeError,
        "flows must hold real numbers, not torch.bool",
    ),
    (
        patch_sum(video(), video(1, 2, 3, 8, 9, 5, dtype=torch.float64), video(1)),
        ValueError,
        "inds must have shape",
    ),
    (
        patch_sum(
            *(video(), video(1, 2, 3, 8, 9, 5, dtype=torch.float64), video(1, 2, 3, 8, 9, 5, 3))
        ),
        TypeError,
        "vid and weights must have one dtype, not torch.float32 and torch.float64",
    ),
    (
        patch_sum(video(), video(1, 2, 3, 8, 9, 5), video(1, 2, 3, 8, 9, 5, 3, dtype=torch.bool)),
        TypeError,
        "inds must hold real numbers, not torch.bool",
    ),
    (slots(neighbours().int(), neighbours(), 1), TypeError, "fflow must be .*, not torch.int32"),
    (slots(neighbours().half(), neighbours(), 1), TypeError, "one dtype, not torch.float16 and"),
    (
        slots(neighbours(), neighbours().double(), 1),
        TypeError,
        "fflow and bflow must have one dtype, not torch.float32 and torch.float64",
    ),
    # Another device.
    (
        search(video(device="meta"), video()),
        TypeError,
        "vid0 and vid1 must be on one device, not meta and cpu",
    ),
    (
        search(video(), video(), flows(device="meta")),
        TypeError,
        "flows and vid0 must be on one device, not meta and cpu",
    ),
    (
        patch_sum(video(), video(1, 2, 3, 8, 9, 5, device="meta"), video(1, 2, 3, 8, 9, 5, 3)),
        TypeError,
        "vid and weights must be on one device, not cpu and meta",
    ),
    (
        slots(neighbours(), neighbours(device="meta"), 1),
        TypeError,
        "fflow and bflow must be on one device, not cpu and meta",
    ),
    # Sizes that do not fit together.
    (search(video(), video(), wt=2), ValueError, r"wt=2 needs at least 2\*wt\+1 = 5 frames.* 3"),
    (
        search(video(2, 3, 4, 8, 9), video()),
        ValueError,
        r"same batch, heads, frames and channels, not \(2, 1, 3, 4\) and \(1, 1, 3, 4\)",
    ),
    (
        search(video(1, 3, 4, 8, 8), video()),
        ValueError,
        r"one size, not \(8, 8\) and \(8, 9\) \(with strideQ, NonLocalSearch and",
    ),
    (
        search(video(1, 3, 4, 0, 9), video(1, 3, 4, 0, 9)),
        ValueError,
        r"vid0 must have at least one row and one column, not \(1, 1, 3, 4, 0, 9\)",
    ),
    (search(nheads=3), ValueError, "vid0 has 4 channels, which nheads=3 does not divide"),
    (
        search(video(1, 3, 3, 4, 8, 9), video(1, 3, 3, 4, 8, 9), nheads=2),
        ValueError,
        r"vid0 has 3 heads \(dimension 1\), but nheads=2",
    ),
    (
        search(video(), video(), video(2, 3, 2, 8, 9), video(2, 3, 2, 8, 9)),
        ValueError,
        "fflow and bflow must have the batch and size of vid1, 1 and 8 x 9 pixels, not 2 and 8 x 9",
    ),
    (
        search(video(), video(), video(1, 3, 2, 8, 10), video(1, 3, 2, 8, 10), stride0=4),
        ValueError,
        "the batch and size of vid1, 1 and 8 x 9 pixels, not 1 and 8 x 10",
    ),
    (
        search(video(), video(), flows(5)),
        ValueError,
        r"flows must have shape .* = \(1, 1, 3, 2 or 3, 2, 8, 9\), not \(1, 1, 3, 5, 2, 8, 9\)",
    ),
    (
        search(video(), video(), flows(), stride0=2),
        ValueError,
        r"= \(1, 1, 3, 2 or 3, 2, 4, 5\), not \(1, 1, 3, 2, 2, 8, 9\)",
    ),
    (
        search(video(), video(), video(1, 0, 3, 2, 2, 8, 9)),
        ValueError,
        "flows must have at least one head, not 0",
    ),
    (
        search(video(), video(), flows(), flows(), flows()),
        TypeError,
        r"call as \(vid0, vid1\), .*, not with 5 tensors",
    ),
    (
        paired(video(1, 4, 8, 9), video(1, 4, 8, 9), video(1, 2, 2, 2)),
        ValueError,
        r"flow must have shape .* = \(1, 1, 2, 8, 9\), not \(1, 1, 2, 2, 2\)",
    ),
    (
        paired(video(1, 4, 8, 9), video(1, 4, 8, 9), video(1, 0, 2, 8, 9)),
        ValueError,
        "flow must have at least one head, not 0",
    ),
    (
        search(video(), video(), video(1, 3, 3, 2, 2, 8, 9), nheads=2),
        ValueError,
        "flows must have no more heads than the videos, 2, not 3",
    ),
    (
        lambda: stnls.search.PairedSearch(3, 3, 2, 2, stride0=1).paired_vids(
            video(), video(), video(1, 3, 3, 2, 2, 8, 9), 1
        ),
        ValueError,
        "flows must have no more heads than the videos, 2, not 3",
    ),
    (
        paired(video(1, 3, 4, 8, 9), video(1, 3, 4, 8, 9), video(1, 2, 8, 9), nheads=2),
        ValueError,
        r"frame0 has 3 heads \(dimension 1\), but nheads=2",
    ),
    (
        paired(video(1, 0, 4, 8, 9), video(1, 0, 4, 8, 9), video(1, 2, 8, 9)),
        ValueError,
        "frame0 must have at least one head, not 0",
    ),
    (
        paired(video(1, 3, 4, 8, 9), video(1, 2, 4, 8, 9), video(1, 2, 8, 9)),
        ValueError,
        r"frames and channels, not \(1, 3, 1, 4\) and \(1, 2, 1, 4\)",
    ),
    (
        paired(video(1, 4, 8, 9), video(1, 4, 8, 10), video(1, 2, 8, 9)),
        ValueError,
        r"one size, not \(8, 9\) and \(8, 10\)",
    ),
    (
        patch_sum(video(1, 2, 3, 4, 8, 9), video(1, 3, 3, 8, 9, 5), video(1, 3, 3, 8, 9, 5, 3)),
        ValueError,
        "vid and weights must have as many heads, not 2 and 3",
    ),
    (
        patch_sum(video(), video(1, 3, 3, 8, 9, 5), video(1, 3, 3, 8, 9, 5, 3)),
        ValueError,
        "vid has 4 channels, which the 3 heads of weights do not divide",
    ),
    (
        patch_sum(video(), video(1, 0, 3, 8, 9, 5), video(1, 0, 3, 8, 9, 5, 3)),
        ValueError,
        "vid has 4 channels, which the 0 heads of weights do not divide",
    ),
    (
        patch_sum(video(), video(1, 2, 3, 8, 8, 5), video(1, 2, 3, 8, 9, 5, 3)),
        ValueError,
        r"weights must have shape .* = \(1, 2, 3, 8, 9, 5\), not \(1, 2, 3, 8, 8, 5\)",
    ),
    (
        patch_sum(video(), video(1, 2, 3, 8, 9, 5), video(1, 2, 3, 8, 9, 4, 3)),
        ValueError,
        r"inds must have shape .* = \(1, 2, 3, 8, 9, 5, 3\), not \(1, 2, 3, 8, 9, 4, 3\)",
    ),
    (
        patch_sum(video(), video(1, 2, 3, 2, 3, 5), video(1, 2, 3, 2, 3, 5, 3), stride0=4),
        ValueError,
        r"patches of ps=3 .* stride0=4 do not cover all of 8 pixels: take a larger ps "
        r"\(7 is enough\) or stride0=2",
    ),
    (
        patch_sum(
            video(), video(1, 2, 3, 4, 5, 5), video(1, 2, 3, 4, 5, 5, 3), stride0=2, dilation=2
        ),
        ValueError,
        r"cover all of 8 pixels: take dilation 1 or stride0=1",
    ),
    (
        slots(neighbours(), video(1, 4, 2, 8, 9), 1),
        ValueError,
        r"same shape, not \(1, 3, 2, 8, 9\) and \(1, 4, 2, 8, 9\)",
    ),
    (
        slots(video(1, 3, 3, 8, 9), video(1, 3, 3, 8, 9), 1),
        ValueError,
        r"fflow must have shape .* with 2 channels \(dx, dy\), not \(1, 3, 3, 8, 9\)",
    ),
    (
        slots(video(1, 3, 2, 8, 0), video(1, 3, 2, 8, 0), 1),
        ValueError,
        "fflow must have at least one row and one column",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), PARAMETERS + TENSORS)
def test_messages(call: Call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, stnls.StnlsError)


def test_compose_flow_checks_its_steps() -> None:
    with pytest.raises(ValueError, match="steps must have shape"):
        stnls.nn.compose_flow(torch.zeros(2, 8, 9))
    with pytest.raises(TypeError, match=r"stride0 must be an int, not 1\.5"):
        stnls.nn.compose_flow(neighbours(), stride0=1.5)  # type: ignore[arg-type]


def test_a_device_without_kernels() -> None:
    # Few builds of torch can make a tensor on another device: the check sees one that says so.
    there = cast(Tensor, SimpleNamespace(device=torch.device("xpu")))
    with pytest.raises(TypeError, match="vid0 must be on the CPU or a CUDA device, not xpu"):
        _checks.same_place("vid0", there, "vid1", there)


def test_a_query_video_may_have_a_size_of_its_own() -> None:
    """With a stride of its own the query video has its own size, also when the strides agree."""
    query = torch.randn(1, 1, 1, 4, 5)
    key = torch.randn(1, 1, 1, 8, 9)
    dists, _ = stnls.search.NonLocalSearch(1, 0, itype="int", strideQ=1)(query, key)
    wrapped = query.repeat(1, 1, 1, 2, 2)[..., :9]
    assert torch.equal(dists[0, 0, 0, :, :, 0], (wrapped - key).square()[0, 0, 0])


def test_long_values_are_not_printed_in_messages() -> None:
    flow = torch.zeros(1, 3, 2, 8, 9)
    with pytest.raises(stnls.StnlsTypeError) as caught:
        stnls.search.nls(torch.zeros(1, 3, 2, 8, 9), torch.zeros(1, 3, 2, 8, 9), flow, flow, 1)
    assert str(caught.value).startswith("ws must be an int, not a tensor of shape (1, 3, 2, 8, 9)")


def test_integers_of_numpy_are_integers() -> None:
    convolution = stnls.agg.StackConv(*(numpy.int64(n) for n in (2, 3, 1, 4)))
    assert type(convolution.k_agg) is type(convolution.channels) is int
    frames = stnls.search.get_time_window_inds(*(numpy.int64(n) for n in (1, 1, 3)))
    assert [type(frame) for frame in frames] == [int] * 3
    options = stnls.search.NonLocalSearch(numpy.int64(3), numpy.int32(1)).options
    assert (options.ws, type(options.ws), type(options.wt)) == (3, int, int)


@pytest.mark.parametrize("value", [1, 2.0, numpy.float32(0.5), numpy.float64(1), numpy.int64(2)])
def test_numbers_of_numpy_are_numbers(value: Any) -> None:
    search = stnls.search.NonLocalSearch(3, 1, stride1=value)
    assert (search.options.stride1, type(search.options.stride1)) == (float(value), float)
    refine = stnls.search.RefineSearch(9, 9, 3, 4, value, 3)
    assert refine.kr == value
    assert stnls.normz.init({"normz_scale": value}).scale == value
    assert stnls.agg.StackConv(1, 3, 1, 4, dropout=numpy.float32(0.25)).dropout.p == 0.25


def test_flow_by_name() -> None:
    video, fflow, bflow = torch.rand(1, 3, 2, 8, 9), *torch.randn(2, 1, 3, 2, 8, 9)
    search = stnls.search.NonLocalSearch(3, 1, 3, 2)
    expected = search(video, video, fflow, bflow)
    composed = stnls.nn.search_flow(fflow, bflow, 1)
    for found in (
        search(video, video, fflow=fflow, bflow=bflow),
        search(video, video, flows=composed),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with pytest.raises(stnls.StnlsTypeError, match="not with 3 tensors"):
        search(video, video, fflow=fflow)
    with pytest.raises(stnls.StnlsValueError, match="for each of the video's 3 frames, not 2"):
        search(video, video, fflow[:, :2], bflow[:, :2])


def test_no_flow_is_zero_flow_however_it_is_given() -> None:
    video, flow = torch.rand(1, 3, 2, 8, 9), torch.randn(1, 3, 2, 2, 8, 9)
    search = stnls.search.NonLocalSearch(3, 1, 3, 2)
    expected = search(video, video)
    for found in (
        search(video, video, None),
        search(video, video, None, None),
        search(video, video, flows=None),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    led = search(video, video, flow)
    torch.testing.assert_close(search(video, video, None, flows=flow), led, rtol=0, atol=0)
    # Half a pair of flows is none.
    for half in ((None, flow[:, :, 0]), (flow[:, :, 0], None)):
        with pytest.raises(stnls.StnlsError):
            search(video, video, *half)


def test_the_default_stride_is_named_where_it_matters() -> None:
    frame, flow = torch.rand(1, 2, 16, 20), torch.zeros(1, 2, 16, 20)
    with pytest.raises(stnls.StnlsValueError, match=r"stride0=4: 4 x 5 queries of 16 x 20 pixels"):
        stnls.search.PairedSearch(3, 3, 1)(frame, frame, flow)


def test_arrays_are_no_names_and_no_strides() -> None:
    for value in (numpy.array(["l2", "prod"]), numpy.array(["l2"]), torch.zeros(2)):
        with pytest.raises(stnls.StnlsValueError, match="dist_type must be one of 'l2', 'prod'"):
            stnls.search.NonLocalSearch(3, 1, dist_type=value)  # type: ignore[arg-type]
    assert stnls.search.NonLocalSearch(3, 1, dist_type=numpy.str_("l2")).dist_type == "l2"
    add: Any = stnls.agg.NonLocalGatherAdd
    with pytest.raises(stnls.StnlsTypeError, match="strideOut must be an int, not array"):
        add(3, 1, numpy.array([1, 2]))
    with pytest.raises(stnls.StnlsTypeError, match=r"strideIn must be an int, not 1\.5"):
        add(3, 1.5, 1.5)


def test_truth_values_are_not_strings() -> None:
    with pytest.raises(stnls.StnlsTypeError, match="full_ws must be True or False, not 'False'"):
        stnls.search.NonLocalSearch(3, 1, full_ws="False")  # type: ignore[arg-type]
    table: tuple[Any, ...] = torch.zeros(2, 5), torch.zeros(2, 5, 3)
    layers: tuple[Any, ...] = torch.zeros(1, 1, 9, 4), torch.zeros(1, 1, 9, 4, 3)
    pairs: Any = stnls.search.PairedSearch(3, 3, 2, stride0=1)
    refine: Any = stnls.search.PairedRefine(9, 3, 2, -1, 3)
    matches = (video(), video(), video(1, 1, 3, 8, 9, 6, 3), 1)
    calls: dict[str, list[Callable[..., Any]]] = {
        "anchor": [lambda **no: stnls.nn.topk(*table, 2, **no)],
        "return_order": [lambda **no: stnls.nn.topk(*table, 2, **no)],
        "descending": [
            lambda **no: stnls.nn.topk(*table, 2, **no),
            lambda **no: stnls.nn.topk_each(*table, 2, **no),
            lambda **no: stnls.graph_opts.scatter_topk(*layers, layers[0], 2, **no),
        ],
        "anchor_self": [lambda **no: stnls.nn.topk_each(*table, 2, True, **no)],
        "skip_self": [
            lambda **no: pairs.paired_vids(video(), video(), flows(), 1, **no),
            lambda **no: refine.paired_vids(*matches, **no),
        ],
        "check_time": [lambda **no: refine.paired_vids(*matches, **no)],
        "full_ws": [
            lambda **no: stnls.nn.non_local_inds(neighbours(), neighbours(), 3, 1, 1, 1, **no)
        ],
        "bias": [lambda **no: stack_conv(**no)()],
    }
    for name, of_this_name in calls.items():
        for call in of_this_name:
            for value in ("False", 1, None):
                with pytest.raises(stnls.StnlsTypeError, match=f"{name} must be True or False"):
                    call(**{name: value})


def test_matches_of_the_integer_grid_are_refined_on_the_real_one() -> None:
    video = torch.rand(1, 3, 2, 8, 9)
    coarse = stnls.search.NonLocalSearch(3, 1, 3, 2, itype="int")(video, video)[1]
    fine = stnls.search.RefineSearch(1, 1, 3, 2, -1, 3, stride0=1, stride1=0.5)
    assert coarse.dtype == torch.int32
    assert fine(video, video, coarse)[1].dtype == torch.float32


def test_flow_of_another_dtype_is_converted_to_the_one_computed_in() -> None:
    search = stnls.search.NonLocalSearch(3, 1, 3, 2)
    video, flow = torch.rand(1, 3, 2, 8, 9), torch.full((1, 3, 2, 2, 8, 9), 2.0)
    wanted = search(video, video, flow)
    for dtype in (torch.int32, torch.uint8, torch.bfloat16):
        assert all(map(torch.equal, search(video, video, flow.to(dtype)), wanted))
    half = video.half()
    wanted = search(half, half, flow)
    assert all(map(torch.equal, search(half, half, flow.bfloat16()), wanted))


def test_refinement_prints_its_own_parameters() -> None:
    text = repr(stnls.search.RefineSearch(9, 2, 3, 4, 0.5, 5, stride0=2))
    assert "wr=3, kr=0.5" in text
    assert "wt=" not in text


@pytest.mark.parametrize("value", [2**31, -(2**63), 2**70])
def test_integers_that_could_overflow_are_refused(value: int) -> None:
    for options in ({"off_Wq": value}, {"k_agg": value}, {"strideQ": value}):
        with pytest.raises(stnls.StnlsValueError, match=r"must (lie between|be at least)"):
            stnls.search.NonLocalSearch(3, 1, **options)
    with pytest.raises(stnls.StnlsValueError, match="wt must"):
        stnls.nn.search_flow(torch.zeros(1, 3, 2, 8, 9), torch.zeros(1, 3, 2, 8, 9), value)


@pytest.mark.parametrize("kr", [float("nan"), float("inf"), -float("inf")])
def test_shares_that_are_no_number_are_refused(kr: float) -> None:
    with pytest.raises(stnls.StnlsValueError, match="kr must be a number of entries"):
        stnls.search.RefineSearch(3, 1, 3, 2, kr, 3)
