"""The options of `stnls bench`: one table for Typer, for argparse and for the checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stnls_cli.bench.presets import PRESETS
from stnls_cli.errors import UserError
from stnls_cli.options import option

FLOWS = ("edges", "smooth", "zero", "wild")
DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
}
BACKENDS = ("stnls", "reference", "original", "natten", "sdpa", "flex", "opencv")
MOST_REPEATS = 100_000
MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What one run of `bench` is asked to do. Raises UserError where a value has no meaning."""

    device: str = option("auto", "auto, cpu, cuda or cuda:N.", "Running")
    threads: int | None = option(None, "Processor threads (default: all cores).", "Running")
    repeat: int | None = option(
        None, "Runs of each call (default: 7, on a GPU 15; fewer of slow calls).", "Running"
    )
    preset: list[str] | None = option(  # noqa: RUF009
        None,
        f"Problems to time, may be repeated: {', '.join(PRESETS)} (default: all that fit).",
        "Problems",
        metavar="NAME,...",
    )
    flow: str = option(
        "edges",
        "Flow of every temporal slot: smooth with edges and jitter, smooth, zero or wild.",
        "Problems",
        metavar="|".join(FLOWS),
    )
    flow_file: str | None = option(
        None,
        "Flow of a clip, an .npz file or a folder of .flo files: every search of pictures of its "
        "size has a second row with it, flow=file.",
        "Problems",
        metavar="PATH",
    )
    dtype: str = option("float32", "Type of the videos.", "Problems", metavar="float32|bf16|fp16")
    quick: bool = option(False, "Small frames: does everything work?", "Problems")
    backend: list[str] | None = option(  # noqa: RUF009
        None,
        f"Who computes, may be repeated: {', '.join(BACKENDS)} (default: all that are there).",
        "Backends",
        metavar="NAME,...",
    )
    peer_path: str | None = option(
        None,
        "Folder that holds the original's package `stnls`, to be timed in a process of its own.",
        "Backends",
        metavar="DIR",
    )
    dry_run: bool = option(
        False, "List the rows with their operations and bytes; run nothing.", "Output"
    )
    as_json: bool = option(False, "Print everything on standard output.", "Output", flag="--json")
    csv: str | None = option(None, "Write the rows to this file.", "Output", metavar="FILE")
    sweep: bool = option(
        False,
        "After the presets, time a small search against ws, wt, frames, pixels, channels and K.",
        "Output",
    )
    plot: str | None = option(
        None,
        "The same without the presets (but for those that are named), drawn: sweep.png and "
        "sweep.json in this folder.",
        "Output",
        metavar="DIR",
    )

    def __post_init__(self) -> None:
        for name, most in (("repeat", MOST_REPEATS), ("threads", MOST_THREADS)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise UserError(f"--{name} must be from 1 to {most}, not {value}")
        for name, known in (("preset", PRESETS), ("backend", BACKENDS)):
            given = getattr(self, name)
            if given is not None:
                names = [part.strip() for text in given for part in text.split(",")]
                _known(name, names, known)
                object.__setattr__(self, name, names)
        _known("flow", (self.flow,), FLOWS)
        _known("dtype", (self.dtype,), DTYPES)
        for name in ("flow_file", "peer_path"):
            if getattr(self, name) == "":  # which would be the current folder
                raise UserError(f"--{name.replace('_', '-')}: the name is empty")
        if self.dry_run and (self.sweep or self.plot is not None):
            raise UserError(
                "--dry-run lists the rows of presets; it goes with neither --sweep nor --plot"
            )
        if self.flow_file is not None and not self.presets:
            raise UserError(
                "--flow-file gives rows of presets a second flow; --plot alone times no preset: "
                "name one with --preset"
            )
        for name, given in (("--backend", self.backend), ("--peer-path", self.peer_path)):
            if given and not self.presets:
                raise UserError(
                    f"{name} is for rows of presets; --plot alone times stnls: name one with "
                    "--preset"
                )
        if self.peer_path is not None:
            _check_peer(Path(self.peer_path))
        if self.csv is not None and (self.csv == "" or Path(self.csv).is_dir()):
            raise UserError(f"--csv must name a file, not {self.csv!r}")
        if self.csv is not None and not self.presets:
            raise UserError(
                "--csv has the rows of presets; --plot alone times no preset: name one with "
                "--preset (sweep.json has the sweeps)"
            )
        if self.plot is not None and (self.plot == "" or Path(self.plot).is_file()):
            raise UserError(f"--plot must name a folder, not {self.plot!r}")

    @property
    def sweeps(self) -> bool:
        """Whether cost is measured against each parameter."""
        return self.sweep or self.plot is not None

    @property
    def backends(self) -> tuple[str, ...]:
        """In the order of the rows."""
        return tuple(name for name in BACKENDS if self.backend is None or name in self.backend)

    @property
    def presets(self) -> tuple[str, ...]:
        """Those that are asked for, in the order of the list."""
        if self.preset is None:
            return PRESETS if self.sweep or self.plot is None else ()
        return tuple(name for name in PRESETS if name in self.preset)


def _known(name: str, values: Iterable[str], known: Iterable[str]) -> None:
    for value in values:
        if value not in known:
            raise UserError(f"--{name}: there is no {value!r}; known are {', '.join(known)}")


def _check_peer(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"--peer-path: there is no folder {folder}")
    if not ((folder / "stnls").is_dir() or (folder / "stnls.py").is_file()):
        raise UserError(f"--peer-path: {folder} holds no package called stnls")
    if (folder / "stnls" / "_native.py").is_file():
        raise UserError(
            f"--peer-path: the package in {folder} is this library; name the folder of the original"
        )
