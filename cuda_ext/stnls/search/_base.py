"""What the modules of all searches have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import ClassVar

import torch
from torch import Tensor, nn

from stnls import _checks, _ops
from stnls._positions import grid_shape
from stnls._read_only import ReadOnly
from stnls.search._inputs import take_places
from stnls.search._options import SearchOptions


class SearchModule(nn.Module):
    """A search with options; it has neither parameters nor buffers."""

    options: SearchOptions
    ps = ReadOnly[int]()
    k = ReadOnly[int]()
    nheads = ReadOnly[int]()
    stride0 = ReadOnly[int]()
    stride1 = ReadOnly[float]()
    dist_type = ReadOnly[str]()
    dilation = ReadOnly[int]()
    self_action = ReadOnly["str | None"]()
    reflect_bounds = ReadOnly[bool]()
    full_ws = ReadOnly[bool]()
    use_adj = ReadOnly[bool]()
    k_agg = ReadOnly[int]()
    off_Hq = ReadOnly[int]()  # noqa: N815 - the original's name
    off_Wq = ReadOnly[int]()  # noqa: N815
    itype = ReadOnly[str]()
    _of_pairs: ClassVar[bool] = False
    """Whether frames are searched one by one, with offsets that have no time."""
    _not_shown: ClassVar[Sequence[str]] = ("charge",)
    """Options that are no parameters of this search."""

    def radius(self, H: int, W: int) -> int:
        """Positions along each side of the window, whatever the size H × W of a frame."""
        return self.options.ws

    def flops(self, B: int, T: int, C: int, H: int, W: int) -> int:
        """Floating-point operations by the definition, for videos (B, T, C, H, W); searches of
        pairs count one pair for each of the T frames.

        Every tap of every candidate counts: 3 operations for "l2", 2 for "prod", and 7 more for an
        interpolated pixel of the key. What the kernels save by sharing work is not subtracted.

        Raises:
            StnlsError: (also ValueError or TypeError) for sizes that no video has.

        """
        return self._operations((B, T, C, H, W))

    def memory(
        self,
        B: int,
        T: int,
        C: int,
        H: int,
        W: int,
        dtype: torch.dtype = torch.float32,
        *,
        device: torch.device | str = "cpu",
    ) -> int:
        """Bytes that a call allocates, for contiguous videos (B, T, C, H, W): its results.

        Candidates are never stored. float16 and bfloat16 videos are copied to float32 first. A
        copy of given flow in another dtype is not counted.

        Args:
            B, T, C, H, W: sizes of the videos.
            dtype: of the videos.
            device: "cuda" adds the scratch memory of a call on the GPU: on the real grid with
                "l2" up to 12 bytes for each pixel of the key and each head (where few
                matches are kept, with stride0 = 1, two for each match, of pairs six; none for most
                searches with ps = 1), otherwise next to nothing.

        Raises:
            StnlsError: (also ValueError, TypeError or RuntimeError) for sizes that no video has, a
                dtype that videos cannot have, and for "cuda" where those kernels are not built.

        """
        return self._bytes((B, T, C, H, W), dtype) + self._scratch((B, T, C, H, W), dtype, device)

    def _scratch(self, sizes: Sequence[int], dtype: torch.dtype, device: torch.device | str) -> int:
        if _checks.device_kind("device", device) != "cuda":
            return 0
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        settings = self.options.settings(with_time=not self._of_pairs)
        return _ops.search_scratch(self._video_shape(sizes), settings, wide)

    def _operations(self, sizes: Sequence[int], windows: int | None = None) -> int:
        """`flops`; `windows` of each query, where they are not one for each temporal slot."""
        shape = self._video_shape(sizes)
        settings = self.options.settings(with_time=True, windows=windows)
        return _ops.search_flops(shape, shape, settings, windows)

    def _bytes(self, sizes: Sequence[int], dtype: torch.dtype, windows: int | None = None) -> int:
        """`memory`, with `windows` as above."""
        b, heads, t, c, h, w = self._video_shape(sizes)
        o = self.options
        entries = _ops.entry_count(o.settings(with_time=True, windows=windows), windows)
        rows, columns = grid_shape((h, w), o.stride0)
        real = bytes_computed_in(dtype)
        components = 2 if self._of_pairs else 3
        entry = real + components * (real if o.float_grid else 4)
        copies = 2 * b * heads * t * c * h * w * real if dtype.itemsize == 2 else 0
        source = 4 if windows is not None else 0  # refinements: the match that it comes from
        return b * heads * t * rows * columns * entries * (entry + source) + copies

    def _video_shape(self, sizes: Sequence[int]) -> tuple[int, int, int, int, int, int]:
        """(B, HD, T, C/HD, H, W) of the videos that the operator gets."""
        b, t, c, h, w = _checks.sizes(B=sizes[0], T=sizes[1], C=sizes[2], H=sizes[3], W=sizes[4])
        heads = self.options.nheads
        _checks.equal_channels("the video", c, heads, f"nheads={heads} does not")
        if not self._of_pairs:
            _checks.enough_frames(t, self.options.wt)
        batch, frames = (b * t, 1) if self._of_pairs else (b, t)
        return batch, heads, frames, c // heads, h, w

    def extra_repr(self) -> str:
        """Parameters for `print(module)`."""
        return ", ".join(f"{name}={value!r}" for name, value in self._shown_parameters().items())

    def _shown_parameters(self) -> dict[str, object]:
        """Parameters by their public names."""
        shown: dict[str, object] = asdict(self.options)
        for name in self._not_shown:
            del shown[name]
        return shown


def bytes_computed_in(dtype: torch.dtype) -> int:
    """Bytes of a number of the dtype that videos of this dtype are computed in."""
    return 8 if _checks.float_dtype("dtype", dtype) == torch.float64 else 4


class RefinementModule(SearchModule):
    """A search around the matches of an earlier one."""

    wr = ReadOnly[int]("ws")
    topk_mode = ReadOnly[str]()
    kr = ReadOnly[float](own=True)
    _kr: float

    def flops(self, B: int, T: int, C: int, H: int, W: int, *, Ks: int | None = None) -> int:
        """Floating-point operations by the definition, for videos (B, T, C, H, W); refinements of
        pairs count one pair for each of the T frames. What counts is as for `NonLocalSearch`.

        Args:
            B, T, C, H, W: sizes of the videos.
            Ks: matches of the earlier search for each query (≥ 1). None: as many as ``kr`` says
                where that is a number, and one where it is a share of them or all.

        Raises:
            StnlsError: (also ValueError or TypeError) for Ks outside its range, and where ``kr``
                leaves no match.

        """
        return self._operations((B, T, C, H, W), self._windows(Ks))

    def memory(
        self,
        B: int,
        T: int,
        C: int,
        H: int,
        W: int,
        dtype: torch.dtype = torch.float32,
        *,
        device: torch.device | str = "cpu",
        Ks: int | None = None,
    ) -> int:
        """Bytes that a call allocates, for contiguous videos (B, T, C, H, W): its results, and for
        each entry the number of the match that it comes from. Copies as for `NonLocalSearch`.

        Args:
            B, T, C, H, W: sizes of the videos.
            dtype: of the videos.
            device: without effect: refinements take no scratch memory.
            Ks: matches of the earlier search for each query, as for `flops`.

        Raises:
            StnlsError: (also ValueError or TypeError) for Ks outside its range, where ``kr`` leaves
                no match, and for a dtype that videos cannot have.

        """
        return self._bytes((B, T, C, H, W), dtype, self._windows(Ks))

    def _windows(self, matches: int | None) -> int:
        if matches is None:
            return max(1, int(self.kr))
        return kept(self.kr, _checks.positive_int("Ks", matches))

    def _refine(
        self, query: Tensor, key: Tensor, prior: Tensor, names: tuple[str, str]
    ) -> tuple[Tensor, Tensor]:
        """Refines offsets (B, HD, T, nH, nW, Ks, 3 or 2) of checked shape; `names` of the offsets
        and the query."""
        o = self.options
        windows = kept(self.kr, prior.shape[-2])
        _checks.few_candidates(windows, o.ws, f"wr={o.ws} and {windows} matches")
        prior = take_places(prior, query, *names, o)
        return o.refine(query, key, prior, windows)

    def _shown_parameters(self) -> dict[str, object]:
        shown = super()._shown_parameters()
        return {"wr": shown.pop("ws"), "kr": self.kr, **shown}


def kept(kr: float, entries: int) -> int:
    """How many of an earlier search's entries are refined: `kr` as a number of them, as a share of
    them (a float up to 1), or all of them (0 or less)."""
    if kr <= 0:
        windows = entries
    elif isinstance(kr, float) and kr <= 1:
        windows = int(entries * kr)
    else:
        windows = min(int(kr), entries)
    _checks.some_matches(kr, entries, windows)
    return windows
