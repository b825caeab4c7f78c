"""The tensors of a search, checked, with heads of their own and in the dtype to compute in."""

from __future__ import annotations

from torch import Tensor

from stnls import _checks, _heads, _ops, _precision
from stnls._offsets import real_offsets
from stnls._passed import PassedChecks
from stnls.search._options import SearchOptions


def take_heads(name: str, video: Tensor, nheads: int) -> Tensor:
    """(B, T, C, H, W), or (B, HD, T, C, H, W) as it is, as (B, HD, T, C, H, W)."""
    if video.ndim == 6:
        _checks.own_heads(name, video, nheads)
    else:
        _checks.equal_channels(name, video.shape[2], nheads, f"nheads={nheads} does not")
    return _heads.split(video, nheads)


def take_videos(vid0: Tensor, vid1: Tensor, o: SearchOptions) -> tuple[Tensor, Tensor]:
    """The two videos of a search as `take_pair` returns them."""
    layout = "(B, T, C, H, W) or (B, HD, T, C, H, W)"
    query, key = (
        take_heads(name, _checks.tensor(name, video, (5, 6), layout), o.nheads)
        for name, video in (("vid0", vid0), ("vid1", vid1))
    )
    return take_pair(query, key, ("vid0", "vid1"), o)


def take_frames(
    frame0: Tensor, frame1: Tensor, o: SearchOptions, *, own_heads: bool = False
) -> tuple[Tensor, Tensor]:
    """The two frames of a search as `take_pair` returns them, with T = 1.

    With `own_heads` frames that come with heads keep them where nheads is 1, its default.
    """
    layout = "(B, C, H, W) or (B, HD, C, H, W)"
    videos = []
    for name, frame in (("frame0", frame0), ("frame1", frame1)):
        frame = _checks.tensor(name, frame, (4, 5), layout)
        video = frame.unsqueeze(frame.ndim - 3)
        if own_heads and frame.ndim == 5 and o.nheads == 1:
            _checks.some_heads(name, frame)
            videos.append(video)
        else:
            videos.append(take_heads(name, video, o.nheads))
    return take_pair(videos[0], videos[1], ("frame0", "frame1"), o)


def take_pair(
    query: Tensor, key: Tensor, names: tuple[str, str], o: SearchOptions
) -> tuple[Tensor, Tensor]:
    """Query and key, (B, HD, T, C, H, W), in the dtype to compute in; checks their device, dtype
    and sizes."""
    _checks.same_place(names[0], query, names[1], key)
    query, key = _precision.unified(query, key)
    _checks.real_dtype(names[0], query)
    _checks.same_dtype(names[0], query, names[1], key)
    for name, video in zip(names, (query, key), strict=True):
        _checks.not_empty_frames(name, video)
    _checks.same(
        "batch, heads, frames and channels",
        names[0],
        tuple(query.shape[:4]),
        names[1],
        tuple(key.shape[:4]),
    )
    if o.strideQ is None:
        _checks.one_size(query, key)
    return _precision.widened(query), _precision.widened(key)


def take_places(
    places: Tensor, query: Tensor, name: str, video_name: str, options: SearchOptions
) -> Tensor:
    """Flow, or the entries to refine, in the dtype of the (widened) query; checks its device and
    dtype."""
    if options.float_grid:
        places = real_offsets(name, places, video_name, query)
    else:
        _checks.same_place(name, places, video_name, query)
        _checks.numbers(name, places)
    _checks.some_heads(name, places)
    return places


_passed = PassedChecks()
"""Options and signatures of videos and flow that passed the checks and needed no conversion."""


def search_videos(
    o: SearchOptions, vid0: Tensor, vid1: Tensor, flows: Tensor | None, *, slots: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Checks the tensors of a video search, and searches; `slots`: how many a flow may have."""
    given = (vid0, vid1) if flows is None else (vid0, vid1, flows)
    signature = _ops.signature(given)
    if signature is not None and (o, slots, signature) in _passed:
        query, key = (_heads.split(video, o.nheads) for video in (vid0, vid1))
        if flows is not None and flows.ndim == 6:
            flows = flows.unsqueeze(1)
        return o.run(query, key, flows, with_time=True, passed=True)
    query, key = take_videos(vid0, vid1, o)
    _checks.enough_frames(query.shape[2], o.wt)
    if flows is not None:
        layout = "(B, T, S, 2, nH, nW) or (B, HD, T, S, 2, nH, nW)"
        flows = _checks.tensor("flows", flows, (6, 7), layout)
        if flows.ndim == 6:
            flows = flows.unsqueeze(1)
        flows = take_places(flows, query, "flows", "vid0", o)
        before = (query.shape[0], flows.shape[1], query.shape[2], slots, 2)
        layout = "(B, HD, T, S, 2, nH, nW)"
        _checks.query_grid("flows", flows, before, (), layout, key.shape[-2:], o.stride0)
        _checks.used_heads(flows.shape[1], query.shape[1])
    if signature is not None and all(
        taken is None or taken.dtype == x.dtype
        for x, taken in zip(given, (query, key, flows), strict=False)
    ):
        _passed.add((o, slots, signature))
    return o.run(query, key, flows, with_time=True)
