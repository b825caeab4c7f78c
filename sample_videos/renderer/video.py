"""Lossless RGB in MP4 (x264), read and written with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray


def write_video(path: Path, frames: Sequence[NDArray[np.uint8]], rate: Fraction) -> None:
    """Write frames (H, W, 3), RGB; what is decoded again is equal to them."""
    draft = path.with_name(f"{path.stem}.partial{path.suffix}")
    with av.open(draft, "w", format="mp4") as container:
        stream = container.add_stream("libx264rgb", rate=rate)
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = "rgb24"
        stream.options = {"qp": "0", "preset": "veryslow", "threads": "1"}
        stream.height, stream.width = frames[0].shape[:2]
        for rgb in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    draft.replace(path)


def read_video(path: Path) -> list[NDArray[np.uint8]]:
    """All frames (H, W, 3), RGB."""
    with av.open(path) as container:
        decoded = container.decode(video=0)
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in decoded]
