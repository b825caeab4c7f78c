"""What the entries of a search carry, brought to the key pixels that they select."""

from __future__ import annotations

import torch
from torch import Tensor

from stnls import _checks
from stnls._positions import grid_shape
from stnls.graph_opts._keys import check_labels, check_offsets, key_pixels


def scatter_tensor(
    tensor: Tensor,
    flows_k: Tensor,
    labels: Tensor,
    stride0: int,
    stride1: int,
    H: int,
    W: int,
    invalid: float = float("inf"),
) -> Tensor:
    """Brings the value of each entry to its key pixel: ``out[key(q, k), labels[q, k]]``.

    Gradients flow to `tensor`. The number of layers is read from the labels: on a GPU the host
    waits for it.

    Args:
        tensor: (B, HD, T, nH, nW, K) or (B, HD, T, nH, nW, K, M…), the values; any dtype that
            PyTorch fully supports. Integers become torch's default real dtype if `invalid` is a
            float.
        flows_k: (B, HD, T, nH, nW, K, 3), offsets (dt, dh, dw), of integers.
        labels: (B, HD, Q, K), Q = T nH nW, from `scatter_labels` of these offsets. No two entries
            of a key pixel may have the same; entries below 0 are left out. All are below Q K.
        stride0: pixels between queries.
        stride1: pixels between the key pixels of the result. Entries that select a pixel between
            them are left out; 1 keeps all.
        H: rows of a frame.
        W: columns of a frame.
        invalid: what fills the rest.

    Returns:
        (B, HD, Q1, S) or (B, HD, Q1, S, M…), without M if that is 1. Q1 = T nH1 nW1 key pixels in
        raster order, nH1 = (H - 1) // stride1 + 1; S = ``labels.max() + 1`` layers.

    Raises:
        StnlsError: (also ValueError or TypeError) for arguments that do not fit together.

    """
    flows_k = check_offsets(flows_k, stride0, stride1, H, W)
    labels = check_labels(labels, flows_k)
    layout = "(B, HD, T, nH, nW, K) or (B, HD, T, nH, nW, K, M)"
    tensor = _checks.tensor("tensor", tensor, range(6, 65), layout)
    _checks.common_dtype("tensor", tensor)
    _checks.same_place("tensor", tensor, "flows_k", flows_k)
    b, heads, frames = flows_k.shape[:3]
    components = tensor.shape[6:]
    _checks.shape("tensor", tensor, (*flows_k.shape[:6], *components), layout)
    invalid, dtype = _checks.fill("invalid", invalid, tensor)
    if components == (1,):
        tensor, components = tensor.squeeze(-1), torch.Size()

    keys, there = key_pixels(flows_k, stride0, stride1, H, W)
    labels = labels.flatten(2).long()
    layers = max(0, int(labels.max()) + 1) if labels.numel() else 0
    _checks.labels_below("labels", layers - 1, labels.shape[-1])
    rows, columns = grid_shape((H, W), stride1)
    pixels = frames * rows * columns
    planes = torch.arange(b * heads, device=keys.device).view(b, heads, 1)
    cells = ((planes * pixels + keys) * layers + labels).flatten()
    taken = (there & (labels >= 0)).flatten().nonzero().squeeze(-1)
    out = tensor.new_full((b * heads * pixels * layers, *components), invalid, dtype=dtype)
    values = tensor.flatten(0, 5).index_select(0, taken).to(dtype)
    out = out.index_copy(0, cells.index_select(0, taken), values)
    return out.view(b, heads, pixels, layers, *components)
