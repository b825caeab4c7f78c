"""Flow composition."""

from __future__ import annotations

from stnls.nn.search_flow import compose_flow, search_flow

__all__ = ["compose_flow", "search_flow"]
