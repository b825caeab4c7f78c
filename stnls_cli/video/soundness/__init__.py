"""Is the inside of a container as its muxer wrote it?

Where a Matroska, MPEG-TS, FLV, AVI or fragmented MP4 file makes no sense FFmpeg looks for the next
thing that it knows, or takes it for the end, and says nothing: frames are gone, without a mark on
those that are left. Neither times nor places of packets tell: cameras drop frames, recordings
pause, a transport stream of constant rate is full of stuffing, and counts in tags are copied by
tools that cut. So the container's own structure is read from end to end, with the checks that it
carries: sizes that fit, checksums, continuity counters. Damage inside a frame's own bytes is the
decoder's to notice.
"""

from __future__ import annotations

from pathlib import Path

from stnls_cli.video.soundness import avi, flv, fragments, matroska, transport


def sound_until(path: Path, format_name: str, stream_id: int) -> int | None:
    """Offset up to which the file is sound; None when all of it is, or the format does not tell.

    A packet of the stream is to be trusted when it begins before that offset. `format_name` is
    FFmpeg's; a file that only ends too early is sound.
    """
    with path.open("rb") as file:
        if format_name.startswith("matroska"):
            return matroska.sound_until(file)
        if format_name == "mpegts":
            return transport.sound_until(file, stream_id)
        if format_name == "avi":
            return avi.sound_until(file)
        if format_name == "flv":
            return flv.sound_until(file)
        if format_name.startswith("mov"):
            return fragments.sound_until(file)
    return None
