"""The tensors of an aggregation, checked, in the dtype to compute in."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stnls import _checks, _ops, _precision
from stnls._offsets import integer_offsets
from stnls._passed import PassedChecks
from stnls.agg._options import PatchOptions


class PatchInputs(NamedTuple):
    """Checked inputs in the dtype to compute in."""

    video: Tensor  # (B, HD, T, C/HD, H, W) or (B, T, C, H, W), as given
    weights: Tensor  # (B, HD, T, nH, nW, K)
    inds: Tensor  # (B, HD, T, nH, nW, K, 3)
    dtype: torch.dtype  # that of the result
    eager: bool = False  # see _ops/_eager.py


_passed = PassedChecks()
"""Options and signatures of inputs that passed the checks and needed no conversion."""


def take_inputs(o: PatchOptions, vid: Tensor, weights: Tensor, inds: Tensor) -> PatchInputs:
    """Checks video, weights and offsets."""
    tensors = (vid, weights, inds)
    signature = _ops.signature(tensors)
    if signature is None:
        return _checked(o, vid, weights, inds)
    if (o, signature) in _passed:
        return PatchInputs(vid, weights, inds, vid.dtype, True)
    inputs = _checked(o, vid, weights, inds)
    found = inputs.video, inputs.weights, inputs.inds
    if all(a is b for a, b in zip(found, tensors, strict=True)):
        _passed.add((o, signature))
    return inputs


def _checked(o: PatchOptions, vid: Tensor, weights: Tensor, inds: Tensor) -> PatchInputs:
    vid = _checks.tensor("vid", vid, (5, 6), "(B, T, C, H, W) or (B, HD, T, C, H, W)")
    weights = _checks.tensor("weights", weights, (6,), "(B, HD, T, nH, nW, K)")
    inds = _checks.tensor("inds", inds, (7,), "(B, HD, T, nH, nW, K, 3)")
    _checks.not_empty_frames("vid", vid)
    _checks.same_place("vid", vid, "weights", weights)
    _checks.same_place("vid", vid, "inds", inds)
    _checks.real_dtype("vid", vid)
    dtype = vid.dtype
    vid, weights = _precision.unified(vid, weights)
    vid, weights = _precision.widened(vid), _precision.widened(weights)
    _checks.same_dtype("vid", vid, "weights", weights)
    heads = weights.shape[1]
    if vid.ndim == 6:
        _checks.equal_heads("vid", vid.shape[1], "weights", heads)
    else:
        _checks.equal_channels("vid", vid.shape[2], heads, f"the {heads} heads of weights do not")
    before, k, size = (vid.shape[0], heads, vid.shape[-4]), weights.shape[5], vid.shape[-2:]
    _checks.query_grid("weights", weights, before, (k,), "(B, HD, T, nH, nW, K)", size, o.stride0)
    _checks.shape("inds", inds, (*weights.shape, 3), "(B, HD, T, nH, nW, K, 3)")
    _checks.numbers("inds", inds)
    inds = inds.to(vid.dtype) if o.itype == "float" else integer_offsets(inds, vid.dtype)
    _checks.no_tangents(vid, weights, inds)
    return PatchInputs(vid, weights, inds, dtype)
