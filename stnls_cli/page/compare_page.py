"""The page of one comparison."""

from __future__ import annotations

from pathlib import Path

from stnls_cli.compare.document import ComparisonDocument, SettingScores, table_of
from stnls_cli.compare.protocol import PROTOCOLS
from stnls_cli.metrics import METRICS
from stnls_cli.page.align_page import Score, flattened, label_of, over_time, versions_of
from stnls_cli.page.gallery import FOLDER, read_pairs
from stnls_cli.page.pictures import load_pair
from stnls_cli.page.plots import COLOURS, DASHES, MARKS, Line, legend_of, line_panel
from stnls_cli.page.render import Page, Plot, Table

FLOW_COLOURS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d")
MOST_CLIPS = 12
"""Panels of the plot over time; more would not be looked at."""


TABLE_WORDS = (
    "Means over the pairs of each clip, then over the clips; median and worst 5 % over all pairs. "
    "Gain: over the warp by the same flow. Visible: pixels that are seen in both frames. At the "
    "window's edge: matches for which the window may have been too small."
)


def compare_page(document: ComparisonDocument, folder: Path) -> Page:
    """From the stored comparison, and the pictures in `folder`."""
    metric = next((name for name in METRICS if name in document.metrics), "psnr")
    header, rows = table_of(document)
    count = len(document.clip_names)
    settings = len(document.settings)
    shown = shown_setting(document)
    return Page(
        title="Alignment errors compared",
        subtitle=f"{count} clip{'' if count == 1 else 's'}, {settings} settings"
        + (f", protocol {document.protocol}" if document.protocol else ""),
        verdict=_verdict(document) + _claim(document),
        table=Table(header, rows, left=2),
        table_caption=TABLE_WORDS,
        time=_time(document, shown, metric),
        windows=_windows(document, metric),
        pairs={role: load_pair(path) for role, path in read_pairs(folder / FOLDER).items()},
        facts=_facts(document),
        versions=versions_of(document.tool),
        notes=_notes(document),
    )


def shown_setting(document: ComparisonDocument) -> SettingScores | None:
    """The search whose pictures are shown: the one that gains most over its flow."""
    own = [s for s in document.settings if s.source is None and s.method == "shifted-nls"]
    if not own:
        own = [s for s in document.settings if s.source is None and s.method in ("nls", "flow")]
    return max(own, key=lambda s: (document.gain(s) or 0.0, s.mean("psnr") or 0.0), default=None)


def _verdict(document: ComparisonDocument) -> str:
    gains = [(gain, s) for s in document.settings if (gain := document.gain(s)) is not None]
    if not gains:
        best = max(document.settings, key=lambda s: s.mean("psnr") or 0.0, default=None)
        mean = None if best is None else best.mean("psnr")
        return (
            "PSNR was not asked for."
            if best is None or mean is None
            else f"The best mean PSNR is {mean:.2f} dB, of {best.label}."
        )
    most, setting = max(gains, key=lambda entry: entry[0])
    least, other = min(gains, key=lambda entry: entry[0])
    text = f"The search around the flow gains {most:+.2f} dB over the flow with {setting.label}"
    return f"{text}." if len(gains) == 1 else f"{text}, and {least:+.2f} dB with {other.label}."


def _claim(document: ComparisonDocument) -> str:
    """What a protocol's source says."""
    if document.protocol is None:
        return ""
    found = PROTOCOLS[document.protocol]
    return f" {found.name} ({found.summary}): {found.claim}."


def _notes(document: ComparisonDocument) -> list[str]:
    notes = [f"{name} was left out: {why}" for name, why in document.failed.items()]
    for clip in document.clips:
        notes += [f"{clip['clip']}: {note}" for note in clip.get("notes", ())]
        notes += [f"{clip['clip']}: damage: {line}" for line in clip.get("damage", ())]
    return notes


def _time(document: ComparisonDocument, shown: SettingScores | None, metric: str) -> Plot | None:
    """The methods beside the setting shown, clip by clip."""
    if shown is None:
        return None
    groups: dict[str, list[Score]] = {}
    for setting in document.beside(shown):
        for cell in setting.cells:
            if cell.clip in document.clip_names[:MOST_CLIPS] and metric in cell.scores:
                groups.setdefault(cell.clip, []).extend(
                    Score(t, dt, setting.method, value)
                    for (t, dt), value in zip(cell.pairs, cell.scores[metric], strict=True)
                )
    # Where there are many panels only the next frame is shown.
    if sum(len({score.dt for score in scores}) for scores in groups.values()) > 2 * MOST_CLIPS:
        groups = {name: [s for s in scores if s.dt == 1] for name, scores in groups.items()}
    plot = over_time(groups, metric)
    if plot is None:
        return None
    more = len(document.clip_names) - MOST_CLIPS
    caption = f"{plot.caption} Here: {shown.label}." + (
        f" {more} more clips are in comparison.csv." if more > 0 else ""
    )
    return Plot(plot.panels, plot.legend, caption)


def _windows(document: ComparisonDocument, metric: str) -> Plot | None:
    """The score against ws, a panel for each noise, a line for each flow and patch."""
    searches = [s for s in document.settings if s.source is None and "ws" in s.parameters]
    if len({s.parameters["ws"] for s in searches}) < 2:
        return None
    sigmas = sorted({s.parameters["sigma"] for s in searches})
    flows = list(dict.fromkeys(s.parameters.get("flow") for s in searches))
    sizes = sorted({s.parameters["ps"] for s in searches})
    panels = {}
    for sigma in sigmas:
        lines = []
        for flow in flows:
            colour = COLOURS["none"] if flow is None else FLOW_COLOURS[flows.index(flow) % 7]
            for number, ps in enumerate(sizes):
                own = [
                    s
                    for s in searches
                    if (s.parameters["sigma"], s.parameters.get("flow"), s.parameters["ps"])
                    == (sigma, flow, ps)
                ]
                points = sorted((s.parameters["ws"], s.mean(metric)) for s in own)
                known = [(ws, value) for ws, value in points if value is not None]
                name = "search without flow" if flow is None else f"search around {flow}"
                if len(sizes) > 1:
                    name += f", ps {ps}"
                if known:
                    x, y = zip(*known, strict=True)
                    mark, dash = MARKS[number % len(MARKS)], DASHES[number % 2]
                    lines.append(Line(name, x, y, colour, dash, mark))
            warped = [
                s
                for s in document.settings
                if s.source is None
                and s.method == "flow"
                and s.parameters["flow"] == flow
                and s.parameters["sigma"] == sigma
            ]
            level = warped[0].mean(metric) if warped and flow is not None else None
            if level is not None and lines:
                ends = sorted(s.parameters["ws"] for s in searches)
                lines.append(
                    Line(f"{flow} alone", (ends[0], ends[-1]), (level, level), colour, ":")
                )
        panels[f"sigma {sigma:g}" if len(sigmas) > 1 else ""] = lines
    label = label_of(metric)
    drawn = [
        line_panel(
            title,
            lines,
            x_label="ws, positions along each side of the window",
            y_label=label,
            label=f"{label} against the size of the window, by flow",
        )
        for title, lines in panels.items()
    ]
    return Plot(
        drawn,
        legend_of(panels),
        f"Mean {label} against the window's size. Dotted: the warp by the flow alone, which has "
        "no window. Where a line still climbs at its right end a larger window may gain more; "
        "where it falls, the window lets in wrong matches.",
    )


def _facts(document: ComparisonDocument) -> list[tuple[str, str]]:
    facts = [("date", document.date), ("device", document.device)]
    if document.protocol:
        facts.append(("protocol", document.protocol))
    facts += flattened(document.parameters)
    facts.append(("metrics", ", ".join(document.metrics)))
    search = next((s for s in document.settings if "grid" in s.parameters), None)
    if search is not None:
        names = ("stride1", "k", "dist", "grid", "aggregate", "prior", "subpixel", "patch_weights")
        facts += [
            (f"search.{name}", str(search.parameters[name]))
            for name in (*names, "sampling")
            if name in search.parameters
        ]
    for clip in document.clips:
        facts.append((f"clip {clip['clip']}", f"{clip['path']}, {clip['frames']} frames"))
    for name, counts in document.flows.items():
        facts.append(
            (
                f"flows {name}",
                f"{counts['computed']} computed, {counts['read']} read from the cache",
            )
        )
    facts.append(("seconds", f"{document.seconds:g}"))
    return facts
