"""How much of a clip is worked on at a time, and the memory that takes on a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stnls_cli.errors import UserError
from stnls_cli.flow import MethodSource
from stnls_cli.reader import AHEAD

if TYPE_CHECKING:
    import torch

    from stnls_cli.flow import FlowSource
    from stnls_cli.options import AlignOptions
    from stnls_cli.video import ClipInfo

PAIR_PIXELS = 2**22
"""Pixels that fill a GPU: as many pairs of frames are aligned together, at most."""
FLOW_PIXELS = 2**23
"""The same for flow, whose coarse scales are small."""
MOST_REFERENCES = 4
"""Reference frames whose pairs are aligned together, at most: they are recorded together."""
FRAMES_ON_GPU = 6
"""Reference frames that may wait for their scores and pictures; three times as many as are aligned
together, where that is more."""
MOST_WRITING = 2**30
"""Bytes of images that may wait to be encoded."""

KEPT = 72
"""Bytes for each pixel of a pair that waits for its scores, whole."""
MOST_KEPT = 2**30

# Bytes for each pixel on a GPU: what is held, and the most that is in use beside it for a moment.
FRAME = 12
FLOW = 8
PAIR = 250
SEARCH = 130
"""Of a pair more, where both searches run together."""
REFERENCE = 48
"""Of a pair more, where it is aligned together with those of other reference frames."""
MATCH = 100
"""Of a pair more, for each of the k matches but the first."""
FLOW_PAIR = 110
RECORD = 110
"""Of a flow alone: its lengths, and the neighbour warped by it."""
FIXED = 256 * 2**20
"""Bytes whatever the size."""

_sharing = ContextVar("sharing", default=1)
"""Processes that share the GPU, this one among them."""
_parts: dict[tuple[str, int], int] = {}
"""By device and the number of processes that share it: the bytes of one."""


@contextlib.contextmanager
def gpu_shared_by(processes: int) -> Iterator[None]:
    """Within the block a plan takes this process's part of the memory that is free on a GPU."""
    token = _sharing.set(processes)
    try:
        yield
    finally:
        _sharing.reset(token)


@dataclass(frozen=True)
class Plan:
    """`ahead`: frames read beyond the temporal window; `pairs`: neighbours aligned together, of
    `references` frames that are begun together; `flow_pairs`: flows computed together on the
    device, 0 where threads compute them; `under_way`: reference frames begun and not yet scored, at
    most; `shrink_at_once`: what the pictures of a pair would be made of is shrunk before it is
    known whether they are wanted; `together`: both searches of a pair run at once; `writing`:
    frames more whose scores are there, but not yet their files."""

    ahead: int
    pairs: int
    flow_pairs: int
    under_way: int
    shrink_at_once: bool = False
    together: bool = False
    writing: int = 0
    references: int = 1


def plan_for(
    options: AlignOptions,
    info: ClipInfo,
    device: torch.device,
    threads: int,
    source: FlowSource | None,
    *,
    flow_only: bool = False,
) -> Plan:
    """What suits the frames and the device; `flow_only`: nothing is searched. UserError where a
    GPU's memory does not do."""
    if device.type == "cuda":
        native = isinstance(source, MethodSource) and source.method.native is not None
        plan = gpu_plan(options, info, native=native)
        free = free_bytes(device)
        plan = fitted(plan, options, info, str(device), free, flow_only=flow_only)
        return plan if flow_only else replace(plan, writing=written_behind(options, info, threads))
    computed = source is not None and source.needs_frames
    return Plan(
        # Each frame brings two flows for the threads; many cores shall not cost much memory.
        ahead=min(threads // 2 + 1, 8) if computed else 1,
        pairs=1,
        flow_pairs=0,
        # As many as keep all threads busy, and one whose pairs wait for those that are done first.
        under_way=-(-threads // (2 * options.wt)) + 1,
    )


def gpu_plan(options: AlignOptions, info: ClipInfo, *, native: bool) -> Plan:
    """Batches that fill a GPU. `native`: the flows are computed there."""
    pixels = info.height * info.width
    flow_pairs = max(2, min(FLOW_PIXELS // pixels, 16)) if native else 0
    neighbours, fit = 2 * options.wt, max(1, PAIR_PIXELS // pixels)
    references = max(1, min(fit // neighbours, MOST_REFERENCES))
    pairs = min(fit, neighbours * references)
    under_way = max(FRAMES_ON_GPU, 3 * references)
    kept = pixels * neighbours * KEPT * under_way <= MOST_KEPT
    return Plan(
        # One frame more than that is read at a time, and each brings two flows.
        ahead=max(1, flow_pairs // 2 - 1) if native else 4,
        pairs=pairs,
        flow_pairs=flow_pairs,
        under_way=under_way if kept else 2,
        shrink_at_once=not kept,
        together=pairs > 1,
        references=references,
    )


def written_behind(options: AlignOptions, info: ClipInfo, threads: int) -> int:
    """Frames whose files keep all threads busy while a GPU goes on: twice as many images."""
    if not options.saved():
        return 0
    images = 2 * options.wt
    of_frame = 3 * images * info.height * info.width * (4 if options.format == "npy" else 2)
    return max(1, min(-(-2 * threads // images), MOST_WRITING // of_frame))


def writer_threads(device: torch.device, threads: int) -> int:
    """Threads that encode files: all, but on many cores beside a GPU two of sixteen are left to
    those that launch its work and decode. On few, encoding is the limit, and these have little
    to do."""
    return threads - 2 * (threads // 16) if device.type == "cuda" else threads


def gpu_bytes(plan: Plan, options: AlignOptions, info: ClipInfo) -> int:
    """Memory that a run needs on a GPU, at most."""
    frames = 2 * options.wt + 1 + plan.ahead + plan.references - 1
    held = FRAME * (2 if options.sigma > 0 else 1) * frames
    held += (12 if info.bit_depth > 8 else 3) * (AHEAD + 2)
    held += FLOW * (_flows_held(plan, options) + 2 * options.wt * plan.references)
    if not plan.shrink_at_once:
        held += KEPT * 2 * options.wt * plan.under_way
    of_pairs = PAIR + MATCH * (options.k - 1) + (SEARCH if plan.together else 0)
    of_pairs += REFERENCE if plan.references > 1 else 0
    # Flows and pairs take turns.
    moment = max(plan.pairs * of_pairs, plan.flow_pairs * FLOW_PAIR)
    return info.height * info.width * (held + moment) + FIXED


def _flows_held(plan: Plan, options: AlignOptions) -> int:
    """Between neighbouring frames: from the reference as far as frames were read, and from there
    back to its first neighbour."""
    reach = options.wt + plan.ahead
    return reach + (reach + options.wt)


def flow_bytes(plan: Plan, options: AlignOptions, info: ClipInfo) -> int:
    """The same where flows alone are computed."""
    frames = 2 * options.wt + 1 + plan.ahead
    held = FRAME * (2 if options.sigma > 0 else 1) * frames
    held += (12 if info.bit_depth > 8 else 3) * (AHEAD + 2)
    held += FLOW * _flows_held(plan, options)
    # Flows are computed together, then looked at one by one.
    moment = max(plan.flow_pairs * FLOW_PAIR, RECORD)
    return info.height * info.width * (held + moment) + FIXED


def fitted(
    plan: Plan,
    options: AlignOptions,
    info: ClipInfo,
    device: str,
    free: int,
    *,
    flow_only: bool = False,
) -> Plan:
    """The plan, or a smaller one where `free` bytes are too few for it; UserError where even the
    smallest does not fit."""
    bytes_of = flow_bytes if flow_only else gpu_bytes
    smallest = replace(
        plan,
        ahead=1,
        pairs=1,
        flow_pairs=min(plan.flow_pairs, 1),
        under_way=1,
        shrink_at_once=True,
        together=False,
        references=1,
    )
    for candidate in (plan, smallest):
        if bytes_of(candidate, options, info) <= free:
            return candidate
    needed = bytes_of(smallest, options, info)
    sharing = _sharing.get()
    each, fewer = ("", "") if sharing == 1 else (f" for each of {sharing} processes", ", --workers")
    window, or_window = ("", "") if flow_only else (f" with --wt {options.wt}", " or --wt")
    raise UserError(
        f"{info.path}: frames of {info.width}x{info.height}{window} need about "
        f"{_told(needed)} of memory on {device}, of which {_told(free)} are free{each}; "
        f"use a smaller --size{fewer}{or_window}, or --device cpu"
    )


def free_bytes(device: torch.device) -> int:
    """Memory on a GPU that is free, or that this process holds without using it; of what several
    processes share, the part of one."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    processes = _sharing.get()
    if processes == 1:
        return free
    # What the others have taken since this process looked first is their part, not ours.
    part = _parts.setdefault((str(device), processes), free // processes)
    return min(part, free)


def _told(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
