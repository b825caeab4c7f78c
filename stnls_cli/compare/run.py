"""A comparison from its inputs to the files in its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from stnls_cli.compare.document import ComparisonDocument, document_of
from stnls_cli.compare.files import write_documents
from stnls_cli.compare.inputs import find_inputs
from stnls_cli.compare.job import Comparison, ListenerFor, check_folder, comparison_folder
from stnls_cli.compare.options import CompareOptions
from stnls_cli.folders import check_pictures
from stnls_cli.page.build import write_comparison_page
from stnls_cli.progress import Listener


def _silent(_: str) -> contextlib.AbstractContextManager[Listener]:
    return contextlib.nullcontext(Listener())


def prepare(
    paths: Sequence[Path],
    options: CompareOptions,
    folder: Path,
    listener: ListenerFor = _silent,
) -> Comparison:
    """The job, with nothing computed or written yet.

    Raises UserError for inputs and a folder that cannot be used.
    """
    check_pictures(paths)
    inputs = find_inputs(paths)
    check_folder(folder)
    return Comparison(inputs, options, folder, listener)


def run(job: Comparison, folder: Path) -> ComparisonDocument:
    """Computes what is not there yet, and writes all files; where every input failed nothing is
    written."""
    with comparison_folder(folder):
        outcome = job.work()
        document = document_of(outcome, job.options)
        if outcome.clips:
            write_documents(folder, document, outcome)
            write_comparison_page(folder, document, job)
    return document
