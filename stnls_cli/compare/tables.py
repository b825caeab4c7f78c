"""Tables of a comparison, for a page, a terminal and Markdown."""

from __future__ import annotations

from stnls_cli.compare.document import ComparisonDocument, SettingScores
from stnls_cli.metrics import table_label, table_text
from stnls_cli.report.row import METHODS

BESIDE = ("flow", "sigma", "ws", "ps")
"""Parameters that the tables have columns for."""
WORST = "worst frames"


def markdown(document: ComparisonDocument) -> str:
    """The table of the settings, for a page."""
    lines = [
        f"# Alignment errors: {len(document.clip_names)} "
        f"clip{'' if len(document.clip_names) == 1 else 's'}",
        "",
        "Means over the pairs of each clip, then over the clips; median and worst 5 % over all "
        "pairs. Gain: over the warp by the same flow.",
        "",
        *_markdown_table(*table_of(document), left=2),
    ]
    best = best_setting(document)
    header, rows = ([], []) if best is None else clip_table(document, best)
    if best is not None and rows:
        lines += [
            "",
            f"## By clip: {best.label}",
            "",
            "PSNR (dB) of the methods with the same flow, noise and window; the worst frames of "
            f"{best.method}.",
            "",
            *_markdown_table(header, rows, left=1),
        ]
    return "\n".join([*lines, ""])


def _markdown_table(header: list[str], rows: list[list[str]], *, left: int) -> list[str]:
    aligned = ["---" if n < left or name == WORST else "---:" for n, name in enumerate(header)]
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(aligned) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return lines


def best_setting(document: ComparisonDocument) -> SettingScores | None:
    """The search around a flow with the highest mean PSNR; where there is none, the search or the
    flow that has it."""
    known = [setting for setting in document.own if setting.mean("psnr") is not None]
    known = known or document.own
    own = [setting for setting in known if setting.method == "shifted-nls"]
    if not own:
        own = [setting for setting in known if setting.method in ("nls", "flow")]
    return max(own, key=lambda setting: setting.mean("psnr") or 0.0, default=None)


def clip_table(
    document: ComparisonDocument, shown: SettingScores
) -> tuple[list[str], list[list[str]]]:
    """Header and rows: PSNR of each clip by the setting shown and those that differ from it by
    their method, its gain over the flow, and its worst frames; the lowest clip first."""
    beside = document.beside(shown)
    by_method = {s.method: {c.digest or c.clip: c for c in s.cells} for s in beside}
    methods = [method for method in METHODS if method in by_method]
    gains = shown.method == "shifted-nls" and "flow" in by_method
    rows = []
    for cell in shown.cells:
        means = {}
        for method in methods:
            other = by_method[method].get(cell.digest or cell.clip)
            found = None if other is None else other.summary("psnr")
            means[method] = None if found is None else found.mean
        own, flow = means[shown.method], means.get("flow")
        if own is None:
            continue
        summary = cell.summary("psnr")
        assert summary is not None
        worst = "; ".join(f"{t}, dt {dt:+d}: {value:.2f}" for (t, dt), value in summary.worst)
        row = [cell.clip, *(table_text("psnr", means[method]) for method in methods)]
        if gains:
            row.append("" if flow is None else f"{own - flow:+.2f}")
        rows.append((own, [*row, worst]))
    rows.sort(key=lambda entry: entry[0])
    header = ["clip", *methods, *(["gain"] if gains else []), WORST]
    return header, [row for _, row in rows]


def table_of(document: ComparisonDocument) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of settings; columns that would be empty are left out."""
    names = [
        name
        for name in document.metrics
        if any(s.mean(name) is not None for s in document.settings)
    ]
    header = ["method", *BESIDE]
    first = names[0] if names else None
    for name in names:
        header.append(table_label(name))
        if name == first:
            header += ["median", "worst 5 %"]
        if name == "psnr":
            header.insert(len(header) - (2 if name == first else 0), "gain")
    rows = [_table_row(document, setting, names, first) for setting in document.settings]
    kept = [n for n in range(len(header)) if n == 0 or any(row[n] for row in rows)]
    return [header[n] for n in kept], [[row[n] for n in kept] for row in rows]


def narrow_table(document: ComparisonDocument) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the columns that fit a terminal."""
    header, rows = table_of(document)
    wide = {
        table_label(name)
        for name in ("mae", "out_of_frame", "ssim_visible", "mae_visible", "visible")
    }
    wide |= {"median", "worst 5 %"}
    kept = [n for n, name in enumerate(header) if name not in wide]
    short = {
        table_label("psnr"): "PSNR", table_label("psnr_visible"): "visible",
        table_label("epe"): "EPE", table_label("at_edge"): "edge %",
    }  # fmt: skip
    names = [short.get(header[n], header[n]) for n in kept]
    return names, [[row[n] for n in kept] for row in rows]


def _table_row(
    document: ComparisonDocument, setting: SettingScores, names: list[str], first: str | None
) -> list[str]:
    method = setting.method if setting.source is None else f"{setting.method} ({setting.source})"
    row = [method]
    for name in BESIDE:
        value = setting.parameters.get(name)
        row.append(
            "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        )
    for name in names:
        row.append(table_text(name, setting.mean(name)))
        if name == "psnr":
            gain = document.gain(setting)
            row.append("" if gain is None else f"{gain:+.2f}")
        if name == first:
            found = setting.over_pairs(name)
            row.append("" if found is None else table_text(name, found.median))
            row.append("" if found is None else table_text(name, found.percentile_5))
    return row
