"""Decoded frames to RGB on the 0-255 scale, honouring colour matrix and range.

8-bit sources go through swscale with accurate rounding and interpolated chroma, which is within
half a level of exact arithmetic. Deeper ones do not: swscale's 48-bit output is up to one 8-bit
level off and scales limited and full range differently. There swscale only brings chroma to full
resolution, and the arithmetic is done here in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stnls_cli.video.info import Pixels

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

# swscale flags: bicubic | full chroma interpolation | accurate rounding.
SWSCALE_FLAGS = 0x4 | 0x2000 | 0x40000
LIMITED, FULL = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG

# AVCOL_SPC_* to (name, swscale's number, Kr, Kb).
MATRICES: dict[int, tuple[str, int, float, float]] = {
    1: ("BT.709", 1, 0.2126, 0.0722),
    4: ("FCC", 4, 0.30, 0.11),
    5: ("BT.601", 5, 0.299, 0.114),
    6: ("BT.601", 5, 0.299, 0.114),
    7: ("SMPTE 240M", 7, 0.212, 0.087),
    9: ("BT.2020", 9, 0.2627, 0.0593),
}
UNTAGGED = (0, 2, 3)
HDR = {16: "PQ", 18: "HLG"}
# These leave the range out of the stream when it is limited; still images and FFV1 do not.
LIMITED_GREY = ("h264", "hevc", "vvc", "mpeg2video", "mpeg4", "vp8", "vp9")


@dataclass(frozen=True)
class Layout:
    """What a pixel format holds. `bits` is the depth of its deepest colour component."""

    kind: str  # "rgb", "grey" or "yuv"
    bits: int
    alpha: bool
    big_endian: bool


def layout_of(pixel_format: av.VideoFormat) -> Layout:
    """Kind and depth of a pixel format."""
    name = pixel_format.name
    colour = [c for c in pixel_format.components if not c.is_alpha]
    alpha = len(colour) < len(pixel_format.components)
    bits = max((c.bits for c in colour), default=8)
    if name.startswith(("gray", "ya8", "ya16")):
        kind = "grey"
    elif pixel_format.is_rgb or pixel_format.has_palette or name.startswith(("mono", "xyz")):
        kind = "rgb"
    else:
        kind = "yuv"
    return Layout(kind, bits, alpha, pixel_format.is_big_endian)


@dataclass(frozen=True)
class ColourRule:
    """Matrix and range used for a frame, and what had to be assumed."""

    matrix: int
    full: bool
    notes: tuple[str, ...]


def rule_of(frame: av.VideoFrame, codec: str = "") -> ColourRule:
    """Matrix and range of a decoded frame; assumptions where it does not say.

    Matrix unspecified: BT.709 from 720 stored rows, else BT.601. Range unspecified: limited for
    YUV; full for yuvj, RGB, and grey unless its codec defaults to limited.
    """
    layout = layout_of(frame.format)
    tagged = int(frame.color_range)
    if layout.kind == "rgb":
        wrong = tagged == LIMITED
        return ColourRule(5, True, ("limited range of RGB taken as full",) if wrong else ())
    notes = []
    if tagged in (LIMITED, FULL):
        full = tagged == FULL
    elif layout.kind == "grey":
        full = codec not in LIMITED_GREY
    else:
        full = frame.format.name.startswith("yuvj")
        if not full:
            notes.append("colour range unspecified: limited assumed")
    if layout.kind == "grey":
        return ColourRule(5, full, ())
    space = int(frame.colorspace)
    if space not in MATRICES:
        assumed = 1 if frame.height >= 720 else 5
        what = "unspecified" if space in UNTAGGED else f"number {space} unsupported"
        reason = "720 rows or more" if assumed == 1 else "under 720 rows"
        notes.append(f"colour matrix {what}: {MATRICES[assumed][0]} assumed ({reason})")
        space = assumed
    transfer = int(getattr(frame, "color_trc", 0))
    if transfer in HDR:
        notes.append(f"HDR transfer ({HDR[transfer]}): values taken as they are, not tone-mapped")
    return ColourRule(space, full, tuple(notes))


def plane(frame: av.VideoFrame, number: int, dtype: str, channels: int = 1) -> NDArray[Any]:
    """View of a plane without its padding: (h, w), or (h, w, channels) when packed."""
    data: Any = frame.planes[number]
    rows: NDArray[Any] = np.frombuffer(data, dtype).reshape(data.height, -1)
    if channels == 1:
        return rows[:, : data.width]
    return rows[:, : data.width * channels].reshape(data.height, data.width, channels)


def scaled(codes: NDArray[Any], factor: float) -> NDArray[np.float32]:
    """Codes times `factor`, in float32."""
    values: NDArray[np.float32] = codes.astype(np.float32)
    values *= np.float32(factor)
    return values


def to_rgb(
    frame: av.VideoFrame,
    rule: ColourRule,
    reformatter: VideoReformatter,
    size: tuple[int, int] | None = None,
    deep: bool | None = None,
) -> Pixels:
    """RGB of a decoded frame, (h, w, 3).

    `size`: stored (width, height) to resize to with swscale's bicubic filter (widened when
    shrinking, so it does not alias). `deep`: float32 instead of uint8; by default when the source
    has more than 8 bits.
    """
    layout = layout_of(frame.format)
    deep = layout.bits > 8 if deep is None else deep
    width, height = size or (frame.width, frame.height)
    if layout.kind == "grey":
        return _grey(frame, layout, rule, reformatter, (width, height), deep)
    if layout.bits <= 8 or not deep:
        rgb = _reformat(reformatter, frame, "rgb24", rule, FULL, width, height)
        pixels: NDArray[np.uint8] = plane(rgb, 0, "u1", 3).copy()
        return pixels.astype(np.float32) if deep else pixels
    if layout.kind == "yuv":
        return _deep_yuv(frame, rule, reformatter, width, height)
    return _deep_rgb(frame, layout, rule, reformatter, width, height)


def _reformat(
    reformatter: VideoReformatter,
    frame: av.VideoFrame,
    pixel_format: str,
    rule: ColourRule,
    target_range: int,
    width: int,
    height: int,
) -> av.VideoFrame:
    matrix = MATRICES[rule.matrix][1]
    source_range = FULL if rule.full else LIMITED
    if target_range == 0:
        # Both limited: codes are moved as they are (swscale treats full range unevenly here).
        source_range = target_range = LIMITED
    return reformatter.reformat(
        frame,
        width=width,
        height=height,
        format=pixel_format,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        interpolation=SWSCALE_FLAGS,
        src_color_range=source_range,
        dst_color_range=target_range,
    )


def _deep_yuv(
    frame: av.VideoFrame,
    rule: ColourRule,
    reformatter: VideoReformatter,
    width: int,
    height: int,
) -> NDArray[np.float32]:
    bits = layout_of(frame.format).bits
    wide = _reformat(reformatter, frame, "yuv444p16le", rule, 0, width, height)
    # swscale shifted the codes up to 16 bits; black, white and neutral shift along.
    luma, blue, red = (plane(wide, i, "<u2").astype(np.float32) for i in range(3))
    step = np.float32(2 ** (16 - bits))
    unit = 2.0**8
    if rule.full:
        black, span, chroma_span = 0.0, float((2**bits - 1) * step), float((2**bits - 1) * step)
    else:
        black, span, chroma_span = 16 * unit, 219 * unit, 224 * unit
    _, _, kr, kb = MATRICES[rule.matrix]
    luma = (luma - np.float32(black)) * np.float32(255 / span)
    blue = (blue - np.float32(2**15)) * np.float32(255 * 2 * (1 - kb) / chroma_span)
    red = (red - np.float32(2**15)) * np.float32(255 * 2 * (1 - kr) / chroma_span)
    rgb = np.empty((height, width, 3), np.float32)
    kg = 1 - kr - kb
    rgb[..., 0] = luma + red
    rgb[..., 1] = luma - np.float32(kr / kg) * red - np.float32(kb / kg) * blue
    rgb[..., 2] = luma + blue
    return np.clip(rgb, 0, 255, out=rgb)


def _deep_rgb(
    frame: av.VideoFrame,
    layout: Layout,
    rule: ColourRule,
    reformatter: VideoReformatter,
    width: int,
    height: int,
) -> NDArray[np.float32]:
    name = frame.format.name
    order = ">u2" if layout.big_endian else "<u2"
    if (width, height) != (frame.width, frame.height):
        frame = _reformat(reformatter, frame, name, rule, 0, width, height)
    if name.startswith(("gbrp", "gbrap")) and layout.bits <= 16:
        green, blue, red = (plane(frame, i, order) for i in range(3))
        codes = np.stack([red, green, blue], axis=-1)
        return scaled(codes, 255 / (2**layout.bits - 1))
    if name.startswith(("rgb48", "rgba64")):
        codes = plane(frame, 0, order, 3 if name.startswith("rgb48") else 4)[..., :3]
    else:
        wide = _reformat(reformatter, frame, "rgb48le", rule, FULL, width, height)
        codes = plane(wide, 0, "<u2", 3)
    return scaled(codes, 255 / 65535)


def _grey(
    frame: av.VideoFrame,
    layout: Layout,
    rule: ColourRule,
    reformatter: VideoReformatter,
    size: tuple[int, int],
    deep: bool,
) -> Pixels:
    # swscale takes every grey for full range, whatever its tag says: done here.
    if layout.bits > 16:
        frame = _reformat(reformatter, frame, "gray16le", rule, 0, *size)
        layout = Layout("grey", 16, False, False)
    if size != (frame.width, frame.height):
        frame = _reformat(reformatter, frame, frame.format.name, rule, 0, *size)
    order = "u1" if layout.bits <= 8 else ">u2" if layout.big_endian else "<u2"
    codes = plane(frame, 0, order, 2)[..., 0] if layout.alpha else plane(frame, 0, order)
    if layout.bits <= 8 and rule.full and not deep:
        return np.repeat(codes[..., None], 3, axis=-1)
    unit = 2.0 ** (layout.bits - 8)
    black, span = (0.0, 2.0**layout.bits - 1) if rule.full else (16 * unit, 219 * unit)
    grey = (codes.astype(np.float32) - np.float32(black)) * np.float32(255 / span)
    grey = np.clip(grey, 0, 255, out=grey)
    if deep:
        return np.repeat(grey[..., None], 3, axis=-1)
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=-1)
