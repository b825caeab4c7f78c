"""The picture of the sweeps: time against each parameter, both on logarithmic axes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stnls_cli.errors import UserError
from stnls_cli.storage import storage_errors

COLOURS = {"int": "#1f77b4", "float": "#d95f02"}


def check_matplotlib() -> None:
    """UserError where it is missing."""
    if find_spec("matplotlib") is None:
        raise UserError("--plot needs matplotlib: pip install matplotlib")


def draw(sweeps: list[dict[str, Any]], title: str, path: Path) -> None:
    """A panel for each parameter; the dotted line grows as the parameter does."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    axes = list(dict.fromkeys(line["axis"] for line in sweeps))
    columns = 3
    rows = -(-len(axes) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, axis in zip(panels, axes, strict=False):
        _panel(panel, [line for line in sweeps if line["axis"] == axis])
    for panel in panels[len(axes) :]:
        panel.set_axis_off()
    with storage_errors(path):
        figure.savefig(path, dpi=120)


def _panel(panel: Any, lines: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    panel.set_xscale("log")
    panel.set_yscale("log")
    # Times within one power of ten have numbers beside them too.
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for line in lines:
        sizes = [p["size"] for p in line["points"]]
        times = [p["median_ms"] for p in line["points"]]
        spread = [p["spread_ms"] for p in line["points"]]
        colour = COLOURS[line["grid"]]
        name = f"{line['grid']}, x^{line['exponent']:.2f}"
        panel.errorbar(
            sizes, times, yerr=spread, color=colour, marker="o", markersize=4, label=name
        )
        straight = [times[-1] * size / sizes[-1] for size in sizes]
        panel.plot(sizes, straight, color=colour, linestyle=":", linewidth=1)
    sizes = [p["size"] for p in lines[0]["points"]]
    panel.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45, fontsize=7)
    panel.minorticks_off()
    panel.set_xlabel(lines[0]["label"], fontsize=9)
    panel.set_ylabel("ms (dotted: proportional)", fontsize=9)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
