"""What the modules of all searches have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn

from stnls import _checks, _ops
from stnls.search._options import SearchOptions


class SearchModule(nn.Module):
    """A search with options; it has neither parameters nor buffers."""

    options: SearchOptions

    def radius(self, H: int, W: int) -> int:
        """Positions along each side of the window, whatever the size H × W of a frame."""
        return self.options.ws

    def _windows(self) -> int | None:
        """Windows of each query, where they are not one for each temporal slot."""
        return None

    def flops(self, B: int, T: int, C: int, H: int, W: int) -> int:
        """Floating-point operations by the definition, for videos (B, T, C, H, W); searches of
        pairs count one pair for each of the T frames.

        Every tap of every candidate counts: 3 operations for "l2", 2 for "prod", and 7 more for an
        interpolated pixel of the key. What the kernels save by sharing work is not subtracted.
        """
        shape = self._shape(B, T, C, H, W)
        settings = self.options.settings(with_time=True, windows=self._windows())
        return _ops.search_flops(shape, shape, settings, self._windows())

    def memory(
        self, B: int, T: int, C: int, H: int, W: int, dtype: torch.dtype = torch.float32
    ) -> int:
        """Bytes that a call allocates, for contiguous videos (B, T, C, H, W): its results.

        Candidates are never stored. float16 and bfloat16 videos are copied to float32 first.
        """
        b, heads, t, c, h, w = self._shape(B, T, C, H, W)
        o, windows = self.options, self._windows()
        entries = _ops.entry_count(o.settings(with_time=True, windows=windows), windows)
        queries = b * heads * t * _ops.grid_size(h, o.stride0) * _ops.grid_size(w, o.stride0)
        real = 8 if dtype == torch.float64 else 4
        entry = real + self._components() * (real if o.float_grid else 4)
        copies = 2 * b * heads * t * c * h * w * 4 if dtype.itemsize == 2 else 0
        source = 4 if windows is not None else 0
        return queries * entries * (entry + source) + copies

    def _components(self) -> int:
        """Numbers that an offset has."""
        return 3

    def _shape(self, b: int, t: int, c: int, h: int, w: int) -> Sequence[int]:
        heads = self.options.nheads
        return (b, heads, t, c // heads, h, w)

    def extra_repr(self) -> str:
        """Parameters for `print(module)`."""
        return ", ".join(f"{name}={value!r}" for name, value in self._shown_parameters().items())

    def _shown_parameters(self) -> dict[str, object]:
        """Parameters by their public names."""
        shown: dict[str, object] = asdict(self.options)
        shown["strideQ"] = shown.pop("stride_query")
        return shown

    def _note(self, key: Tensor) -> str:
        """For messages about the grid of queries."""
        return _checks.grid_note(self.options.stride0, *key.shape[-2:])
