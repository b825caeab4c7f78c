"""A video file read as a clip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stnls_cli.errors import DamagedClipError, UserError
from stnls_cli.video.base import Clip
from stnls_cli.video.container import (
    choose_stream,
    estimated_frames,
    open_container,
    stream_notes,
)
from stnls_cli.video.decode import GO_ON, Decoder
from stnls_cli.video.frames import FrameMaker
from stnls_cli.video.info import ClipInfo, Frame

if TYPE_CHECKING:
    import av


class FileClip(Clip):
    """Frames `start`, `start` + 1, ... of one stream; those before are decoded and let go."""

    def __init__(
        self,
        path: Path,
        start: int,
        frames: int | None,
        size: tuple[int, int] | None,
        stream: int | None,
        allow_damaged: bool,
    ) -> None:
        super().__init__()
        self._path = path
        self._start = start
        self._count = frames
        self._allow_damaged = allow_damaged
        self._container = open_container(path)
        try:
            self._stream = choose_stream(self._container, path, stream)
            self._decoder = Decoder(self._container, self._stream, path, self._log, allow_damaged)
            self._decoded = iter(self._decoder)
            self._first = self._skip_to_start()
            self._maker = FrameMaker(self._first, self._stream.codec_context.name, size)
            self.info = self._describe()
        except BaseException:
            self.close()
            raise

    def _skip_to_start(self) -> av.VideoFrame:
        for frame in self._decoded:
            if self._decoder.delivered > self._start:
                return frame
        have = self._decoder.delivered
        raise UserError(
            f"{self._path}: --start {self._start} is beyond the end: the clip has {have} "
            f"{'frame' if have == 1 else 'frames'}, counted from 0"
        )

    def _describe(self) -> ClipInfo:
        context = self._stream.codec_context
        first = self._first
        notes = stream_notes(self._container, self._stream)
        notes += self._maker.notes(first, int(getattr(context, "field_order", 0)))
        estimate = estimated_frames(self._container, self._stream)
        return ClipInfo(
            path=self._path,
            stem=self._path.stem,
            width=self._maker.width,
            height=self._maker.height,
            source_width=first.width,
            source_height=first.height,
            rate=self._stream.average_rate or self._stream.guessed_rate,
            stream=self._stream.index,
            frames_expected=self._part(self._decoder.promised),
            pixel_format=first.format.name,
            bit_depth=self._maker.layout.bits,
            notes=tuple(dict.fromkeys(notes)),
            codec=context.codec.canonical_name,
            frames_estimate=self._part(self._decoder.promised or estimate),
        )

    def _part(self, total: int | None) -> int | None:
        """Of `total` frames in the source, how many were asked for."""
        if total is None:
            return None
        rest = max(total - self._start, 1)
        return rest if self._count is None else min(rest, self._count)

    def _frames(self) -> Iterator[Frame]:
        frame: av.VideoFrame | None = self._first
        del self._first
        index = self._start
        while frame is not None:
            self._judge(frame, index)
            yield self._maker.make(frame, index, self._time(frame))
            index += 1
            # Stop before decoding on: what lies behind the part asked for is not judged.
            if self._count is not None and index == self._start + self._count:
                return
            frame = next(self._decoded, None)

    def _judge(self, frame: av.VideoFrame, index: int) -> None:
        """Damage and changed sizes: an error, or a note in the log."""
        other = self._maker.other_size(frame)
        if other is not None:
            width, height = self._maker.shown
            change = f"{other[0]}x{other[1]} after {width}x{height}"
            if not self._allow_damaged:
                raise UserError(
                    f"{self._path}: the size changes mid-stream: frame {index} is {change}; "
                    f"take the part before it with --frames {index - self._start}"
                )
            self._log.resized.append((index, change))
        if frame.is_corrupt:
            if not self._allow_damaged:
                raise self._corrupt(index)
            self._log.corrupt.append(index)

    def _corrupt(self, index: int) -> UserError:
        """The error for a frame with concealed errors: the last one may only be incomplete."""
        try:
            last = next(self._decoded, None) is None
        except UserError:
            last = True
        if last and self._decoder.ended_early():
            return self._decoder.truncation(index)
        return DamagedClipError(
            f"{self._path}: damaged{'' if last else ' in the middle'}: frame {index} has errors, "
            f"{self._decoder.readable(index)} could be read before it",
            GO_ON,
        )

    def _time(self, frame: av.VideoFrame) -> float | None:
        base = self._stream.time_base
        return None if frame.pts is None or base is None else float(frame.pts * base)

    def close(self) -> None:
        """Close the file; no iteration begins any more."""
        super().close()
        self._container.close()
