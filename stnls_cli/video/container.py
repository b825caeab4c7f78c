"""Opening a video file and choosing the stream to read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stnls_cli.doctor.fact import pip_install
from stnls_cli.errors import UserError
from stnls_cli.video import structure

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# FFmpeg draws any text file as a terminal; nobody means that.
NOT_VIDEO_FORMATS = {"tty"}


def import_av() -> Any:
    """The module av, or a UserError that says how to get it."""
    try:
        import av
    except ImportError as error:
        remedy = pip_install("av", "--force-reinstall")
        raise UserError(
            f"video cannot be read: PyAV (the module av) cannot be imported ({error}); {remedy}"
        ) from None
    return av


def hush() -> None:
    """Keep FFmpeg's own log lines off standard error."""
    import av

    av.logging.set_level(None)


def open_container(path: Path) -> InputContainer:
    """Open a video file, or say in one line why it cannot be."""
    import av

    hush()
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    if empty:
        raise UserError(f"{path}: the file is empty (0 bytes)")
    try:
        # "file:" keeps a colon in the name from being taken for a protocol.
        container = av.open(f"file:{path}", mode="r", metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        if structure.lacks_index(path):
            raise UserError(
                f"{path}: no index (its moov box is missing): the file is truncated or its "
                "recording never finished, and no frame of it can be read"
            ) from None
        if structure.is_cut(path):
            raise _header_cut(path) from None
        raise UserError(
            f"{path}: not a video that FFmpeg can read ({_reason(error)}); "
            "give a video file or a folder of frames"
        ) from None
    if container.format.name in NOT_VIDEO_FORMATS:
        container.close()
        raise UserError(
            f"{path}: not a video but a text file; give a video file or a folder of frames"
        )
    return container


def _header_cut(path: Path) -> UserError:
    return UserError(
        f"{path}: truncated: {path.stat().st_size} of {structure.promised_size(path)} bytes are "
        "there, and no frame can be read"
    )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def choose_stream(container: InputContainer, path: Path, number: int | None) -> VideoStream:
    """Stream `number` of the file, or FFmpeg's best one."""
    videos = video_streams(container)
    if not videos:
        if structure.is_cut(path):
            raise _header_cut(path)
        kinds = {stream.type for stream in container.streams}
        if len(list(container.streams.video)):
            what = "no video stream, only a cover picture"
        elif kinds == {"audio"}:
            what = "no video stream, only audio"
        else:
            what = "no video stream"
        raise UserError(f"{path}: {what}")
    if number is not None:
        for stream in videos:
            if stream.index == number:
                return _decodable(stream, path)
        there = next((s for s in container.streams if s.index == number), None)
        wrong = "does not exist" if there is None else f"is {there.type}, not video"
        if there is not None and there.type == "video":
            wrong = "is a cover picture"
        listed = ", ".join(describe(stream) for stream in videos)
        raise UserError(f"{path}: stream {number} {wrong}; video streams: {listed}")
    best = container.streams.best("video")
    chosen = next((s for s in videos if best is not None and s.index == best.index), videos[0])
    return _decodable(chosen, path)


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Video streams, without cover pictures."""
    from av.stream import Disposition

    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def describe(stream: VideoStream) -> str:
    """`3 (h264 480x270)`."""
    context = stream.codec_context
    if context is None:
        return f"{stream.index} (unknown codec)"
    return f"{stream.index} ({context.codec.canonical_name} {context.width}x{context.height})"


def _decodable(stream: VideoStream, path: Path) -> VideoStream:
    if stream.codec_context is None:
        raise UserError(f"{path}: this FFmpeg has no decoder for stream {stream.index}")
    return stream


def stream_notes(container: InputContainer, stream: VideoStream) -> list[str]:
    """What the headers say that a person should know."""
    notes = []
    others = [describe(s) for s in video_streams(container) if s.index != stream.index]
    if others:
        notes.append(f"video stream {describe(stream)} of several; not read: {', '.join(others)}")
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if aspect not in (0, 1):
        notes.append(
            f"pixel aspect {aspect.numerator}:{aspect.denominator} ignored, pixels taken as square"
        )
    if stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1":
        notes.append("alpha dropped")
    average, nominal = stream.average_rate, stream.base_rate
    if (
        average
        and nominal
        and not any(abs(nominal / average / k - 1) < Fraction(1, 500) for k in (1, 2))
    ):
        notes.append(
            f"variable frame rate (average {float(average):.3f}, nominal {float(nominal):.3f} "
            "frames/s): frames taken as stored, none repeated or dropped"
        )
    return notes


def header_frames(container: InputContainer, stream: VideoStream) -> int | None:
    """Frames that the headers promise, None when they do not say or only estimate.

    MP4/MOV: entries of the sample index that an edit list does not hide; a GIF is counted by
    FFmpeg when opened; AVI: the header. Elsewhere the count is absent or a guess.
    """
    name = container.format.name
    if name.startswith("mov"):
        entries = getattr(stream, "index_entries", None)
        if stream.frames and entries:
            return sum(not entry.is_discard for entry in entries)
        return stream.frames or None
    if name in ("gif", "avi"):
        return stream.frames or None
    return None


def estimated_frames(container: InputContainer, stream: VideoStream) -> int | None:
    """Frames from duration and rate: for a progress bar, not for a promise."""
    rate = stream.average_rate
    if not rate:
        return None
    if stream.duration and stream.time_base:
        return max(1, round(stream.duration * stream.time_base * rate))
    if container.duration:
        return max(1, round(Fraction(container.duration, 1_000_000) * rate))
    return None


def ends_early(
    container: InputContainer, stream: VideoStream, path: Path, packets: int, frames: int
) -> bool:
    """After the end was reached without an error: should there have been more?

    `packets` were read and `frames` decoded. MP4/MOV is judged by its sample index, so that
    damage behind the last frame, or a header count that an edit list contradicts, is no alarm;
    other formats by what their structure says, unless every frame that a header promises came.
    """
    entries = getattr(stream, "index_entries", None)
    if container.format.name.startswith("mov") and stream.frames and entries:
        return packets < len(entries)
    promised = header_frames(container, stream)
    if container.format.name == "avi" and promised and frames >= promised:
        return False
    return structure.is_cut(path)
