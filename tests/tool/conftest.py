"""Clips that tests make for themselves."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

Frames = list[NDArray[np.uint8]]


@pytest.fixture(scope="session")
def textured() -> Callable[..., Frames]:
    """`textured(n, height=64, width=96)`: n frames of a texture that moves by (2, 1) pixels."""

    def make(count: int, height: int = 64, width: int = 96) -> Frames:
        rng = np.random.default_rng(1)
        shape = (height // 8 + count // 8 + 2, width // 8 + count // 4 + 2, 3)
        scene = np.kron(rng.integers(0, 256, shape), np.ones((8, 8, 1), int)).astype(np.uint8)
        return [
            np.ascontiguousarray(scene[i : i + height, 2 * i : 2 * i + width]) for i in range(count)
        ]

    return make


@pytest.fixture(scope="session")
def encode() -> Callable[..., Path]:
    """`encode(path, frames, codec=, pixel_format=, ...)`: write RGB frames as a video file.

    `times`: presentation times in 1/25 s (default 0, 1, ...); `setup(stream)` may set more.
    """

    def write(
        path: Path,
        frames: Frames,
        *,
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        times: list[int] | None = None,
        setup: Callable[[Any], None] | None = None,
    ) -> Path:
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream: Any = container.add_stream(codec, rate=25, options=options or {})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = pixel_format
            stream.time_base = Fraction(1, 25)
            if setup is not None:
                setup(stream)
            for index, rgb in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format)
                frame.pts = times[index] if times else index
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write
