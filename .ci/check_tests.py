"""Fail when a test that could run did not.

python .ci/check_tests.py COLLECTED REPORT.xml...

COLLECTED is what `pytest --collect-only -q` printed for the whole suite; the reports are pytest's
JUnit files, which together must hold every one of those tests. A test may be skipped only for a
reason named here, and only where that reason is true.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


def no_cuda() -> bool:
    """Whether torch sees no GPU."""
    import torch

    return not torch.cuda.is_available()


def no_shared_data() -> bool:
    """Whether the footage that is not part of the repository is absent."""
    return not Path(os.environ.get("STNLS_SHARED", ROOT.parent / "shared")).is_dir()


def is_root() -> bool:
    """Whether the rights of files do not bind this user."""
    return os.geteuid() == 0


def lacks_avx512() -> bool:
    """Whether some instruction set of the kernels cannot run here."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if sys.platform == "linux" else ""
    return "avx512dq" not in flags or "avx2" not in flags


def one_gpu() -> bool:
    """Whether torch sees a single GPU."""
    import torch

    return torch.cuda.device_count() == 1


def less_gpu_memory_than(gib: int) -> bool:
    """Whether a test that needs this much GPU memory cannot have it."""
    import torch

    return torch.cuda.is_available() and torch.cuda.mem_get_info()[0] < gib * 2**30


def no_documentation_tools() -> bool:
    """Whether what builds the documentation is not installed."""
    return any(find_spec(name) is None for name in ("sphinx", "myst_parser", "furo"))


def no_browser() -> bool:
    """Whether there is no browser that could look at a page."""
    return not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))


REASONS: dict[str, Callable[[], bool]] = {
    "no CUDA device": no_cuda,
    "one GPU only": one_gpu,
    "less than 20 GiB of GPU memory are free": partial(less_gpu_memory_than, 20),
    "less than 50 GiB of GPU memory are free": partial(less_gpu_memory_than, 50),
    "no shared data": no_shared_data,
    "no footage in": no_shared_data,
    "root may": is_root,
    "this processor has no": lacks_avx512,
    "no documentation tools": no_documentation_tools,
    "no Chromium here": no_browser,
}
"""How the message of a skip may begin, and what must hold then."""


class Skip(NamedTuple):
    """A test that did not run."""

    test: str
    reason: str


def collected_count(text: str) -> int:
    """Number of tests in what `pytest --collect-only -q` printed."""
    return sum(1 for line in text.splitlines() if re.match(r"\S+\.py::", line))


def read_reports(paths: Iterable[Path]) -> tuple[int, list[Skip]]:
    """Number of tests in the reports, and those that were skipped; expected failures did run."""
    count = 0
    skips = []
    for path in paths:
        for case in ElementTree.parse(path).iter("testcase"):
            count += 1
            skipped = case.find("skipped")
            if skipped is not None and skipped.get("type") != "pytest.xfail":
                reason = skipped.get("message", "")
                if reason == "collection skipped":  # a whole file; why is in the text
                    reason = " ".join((skipped.text or reason).split()).partition("Skipped: ")[2]
                skips.append(Skip(f"{case.get('classname')}::{case.get('name')}", reason))
    return count, skips


def complaints(collected: int, count: int, skips: Iterable[Skip]) -> list[str]:
    """One line for each thing that is not as it should be."""
    found = []
    if count == 0:
        found.append("no test ran")
    if count < collected:
        missing = collected - count
        found.append(f"{missing} of {collected} tests are in no report: they were not run")
    for skip in skips:
        holds = next((REASONS[start] for start in REASONS if skip.reason.startswith(start)), None)
        if holds is None:
            found.append(f"{skip.test} was skipped for a reason that is not allowed: {skip.reason}")
        elif not holds():
            found.append(f"{skip.test} was skipped, but this is not so here: {skip.reason}")
    return found


def main(arguments: list[str]) -> int:
    """Print the complaints; 1 if there are any."""
    collected = collected_count(Path(arguments[0]).read_text(encoding="utf-8"))
    count, skips = read_reports(map(Path, arguments[1:]))
    found = complaints(collected, count, skips)
    for line in found:
        print(f"check_tests: {line}", file=sys.stderr)
    if not found:
        print(f"check_tests: {count} tests, {len(skips)} of them skipped for a good reason")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
