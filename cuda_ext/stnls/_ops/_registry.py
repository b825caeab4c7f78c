"""Defining an operator, and running its kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, get_type_hints

import torch
from torch import Tensor
from torch.nn import Parameter

from stnls import _checks, _native
from stnls._errors import StnlsRuntimeError

DTYPES = {torch.float32: 0, torch.float64: 1}

_library = torch.library.Library("stnls", "DEF")


_TYPES = {Tensor: "Tensor", Tensor | None: "Tensor?"}


def schema_of(arguments: type[Any]) -> str:
    """The fields of a NamedTuple, as the arguments of an operator."""
    hints = get_type_hints(arguments)
    types = (_TYPES.get(hints[name]) or hints[name].__name__ for name in arguments._fields)
    return ", ".join(f"{kind} {name}" for kind, name in zip(types, arguments._fields, strict=True))


def define(
    name: str,
    arguments: str,
    result: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> Any:
    """Defines `torch.ops.stnls.<name>` and returns what calls it; without `backward`, going back
    raises an error."""
    _library.define(f"{name}({arguments}) -> {result}")
    for device in ("CPU", "CUDA"):
        _library.impl(name, _without_tangents(kernel), device)
    torch.library.register_fake(f"stnls::{name}", fake, lib=_library)
    # Without a formula PyTorch would only warn, and leave the gradients empty.
    torch.library.register_autograd(
        f"stnls::{name}",
        _no_gradient(name) if backward is None else backward,
        setup_context=setup_context,
        lib=_library,
    )
    return _quick(getattr(torch.ops.stnls, name).default, kernel)


def _quick(operator: Callable[..., Any], kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The operator, or its kernel alone where nothing else would come of it: the way through the
    dispatcher takes as long as a small problem on a GPU."""

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling() or _is_watched(args):
            return operator(*args)
        return kernel(*args)

    return call


def _is_watched(args: Sequence[Any]) -> bool:
    """Whether others than the kernel must see a call: gradients, transforms, modes, tracers,
    subclasses of tensors, the profiler."""
    if (
        _checks.tangents_possible()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._get_tracing_state() is not None
        or torch._C._autograd._profiler_enabled()
    ):
        return True
    gradients = torch.is_grad_enabled()
    for x in args:
        if isinstance(x, Tensor) and (
            type(x) not in (Tensor, Parameter)
            or (gradients and x.requires_grad)
            or not (x.is_cuda or x.is_cpu)
            or x.is_neg()
        ):
            return True
    return False


def _no_gradient(name: str) -> Callable[..., NoReturn]:
    def backward(*_: object) -> NoReturn:
        raise StnlsRuntimeError(
            f"stnls::{name} has no gradient: second derivatives are not supported"
        )

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
        stream = torch.cuda.current_stream(device).cuda_stream
        index = device.index if device.index is not None else torch.cuda.current_device()
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
