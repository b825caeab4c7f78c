"""Shifted Non-Local Search for PyTorch: search, aggregation and flow operators on compiled kernels.

Gauen & Chan, "Space-Time Attention with Shifted Non-Local Search", arXiv 2309.16849.
"""

from __future__ import annotations

from stnls import agg, flow, graph_opts, metrics, nn, normz, search, utils
from stnls._errors import (
    StnlsAttributeError,
    StnlsError,
    StnlsLibraryError,
    StnlsMemoryError,
    StnlsRuntimeError,
    StnlsTypeError,
    StnlsValueError,
)

__version__ = "0.1.0"

__all__ = [
    "StnlsAttributeError",
    "StnlsError",
    "StnlsLibraryError",
    "StnlsMemoryError",
    "StnlsRuntimeError",
    "StnlsTypeError",
    "StnlsValueError",
    "__version__",
    "agg",
    "flow",
    "graph_opts",
    "metrics",
    "nn",
    "normz",
    "search",
    "utils",
]
