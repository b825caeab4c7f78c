"""Whether a call may go to its kernel at once, past the dispatcher of PyTorch.

The dispatcher is there for what may stand between a call and its kernel: tracing, counters and
other modes, function transforms, autocast, subclasses of Tensor, views that stand for a negative.
A call costs some 20 microseconds that way, with gradients 200. Where nothing of it is in force (the
operators have no rule for autocast) a kernel can be called like any function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import has_torch_function

from stnls._checks import tangents_possible

_C = torch._C


def _state() -> tuple[frozenset[int], frozenset[int]] | None:
    """The keys that a thread has as long as no mode is on (but perhaps inference), and those of
    plain tensors on the CPU and on a GPU. None for a torch that does not tell."""
    try:
        key, keys = _C.DispatchKey, _C.DispatchKeySet
        included = keys(key.BackendSelect), keys(key.BackendSelect).add(key.ADInplaceOrView)
        tensors = []
        for device in ("CPU", "CUDA"):
            inference = keys(getattr(key, device)).add(getattr(key, f"Autocast{device}"))
            autograd = getattr(key, f"Autograd{device}")
            tensors += [inference, inference.add(key.ADInplaceOrView).add(autograd)]
        _C._dispatch_tls_is_dispatch_key_excluded(key.AutogradOther)
        _C._dispatch_tls_local_include_set().raw_repr()
        _C._autograd._profiler_enabled()
        found = (frozenset(keys.raw_repr() for keys in every) for every in (included, tensors))
        return next(found), next(found)
    except AttributeError:
        return None


_NO_MODE, _PLAIN = _state() or (frozenset(), frozenset())


def eager(tensors: Sequence[Tensor | None]) -> bool:
    """Whether nothing stands between a call with these tensors and its kernel, nobody looks on, and
    all of them are plain. A profiler looks on: it finds the operators by name."""
    if torch.compiler.is_compiling() or has_torch_function(tensors) or not _PLAIN:
        return False
    if _C._dispatch_tls_local_include_set().raw_repr() not in _NO_MODE:
        return False
    keys = _C._dispatch_keys
    for tensor in tensors:
        if tensor is not None and keys(tensor).raw_repr() not in _PLAIN:
            return False
    return not _C._autograd._profiler_enabled()


def signature(tensors: Sequence[Any]) -> tuple[object, ...] | None:
    """What the checks of an eager call's tensors depend on: sizes, dtypes and devices. None for
    what is no plain tensor, and while anything but such calls is under way."""
    if not all(isinstance(tensor, Tensor) for tensor in tensors):
        return None
    if tangents_possible() or not eager(tensors):
        return None
    found: list[object] = []
    for tensor in tensors:
        found += (tensor.shape, tensor.dtype, tensor.device)
    return tuple(found)


def differentiates(tensors: Sequence[Tensor | None]) -> bool:
    """Whether a call with these tensors is to be remembered for a backward pass."""
    if not torch.is_grad_enabled():
        return False
    for tensor in tensors:
        if tensor is not None and tensor.requires_grad:
            # The kernel of another operator may run this one, after its own step of autograd.
            return not _C._dispatch_tls_is_dispatch_key_excluded(_C.DispatchKey.AutogradOther)
    return False
