"""What a person reads while the rows are measured, line by line."""

from __future__ import annotations

import sys
from collections.abc import Callable

from stnls_cli.bench.ceilings import Ceilings
from stnls_cli.bench.row import Row

Say = Callable[[str], None]

LEGEND = """\
Median and median absolute deviation of the runs after warm-up; kernels and the operator around
them; caches stay as the call before left them.{clock}
Percent are of the ceilings. GB/s: inputs and outputs over the time. TFLOP/s: every tap of every
candidate; work that kernels share counts as done, so that its share may pass 100 %.
Memory: the peak over inputs and outputs."""


def say(line: str) -> None:
    """A line on standard error, as it is."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def legend(cuda: bool) -> str:
    """How the figures are to be read."""
    return LEGEND.format(clock=" CUDA events, the GPU idle before." if cuda else "")


def load_line(load: float) -> str:
    """Where other work may disturb the figures."""
    return (
        f"load of {load:.1f} in the minute before: work beside this makes times longer, those of "
        "the reference most (it is timed on a part of the frame)"
    )


def ceiling_line(ceilings: Ceilings) -> str:
    """The two ceilings."""
    return (
        f"ceilings, measured here: copy {ceilings.copy_bytes / 1e9:.4g} GB/s (read and written), "
        f"float32 product {ceilings.fma_flops / 1e12:.4g} TFLOP/s"
    )


def row_line(row: Row) -> str:
    """One backend's figures, below the name of the problem."""
    start = f"    {row.backend:<10}"
    if row.status != "ok":
        return f"{start}{row.status}: {row.message}"
    assert row.median_ms is not None
    assert row.spread_ms is not None
    # One unit for both: that of the time.
    spread = _time(row.spread_ms, scale_of=row.median_ms)
    words = [f"{start}{_time(row.median_ms):>9} ± {spread:<9}"]
    for value, unit, share in (
        (row.gb_s, "GB/s", row.share_of_copy),
        (row.tflop_s, "TFLOP/s", row.share_of_fma),
    ):
        if value is not None and share is not None:
            words.append(f"{_three(value):>7} {unit} {_percent(share):>6}")
    if row.peak_share is not None:
        words.append(f"memory {row.peak_share:.2f}")
    line = "  ".join(words)
    if row.original is not None:
        line += f"  original (H200) {original_words(row)}"
    return line if not row.message else f"{line}  ({row.message})"


def original_words(row: Row) -> str:
    """What the original took, and how many times longer that is."""
    assert row.original is not None
    assert row.median_ms is not None
    if "fails" in row.original:
        return "fails"
    factor = row.original["ms"] / row.median_ms
    return f"{_time(row.original['ms'])}, {factor:.1f}x"


def plan_line(row: Row) -> str:
    """A row that is not run."""
    mib = 2**20
    return (
        f"    {row.backend:<10}{row.flops / 1e9:>10.4g} GFLOP"
        f"  inputs {row.input_bytes / mib:>8.4g} MiB"
        f"  outputs {row.output_bytes / mib:>8.4g} MiB  {row.message}"
    ).rstrip()


def _time(ms: float, *, scale_of: float | None = None) -> str:
    """Four digits, milliseconds down to thousandths; in the unit of the time `scale_of`."""
    if (scale_of or ms) >= 1e4:
        return f"{ms / 1e3:.{0 if ms >= 1e6 else 1}f} s "
    if ms >= 1000:
        return f"{ms:.0f} ms"
    return f"{ms:.{3 if ms < 10 else 2 if ms < 100 else 1}f} ms"


def _three(value: float) -> str:
    """Three digits, without powers of ten."""
    if value >= 100:
        return f"{value:.0f}"
    if value < 0.001:
        return "<0.001"
    return f"{value:.{1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _percent(share: float) -> str:
    return f"{_three(100 * share)} %" if share >= 0.01 else "<1 %"
