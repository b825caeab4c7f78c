"""PyTorch's scaled_dot_product_attention with a mask of the neighbourhood."""

from __future__ import annotations

from torch.nn.functional import scaled_dot_product_attention

from stnls_cli.bench.backends.base import Backend, Case, Outcome, Session, Tensors, time_call
from stnls_cli.bench.backends.windows import as_tokens, as_video, mask
from stnls_cli.bench.calls import attention_scale

MOST_PIXELS = 2**14
"""Every pair of pixels has a place in the mask."""


class MaskedAttention(Backend):
    """Attention over the whole frame, all but the window masked."""

    name = "sdpa"

    def available(self, session: Session) -> None:
        """Part of PyTorch."""
        return

    def covers(self, case: Case) -> bool:
        """Attention over a neighbourhood, frames that are not large, forward."""
        p = case.problem
        small = p.height * p.width <= MOST_PIXELS
        return p.operator == "NeighbourhoodAttention" and small and p.gradients == "none"

    def run(self, case: Case, session: Session) -> Outcome:
        """Times the call on tokens that lie as it wants them; the mask is made before."""
        p = case.problem
        q, k, v = (as_tokens(p, x) for x in case.inputs)
        allowed = mask(p, q.device)
        scale = attention_scale(p)

        def call() -> Tensors:
            return (scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=scale),)

        outcome = time_call(call, session, "dense mask")
        assert outcome.results is not None
        return Outcome(outcome.timing, 1.0, (as_video(p, outcome.results[0]),), outcome.note)
