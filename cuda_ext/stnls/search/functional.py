"""The searches as functions: the tensors, then the parameters of the class in their order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stnls import _checks
from stnls._positions import slot_frames
from stnls.search.non_local_search import NonLocalSearch
from stnls.search.paired_refine import PairedRefine
from stnls.search.paired_search import PairedSearch
from stnls.search.refine_search import RefineSearch


def nls(
    vid0: Tensor, vid1: Tensor, flows: Tensor | None, *args: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """`NonLocalSearch(*args, **options)(vid0, vid1, flows)`; None is zero flow.

    Arguments, results and errors are those of the class.
    """
    search = NonLocalSearch(*args, **options)
    dists, inds = search(vid0, vid1) if flows is None else search(vid0, vid1, flows)
    return dists, inds


def refine(
    vid0: Tensor, vid1: Tensor, flows: Tensor, *args: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """`RefineSearch(*args, **options)(vid0, vid1, flows)`.

    Arguments, results and errors are those of the class.
    """
    dists, inds = RefineSearch(*args, **options)(vid0, vid1, flows)
    return dists, inds


def paired_search(
    frame0: Tensor, frame1: Tensor, flow: Tensor, *args: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """`PairedSearch(*args, **options)(frame0, frame1, flow)`.

    Arguments, results and errors are those of the class.
    """
    dists, inds = PairedSearch(*args, **options)(frame0, frame1, flow)
    return dists, inds


def paired_refine(
    frame0: Tensor, frame1: Tensor, flow: Tensor, *args: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """`PairedRefine(*args, **options)(frame0, frame1, flow)`.

    Arguments, results and errors are those of the class.
    """
    dists, inds = PairedRefine(*args, **options)(frame0, frame1, flow)
    return dists, inds


def empty_flow(vid: Tensor) -> Tensor:
    """Zero flow for a video.

    Args:
        vid: (B, T, C, H, W), any dtype.

    Returns:
        (B, T, 2, H, W), the dtype of `vid`, or float32 for whole numbers.

    Raises:
        StnlsError: (also ValueError or TypeError) for what is not a video.

    """
    vid = _checks.tensor("vid", vid, (5,), "(B, T, C, H, W)")
    b, t, _, h, w = vid.shape
    dtype = vid.dtype if vid.is_floating_point() else torch.float32
    return vid.new_zeros((b, t, 2, h, w), dtype=dtype)


def get_time_window_inds(t: int, wt: int, T: int) -> list[int]:
    """Frames of the temporal slots of a frame: its own, those after it, those before it.

    Args:
        t: the frame, 0 .. T - 1.
        wt: frames before and after it (≥ 0). At the ends of the video the window slides inward.
        T: frames of the video (≥ 1).

    Returns:
        min(2 wt + 1, T) frames, that of slot 0 first.

    Raises:
        StnlsError: (also ValueError or TypeError) for a number outside its range.

    """
    wt = _checks.positive_int("wt", wt, minimum=0)
    T = _checks.positive_int("T", T)
    t = _checks.positive_int("t", t, minimum=0)
    _checks.one_of("t", t, range(T))
    return slot_frames(t, wt, T)
