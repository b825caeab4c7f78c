"""NATTEN: fused attention over a neighbourhood, without flow."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from stnls_cli.bench.backends.base import Backend, Case, Outcome, Session, Tensors, time_call
from stnls_cli.bench.calls import attention_scale
from stnls_cli.bench.problem import Problem


class Natten(Backend):
    """Its fused two-dimensional attention."""

    name = "natten"

    def available(self, session: Session) -> str | None:
        """Where it is installed, on GPUs."""
        if find_spec("natten") is None:
            return "natten is not installed"
        if session.device.type != "cuda":
            return "timed on GPUs only"
        try:
            _function()
        except (ImportError, AttributeError, OSError, RuntimeError) as error:
            return f"natten does not work here: {error}"
        return None

    def covers(self, case: Case) -> bool:
        """Attention over a neighbourhood, an odd window, forward."""
        p = case.problem
        odd = p.ws % 2 == 1
        return p.operator == "NeighbourhoodAttention" and odd and p.gradients == "none"

    def run(self, case: Case, session: Session) -> Outcome:
        """Times the call on tensors that lie as it wants them."""
        p = case.problem
        attend = _function()
        q, k, v = (_channels_last(p, x) for x in case.inputs)
        scale = attention_scale(p)

        def call() -> Tensors:
            return (attend(q, k, v, kernel_size=p.ws, scale=scale),)

        outcome = time_call(call, session)
        assert outcome.results is not None
        video = outcome.results[0].flatten(3).permute(0, 3, 1, 2)[None]
        return Outcome(outcome.timing, 1.0, (video,), outcome.note)


def _function() -> Any:
    """`na2d`, whose place has changed between versions."""
    try:
        return import_module("natten.functional").na2d
    except (ImportError, AttributeError):
        return import_module("natten").na2d


def _channels_last(p: Problem, video: Tensor) -> Tensor:
    """(T, H, W, heads, c)."""
    heads: Tensor = video[0].permute(0, 2, 3, 1).unflatten(3, (p.heads, -1))
    return heads.contiguous()
