"""From the distances of a search to the weights of an aggregation."""

from __future__ import annotations

from stnls.normz.api import init
from stnls.normz.softmax import SoftmaxWeights

__all__ = ["SoftmaxWeights", "init"]
