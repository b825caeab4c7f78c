"""Defining an operator, and running its kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeVar, get_type_hints

import torch
from torch import Tensor

from stnls import _checks, _native
from stnls._errors import StnlsRuntimeError
from stnls._ops._eager import differentiates, eager

DTYPES = {torch.float32: 0, torch.float64: 1}

# Sizes and strides of a tensor.
Layout = tuple[tuple[int, ...], tuple[int, ...]]

_library = torch.library.Library("stnls", "DEF")


_TYPES = {Tensor: "Tensor", Tensor | None: "Tensor?"}


def schema_of(arguments: type[Any]) -> str:
    """The fields of a NamedTuple, as the arguments of an operator."""
    hints = get_type_hints(arguments)
    types = (_TYPES.get(hints[name]) or hints[name].__name__ for name in arguments._fields)
    return ", ".join(f"{kind} {name}" for kind, name in zip(types, arguments._fields, strict=True))


Arguments = TypeVar("Arguments", bound=NamedTuple)
Settings = TypeVar("Settings", bound=NamedTuple)


def by_name(
    arguments: type[Arguments], settings: type[Settings], args: tuple[Any, ...]
) -> tuple[Arguments, Settings]:
    """What an operator is called with: the arguments before its settings, and these."""
    count = len(arguments._fields)
    return arguments._make(args[:count]), settings._make(args[count:])


def define(
    name: str,
    arguments: str,
    result: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
    plan_backward: Callable[..., None] | None = None,
) -> Any:
    """Defines `torch.ops.stnls.<name>` and returns it as a function; without `backward`, the
    operator is a gradient itself, and going backward raises an error. Tensors are the first of
    the arguments. `plan_backward` follows `setup_context`, with the same arguments, in calls past
    the dispatcher. `known_eager`: the caller has asked `eager` about them."""
    _library.define(f"{name}({arguments}) -> {result}")
    kernel = _without_tangents(kernel)
    for device in ("CPU", "CUDA"):
        _library.impl(name, kernel, device)
    torch.library.register_fake(f"stnls::{name}", fake, lib=_library)
    # Without a formula PyTorch would only warn, and leave the gradients empty.
    if backward is None:
        backward = no_gradient(
            f"stnls::{name} has no gradient: second derivatives are not supported"
        )
    torch.library.register_autograd(
        f"stnls::{name}", backward, setup_context=setup_context, lib=_library
    )
    operator = getattr(torch.ops.stnls, name).default
    tensors = sum(argument.lstrip().startswith("Tensor") for argument in arguments.split(","))
    differentiable = _differentiable(
        name, kernel, backward, (setup_context, plan_backward), tensors
    )

    def call(*args: Any, known_eager: bool = False) -> Any:
        given = args[:tensors]
        if not (known_eager or eager(given)):
            return operator(*args)
        if differentiates(given):
            return differentiable.apply(*given, args[tensors:])
        return kernel(*args)

    return call


def _differentiable(
    name: str,
    kernel: Callable[..., Any],
    backward: Callable[..., Any],
    contexts: tuple[Callable[..., None] | None, ...],
    tensors: int,
) -> type[torch.autograd.Function]:
    """What autograd remembers of a call past the dispatcher. The tensors are arguments of their
    own, and what follows them is one more."""

    prepare = tuple(context for context in contexts if context is not None)

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            inputs = (*args[:tensors], *args[tensors])
            output = kernel(*inputs)
            for context in prepare:
                context(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return *backward(ctx, *grads)[:tensors], None

    Differentiable.__name__ = Differentiable.__qualname__ = f"stnls_{name}"
    return Differentiable


def no_gradient(message: str) -> Callable[..., NoReturn]:
    """A backward step that raises StnlsRuntimeError."""

    def backward(*_: object) -> NoReturn:
        raise StnlsRuntimeError(message)

    return backward


def _without_tangents(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel, with a check that compiled graphs and gradients run too."""

    def checked(*args: Any) -> Any:
        if _checks.tangents_possible():
            _checks.no_tangents(*(x for x in args if isinstance(x, Tensor)))
        return kernel(*args)

    return checked


def run(name: str, problem: ctypes.Structure, device: torch.device, *cpu_more: int) -> None:
    """Runs a kernel on the threads or the current stream of PyTorch."""
    if device.type == "cuda":
        index = device.index  # tensors know theirs
        stream = torch._C._cuda_getCurrentRawStream(index)
        _native.call_cuda(f"stnls_cuda_{name}", problem, index, stream)
    else:
        _native.call_cpu(f"stnls_cpu_{name}", problem, torch.get_num_threads(), *cpu_more)


def rows_contiguous(video: Tensor) -> Tensor:
    """`video`, or a copy of it whose pixels lie beside each other within a row."""
    return video if video.stride(-1) == 1 or video.shape[-1] == 1 else video.contiguous()


def zeros_like_rows(video: Tensor) -> Tensor:
    """Zeros, in the memory layout of `video` if pixels lie beside each other within its rows."""
    zeros = torch.zeros_like(video)
    return rows_contiguous(zeros)


def nothing(like: Tensor) -> Tensor:
    """What an operator returns in place of a gradient that nobody asked for."""
    return like.new_empty(0)


def pointer(tensor: Tensor | None) -> int | None:
    """Address of the first element; None for no tensor."""
    return None if tensor is None else tensor.data_ptr()
