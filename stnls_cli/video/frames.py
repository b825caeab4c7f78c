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
    (width, height) asked for. `stills`: every frame is an image with its own orientation;
    frames of a stream keep that of the first until their rotation changes.
    """

    def __init__(
        self,
        first: av.VideoFrame,
        codec: str,
        size: tuple[int, int] | None,
        *,
        stills: bool = False,
    ) -> None:
        from av.video.reformatter import VideoReformatter

        self.codec = codec
        self.layout = layout_of(first.format)
        self.deep = self.layout.bits > 8
        self.source = (first.width, first.height)
        self.resize = size is not None
        self._stills = stills
        self._orientation = orientation_of(first)
        self._rotation = first.rotation
        self.shown = self._orientation.displayed(*self.source)
        self.width, self.height = size or self.shown
        self._reformatter = VideoReformatter()

    def make(self, frame: av.VideoFrame, index: int, time: float | None) -> Frame:
        """Frame `index` of the clip."""
        orientation = self._orient(frame)
        stored = orientation.displayed(self.width, self.height)
        size = None if stored == (frame.width, frame.height) else stored
        rule = rule_of(frame, self.codec)
        rgb: Pixels = to_rgb(frame, rule, self._reformatter, size, self.deep)
        return Frame(index, time, orientation.apply(rgb), bool(frame.is_corrupt))

    def other_size(self, frame: av.VideoFrame) -> tuple[int, int] | None:
        """Displayed (width, height) of a frame when it is not that of the first."""
        shown = self._orient(frame).displayed(frame.width, frame.height)
        return None if shown == self.shown else shown

    def _orient(self, frame: av.VideoFrame) -> Orientation:
        if self._stills or frame.rotation != self._rotation:
            return orientation_of(frame)
        return self._orientation

    def notes(self, first: av.VideoFrame, field_order: int = 0) -> list[str]:
        """What a person should know about how frames are converted."""
        orientation = self._orient(first)
        rule: ColourRule = rule_of(first, self.codec)
        notes = [orientation.note] if orientation.note else []
        if self.resize and self.shown != (self.width, self.height):
            notes.append(
                f"resized from {self.shown[0]}x{self.shown[1]} to {self.width}x{self.height} "
                "(swscale, bicubic)"
            )
        if first.format.has_palette or self.codec == "gif":
            notes.append("alpha dropped where there is any")
        elif self.layout.alpha:
            notes.append("alpha dropped")
        if first.interlaced_frame:
            order = FIELD_ORDER.get(field_order)
            which = f" ({order} field first)" if order else ""
            notes.append(f"interlaced{which}: fields are not separated")
        return notes + list(rule.notes)
