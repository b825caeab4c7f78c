"""The normalisation that a configuration names."""

from __future__ import annotations

from stnls import _checks, _config
from stnls.normz.softmax import SoftmaxWeights

_DEFAULTS = {
    "normz_name": "softmax",
    "normz_scale": 10,
    "normz_drop_rate": 0,
    "dist_type": "l2",
    "k_agg": -1,
}


def init(cfg: object) -> SoftmaxWeights:
    """The normalisation that `cfg` describes.

    Args:
        cfg: a dictionary, or an object with attributes. ``normz_name`` ("softmax", the only one),
            ``normz_scale`` (10), ``normz_drop_rate`` (0), ``dist_type`` ("l2") and ``k_agg`` (-1)
            are read, with these defaults, as `SoftmaxWeights` explains them; all else is ignored.

    Returns:
        A module, called as ``weights, inds = normz(dists, inds)``.

    Raises:
        StnlsError: (also ValueError or TypeError) for a value outside its range.

    """
    o = _config.options(cfg, _DEFAULTS)
    _checks.one_of("normz_name", o["normz_name"], ("softmax",))
    _checks.not_negative_number("normz_scale", o["normz_scale"])
    return SoftmaxWeights(o["normz_scale"], o["normz_drop_rate"], o["dist_type"], o["k_agg"])
