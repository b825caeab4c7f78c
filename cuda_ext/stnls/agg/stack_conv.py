"""Aggregation with learned weights: a convolution over the stack of gathered patches."""

from __future__ import annotations

from torch import Tensor, nn

from stnls import _checks, _precision
from stnls._read_only import ReadOnly
from stnls.agg.gather import NonLocalGather


class StackConv(nn.Module):
    """Convolves the stack of matches that `NonLocalGather` returns.

    A kernel takes ``k_agg`` matches of ``ps`` × ``ps`` pixels of one head, zeros outside the frame;
    it moves on by ``k_agg`` matches, and its results are averaged. Matches left over are not used.

    Args:
        k_agg: matches that one kernel takes (≥ 1).
        ps: side of the kernel and of the gathered patches (odd, ≥ 1).
        nheads: heads, the groups of the convolution.
        channels: channels of the video, all heads together.
        stride0, dilation, reflect_bounds, use_adj, itype: as for `NonLocalGather`.
        dropout: share of the convolution's results that are dropped in training, 0..1.
        bias: whether the convolution has a bias.

    Raises:
        StnlsError: (also ValueError or TypeError) for a parameter outside its range.

    """

    k_agg = ReadOnly[int](own=True)
    nheads = ReadOnly[int](own=True)
    channels = ReadOnly[int](own=True)

    def __init__(
        self,
        k_agg: int,
        ps: int,
        nheads: int,
        channels: int,
        stride0: int = 1,
        dilation: int = 1,
        reflect_bounds: bool = True,
        use_adj: bool = False,
        itype: str = "float",
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        k_agg = _checks.positive_int("k_agg", k_agg)
        ps = _checks.positive_int("ps", ps)
        nheads = _checks.positive_int("nheads", nheads)
        channels = _checks.positive_int("channels", channels)
        _checks.odd("ps", ps)
        _checks.equal_channels("StackConv", channels, nheads, f"nheads={nheads} does not")
        _checks.fraction("dropout", dropout)
        _checks.boolean("bias", bias)
        self._k_agg, self._nheads, self._channels = k_agg, nheads, channels
        self.gather = NonLocalGather(ps, stride0, 1, dilation, reflect_bounds, use_adj, itype=itype)
        self.conv = nn.Conv3d(
            channels,
            channels,
            (k_agg, ps, ps),
            stride=(k_agg, 1, 1),
            padding=(0, ps // 2, ps // 2),
            groups=nheads,
            bias=bias,
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, vid: Tensor, weights: Tensor, inds: Tensor) -> Tensor:
        """Aggregates the patches of `vid`.

        Args:
            vid, weights, inds: as for `NonLocalGather`, with K ≥ k_agg matches.

        Returns:
            (B, T, C, H, W), the dtype of the convolution, which is that of `vid` except under
            autocast; differentiable also with respect to the convolution's parameters.

        Raises:
            StnlsError: (also ValueError or TypeError) for tensors that do not fit together, and for
                a convolution of another dtype.

        """
        stack = self.gather(vid, weights, inds)
        b, heads, k, t, c, h, w = stack.shape
        _checks.heads_of_convolution(heads, heads * c, self.nheads, self.channels)
        _checks.whole_kernel(self.k_agg, k)
        conv = self.conv
        weight = conv.weight
        if weight.device != stack.device:
            _checks.same_place("vid", stack, "the convolution", weight)
        if weight.dtype != stack.dtype:
            autocast = _precision.autocast_on(stack.device)
            _checks.dtype_of_convolution("vid", stack, weight, autocast=autocast)
        # (B, HD, K, T, C, H, W) to (B T, HD C, K, H, W).
        stack = stack.permute(0, 3, 1, 4, 2, 5, 6).reshape(b * t, heads * c, k, h, w)
        out: Tensor = self.dropout(conv(stack)).mean(2).unflatten(0, (b, t))
        return out
