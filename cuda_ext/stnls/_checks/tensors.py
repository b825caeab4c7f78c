"""Checks of tensors of any meaning: kind, dtype, device, shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from stnls._checks.scalars import any_int, any_number, positive_int, shown
from stnls._errors import StnlsRuntimeError, StnlsTypeError, StnlsValueError

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# PyTorch has all operations for these.
COMMON_DTYPES = {
    *(*DTYPES, torch.bool, torch.complex64, torch.complex128),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}


def tensor(name: str, value: object, ndims: Sequence[int], layout: str) -> Tensor:
    """`value` as a dense tensor with one of the numbers of dimensions."""
    if not isinstance(value, Tensor):
        raise StnlsTypeError(f"{name} must be a tensor {layout}, not {type(value).__name__}")
    if value.is_nested:
        raise StnlsTypeError(f"{name} must be a dense tensor, not a nested one")
    if value.is_quantized:
        raise StnlsTypeError(f"{name} must be a dense tensor, not a quantized one")
    if value.layout != torch.strided:
        raise StnlsTypeError(f"{name} must be a dense tensor, not {value.layout}")
    if value.ndim not in ndims:
        raise StnlsValueError(f"{name} must have shape {layout}, not {tuple(value.shape)}")
    return value


def float_dtype(name: str, value: object) -> torch.dtype:
    """`value` is a dtype that videos and flow may have."""
    if not isinstance(value, torch.dtype) or value not in DTYPES:
        known = ", ".join(str(dtype) for dtype in DTYPES)
        raise StnlsTypeError(f"{name} must be one of {known}, not {shown(value)}")
    return value


def device_kind(name: str, value: object) -> str:
    """The kind of the device, "cuda" of "cuda:1"."""
    if not isinstance(value, (str, torch.device)):
        raise StnlsTypeError(f"{name} must be a device or its name, not {shown(value)}")
    try:
        return torch.device(value).type
    except RuntimeError:
        raise StnlsValueError(f"{name} must be a device such as cpu or cuda, not {value}") from None


def sizes(**given: object) -> list[int]:
    """Sizes of a video by their names; its frames have pixels, the rest may be empty."""
    return [
        positive_int(name, value, minimum=1 if name in ("H", "W") else 0)
        for name, value in given.items()
    ]


def real_dtype(name: str, value: Tensor) -> None:
    """The dtype is one that the kernels compute in."""
    float_dtype(name, value.dtype)


def common_dtype(name: str, value: Tensor) -> None:
    """The dtype is one whose values PyTorch moves and adds: not one of 8-bit reals, of unsigned
    integers of more bits, or of half-precision complex numbers."""
    if value.dtype not in COMMON_DTYPES:
        raise StnlsTypeError(
            f"{name} must have a dtype that PyTorch fully supports, not {value.dtype}: convert it, "
            "to torch.float32 or torch.int64 say"
        )


def floating(name: str, value: Tensor) -> None:
    """The dtype is one of floating-point numbers of 16 bits or more."""
    if not value.is_floating_point() or value.dtype.itemsize < 2:
        raise StnlsTypeError(f"{name} must hold floating-point numbers, not {value.dtype}")


def numbers(name: str, value: Tensor) -> None:
    """The dtype is one of real numbers, integers among them; not one of 8-bit reals."""
    if not _of_numbers(value.dtype):
        raise StnlsTypeError(f"{name} must hold real numbers, not {value.dtype}")


def _of_numbers(dtype: torch.dtype) -> bool:
    narrow = dtype.is_floating_point and dtype.itemsize < 2
    return not (dtype.is_complex or dtype == torch.bool or narrow)


def number_dtype(name: str, value: object) -> torch.dtype:
    """`value` is a dtype of real numbers, integers among them; not one of 8-bit reals."""
    if not isinstance(value, torch.dtype) or not _of_numbers(value):
        raise StnlsTypeError(f"{name} must be a dtype of real numbers, not {shown(value)}")
    return value


def holds_grid(what: str, dtype: torch.dtype, *largest: int) -> None:
    """`dtype` holds all whole numbers up to the `largest` coordinates of a grid."""
    real = dtype.is_floating_point
    limit = int(2 / torch.finfo(dtype).eps) if real else torch.iinfo(dtype).max
    if any(number > limit for number in largest):
        raise StnlsValueError(
            f"{what} of {dtype} holds whole numbers up to {limit}, but the grid reaches "
            f"{max(largest)}: take a wider dtype"
        )


def integers(name: str, value: Tensor) -> None:
    """The dtype is one of integers."""
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise StnlsTypeError(f"{name} must hold integers, not {value.dtype}")


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


def shape(
    name: str,
    value: Tensor,
    expected: Sequence[int | tuple[int, ...]],
    layout: str,
    note: Callable[[], str] = str,
) -> None:
    """Every dimension is the expected one (a tuple lists those that are allowed); `note` makes the
    end of the message."""
    for found, wanted in zip(value.shape, expected, strict=True):
        # Not `in`: traced, a size that changes is never found in a tuple with a number.
        if all(found != size for size in (wanted if isinstance(wanted, tuple) else (wanted,))):
            text = ", ".join(
                " or ".join(str(w) for w in wanted) if isinstance(wanted, tuple) else str(wanted)
                for wanted in expected
            )
            raise StnlsValueError(
                f"{name} must have shape {layout} = ({text}), not {tuple(value.shape)}{note()}"
            )


def dimension(name: str, value: object, of: str, tensor: Tensor) -> int:
    """`value` as the number of a dimension of `tensor`, from 0; negative ones count from the
    last."""
    dim = any_int(name, value)
    if not -tensor.ndim <= dim < tensor.ndim:
        raise StnlsValueError(
            f"{name} must be from {-tensor.ndim} to {tensor.ndim - 1} for {of} of shape "
            f"{tuple(tensor.shape)}, not {dim}"
        )
    return dim % tensor.ndim


def not_empty_frames(name: str, value: Tensor) -> None:
    """Frames have at least one pixel."""
    if value.shape[-1] == 0 or value.shape[-2] == 0:
        raise StnlsValueError(
            f"{name} must have at least one row and one column, not {tuple(value.shape)}"
        )


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


def tangents_possible() -> bool:
    """Whether differentiation in forward mode is under way."""
    return bool(forward_ad._current_level >= 0)


def no_tangents(*tensors: Tensor | None) -> None:
    """No tensor carries a tangent of forward-mode differentiation: the operators have no rule for
    it, and torch would go on with a tangent of zero without a word."""
    if torch.compiler.is_compiling():
        return  # the operators' kernels look again when the graph runs
    if not tangents_possible():
        return
    for value in tensors:
        if value is not None and forward_ad.unpack_dual(value).tangent is not None:
            raise StnlsRuntimeError(
                "forward-mode derivatives (torch.func.jvp, torch.autograd.forward_ad) are not "
                f"supported, but {shown(value)} carries a tangent: use the reverse mode"
            )


def entries(name: str, inds: Tensor, of: str, dists: Tensor, components: int) -> None:
    """`inds` holds an offset of so many components for every entry of `dists`."""
    expected = (*dists.shape, components)
    if tuple(inds.shape) != expected:
        raise StnlsValueError(
            f"{name} must have the shape of {of} and {components} components, {expected}, "
            f"not {tuple(inds.shape)}"
        )


def labels_below(name: str, largest: int, entries: int) -> None:
    """Labels number the entries of a search that select one key pixel: no more than there are."""
    if largest >= entries:
        raise StnlsValueError(
            f"{name} must be below the number of entries of a head, {entries}, not {largest}"
        )


def fill(name: str, value: object, tensor: Tensor) -> tuple[float, torch.dtype]:
    """`value`, a number, also an infinite one or NaN, and the dtype of `tensor` with entries of
    it."""
    number = any_number(name, value)
    dtype = tensor.dtype
    real = dtype.is_floating_point or dtype.is_complex
    if not real and isinstance(number, float):
        dtype, real = torch.get_default_dtype(), True
    elif dtype == torch.bool:
        dtype = torch.int64
    if number - number == 0:
        limits = torch.finfo(dtype) if real else torch.iinfo(dtype)
        if not limits.min <= number <= limits.max:
            raise StnlsValueError(
                f"{name} must be from {limits.min} to {limits.max} for {dtype}, not {value}"
            )
    # PyTorch takes no int beyond 64 bits, for reals either.
    return float(number) if real else number, dtype
