"""FFmpeg's decoded frames made into the tool's: colour, size, orientation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stnls_cli.video.colour import ColourRule, layout_of, rule_of, to_rgb
from stnls_cli.video.info import Frame, Pixels
from stnls_cli.video.orient import Orientation, orientation_of

if TYPE_CHECKING:
    import av

# AVFieldOrder to the field that is shown first.
FIELD_ORDER = {2: "top", 3: "bottom", 4: "bottom", 5: "top"}


class FrameMaker:
    """Converts frames; the first one settles depth and size for all.

    `width`, `height`: what every frame comes out as, displayed. `size`: the displayed
    (width, height) asked for.
    """

    def __init__(self, first: av.VideoFrame, codec: str, size: tuple[int, int] | None) -> None:
        from av.video.reformatter import VideoReformatter

        self.codec = codec
        self.layout = layout_of(first.format)
        self.deep = self.layout.bits > 8
        self.source = (first.width, first.height)
        self.resize = size is not None
        self.shown = orientation_of(first).displayed(*self.source)
        self.width, self.height = size or self.shown
        self._reformatter = VideoReformatter()

    def make(self, frame: av.VideoFrame, index: int, time: float | None) -> Frame:
        """Frame `index` of the clip."""
        orientation = orientation_of(frame)
        stored = orientation.displayed(self.width, self.height)
        size = None if stored == (frame.width, frame.height) else stored
        rule = rule_of(frame, self.codec)
        rgb: Pixels = to_rgb(frame, rule, self._reformatter, size, self.deep)
        return Frame(index, time, orientation.apply(rgb), bool(frame.is_corrupt))

    def other_size(self, frame: av.VideoFrame) -> tuple[int, int] | None:
        """Displayed (width, height) of a frame when it is not that of the first."""
        shown = orientation_of(frame).displayed(frame.width, frame.height)
        return None if shown == self.shown else shown

    def notes(self, first: av.VideoFrame, field_order: int = 0) -> list[str]:
        """What a person should know about how frames are converted."""
        orientation: Orientation = orientation_of(first)
        rule: ColourRule = rule_of(first, self.codec)
        notes = [orientation.note] if orientation.note else []
        if self.resize:
            notes.append(
                f"resized from {self.shown[0]}x{self.shown[1]} to {self.width}x{self.height} "
                "(swscale, bicubic)"
            )
        if self.layout.alpha:
            notes.append("alpha dropped")
        if first.interlaced_frame:
            order = FIELD_ORDER.get(field_order)
            which = f" ({order} field first)" if order else ""
            notes.append(f"interlaced{which}: fields are not separated")
        return notes + list(rule.notes)
