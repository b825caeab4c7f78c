"""Who computes a problem: this library, a reference in plain PyTorch, and other tools (peers)."""

from __future__ import annotations

from stnls_cli.bench.backends.base import Backend, Case, Outcome, Session


def make_backend(name: str) -> Backend:
    """The backend of a name in `stnls_cli.bench.options.BACKENDS`."""
    from stnls_cli.bench.backends.flex import FlexAttention
    from stnls_cli.bench.backends.natten import Natten
    from stnls_cli.bench.backends.opencv import OpenCv
    from stnls_cli.bench.backends.original import Original
    from stnls_cli.bench.backends.ours import Ours
    from stnls_cli.bench.backends.plain import Plain
    from stnls_cli.bench.backends.sdpa import MaskedAttention

    kinds: tuple[type[Backend], ...] = (
        *(Ours, Plain, Original, Natten, MaskedAttention, FlexAttention, OpenCv),
    )
    return next(kind for kind in kinds if kind.name == name)()


__all__ = ["Backend", "Case", "Outcome", "Session", "make_backend"]
