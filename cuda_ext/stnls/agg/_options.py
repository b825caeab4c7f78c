"""The parameters that the aggregations share, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from stnls import _checks
from stnls._ops import PatchSettings


@dataclass(frozen=True)
class PatchOptions:
    """Parameters of one aggregation, with the names of the public classes."""

    ps: int
    stride0: int
    dilation: int
    reflect_bounds: bool
    use_adj: bool
    itype: str

    def __post_init__(self) -> None:
        for name in ("ps", "stride0", "dilation"):  # integers of NumPy become Python's
            object.__setattr__(self, name, _checks.positive_int(name, getattr(self, name)))
        _checks.one_of("itype", self.itype, ("float", "int"))
        for name in ("reflect_bounds", "use_adj"):
            _checks.boolean(name, getattr(self, name))

    def settings(self, *, stacked: bool, normalize: bool, heads_last: bool) -> PatchSettings:
        """Arguments of the operators."""
        return PatchSettings(
            *(self.ps, self.stride0, self.dilation, self.reflect_bounds, self.use_adj),
            float_grid=self.itype == "float",
            stacked=stacked,
            normalize=normalize,
            heads_last=heads_last,
        )
