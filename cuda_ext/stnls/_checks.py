"""Every check of what users pass in. Each message states the value found and the one expected."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import SupportsIndex

import torch
from torch import Tensor

from stnls._errors import StnlsTypeError, StnlsValueError

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def shown(value: object) -> str:
    """`value` in a message: of tensors and the like no more than their kind and shape."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 100 else f"a {type(value).__name__}"


def positive_int(name: str, value: object, minimum: int = 1) -> int:
    """`value` as an int of at least `minimum`."""
    number = any_int(name, value)
    if number < minimum:
        raise StnlsValueError(f"{name} must be at least {minimum}, not {number}")
    return number


def any_int(name: str, value: object) -> int:
    """`value` as an int of 32 bits; integers of NumPy count as well."""
    if isinstance(value, (bool, Tensor)) or not isinstance(value, SupportsIndex):
        raise StnlsTypeError(f"{name} must be an int, not {shown(value)}")
    number = operator.index(value)
    if abs(number) >= 2**31:  # sums and products of a few of them must fit 64 bits
        raise StnlsValueError(f"{name} must lie between -2**31 and 2**31, not {number}")
    return number


def boolean(name: str, value: object) -> bool:
    """`value` is True or False; a string such as "False" would count as true."""
    if not isinstance(value, bool):
        raise StnlsTypeError(f"{name} must be True or False, not {shown(value)}")
    return value


def positive_number(name: str, value: object, maximum: float = float("inf")) -> float:
    """`value` as a finite float above zero, at most `maximum`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise StnlsTypeError(f"{name} must be a number, not {shown(value)}")
    if not 0 < value < float("inf"):
        raise StnlsValueError(f"{name} must be above 0 and finite, not {value}")
    if value > maximum:
        raise StnlsValueError(f"{name} must be at most {maximum:g}, not {value}")
    return float(value)


def one_of(name: str, value: object, choices: Sequence[object]) -> None:
    """`value` is one of `choices`."""
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise StnlsValueError(f"{name} must be one of {known}, not {shown(value)}")


def only_default(name: str, value: object, default: object) -> None:
    """`value` is the default of a parameter that is there for the order of arguments only."""
    if type(value) is not type(default) or value != default:
        raise StnlsValueError(
            f"{name}={value!r} is not supported: it takes only its default, {default!r}"
        )


def tensor(name: str, value: object, ndims: Sequence[int], layout: str) -> Tensor:
    """`value` as a dense tensor with one of the numbers of dimensions."""
    if not isinstance(value, Tensor):
        raise StnlsTypeError(f"{name} must be a tensor {layout}, not {type(value).__name__}")
    if value.layout != torch.strided:
        raise StnlsTypeError(f"{name} must be a dense tensor, not {value.layout}")
    if value.ndim not in ndims:
        raise StnlsValueError(f"{name} must have shape {layout}, not {tuple(value.shape)}")
    return value


def real_dtype(name: str, value: Tensor) -> None:
    """The dtype is one that the kernels compute in."""
    if value.dtype not in DTYPES:
        known = ", ".join(str(dtype) for dtype in DTYPES)
        raise StnlsTypeError(f"{name} must be one of {known}, not {value.dtype}")


def same(what: str, name0: str, value0: object, name1: str, value1: object) -> None:
    """Two properties of two arguments agree."""
    if value0 != value1:
        raise StnlsValueError(
            f"{name0} and {name1} must have the same {what}, not {value0} and {value1}"
        )


def same_place(name0: str, tensor0: Tensor, name1: str, tensor1: Tensor) -> None:
    """Two tensors are on one device, and it is the CPU or a CUDA device."""
    if tensor0.device != tensor1.device:
        raise StnlsTypeError(
            f"{name0} and {name1} must be on one device, not {tensor0.device} and {tensor1.device}"
        )
    if tensor0.device.type not in ("cpu", "cuda", "meta"):
        raise StnlsTypeError(f"{name0} must be on the CPU or a CUDA device, not {tensor0.device}")


def same_dtype(name0: str, tensor0: Tensor, name1: str, tensor1: Tensor) -> None:
    """Two tensors have one dtype."""
    if tensor0.dtype != tensor1.dtype:
        raise StnlsTypeError(
            f"{name0} and {name1} must have one dtype, not {tensor0.dtype} and {tensor1.dtype}"
        )


def not_empty_frames(name: str, value: Tensor) -> None:
    """Frames have at least one pixel."""
    if value.shape[-1] == 0 or value.shape[-2] == 0:
        raise StnlsValueError(
            f"{name} must have at least one row and one column, not {tuple(value.shape)}"
        )


def enough_frames(frames: int, wt: int) -> None:
    """A sequence holds the 2 wt + 1 frames of the temporal window."""
    if frames < 2 * wt + 1:
        raise StnlsValueError(
            f"wt={wt} needs at least 2*wt+1 = {2 * wt + 1} frames, but the video has {frames}"
        )


def shape(
    name: str,
    value: Tensor,
    expected: Sequence[int | tuple[int, ...]],
    layout: str,
    note: str = "",
) -> None:
    """Every dimension is the expected one (a tuple lists those that are allowed)."""
    for found, wanted in zip(value.shape, expected, strict=True):
        if found not in (wanted if isinstance(wanted, tuple) else (wanted,)):
            text = ", ".join(
                " or ".join(str(w) for w in wanted) if isinstance(wanted, tuple) else str(wanted)
                for wanted in expected
            )
            raise StnlsValueError(
                f"{name} must have shape {layout} = ({text}), not {tuple(value.shape)}{note}"
            )


def covered(height: int, width: int, ps: int, stride0: int, dilation: int, use_adj: bool) -> None:
    """Patches of the query grid cover every pixel of the frame."""
    start = 0 if use_adj else -(ps // 2)
    taps = [dilation * (tap + start) for tap in range(ps)]
    for length in (height, width):
        reached = {origin + tap for origin in range(0, length, stride0) for tap in taps}
        if not reached.issuperset(range(length)):
            raise StnlsValueError(
                f"patches of ps={ps} (dilation {dilation}) on a grid of stride0={stride0} do not "
                f"cover all of {length} pixels: take a larger ps or a smaller stride0"
            )


def finite_number(name: str, value: object) -> float:
    """`value` as a finite float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise StnlsTypeError(f"{name} must be a number, not {shown(value)}")
    if not float("-inf") < value < float("inf"):
        raise StnlsValueError(f"{name} must be finite, not {value}")
    return float(value)


def fraction(name: str, value: object) -> float:
    """`value` as a float from 0 to 1."""
    number = finite_number(name, value)
    if not 0 <= number <= 1:
        raise StnlsValueError(f"{name} must be from 0 to 1, not {value}")
    return number


def floating(name: str, value: Tensor) -> None:
    """The dtype is one of floating-point numbers."""
    if not value.is_floating_point():
        raise StnlsTypeError(f"{name} must hold floating-point numbers, not {value.dtype}")


def numbers(name: str, value: Tensor) -> None:
    """The dtype is one of real numbers, integers among them."""
    if value.is_complex() or value.dtype == torch.bool:
        raise StnlsTypeError(f"{name} must hold real numbers, not {value.dtype}")


def integers(name: str, value: Tensor) -> None:
    """The dtype is one of integers."""
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise StnlsTypeError(f"{name} must hold integers, not {value.dtype}")


def writable(name: str, value: Tensor) -> None:
    """The tensor can be written in place, row after row."""
    if value.is_leaf and value.requires_grad and torch.is_grad_enabled():
        raise StnlsValueError(
            f"{name} is written in place and must not be a leaf that requires a gradient: "
            f"pass {name}.clone()"
        )
    if not value.is_contiguous():
        expected = torch.empty(value.shape, device="meta").stride()
        raise StnlsValueError(
            f"{name} is written in place and must be contiguous, with strides {expected}, "
            f"not {value.stride()}"
        )


def entries(name: str, inds: Tensor, of: str, dists: Tensor, components: int) -> None:
    """`inds` holds an offset of so many components for every entry of `dists`."""
    expected = (*dists.shape, components)
    if tuple(inds.shape) != expected:
        raise StnlsValueError(
            f"{name} must have the shape of {of} and {components} components, {expected}, "
            f"not {tuple(inds.shape)}"
        )


def fill(name: str, value: object, tensor: Tensor) -> torch.dtype:
    """The dtype of `tensor` with entries of `value`, a number, also an infinite one or NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise StnlsTypeError(f"{name} must be a number, not {shown(value)}")
    dtype = tensor.dtype
    if not (dtype.is_floating_point or dtype.is_complex):
        if isinstance(value, float):
            dtype = torch.get_default_dtype()
        elif dtype == torch.bool:
            dtype = torch.int64
    if value - value == 0 and not dtype.is_complex:
        limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            raise StnlsValueError(
                f"{name} must be from {limits.min} to {limits.max} for {dtype}, not {value}"
            )
    return dtype


def grid_note(stride0: int, height: int, width: int) -> str:
    """For messages about the grid of queries: where its size comes from."""
    rows, columns = (height - 1) // stride0 + 1, (width - 1) // stride0 + 1
    return f" (stride0={stride0}: {rows} x {columns} queries of {height} x {width} pixels)"


def neighbour_flow(fflow: Tensor, video: Tensor) -> None:
    """Flow to the next and previous frame comes for every frame of the video."""
    if not (isinstance(fflow, Tensor) and isinstance(video, Tensor)) or fflow.ndim != 5:
        return  # another check has the better words
    frames = video.shape[-4] if video.ndim in (5, 6) else fflow.shape[1]
    if fflow.shape[1] != frames:
        raise StnlsValueError(
            f"fflow and bflow must have one flow for each of the video's {frames} frames, not "
            f"{fflow.shape[1]}: the last of fflow and the first of bflow are not read, so that "
            "anything may stand there"
        )
