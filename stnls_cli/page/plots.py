"""Plots of the page, as SVG text that stands in HTML."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COLOURS = {
    "none": "#8a8a8a",
    "flow": "#d95f02",
    "nls": "#7570b3",
    "shifted-nls": "#1b9e77",
}
"""By method, everywhere (ColorBrewer's Dark2: told apart by most colour-blind people)."""
DASHES = ("-", "--")
CSS_DASHES = {"-": "solid", "--": "dashed", ":": "dotted"}
MARKS = "osD^vP*X"


@dataclass(frozen=True)
class Line:
    """A line of a plot; `x` may have holes, which break it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dash: str = "-"
    mark: str = ""


def line_panel(title: str, lines: Sequence[Line], *, x_label: str, y_label: str, label: str) -> str:
    """An SVG of lines over whole numbers; `label` says what it shows to those who cannot see it."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.4, 2.9), layout="constrained")
    FigureCanvasSVG(figure)
    axis = figure.subplots()
    for line in lines:
        axis.plot(
            line.x,
            line.y,
            color=line.colour,
            linestyle=line.dash,
            marker=line.mark or None,
            markersize=4,
            linewidth=1.6,
        )
    if title:
        axis.set_title(title, fontsize=10)
    axis.set_xlabel(x_label, fontsize=10)
    axis.set_ylabel(y_label, fontsize=10)
    axis.tick_params(labelsize=9)
    axis.grid(alpha=0.3)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return _svg(figure, f"{label}{': ' if title else ''}{title}")


def legend_of(panels: Mapping[str, Sequence[Line]]) -> list[tuple[str, str, str]]:
    """Label, colour and CSS line style of every kind of line, once."""
    entries = {
        line.label: (line.label, line.colour, CSS_DASHES[line.dash])
        for lines in panels.values()
        for line in lines
    }
    return list(entries.values())


def bar_scale(longest: float, colours: str, label: str) -> str:
    """The scale of a heat map."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4, 0.75), layout="constrained")
    FigureCanvasSVG(figure)
    axis = figure.subplots()
    mapped = ScalarMappable(Normalize(0, longest), colours)
    bar = figure.colorbar(mapped, cax=axis, orientation="horizontal", extend="max")
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=9)
    return _svg(figure, label)


def _svg(figure: Any, label: str) -> str:
    """The SVG element, scalable, with ids that no other one on the page has."""
    import matplotlib

    buffer = io.StringIO()
    # Letters stay letters: smaller, searchable, and read aloud.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "stnls"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    prefix = f"p{hashlib.sha256(text.encode()).hexdigest()[:10]}-"
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'(xlink:href="#|url\(#)', lambda found: found[1] + prefix, text)
    text = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', _head(label), text, count=1)
    return text.strip()


def _head(label: str) -> str:
    from html import escape

    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        rf'\1 role="img" aria-label="{escape(label)}">'
    )
