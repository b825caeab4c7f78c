"""Checks of searches and refinements: choices that exclude each other, frames, queries, matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stnls._checks.scalars import any_number, shown
from stnls._checks.tensors import shape
from stnls._errors import StnlsTypeError, StnlsValueError
from stnls._positions import grid_shape, slot_frames

MOST_CANDIDATES = 2**24
"""No more can be numbered (in float32 among other places)."""


def choice_of_candidates(
    topk_mode: str, k: int, self_action: str | None, first_slot: int, wt: int
) -> None:
    """The choices of what a search returns go together; it begins with slot `first_slot`."""
    if topk_mode == "none" and k > 0:
        raise StnlsValueError(
            f'topk_mode="none" returns every candidate: k must be 0 or less, not {k}'
        )
    if self_action == "remove" and topk_mode == "each":
        raise StnlsValueError(
            'self_action="remove" leaves slots of unequal length: '
            'topk_mode must be "all" or "none", not "each"'
        )
    if first_slot > 2 * wt:
        raise StnlsValueError(
            f'self_action="{self_action}" leaves out the query\'s own frame: '
            f"wt must be at least 1, not {wt}"
        )


_MOVABLE = {
    "dist_type": "l2",
    "stride0": 1,
    "dilation": 1,
    "reflect_bounds": True,
    "use_adj": False,
    "off_Hq": 0,
    "off_Wq": 0,
}


def movable(options: Mapping[str, object], k: int) -> None:
    """The best match of every pixel is found first, and can be placed between positions."""
    for name, needed in _MOVABLE.items():
        if options[name] != needed:
            raise StnlsValueError(
                f"subpixel() is for searches with {name}={needed!r}, not {options[name]!r}"
            )
    if k <= 0:
        raise StnlsValueError(f"subpixel() wants the best match first: k > 0, not {k}")


def few_candidates(windows: int, ws: int, what: str) -> None:
    """The windows of a query, with `ws` positions along each side, have few enough candidates."""
    candidates = windows * ws**2
    if candidates > MOST_CANDIDATES:
        raise StnlsValueError(
            f"a search has at most 2**24 candidates for each query, but {what} make {candidates}"
        )


def configured(what: str, missing: Sequence[str]) -> None:
    """A configuration lacks no option."""
    if missing:
        raise StnlsValueError(f"the configuration of {what} lacks {' and '.join(missing)}")


def flow_by_name(
    given: Sequence[object], by_position: bool, flows: object, fflow: object, bflow: object
) -> None:
    """A search is called with no flow, with `flows`, or with `fflow` and `bflow`."""
    mixed = flows is not None and by_position
    if len(given) > 2 or (fflow is None) != (bflow is None) or mixed:
        raise StnlsTypeError(
            "call as (vid0, vid1), (vid0, vid1, flows) or (vid0, vid1, fflow, bflow), not with "
            f"{2 + len(given)} tensors"
        )


def enough_frames(frames: int, wt: int) -> None:
    """A sequence holds the 2 wt + 1 frames of the temporal window."""
    if frames < 2 * wt + 1:
        raise StnlsValueError(
            f"wt={wt} needs at least 2*wt+1 = {2 * wt + 1} frames, but the video has {frames}"
        )


def one_size(query: Tensor, key: Tensor) -> None:
    """Without a stride of its own, the query video lies on the pixels of the key video."""
    if query.shape[-2:] != key.shape[-2:]:
        raise StnlsValueError(
            f"query and key frames must have one size, not {tuple(query.shape[-2:])} and "
            f"{tuple(key.shape[-2:])} (with strideQ, NonLocalSearch and RefineSearch take two)"
        )


def whole_frames(queries: int, of_a_frame: int) -> None:
    """A table of candidates holds all queries of every frame."""
    if queries % of_a_frame != 0:
        raise StnlsValueError(
            f"dists must hold whole frames of nH*nW = {of_a_frame} queries, not {queries}"
        )


def grid_note(size: Sequence[int], stride0: int) -> str:
    """For messages about the grid of queries: where its size comes from."""
    rows, columns = grid_shape(size, stride0)
    return f" (stride0={stride0}: {rows} x {columns} queries of {size[0]} x {size[1]} pixels)"


def query_grid(
    name: str,
    value: Tensor,
    before: Sequence[int | tuple[int, ...]],
    after: Sequence[int],
    layout: str,
    size: Sequence[int],
    stride0: int,
) -> None:
    """The shape is `before`, the grid of queries on frames of `size` (H, W), and `after`."""
    expected = (*before, *grid_shape(size, stride0), *after)
    # Made only for an error: to put sizes in words would tie a traced graph to them.
    shape(name, value, expected, layout, lambda: grid_note(size, stride0))


def kr(value: object) -> float:
    """`value` as a number of entries (an int) or a share of them (a float up to 1)."""
    try:
        number = any_number("kr", value)
    except StnlsTypeError:
        raise StnlsTypeError(f"kr must be an int, or a float up to 1, not {shown(value)}") from None
    if not abs(number) < 2**31:
        raise StnlsValueError(f"kr must be a number of entries or a share of them, not {number}")
    if isinstance(number, float) and number > 1 and number != int(number):
        raise StnlsValueError(
            f"kr must be a whole number of entries or a share up to 1, not {number}"
        )
    return number


def some_matches(kr: float, entries: int, windows: int) -> None:
    """`kr` leaves some of the earlier entries to refine."""
    if windows == 0:
        raise StnlsValueError(f"kr={kr} of {entries} matches leaves none to refine")


def equal_slots(matches: int, slots: int) -> None:
    """The matches of a query are equally many for every slot, and not none."""
    if matches == 0 or matches % slots != 0:
        raise StnlsValueError(f"flows has {matches} matches, which do not make {slots} equal slots")


def slot_times(blocks: Tensor, wt: int, skip_self: bool) -> None:
    """Every dt of (B, HD, T, nH, nW, S, Ks, 3) is that of its slot, or that of an empty entry."""
    frames = blocks.shape[2]
    first = 1 if skip_self else 0
    table = [[frame - t for frame in slot_frames(t, wt, frames)[first:]] for t in range(frames)]
    wanted = torch.tensor(table, device=blocks.device).view(1, 1, frames, 1, 1, -1, 1)
    dt = blocks.detach()[..., 0]
    dt = dt if dt.is_floating_point() else dt.long()  # of some integers abs() knows nothing
    empty = ~(dt.abs() < 1e7)
    wrong = (dt.round() != wanted) & ~empty
    if bool(wrong.any()):
        at = wrong.nonzero()[0].tolist()
        found = dt[tuple(at)].item()
        raise StnlsValueError(
            f"flows has dt={found:g} at frame {at[2]} in slot {at[5] + first}, which belongs to "
            f"dt={table[at[2]][at[5]]}"
        )
