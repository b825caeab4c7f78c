"""A search seen from its matches: who attends to me."""

from __future__ import annotations

from stnls.graph_opts.gather_tensor import gather_tensor
from stnls.graph_opts.scatter_labels import scatter_labels
from stnls.graph_opts.scatter_tensor import scatter_tensor
from stnls.graph_opts.scatter_topk import scatter_topk

__all__ = ["gather_tensor", "scatter_labels", "scatter_tensor", "scatter_topk"]
