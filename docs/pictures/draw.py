"""Draw the pictures of the guide with the library's own rules of position.

python docs/pictures/draw.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from stnls._positions import fold, slot_frames, window

INK, GREY, PALE = "#222222", "#8a8a8a", "#eeeeee"
OWN, AFTER, BEFORE = "#2b4c7e", "#7fb3d5", "#f2b880"
PLACE, MATCHED, OUTSIDE = "#2b4c7e", "#c0392b", "#b0b0b0"


class Picture:
    """An SVG of a certain size, in pixels."""

    def __init__(self, width: int, height: int, description: str) -> None:
        self.size = width, height
        self.description = description
        self.parts: list[str] = []

    def box(self, x: float, y: float, w: float, h: float, fill: str, stroke: str = "none") -> None:
        """A rectangle."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" fill="{fill}" '
            f'stroke="{stroke}"/>'
        )

    def dot(self, x: float, y: float, r: float, fill: str, stroke: str = "none") -> None:
        """A circle."""
        self.parts.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="{r:g}" fill="{fill}" stroke="{stroke}" '
            'stroke-width="1.5"/>'
        )

    def line(self, x0: float, y0: float, x1: float, y1: float, ink: str, style: str = "") -> None:
        """A straight line; the style is more attributes."""
        self.parts.append(
            f'<line x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}" stroke="{ink}" {style}/>'
        )

    def cross(self, x: float, y: float, r: float, ink: str) -> None:
        """A diagonal cross."""
        self.line(x - r, y - r, x + r, y + r, ink, 'stroke-width="1.5"')
        self.line(x - r, y + r, x + r, y - r, ink, 'stroke-width="1.5"')

    def text(
        self, x: float, y: float, words: str, size: int = 13, ink: str = INK, anchor: str = "middle"
    ) -> None:
        """A line of text, by its baseline."""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{ink}" '
            f'text-anchor="{anchor}">{words}</text>'
        )

    def svg(self) -> str:
        """The file."""
        w, h = self.size
        arrow = (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{MATCHED}"/></marker>'
            "</defs>"
        )
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" '
            f'height="{h}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif" role="img">',
            f"<title>{self.description}</title>",
            arrow,
            f'<rect width="{w}" height="{h}" fill="#ffffff"/>',
            *self.parts,
            "</svg>",
        ]
        return "\n".join(lines) + "\n"


def temporal_slots() -> Picture:
    """Which frames each frame of five searches, and in which order."""
    cell, frames = 44, 5
    picture = Picture(640, 390, "Temporal slots of a video of five frames, for wt=1 and wt=2")
    for panel, wt in enumerate((1, 2)):
        left, top = 76 + panel * 300, 80
        middle = left + frames * cell / 2
        picture.text(middle, 26, f"wt = {wt}: {2 * wt + 1} slots", 16)
        picture.text(middle, 50, "frame that is searched", 13, GREY)
        for t in range(frames):
            picture.text(left + (t + 0.5) * cell, top - 10, str(t), 13, GREY)
            picture.text(left - 14, top + (t + 0.6) * cell, f"t = {t}", 13, GREY, "end")
            slots = slot_frames(t, wt, frames)
            for frame in range(frames):
                x, y = left + frame * cell, top + t * cell
                if frame not in slots:
                    picture.box(x + 1, y + 1, cell - 2, cell - 2, PALE)
                    continue
                fill = OWN if frame == t else AFTER if frame > t else BEFORE
                picture.box(x + 1, y + 1, cell - 2, cell - 2, fill)
                ink = "#ffffff" if frame == t else INK
                picture.text(x + cell / 2, y + cell / 2 + 6, str(slots.index(frame)), 17, ink)
    legend = ((OWN, "slot 0: own frame"), (AFTER, "frames after it"), (BEFORE, "frames before it"))
    for at, (fill, words) in zip((76, 276, 436), (*legend,), strict=True):
        picture.box(at, 330, 18, 18, fill)
        picture.text(at + 26, 344, words, 13, INK, "start")
    return picture


def window_rule() -> Picture:
    """Where the positions of a window lie: inside, at the border, beyond it."""
    picture = Picture(680, 640, "Positions of the search window in four situations")
    panels = (
        ("inside: around query + flow", (1, 4), (4.4, -1.3), True),
        ("at the border, full_ws=True: moved", (6, 4), (2.4, -3.3), True),
        ("at the border, full_ws=False", (6, 4), (2.4, -3.3), False),
        ("flow leaves the frame: mirrored", (6, 3), (4.3, 0.4), True),
    )
    for number, (title, query, flow, full) in enumerate(panels):
        _window_panel(
            picture, 50 + number % 2 * 330, 60 + number // 2 * 290, title, query, flow, full
        )
    y = 618
    picture.dot(58, y - 4, 5, INK)
    picture.text(70, y, "query", 13, INK, "start")
    picture.line(126, y - 4, 156, y - 4, MATCHED, 'stroke-width="2" marker-end="url(#head)"')
    picture.text(164, y, "flow", 13, INK, "start")
    picture.dot(216, y - 4, 6, "none", MATCHED)
    picture.text(228, y, "anchor", 13, INK, "start")
    picture.dot(296, y - 4, 3.5, PLACE)
    picture.text(306, y, "position of the window", 13, INK, "start")
    picture.cross(470, y - 4, 4, OUTSIDE)
    picture.text(482, y, "invalid: infinitely far", 13, INK, "start")
    return picture


def _window_panel(
    picture: Picture,
    left: float,
    top: float,
    title: str,
    query: tuple[int, int],
    flow: tuple[float, float],
    full: bool,
) -> None:
    """One situation: a frame of 10 x 7 pixels, 5 x 5 positions, one pixel apart."""
    step, width, height, ws = 26, 10, 7, 5

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x + 0.5) * step, top + (y + 0.5) * step

    picture.text(left + width * step / 2, top - 34, title, 14)
    for x in range(width):
        for y in range(height):
            picture.box(left + x * step, top + y * step, step, step, "#fafafa", "#d5d5d5")
    target = [float(q + f) for q, f in zip(query, flow, strict=True)]
    anchor = [
        float(fold(torch.tensor(p, dtype=torch.float64), length))
        for p, length in zip(target, (width, height), strict=True)
    ]
    xs, ys = (
        window(torch.tensor(a, dtype=torch.float64), 1.0, ws, length, full).tolist()
        for a, length in zip(anchor, (width, height), strict=True)
    )
    for y in ys:
        for x in xs:
            valid = 0 <= x <= width - 1 and 0 <= y <= height - 1
            if valid:
                picture.dot(*at(x, y), 3.5, PLACE)
            else:
                picture.cross(*at(x, y), 4, OUTSIDE)
    picture.line(*at(*query), *at(*target), MATCHED, 'stroke-width="2" marker-end="url(#head)"')
    if target != anchor:
        picture.line(*at(*target), *at(*anchor), MATCHED, 'stroke-dasharray="4 3"')
    picture.dot(*at(*anchor), 6, "none", MATCHED)
    picture.dot(*at(*query), 5, INK)


PICTURES = {"temporal_slots.svg": temporal_slots, "window_rule.svg": window_rule}


def main(folder: Path) -> None:
    """Write all of them."""
    for name, draw in PICTURES.items():
        (folder / name).write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
