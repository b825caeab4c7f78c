"""What a grid will take, before it is begun: a rough estimate, from measurements on one core."""

from __future__ import annotations

from dataclasses import dataclass

from stnls_cli.compare.masks import FLOW as MASK_FLOW
from stnls_cli.compare.options import CompareOptions
from stnls_cli.compare.protocol import slots
from stnls_cli.compare.setting import Setting

FLOW_SECONDS = {
    "tvl1": 0.65, "tvl1-fast": 0.16, "tvl1-opencv": 20.0, "tvl1-paper": 100.0, "dis": 0.75,
    "dis-medium": 0.15, "deepflow": 4.5, "farneback": 0.9, "zero": 0.0,
}  # fmt: skip
"""For a megapixel of real footage, one core of a 2.x GHz server."""
SEARCH_SECONDS = 0.25
POSITION_SECONDS = 1e-3
"""For each of the ws^2 positions and a megapixel: patches are box sums, whatever their size."""
OWN_SIZES = range(1, 12)
"""Patches for which places between positions and the bicubic average have kernels of their own."""
SUBPIXEL_SECONDS = 0.06
"""For each pixel of a larger patch and a megapixel; else in SEARCH_SECONDS."""
PATCH_SECONDS = {"bicubic": 0.003, "bilinear": 0.006}
"""For each pixel of the patch, match that is averaged, and a megapixel."""
OTHER_PATCH_SECONDS = 0.045
"""The same for bicubic sampling of larger patches."""
METRIC_SECONDS = {"ssim": 0.01, "ssim_visible": 0.15}
OTHER_SECONDS = 0.1
BYTES = {"frames": 3 * 4 * 2 + 3, "flow": 8 * 2, "search": 330}
"""For each pixel: of a frame in the window, of a flow, of a search under way."""


@dataclass(frozen=True)
class Survey:
    """A clip and its settings, each with whether its cell is finished."""

    clip: str
    frames: int
    width: int
    height: int
    settings: tuple[tuple[Setting, bool], ...]


@dataclass(frozen=True)
class CellEstimate:
    """One cell: whether it is there, and else its seconds on one core and its memory."""

    clip: str
    setting: Setting
    pairs: int
    finished: bool
    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Estimate:
    """All cells, and the flows that they share: by name (computed, seconds on one core)."""

    cells: tuple[CellEstimate, ...]
    flows: dict[str, tuple[int, float]]
    threads: int

    @property
    def seconds(self) -> float:
        """Of the whole, on all threads."""
        work = sum(cell.seconds for cell in self.cells if not cell.finished)
        work += sum(seconds for _, seconds in self.flows.values())
        return work / self.threads

    @property
    def megabytes(self) -> float:
        """Of the cell that needs most."""
        return max((cell.megabytes for cell in self.cells), default=0.0)


def pairs_of(frames: int, wt: int, *, by_slots: bool = False) -> int:
    """Pairs (t, t + dt), 0 < |dt| <= wt, of a clip; or those of the library's temporal slots."""
    if by_slots:
        return sum(len(slots(t, wt, frames)) for t in range(frames))
    return sum(2 * max(frames - dt, 0) for dt in range(1, wt + 1))


def cell_seconds(setting: Setting, megapixels: float, metrics: tuple[str, ...]) -> float:
    """For one pair, on one core."""
    seconds = OTHER_SECONDS + sum(METRIC_SECONDS.get(name, 0.0) for name in metrics)
    if setting.searches:
        options = setting.options
        own = options.ps in OWN_SIZES
        seconds += SEARCH_SECONDS + POSITION_SECONDS * options.ws**2
        if options.subpixel_used() == "parabola" and not own:
            seconds += SUBPIXEL_SECONDS * options.ps**2
        sampling = options.sampling_used()
        each = PATCH_SECONDS[sampling]
        if sampling == "bicubic" and not own:
            each = OTHER_PATCH_SECONDS
        taps = options.ps**2 if options.aggregate == "patch" else 1
        seconds += each * taps * (options.k if options.weights == "softmax" else 1)
    return seconds * megapixels


def cell_megabytes(setting: Setting, megapixels: float, reach: int, threads: int) -> float:
    """At the most, beside 400 MB that Python, torch and OpenCV take."""
    each = (2 * reach + 3) * BYTES["frames"] + 4 * reach * BYTES["flow"]
    each += BYTES["search"] * (threads if setting.searches else 0)
    return 400 + each * megapixels


def estimate(surveys: list[Survey], options: CompareOptions, threads: int) -> Estimate:
    """Of a grid, by what is there already. Whether flows are in the cache is not looked up: that
    would need the frames."""
    metrics, wt = options.metric_names(), options.base.wt
    reach = 2 * wt if options.slots else wt
    cells = []
    flows: dict[str, tuple[int, float]] = {}
    for survey in surveys:
        megapixels = survey.width * survey.height / 1e6
        pairs = pairs_of(survey.frames, wt, by_slots=options.slots)
        open_passes = set()
        for setting, finished in survey.settings:
            seconds = 0.0 if finished else pairs * cell_seconds(setting, megapixels, metrics)
            megabytes = cell_megabytes(setting, megapixels, reach, threads)
            cells.append(CellEstimate(survey.clip, setting, pairs, finished, seconds, megabytes))
            if not finished and setting.flow is not None:
                open_passes.add((setting.flow, setting.sigma))
        if options.wants_masks() and not all(finished for _, finished in survey.settings):
            open_passes.add((MASK_FLOW, 0.0))  # the flow of the clean frames is shared
        for name, _ in open_passes:
            count, seconds = flows.get(name, (0, 0.0))
            more = 2 * max(survey.frames - 1, 0)
            flows[name] = count + more, seconds + more * FLOW_SECONDS[name] * megapixels
    return Estimate(tuple(cells), flows, threads)
