"""Frames decoded, and sent to the device, on a thread that runs ahead of the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from stnls_cli.timings import Timings
from stnls_cli.transfer import Arriving, Uploads

if TYPE_CHECKING:
    from stnls_cli.video import Clip, Frame
    from stnls_cli.video.info import Pixels

AHEAD = 3
"""Frames that are decoded before anyone asks for them."""


@dataclass(frozen=True)
class ReadFrame:
    """Frame `index` of the clip: (H, W, 3) as it was decoded, and on its way to the device."""

    index: int
    rgb: Pixels
    pixels: Arriving


class FrameReader:
    """Reads a clip in order. Close it before the clip: FFmpeg would crash."""

    def __init__(self, clip: Clip, device: torch.device, timings: Timings) -> None:
        self._frames: Iterator[Frame] = iter(clip)
        self._uploads = Uploads(device)
        self._timings = timings
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._waiting: deque[Future[ReadFrame | None]] = deque()

    def next(self) -> ReadFrame | None:
        """The next frame, None at the end. Raises what decoding it raised."""
        while len(self._waiting) <= AHEAD:
            self._waiting.append(self._pool.submit(self._read))
        with self._timings.host("decode_wait"):
            return self._waiting.popleft().result()

    def _read(self) -> ReadFrame | None:
        with self._timings.host("decode"):
            frame = next(self._frames, None)
            if frame is None:
                return None
            return ReadFrame(frame.index, frame.rgb, self._uploads.put(frame.rgb))

    def close(self) -> None:
        """Waits for the frame that is being decoded."""
        self._pool.shutdown(wait=True, cancel_futures=True)
