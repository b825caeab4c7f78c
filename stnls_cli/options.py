"""The options of `stnls align`: one table, from which come the command line, its help, the
parameters of `stnls_cli.align`, the report and the documentation."""

from __future__ import annotations

import difflib
import math
import numbers
import os
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from stnls_cli.errors import UserError
from stnls_cli.report.row import METHODS

GRIDS = ("int", "float")
DISTANCES = ("l2", "prod")
AGGREGATES = ("patch", "pixel")
WEIGHTS = ("best", "softmax")
PATCH_WEIGHTS = ("confidence", "uniform")
PREFERENCES = ("appearance", "motion")
PRIOR = {"appearance": 0.02, "motion": 0.5}
SUBPIXELS = ("parabola", "none")
SAMPLINGS = ("bicubic", "bilinear")
FORMATS = ("png", "png16", "npy")
SAVES = ("aligned", "flow", "offsets", "distance", "video")
MOST_CANDIDATES = 2**24
"""For each pixel, that the library searches."""
WINDOW_LIMIT = math.isqrt(MOST_CANDIDATES) - 1
MOST_THREADS = 1024
MOST_WORKERS = 64
STRIDES = (1e-3, 1e4)
"""Steps within which positions are exact to a thousandth of a pixel in float32."""
PRIORS = (0.0, 1e6)
BANDWIDTHS = (1e-3, 1e6)
"""From a difference that no two 8-bit levels have to one beyond which all weights are equal."""


def _range(limits: tuple[float, float]) -> str:
    return f"{limits[0]:g} to {limits[1]:g}"


def option(default: Any, help: str, panel: str, *, flag: str = "", metavar: str = "") -> Any:
    """A field of an options class: `flag` where it is not --name-with-dashes."""
    return field(
        default=default,
        metadata={"help": help, "panel": panel, "flag": flag, "metavar": metavar},
    )


def option_flags(entry: Field[Any]) -> list[str]:
    """How a field is written on the command line: ["-o", "--output"]."""
    flag: str = entry.metadata["flag"] or "--" + entry.name.replace("_", "-")
    return flag.split()


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """What only the command line has: where results go, and what it prints."""

    output: list[str] | None = option(  # noqa: RUF009 - a field, its default is None
        None,
        "Folder of the results; with several inputs a folder for all, or one -o each "
        "(default: INPUT's name with .stnls).",
        "Output",
        flag="-o --output",
        metavar="DIR",
    )
    as_json: bool = option(False, "Print the report on standard output.", "Output", flag="--json")
    quiet: bool = option(False, "Print nothing but errors.", "Running", flag="-q --quiet")
    verbose: bool = option(
        False,
        "Print where the time went, stage by stage.",
        "Running",
        flag="-v --verbose --timings",
    )
    trace: str | None = option(
        None,
        "Write a trace of the run by PyTorch's profiler, for chrome://tracing or Perfetto.",
        "Running",
        metavar="FILE",
    )


@dataclass(frozen=True, kw_only=True)
class AlignOptions:
    """What one run of `align` is asked to do. Raises UserError where a value has no meaning."""

    start: int = option(0, "First frame, counted from 0.", "Input")
    frames: int | None = option(None, "At most this many frames (default: to the end).", "Input")
    size: str | None = option(None, "Resize frames to this size first.", "Input", metavar="WxH")
    stream: int | None = option(
        None, "Video stream, by FFmpeg's number (default: FFmpeg's best).", "Input"
    )
    allow_damaged: bool = option(
        False, "Go on with what decodes of a damaged clip; the report says what was wrong.", "Input"
    )

    ws: int = option(9, f"Window: positions along each side (odd, up to {WINDOW_LIMIT}).", "Search")
    wt: int = option(2, "Align the neighbours up to this many frames away.", "Search")
    ps: int = option(
        5,
        "Patch: pixels along each side (an even patch lies half a pixel off its centre).",
        "Search",
    )
    # Defaults from real footage, see "Quality" in the README: keeping the flow's fraction of a
    # pixel is worth more than finer steps in as large a window. What None stands for depends on
    # other options: whatever is best and applies.
    grid: str = option(
        "float",
        "Positions: float (bilinear, around the flow as it is) or int.",
        "Search",
        metavar="|".join(GRIDS),
    )
    stride1: float = option(
        1.0,
        f"Pixels between positions (1, 0.5, ...; {_range(STRIDES)}).",
        "Search",
    )
    k: int = option(1, "Matches to keep for each pixel.", "Search", flag="-k")
    dist: str = option(
        "l2",
        "Patch distance: sum of squares, or inner product (larger is nearer).",
        "Search",
        metavar="|".join(DISTANCES),
    )
    weights: str = option(
        "best",
        "Align by the best match, or by the softmax of all k (with -k 2 or more).",
        "Search",
        metavar="|".join(WEIGHTS),
    )
    bandwidth: float = option(
        10.0,
        "Softmax: weights fall by e for this root mean square difference (0-255; "
        f"{_range(BANDWIDTHS)}).",
        "Search",
    )
    aggregate: str = option(
        "patch",
        "Aligned value: average of the overlapping matched patches, or the pixel at the match.",
        "Search",
        metavar="|".join(AGGREGATES),
    )

    prefer: str = option(
        "appearance",
        "Defaults of the next two for aligned frames that look like the reference, or for offsets "
        "that are true motion.",
        "Search",
        metavar="|".join(PREFERENCES),
    )
    prior: float | None = option(
        None,
        "Charge for leaving the flow, on the mean squared difference: for each squared pixel this "
        f"times max(sigma, 5)^2 (default: {PRIOR['appearance']:g}, or {PRIOR['motion']:g} with "
        "--prefer motion; 0 with prod).",
        "Search",
    )
    subpixel: str | None = option(
        None,
        "Place the best match between positions, at the lowest point of the parabola through the "
        "distances around it (default: parabola on the float grid with l2, none with --prefer "
        "motion).",
        "Search",
        metavar="|".join(SUBPIXELS),
    )
    patch_weights: str | None = option(
        None,
        "Weigh overlapping patches by how well they match, or all the same (default: confidence "
        "with l2).",
        "Search",
        metavar="|".join(PATCH_WEIGHTS),
    )
    sampling: str | None = option(
        None,
        "Between pixels of the neighbour (default: bicubic on the float grid, but bilinear with "
        "--weights softmax).",
        "Search",
        metavar="|".join(SAMPLINGS),
    )

    flow: str = option(
        "tvl1",
        "Optical flow: tvl1, tvl1-fast, tvl1-opencv, tvl1-paper, dis, dis-medium, deepflow, "
        "farneback, zero, an .npz file or a folder of .flo files.",
        "Flow and noise",
        metavar="NAME|PATH",
    )
    sigma: float = option(
        0.0, "Add Gaussian noise (0-255 scale) to what flow and search see.", "Flow and noise"
    )
    seed: int = option(0, "Seed of the noise.", "Flow and noise")

    methods: str = option(",".join(METHODS), "Methods to compare.", "Report", metavar="LIST")
    metrics: str = option(
        "psnr,ssim,mae,out_of_frame", "Measures to report.", "Report", metavar="LIST"
    )

    save: str | None = option(
        None,
        f"What to write besides the report: {', '.join(SAVES)}; or none by itself "
        "(default: aligned, with -k above 1 offsets and distance too; nothing where shifted-nls "
        "is not among --methods).",
        "Output",
        metavar="LIST",
    )
    format: str = option(
        "png",
        "Images: 8 or 16 bits, or NumPy's float32.",
        "Output",
        metavar="|".join(FORMATS),
    )
    overwrite: bool = option(False, "Replace a run with other parameters.", "Output")

    device: str = option("auto", "auto, cpu, cuda or cuda:N.", "Running")
    threads: int | None = option(None, "Processor threads (default: all cores).", "Running")
    workers: int | None = option(
        None,
        "Clips aligned side by side, each by a process of its own (default: one for each GPU that "
        "--device cuda names, 1 on the CPU).",
        "Running",
    )

    def __post_init__(self) -> None:
        take_types(self)
        _at_least("--start", self.start, 0)
        if self.frames is not None:
            _at_least("--frames", self.frames, 1)
        self.frame_size()
        _at_least("--ws", self.ws, 1)
        if self.ws > WINDOW_LIMIT:
            raise UserError(
                f"--ws must be at most {WINDOW_LIMIT} (2**24 candidates for each pixel), "
                f"not {self.ws}"
            )
        if self.ws % 2 == 0:
            raise UserError(f"--ws must be odd, so that the window has a centre, not {self.ws}")
        _at_least("--wt", self.wt, 1)
        _at_least("--ps", self.ps, 1)
        _at_least("-k", self.k, 1)
        for name, value, known in (
            ("--grid", self.grid, GRIDS),
            ("--dist", self.dist, DISTANCES),
            ("--weights", self.weights, WEIGHTS),
            ("--aggregate", self.aggregate, AGGREGATES),
            ("--format", self.format, FORMATS),
        ):
            if value not in known:
                raise UserError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        if self.k > self.ws * self.ws:
            raise UserError(
                f"-k {self.k} is more than the {self.ws * self.ws} positions of --ws {self.ws}"
            )
        if self.weights == "softmax" and self.k == 1:
            raise UserError("--weights softmax weighs several matches: give -k 2 or more")
        self._check_stride1()
        self._check_choice()
        _within("--bandwidth", self.bandwidth, BANDWIDTHS)
        if self.threads is not None:
            _at_least("--threads", self.threads, 1)
            if self.threads > MOST_THREADS:
                raise UserError(f"--threads must be at most {MOST_THREADS}, not {self.threads}")
        if self.workers is not None:
            _at_least("--workers", self.workers, 1)
            if self.workers > MOST_WORKERS:
                raise UserError(f"--workers must be at most {MOST_WORKERS}, not {self.workers}")
        methods, matched = self.method_names(), self.saved() - {"flow"}
        if matched and "shifted-nls" not in methods:
            left = "flow" if "flow" in self.saved() else "none"
            raise UserError(
                f"--save {','.join(sorted(matched))} needs shifted-nls among --methods; add it, "
                f"or use --save {left}"
            )
        self.metric_names()
        from stnls_cli.flow import check_flow_name
        from stnls_cli.noise import check_noise

        check_flow_name(self.flow)
        check_noise(self.sigma, self.seed)

    def _check_stride1(self) -> None:
        _within("--stride1", self.stride1, STRIDES)
        if self.grid == "int" and self.stride1 != int(self.stride1):
            raise UserError(
                f"--stride1 {self.stride1:g} needs --grid float: the int grid takes whole numbers"
            )

    def _check_choice(self) -> None:
        """Options of the choice among matches and of the average, where they are given."""
        for name, value, known in (
            ("--prefer", self.prefer, PREFERENCES),
            ("--subpixel", self.subpixel, SUBPIXELS),
            ("--patch-weights", self.patch_weights, PATCH_WEIGHTS),
            ("--sampling", self.sampling, SAMPLINGS),
        ):
            if value is not None and value not in known:
                raise UserError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        if self.prior is not None:
            _within("--prior", self.prior, PRIORS)
        if self.dist != "l2":
            for name, asked in (
                ("--prior", bool(self.prior)),
                ("--subpixel parabola", self.subpixel == "parabola"),
                ("--patch-weights confidence", self.patch_weights == "confidence"),
            ):
                if asked:
                    raise UserError(f"{name} needs --dist l2: it reckons with squared differences")
        if self.grid == "int" and self.subpixel == "parabola":
            raise UserError(
                "--subpixel parabola needs --grid float: the int grid has whole numbers"
            )
        if self.sampling == "bicubic" and (self.grid == "int" or self.weights == "softmax"):
            why = (
                "--grid float: on the int grid nothing lies between pixels"
                if self.grid == "int"
                else "--weights best: several matches of a pixel are sampled bilinearly"
            )
            raise UserError(f"--sampling bicubic needs {why}")

    def prior_used(self) -> float:
        """The prior's factor; 0 where there is none."""
        if self.prior is not None:
            return self.prior
        return PRIOR[self.prefer] if self.dist == "l2" else 0.0

    def subpixel_used(self) -> str:
        """What --subpixel stands for."""
        applies = self.grid == "float" and self.dist == "l2" and self.prefer == "appearance"
        return self.subpixel or ("parabola" if applies else "none")

    def patch_weights_used(self) -> str:
        """What --patch-weights stands for."""
        return self.patch_weights or ("confidence" if self.dist == "l2" else "uniform")

    def sampling_used(self) -> str:
        """What --sampling stands for."""
        applies = self.grid == "float" and self.weights == "best"
        return self.sampling or ("bicubic" if applies else "bilinear")

    def frame_size(self) -> tuple[int, int] | None:
        """(width, height) of --size."""
        if self.size is None:
            return None
        width, separator, height = self.size.lower().partition("x")
        if not (separator and width.isdecimal() and height.isdecimal()):
            raise UserError(f"--size must look like 640x360, not {self.size!r}")
        if int(width) == 0 or int(height) == 0:
            raise UserError(f"--size must be at least 1x1, not {self.size}")
        return int(width), int(height)

    def needs_flow(self) -> bool:
        """Whether any method or output uses the flow."""
        return not {"flow", "shifted-nls"}.isdisjoint(self.method_names()) or (
            "flow" in self.saved()
        )

    def method_names(self) -> tuple[str, ...]:
        """Names of --methods, in the report's order."""
        return _names("--methods", self.methods, METHODS)

    def metric_names(self) -> tuple[str, ...]:
        """Names of --metrics, in the report's order."""
        from stnls_cli.metrics import parse_metrics

        return parse_metrics(self.metrics)

    def saved(self) -> set[str]:
        """What --save asks for."""
        if self.save is None:
            if "shifted-nls" not in self.method_names():
                return set()
            return {"aligned"} if self.k == 1 else {"aligned", "offsets", "distance"}
        parts = {part.strip() for part in self.save.split(",")}
        if parts == {"none"}:
            return set()
        if "none" in parts:
            raise UserError("--save: none stands alone, for no files; leave it or the others out")
        return set(_names("--save", self.save, SAVES, none=", or none for no files"))

    def parameters(self) -> dict[str, Any]:
        """Everything that results or outputs depend on, plain values; the flow is described by
        its source."""
        # `prefer` only stands for others.
        elsewhere = {"overwrite", "device", "threads", "workers", "flow", "prefer"}
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in elsewhere}
        values["prior"] = self.prior_used()
        values["subpixel"] = self.subpixel_used()
        values["patch_weights"] = self.patch_weights_used()
        values["sampling"] = self.sampling_used()
        size = self.frame_size()
        values["size"] = None if size is None else f"{size[0]}x{size[1]}"
        values["methods"] = list(self.method_names())
        values["metrics"] = list(self.metric_names())
        values["save"] = sorted(self.saved())
        return values


TAKEN_TOO = {"LIST": " or a list of str", "WxH": " or (width, height)"}


def take_types(options: Any) -> None:
    """Makes the values of an options class plain: callers from Python may pass NumPy numbers and
    paths, lists for lists, and (width, height) for a size; other types are a TypeError."""
    for entry in fields(options):
        if "help" not in entry.metadata:
            continue
        value = getattr(options, entry.name)
        kind, _, optional = str(entry.type).partition(" | ")
        if value is None and optional:
            continue
        metavar = entry.metadata["metavar"]
        if isinstance(value, (list, tuple)):
            value = _joined(value, metavar, nothing="none" if entry.name == "save" else "")
        converted = _as_kind(kind, value)
        if converted is None:
            wanted = f"{entry.type}{TAKEN_TOO.get(metavar, '')}"
            raise TypeError(f"{entry.name} must be {wanted}, not {value!r}")
        object.__setattr__(options, entry.name, converted)


def align_options(given: dict[str, Any]) -> AlignOptions:
    """Options by name, as Python gives them."""
    given = respelled(given, "method", "methods")
    known = [entry.name for entry in fields(AlignOptions)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise TypeError(
                f"align has no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    return AlignOptions(**given)


def respelled(given: Mapping[str, Any], spelling: str, name: str) -> dict[str, Any]:
    """`given` with the option `name` under its own name, where it is spelled otherwise."""
    values = dict(given)
    if spelling in values:
        if name in values:
            raise UserError(f"--{spelling} and --{name} are one option: give it once")
        values[name] = values.pop(spelling)
    return values


def _joined(value: Sequence[Any], metavar: str, *, nothing: str) -> Any:
    """A list as it is written on the command line; what is none stays as it is."""
    if metavar == "LIST" and all(isinstance(part, str) for part in value):
        return ",".join(value) or nothing
    if metavar == "WxH" and len(value) == 2 and all(_is_whole(part) for part in value):
        return f"{int(value[0])}x{int(value[1])}"
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _as_kind(kind: str, value: Any) -> Any:
    """`value` as the plain type of this name; None where it is of another one."""
    if kind == "bool" or isinstance(value, bool):
        return value if kind == "bool" and isinstance(value, bool) else None
    if kind == "int":
        return int(value) if isinstance(value, numbers.Integral) else None
    if kind == "float":
        return float(value) if isinstance(value, numbers.Real) else None
    return os.fspath(value) if isinstance(value, (str, os.PathLike)) else None


def _at_least(name: str, value: int, minimum: int) -> None:
    if value < minimum:
        raise UserError(f"{name} must be at least {minimum}, not {value}")


def _within(name: str, value: float, limits: tuple[float, float]) -> None:
    if not limits[0] <= value <= limits[1]:  # not a number is not
        raise UserError(f"{name} must lie between {limits[0]:g} and {limits[1]:g}, not {value:g}")


def _names(name: str, text: str, known: tuple[str, ...], *, none: str = "") -> tuple[str, ...]:
    given = {part.strip() for part in text.split(",") if part.strip()}
    unknown = sorted(given - set(known))
    if unknown:
        raise UserError(
            f"{name}: unknown {', '.join(map(repr, unknown))}; choose from {', '.join(known)}"
        )
    if not given:
        raise UserError(f"{name} names none; choose from {', '.join(known)}{none}")
    return tuple(value for value in known if value in given)
