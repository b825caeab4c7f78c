"""Writing report.html: at the end of a job, or again from what it stored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from stnls_cli.errors import UserError
from stnls_cli.metrics import IDENTICAL_DB
from stnls_cli.page.gallery import FOLDER, ROLES, pair_name, read_pairs, write_pairs
from stnls_cli.page.pictures import PairPictures, paint_pair, save_pair, shrink_pair
from stnls_cli.page.render import render
from stnls_cli.storage import write_text

if TYPE_CHECKING:
    from stnls_cli.compare.document import ComparisonDocument, SettingScores
    from stnls_cli.compare.job import Comparison
    from stnls_cli.report import Report

HTML_NAME = "report.html"


def write_align_page(folder: Path, report: Report) -> None:
    """report.html of a run whose pictures lie in `folder`."""
    from stnls_cli.page.align_page import align_page

    write_text(folder / HTML_NAME, render(align_page(report, folder)))


def rebuild(folder: Path) -> Path:
    """report.html of a finished run or comparison again, from what is stored there; of a run
    report.csv too."""
    from stnls_cli.compare.files import JSON_NAME as COMPARISON
    from stnls_cli.compare.files import read_comparison
    from stnls_cli.report import JSON_NAME, read_report, write_table

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of a run")
    if (folder / COMPARISON).is_file():
        from stnls_cli.page.compare_page import compare_page

        write_text(folder / HTML_NAME, render(compare_page(read_comparison(folder), folder)))
    elif (folder / JSON_NAME).is_file():
        report = read_report(folder)
        write_table(folder, report)
        write_align_page(folder, report)
    else:
        raise UserError(
            f"{folder}: holds neither {JSON_NAME} nor {COMPARISON}: no finished run of stnls"
        )
    return folder / HTML_NAME


def write_comparison_page(folder: Path, document: ComparisonDocument, job: Comparison) -> None:
    """report.html of a comparison: its pictures are made now, from the inputs."""
    from stnls_cli.compare.tables import best_setting
    from stnls_cli.page.compare_page import compare_page

    shown = best_setting(document)
    if shown is not None and not shown.joined:
        _draw_pairs(folder, document, shown, job)
    else:
        # Those of another grid say nothing of this one.
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        if shown is not None:
            _borrow_pairs(folder / FOLDER, shown)
    write_text(folder / HTML_NAME, render(compare_page(document, folder)))


def _draw_pairs(
    folder: Path, document: ComparisonDocument, shown: SettingScores, job: Comparison
) -> None:
    """The worst, median and best pair of the setting shown."""
    scores = sorted(
        (min(value, 100.0), cell.clip, t, dt)
        for cell in shown.cells
        for (t, dt), value in zip(cell.pairs, cell.scores.get("psnr", ()), strict=False)
        if value is not None
    )
    if not scores:
        return
    chosen = dict(zip(ROLES, (scores[0], scores[(len(scores) - 1) // 2], scores[-1]), strict=True))
    names = {role: pair_name(t, dt, clip) for role, (_, clip, t, dt) in chosen.items()}
    pictures = folder / FOLDER
    for role, (_, clip, t, dt) in chosen.items():
        save_pair(pictures / names[role], _pair(document, shown, job, clip, t, dt))
    write_pairs(pictures, names)
    kept = {path.name for path in read_pairs(pictures).values()}
    for entry in pictures.iterdir():
        if entry.is_dir() and entry.name not in kept:
            shutil.rmtree(entry, ignore_errors=True)


def _borrow_pairs(pictures: Path, shown: SettingScores) -> None:
    """Of the pairs that earlier runs have pictures of, the worst, the best, and of their medians
    the one nearest to the median of all."""
    from stnls_cli.page.pictures import load_pair
    from stnls_cli.report.plain import from_plain

    found: dict[str, list[tuple[float, str, PairPictures]]] = {}
    for cell in shown.cells:
        for role, path in read_pairs(Path(cell.source or "") / FOLDER).items():
            pair = load_pair(path)
            score = from_plain(pair.told["psnr"].get(shown.method))
            if score is not None:
                found.setdefault(role, []).append((min(score, IDENTICAL_DB), cell.clip, pair))
    overall = shown.over_pairs("psnr")
    if overall is None or found.keys() != set(ROLES):
        return
    chosen = {
        "worst": min(found["worst"], key=lambda entry: entry[0]),
        "median": min(found["median"], key=lambda entry: abs(entry[0] - overall.median)),
        "best": max(found["best"], key=lambda entry: entry[0]),
    }
    names = {}
    for role, (_, clip, pair) in chosen.items():
        names[role] = pair_name(pair.told["t"], pair.told["dt"], clip)
        save_pair(pictures / names[role], PairPictures(pair.images, {**pair.told, "clip": clip}))
    write_pairs(pictures, names)


def _pair(
    document: ComparisonDocument,
    shown: SettingScores,
    job: Comparison,
    clip: str,
    t: int,
    dt: int,
) -> PairPictures:
    found = job.pair(clip, t, dt, shown.parameters)
    scores = {
        setting.method: cell.scores["psnr"][cell.pairs.index((t, dt))]
        for setting in document.beside(shown)
        for cell in setting.cells
        if cell.clip == clip and (t, dt) in cell.pairs
    }
    small = shrink_pair(
        reference=found.reference,
        neighbour=found.neighbour,
        aligned=found.aligned,
        motions=found.motions,
    )
    return paint_pair(small, clip=clip, t=t, dt=dt, scores=scores)
