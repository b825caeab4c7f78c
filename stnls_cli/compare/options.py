"""The options of `stnls compare`: its own, and those that it shares with `stnls align`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from stnls_cli.compare.protocol import GREYS, PROTOCOLS, Protocol
from stnls_cli.errors import UserError
from stnls_cli.metrics import METRICS, parse_metrics
from stnls_cli.options import AlignOptions, option, respelled
from stnls_cli.report.row import METHODS

NEEDS_MASK = frozenset({"psnr_visible", "ssim_visible", "mae_visible", "visible"})
"""Measures that are restricted to the visible pixels, or count them."""
SHARED = (
    "start", "frames", "size", "stream", "allow_damaged", "wt", "grid", "stride1", "k", "dist",
    "weights", "bandwidth", "aggregate", "prefer", "prior", "subpixel", "patch_weights", "sampling",
    "seed", "device", "threads",
)  # fmt: skip
"""Options of `align` that every cell of the grid has alike."""
DEFAULTS: Mapping[str, Any] = {"wt": 1}
"""Where a comparison's default is another one."""
MOST_CELLS = 100_000


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """What only the command line has: where results go, what it prints, and when it fails."""

    output: str = option(
        "comparison.stnls",
        "Folder of the results, and of what is kept for the next time.",
        "Output",
        flag="-o --output",
        metavar="DIR",
    )
    as_json: bool = option(
        False, "Print comparison.json on standard output.", "Output", flag="--json"
    )
    fail_below: float | None = option(
        None, "Exit with 1 where the mean PSNR of a clip is lower.", "Gates", metavar="DB"
    )
    fail_method: str = option("shifted-nls", "The method of --fail-below.", "Gates")
    baseline: str | None = option(
        None, "An earlier comparison.json, for --fail-drop.", "Gates", metavar="FILE"
    )
    fail_drop: float | None = option(
        None,
        "Exit with 1 where the mean PSNR of a clip with any setting is lower than in --baseline by "
        "more than this.",
        "Gates",
        metavar="DB",
    )
    dry_run: bool = option(
        False, "List the cells with estimated time and memory; compute nothing.", "Running"
    )
    quiet: bool = option(False, "Print nothing but errors.", "Running", flag="-q --quiet")

    def __post_init__(self) -> None:
        for name, value in (("--fail-below", self.fail_below), ("--fail-drop", self.fail_drop)):
            if value is not None and not math.isfinite(value):
                raise UserError(f"{name} must be a number of dB, not {value:g}")
        if self.fail_method not in METHODS:
            raise UserError(
                f"--fail-method must be one of {', '.join(METHODS)}, not {self.fail_method!r}"
            )
        if (self.baseline is None) != (self.fail_drop is None):
            raise UserError("--baseline and --fail-drop belong together: give both")
        if self.fail_drop is not None and self.fail_drop < 0:
            raise UserError(f"--fail-drop must be at least 0, not {self.fail_drop:g}")

    def check(self, options: CompareOptions) -> None:
        """Raises UserError where a gate looks for what will not be measured."""
        if self.fail_below is None and self.baseline is None:
            return
        if "psnr" not in options.metric_names():
            raise UserError("--fail-below and --fail-drop need psnr among --metrics")
        if self.fail_below is not None and self.fail_method not in options.methods():
            raise UserError(f"--fail-below needs {self.fail_method} among --method (--fail-method)")


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """What one run of `compare` is asked to do. Raises UserError where a value has no meaning."""

    protocol: str | None = option(
        None,
        "Settings of the paper's experiment: paper-text or paper-script (see docs/compare.md); "
        "options given beside it take their place.",
        "Grid",
        metavar="NAME",
    )
    method: str = option(
        ",".join(METHODS), f"Methods to compare: {', '.join(METHODS)}.", "Grid", metavar="LIST"
    )
    flow: str = option(
        "tvl1",
        "Optical flows: tvl1, tvl1-fast, tvl1-opencv, tvl1-paper, dis, dis-medium, deepflow, "
        "farneback, zero.",
        "Grid",
        metavar="LIST",
    )
    ws: str = option("9", "Windows: positions along each side.", "Grid", metavar="LIST")
    ps: str = option("5", "Patches: pixels along each side.", "Grid", metavar="LIST")
    sigma: str = option(
        "0", "Noise (0-255 scale) that flow and search see.", "Grid", metavar="LIST"
    )
    metrics: str = option(
        "psnr,ssim,mae,out_of_frame,psnr_visible,ssim_visible,mae_visible,visible,epe,at_edge",
        "Measures to report.",
        "Report",
        metavar="LIST",
    )
    margin: int = option(
        0, "Leave this many pixels at the frame's border out of all measures.", "Report"
    )
    truth: str | None = option(
        None,
        "True flow: a folder of .flo files or KITTI's PNGs named like the frames, or of such "
        "folders named like the clips (default: what lies beside the clips).",
        "Report",
        metavar="DIR",
    )
    flow_cache: str | None = option(
        None, "Folder that keeps the flows (default: flow below -o).", "Output", metavar="DIR"
    )
    base: AlignOptions = field(default_factory=AlignOptions)
    """What all cells share."""
    grey: str = "luma"
    full_ws: bool = True
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Of a protocol: options that were given in the place of its own, "dis, not farneback"."""
    slots: bool = False
    """Neighbours as in the library's temporal slots: at the ends of a clip farther ones."""

    def __post_init__(self) -> None:
        self.methods()
        for name in self.flows():
            check_flow_method(name)
        for name in ("ws", "ps"):
            self.numbers(name)
        self.sigmas()
        parse_metrics(self.metrics, tuple(METRICS))
        if self.margin < 0:
            raise UserError(f"--margin must be at least 0, not {self.margin}")
        if self.grey not in GREYS:
            raise ValueError(f"grey {self.grey!r}: one of {', '.join(GREYS)}")
        if self.flow_cache == "" or self.truth == "":
            raise UserError("--flow-cache and --truth: the name is empty")
        cells = len(self.flows()) * len(self.numbers("ws")) * len(self.numbers("ps"))
        if cells * len(self.sigmas()) > MOST_CELLS:
            raise UserError(
                f"the grid has {cells * len(self.sigmas())} cells, at most {MOST_CELLS}"
            )

    def methods(self) -> tuple[str, ...]:
        """Names of --method, in the report's order."""
        given = _listed("--method", self.method)
        for name in given:
            if name not in METHODS:
                raise UserError(f"--method: unknown {name!r}; choose from {', '.join(METHODS)}")
        return tuple(method for method in METHODS if method in given)

    def flows(self) -> tuple[str, ...]:
        """Names of --flow, in the order given."""
        return _listed("--flow", self.flow)

    def numbers(self, name: str) -> tuple[int, ...]:
        """--ws or --ps, ascending."""
        values = set()
        for text in _listed(f"--{name}", getattr(self, name)):
            if not text.isascii() or not text.isdecimal():
                raise UserError(f"--{name} is a list of whole numbers (3,5,9), not {text!r}")
            values.add(int(text))
        return tuple(sorted(values))

    def sigmas(self) -> tuple[float, ...]:
        """--sigma, ascending."""
        values = set()
        for text in _listed("--sigma", self.sigma):
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not (math.isfinite(value) and value >= 0):
                raise UserError(
                    f"--sigma is a list of numbers of 0 or more (0,15,30), not {text!r}"
                )
            values.add(value)
        return tuple(sorted(values))

    def metric_names(self) -> tuple[str, ...]:
        """Names of --metrics, in the report's order."""
        return parse_metrics(self.metrics, tuple(METRICS))

    def wants_masks(self) -> bool:
        """Whether a measure is restricted to visible pixels."""
        return not NEEDS_MASK.isdisjoint(self.metric_names())

    @property
    def experiment(self) -> Protocol | None:
        """The protocol that was asked for."""
        return None if self.protocol is None else PROTOCOLS[self.protocol]

    def truth_folder(self) -> Path | None:
        """--truth."""
        return None if self.truth is None else Path(self.truth)


def check_flow_method(name: str) -> None:
    """Refuses what is no method of flow: files belong to one clip, and a grid has several."""
    from stnls_cli.flow import FLOW_METHODS

    if name in FLOW_METHODS:
        return
    near = difflib.get_close_matches(name.lower(), FLOW_METHODS, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise UserError(f"--flow: unknown {name!r}{hint}; choose from {', '.join(FLOW_METHODS)}")


def own_fields() -> list[Field[Any]]:
    """Options that `align` has not."""
    return [entry for entry in fields(CompareOptions) if "help" in entry.metadata]


def shared_fields() -> list[Field[Any]]:
    """Options that `align` has too."""
    return [entry for entry in fields(AlignOptions) if entry.name in SHARED]


def default_of(entry: Field[Any]) -> Any:
    """What a comparison takes where the option is not given."""
    assert entry.default is not MISSING
    return DEFAULTS.get(entry.name, entry.default)


def compare_options(given: Mapping[str, Any]) -> CompareOptions:
    """Options by name: those that are given, else those of the protocol, else the defaults.

    Raises UserError for a value without meaning, TypeError for a name that is none.
    """
    given = respelled(given, "methods", "method")
    own = [entry.name for entry in own_fields()]
    known = [*own, *SHARED]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"compare has no option {name!r}{hint}")
    protocol = _of_protocol(given.get("protocol"))
    values = {**DEFAULTS, **protocol, **given}
    overrides = _overrides(given, protocol) if protocol else {}
    base = AlignOptions(
        **{name: values.pop(name) for name in SHARED if name in values}, save="none"
    )
    for name in ("method", "flow", "ws", "ps", "sigma", "metrics"):
        if name in values:
            values[name] = _text(values[name])
    return CompareOptions(**values, base=base, overrides=overrides)


def _of_protocol(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    if name not in PROTOCOLS:
        raise UserError(f"--protocol must be one of {', '.join(PROTOCOLS)}, not {name!r}")
    return dict(PROTOCOLS[name].given)


def _overrides(given: Mapping[str, Any], protocol: Mapping[str, Any]) -> dict[str, str]:
    """Options that make an experiment another one than the protocol's, with both values."""
    usual = {entry.name: default_of(entry) for entry in (*own_fields(), *shared_fields())}
    found = {}
    for name in (set(usual) - NO_MATTER) & set(given):
        ours, theirs = _text(given[name]), _text(protocol.get(name, usual[name]))
        if ours != theirs and given[name] is not None:
            unset = theirs in ("None", "")
            found[name] = ours if unset else f"{ours}, not {theirs}"
    return dict(sorted(found.items()))


NO_MATTER = frozenset({"protocol", "flow_cache", "truth", "device", "threads"})
"""Options that leave an experiment what it is."""


def _text(value: Any) -> str:
    """Callers from Python may pass a list, or one number."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def _listed(name: str, text: str) -> tuple[str, ...]:
    """The parts of a list with commas, each once."""
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise UserError(f"{name} names none")
    return parts
