"""The picture of the paper's experiment, for docs/compare.md.

stnls compare --protocol paper-script --flow dis,farneback DAVIS -o script
stnls compare --protocol paper-text --flow tvl1,dis,farneback DAVIS -o text
python benchmarks/protocol.py script text docs/pictures/paper_experiment.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from stnls_cli.compare.document import ComparisonDocument
from stnls_cli.compare.files import read_comparison

COLOURS = {"tvl1": "#1b9e77", "dis": "#d95f02", "farneback": "#7570b3"}


def draw(documents: list[ComparisonDocument], path: Path) -> None:
    """A panel for each protocol: the mean PSNR against the window, by flow."""
    figure = Figure(figsize=(4.6 * len(documents), 3.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(1, len(documents), sharey=True, squeeze=False)[0]
    for axis, document in zip(axes, documents, strict=True):
        for setting in document.settings:
            flow = setting.parameters.get("flow", "")
            if setting.method == "flow":
                axis.axhline(setting.mean("psnr"), color=COLOURS[flow], linestyle=":")
        for flow, colour in COLOURS.items():
            points = sorted(
                (setting.parameters["ws"], setting.mean("psnr"))
                for setting in document.settings
                if setting.method == "shifted-nls" and setting.parameters["flow"] == flow
            )
            if points:
                axis.plot(*zip(*points, strict=True), color=colour, marker="o", label=flow)
        axis.set_title(document.protocol)
        axis.set_xlabel("ws, positions along each side (dotted: the flow alone)")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.axes[0].set_ylabel("PSNR (dB)")
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    *folders, picture = map(Path, sys.argv[1:])
    draw([read_comparison(folder) for folder in folders], picture)
