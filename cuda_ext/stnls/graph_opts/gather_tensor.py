"""What lies at the key pixels, brought back to the entries of a search that select them."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls import _checks
from stnls._positions import grid_shape
from stnls.graph_opts._keys import check_labels, check_offsets, key_pixels


def gather_tensor(
    tensor: Tensor,
    flows_k: Tensor,
    labels: Tensor,
    stride0: int,
    stride1: int,
    H: int,
    W: int,
    invalid: float = float("inf"),
) -> Tensor:
    """Brings values at key pixels back: ``out[q, k] = tensor[key(q, k), labels[q, k]]``.

    The inverse of `scatter_tensor`, with the same arguments. Gradients flow to `tensor`.

    Args:
        tensor: (B, HD, Q1, S) or (B, HD, Q1, S, M…), values of S layers at Q1 = T nH1 nW1 key
            pixels in raster order, nH1 = (H - 1) // stride1 + 1; any dtype that PyTorch fully
            supports. Integers become torch's default real dtype if `invalid` is a float.
        flows_k: (B, HD, T, nH, nW, K, 3), offsets (dt, dh, dw), of integers.
        labels: (B, HD, Q, K), Q = T nH nW, from `scatter_labels` of these offsets.
        stride0: pixels between queries.
        stride1: pixels between the key pixels of `tensor`.
        H: rows of a frame.
        W: columns of a frame.
        invalid: what entries get that have no value: those whose label is below 0 or not below S,
            and those that select a pixel between the key pixels.

    Returns:
        (B, HD, T, nH, nW, K) or (B, HD, T, nH, nW, K, M…).

    Raises:
        StnlsError: (also ValueError or TypeError) for arguments that do not fit together.

    """
    flows_k = check_offsets(flows_k, stride0, stride1, H, W)
    labels = check_labels(labels, flows_k)
    layout = "(B, HD, Q1, S) or (B, HD, Q1, S, M)"
    tensor = _checks.tensor("tensor", tensor, range(4, 65), layout)
    _checks.common_dtype("tensor", tensor)
    _checks.same_place("tensor", tensor, "flows_k", flows_k)
    b, heads, frames = flows_k.shape[:3]
    layers, components = tensor.shape[3], tensor.shape[4:]
    rows, columns = grid_shape((H, W), stride1)
    pixels = frames * rows * columns
    expected = (b, heads, pixels, layers, *components)
    _checks.shape("tensor", tensor, expected, layout)
    invalid, dtype = _checks.fill("invalid", invalid, tensor)

    shape = (*flows_k.shape[:6], *components)
    if tensor.numel() == 0:
        return tensor.new_full(shape, invalid, dtype=dtype)
    keys, there = key_pixels(flows_k, stride0, stride1, H, W)
    labels = labels.flatten(2).long()
    there = there & (labels >= 0) & (labels < layers)
    # Entries without a value read a cell of their own plane, whose value they do not use.
    cells = torch.where(there, keys * layers + labels, 0)
    ones = [1] * len(components)
    index = cells.view(*cells.shape, *ones).expand(*cells.shape, *components)
    values = tensor.flatten(2, 3).gather(2, index).to(dtype)
    out = torch.where(there.view(*there.shape, *ones), values, invalid)
    return out.to(dtype).view(shape)
