"""The page of one comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stnls_cli.compare.document import ComparisonDocument, SettingScores
from stnls_cli.compare.protocol import PROTOCOLS
from stnls_cli.compare.tables import best_setting, clip_table, table_of
from stnls_cli.metrics import METRICS, mean_score
from stnls_cli.page.align_page import (
    Score,
    flattened,
    label_of,
    over_time,
    versions_of,
    words_for,
)
from stnls_cli.page.gallery import FOLDER, read_pairs
from stnls_cli.page.pictures import load_pair
from stnls_cli.page.plots import COLOURS, DASHES, MARKS, Line, legend_of, line_panel
from stnls_cli.page.render import Page, Plot, Table

FLOW_COLOURS = ("#0072b2", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#56b4e9", "#000000")
"""By flow: none of them is a method's, see `plots.COLOURS`."""
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
    shown = best_setting(document)
    by_clip, clip_rows = ([], []) if shown is None else clip_table(document, shown)
    return Page(
        title="Alignment errors compared",
        subtitle=f"{count} clip{'' if count == 1 else 's'}, {settings} settings"
        + (f", protocol {document.protocol}" if document.protocol else ""),
        verdict=" ".join(filter(None, (_verdict(document), _claim(document)))),
        table=Table(header, rows, left=2),
        table_caption=TABLE_WORDS,
        time=_time(document, shown, metric),
        windows=_windows(document, metric),
        pairs={role: load_pair(path) for role, path in read_pairs(folder / FOLDER).items()},
        facts=_facts(document),
        versions=versions_of(document.tool),
        notes=_notes(document),
        words=_words(document),
        clips=Table(by_clip, clip_rows) if clip_rows else None,
        clips_caption="" if shown is None else _clips_caption(shown),
        pairs_caption="" if shown is None else f"Here: {shown.label}.",
    )


def _verdict(document: ComparisonDocument) -> str:
    known = [(mean, s) for s in document.own if (mean := s.mean("psnr")) is not None]
    if not known:
        return "PSNR was not asked for."
    mean, best = max(known, key=lambda entry: entry[0])
    gain = document.gain(best)
    over = "" if gain is None else f", {gain:+.2f} dB over its flow alone"
    text = f"The best mean PSNR is {mean:.2f} dB, of {best.label}{over}."
    gains = [(gain, s) for s in document.own if (gain := document.gain(s)) is not None]
    if len(gains) < 2:
        return text
    most, first = max(gains, key=lambda entry: entry[0])
    least, last = min(gains, key=lambda entry: entry[0])
    return (
        f"{text} The search around the flow gains most over the flow alone with {first.label} "
        f"({most:+.2f} dB), and least with {last.label} ({least:+.2f} dB)."
    )


def _claim(document: ComparisonDocument) -> str:
    """What a protocol's source says, and where this experiment is another one."""
    if document.protocol is None:
        return ""
    found = PROTOCOLS[document.protocol]
    other = "; ".join(f"{name} {value}" for name, value in document.overrides.items())
    changed = f" Here it was run with other settings: {other}." if other else ""
    return (
        f"This is the paper's experiment {found.summary}.{changed} The paper claims {found.claim}."
    )


def _words(document: ComparisonDocument) -> list[tuple[str, str]]:
    names = {s.method for s in document.settings} | {"dt"}
    names |= {name for s in document.settings for name in s.parameters}
    if "psnr" in document.metrics and "shifted-nls" in names:
        names.add("gain")
    return words_for(names)


def _clips_caption(shown: SettingScores) -> str:
    return (
        f"Mean PSNR (dB) of each clip, the lowest first: {shown.label}, and the methods that share "
        "its settings. Worst frames: reference frame, distance of its neighbour, PSNR."
    )


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
    captions = [f"Here: {shown.label}."]
    if sum(len({score.dt for score in scores}) for scores in groups.values()) > 2 * MOST_CLIPS:
        groups = {
            **_mean_clip(document.beside(shown), metric),
            **{name: [s for s in scores if s.dt == 1] for name, scores in groups.items()},
        }
        captions.append(
            "The first panels are means over all clips; of the clips only dt +1 is shown."
        )
    plot = over_time(groups, metric)
    if plot is None:
        return None
    more = len(document.clip_names) - MOST_CLIPS
    if more > 0:
        captions.append(f"{more} more clips are in comparison.csv.")
    return Plot(plot.panels, plot.legend, " ".join([plot.caption, *captions]))


def _mean_clip(settings: Sequence[SettingScores], metric: str) -> dict[str, list[Score]]:
    """The mean over the clips at each (t, dt) that all clips have."""
    found: list[Score] = []
    for setting in settings:
        cells = [
            dict(zip(cell.pairs, cell.scores[metric], strict=True))
            for cell in setting.cells
            if metric in cell.scores
        ]
        if not cells:
            continue
        for t, dt in sorted(set.intersection(*(set(cell) for cell in cells))):
            value = mean_score(metric, [cell[t, dt] for cell in cells])
            found.append(Score(t, dt, setting.method, value))
    return {f"mean of {len(settings[0].cells)} clips": found} if found else {}


def _windows(document: ComparisonDocument, metric: str) -> Plot | None:
    """The score against ws, a panel for each noise, a line for each flow and patch."""
    searches = [s for s in document.own if "ws" in s.parameters]
    if len({s.parameters["ws"] for s in searches}) < 2:
        return None
    sigmas = sorted({s.parameters["sigma"] for s in searches})
    flows = list(dict.fromkeys(s.parameters.get("flow") for s in searches))
    sizes = sorted({s.parameters["ps"] for s in searches})
    panels = {}
    for sigma in sigmas:
        lines = []
        for flow in flows:
            colour = COLOURS["nls"] if flow is None else FLOW_COLOURS[flows.index(flow) % 7]
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
                for s in document.own
                if s.method == "flow"
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
                f"{counts['computed']} computed by this run, {counts['read']} read from the cache; "
                f"ever computed into it: {counts['ever_computed']}, of which "
                f"{counts['different']} differ",
            )
        )
    if document.cells:
        computed, kept = document.cells["computed"], document.cells["kept"]
        facts.append(("cells", f"{computed} computed by this run, {kept} kept from earlier ones"))
    facts.append(("seconds of this run", f"{document.seconds:g}"))
    return facts
