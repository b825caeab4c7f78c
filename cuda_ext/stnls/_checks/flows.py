"""Checks of flow between neighbouring frames and of flow that was accumulated."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stnls._checks.tensors import (
    not_empty_frames,
    real_dtype,
    same,
    same_dtype,
    same_place,
    shape,
    tensor,
)
from stnls._errors import StnlsTypeError, StnlsValueError


def flow(name: str, value: object, layout: str) -> Tensor:
    """`value` as flow (B, T, 2, H, W) of a dtype that is composed."""
    found = tensor(name, value, (5,), layout)
    real_dtype(name, found)
    not_empty_frames(name, found)
    if found.shape[2] != 2:
        raise StnlsValueError(
            f"{name} must have shape {layout}, with 2 channels (dx, dy), not {tuple(found.shape)}"
        )
    return found


def flow_pair(fflow: Any, bflow: Any, ndim: int, layout: str) -> tuple[Tensor, Tensor]:
    """Both as flow (..., 2, H, W) of one shape, dtype and device."""
    forward = tensor("fflow", fflow, (ndim,), layout)
    backward = tensor("bflow", bflow, (ndim,), layout)
    same_place("fflow", forward, "bflow", backward)
    same_dtype("fflow", forward, "bflow", backward)
    same("shape", "fflow", tuple(forward.shape), "bflow", tuple(backward.shape))
    not_empty_frames("fflow", forward)
    expected = (*forward.shape[:-3], 2, *forward.shape[-2:])
    shape("fflow", forward, expected, layout)
    return forward, backward


def no_second_flow(bflow: object) -> None:
    """Beside an object with both flows stands no other."""
    if bflow is not None:
        raise StnlsTypeError(
            "bflow must be None beside a first argument that holds both flows, not "
            f"{type(bflow).__name__}"
        )


def some_frames(name: str, value: Tensor) -> None:
    """There is a frame (dimension 1)."""
    if value.shape[1] == 0:
        raise StnlsValueError(f"{name} must have at least 1 frame, not {tuple(value.shape)}")


def neighbour_flow(fflow: Tensor, video: Tensor, key: Tensor) -> None:
    """Flow to the next and previous frame comes for every frame of the video, in the batch and size
    of the key video."""
    given = (fflow, video, key)
    if not all(isinstance(x, Tensor) and not x.is_nested for x in given) or fflow.ndim != 5:
        return  # another check has the better words
    frames = video.shape[-4] if video.ndim in (5, 6) else fflow.shape[1]
    if fflow.shape[1] != frames:
        raise StnlsValueError(
            f"fflow and bflow must have one flow for each of the video's {frames} frames, not "
            f"{fflow.shape[1]}: the last of fflow and the first of bflow are not read, so that "
            "anything may stand there"
        )
    if key.ndim not in (5, 6):
        return
    pairs = [(fflow.shape[i], key.shape[i]) for i in (0, -2, -1)]
    if any(found != wanted for found, wanted in pairs):
        (b, b1), (height, height1), (width, width1) = pairs
        raise StnlsValueError(
            f"fflow and bflow must have the batch and size of vid1, {b1} and {height1} x {width1} "
            f"pixels, not {b} and {height} x {width}"
        )
