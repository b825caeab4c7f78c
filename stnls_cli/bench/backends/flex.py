"""PyTorch's FlexAttention, compiled, with a mask of the neighbourhood."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stnls_cli.bench.backends.base import Backend, Case, Outcome, Session, Tensors, time_call
from stnls_cli.bench.backends.windows import as_tokens, as_video, visible
from stnls_cli.bench.calls import attention_scale


class FlexAttention(Backend):
    """A kernel generated for the mask, which leaves out blocks that nobody sees."""

    name = "flex"

    def available(self, session: Session) -> str | None:
        """On GPUs, where it is compiled by Triton."""
        if session.device.type != "cuda":
            return "timed on GPUs only"
        from importlib.util import find_spec

        return None if find_spec("triton") else "triton is not installed"

    def covers(self, case: Case) -> bool:
        """Attention over a neighbourhood, forward."""
        p = case.problem
        return p.operator == "NeighbourhoodAttention" and p.gradients == "none"

    def run(self, case: Case, session: Session) -> Outcome:
        """Times the compiled call on tokens that lie as it wants them."""
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        p = case.problem
        q, k, v = (as_tokens(p, x) for x in case.inputs)
        pixels = p.height * p.width

        def near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            rows = visible(query // p.width, key // p.width, p.ws, p.height)
            return rows & visible(query % p.width, key % p.width, p.ws, p.width)

        blocks = create_block_mask(near, None, None, pixels, pixels, device=str(q.device))
        compiled: Any = torch.compile(flex_attention)
        scale = attention_scale(p)

        def call() -> Tensors:
            return (compiled(q, k, v, block_mask=blocks, scale=scale),)

        outcome = time_call(call, session, "compiled; raster order of pixels")
        assert outcome.results is not None
        return Outcome(outcome.timing, 1.0, (as_video(p, outcome.results[0]),), outcome.note)
