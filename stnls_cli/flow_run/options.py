"""The options of `stnls flow`: its own, and those that it shares with `stnls align`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from stnls_cli.errors import UserError
from stnls_cli.options import AlignOptions, option, take_types

SHARED = (
    "start", "frames", "size", "stream", "allow_damaged", "flow", "sigma", "seed", "overwrite",
    "device", "threads",
)  # fmt: skip
"""Options of `align` that mean the same here."""
FORMATS = ("flo", "npz")


@dataclass(frozen=True, kw_only=True)
class FlowCommand:
    """What only the command line has: where results go, and what it prints."""

    output: list[str] | None = option(  # noqa: RUF009 - a field, its default is None
        None,
        "Folder of the results; with several inputs a folder for all, or one -o each "
        "(default: INPUT's name with .flow).",
        "Output",
        flag="-o --output",
        metavar="DIR",
    )
    as_json: bool = option(False, "Print flow.json on standard output.", "Output", flag="--json")
    quiet: bool = option(False, "Print nothing but errors.", "Running", flag="-q --quiet")
    verbose: bool = option(
        False,
        "Print where the time went, stage by stage.",
        "Running",
        flag="-v --verbose --timings",
    )


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """What one run of `flow` is asked to do. Raises UserError where a value has no meaning."""

    format: str = option(
        "flo",
        "flo (a file for each flow, in Middlebury's format), npz (one file), or flo,npz.",
        "Output",
        metavar="LIST",
    )
    pictures: bool = option(
        True,
        "Draw each flow: the direction is the colour, the length its strength.",
        "Output",
        flag="--pictures/--no-pictures",
    )
    scale: float | None = option(
        None,
        "Pixels of motion that have full colour (default: what 99 % of the pixels of any flow stay "
        "below, 0.5 at least).",
        "Output",
        metavar="PX",
    )
    base: AlignOptions = field(default_factory=AlignOptions)
    """What is shared with `align`."""

    def __post_init__(self) -> None:
        take_types(self)
        self.formats()
        if self.scale is not None:
            if not (math.isfinite(self.scale) and self.scale > 0):
                raise UserError(f"--scale must be above 0, not {self.scale:g}")
            if not self.pictures:
                raise UserError("--scale is for the pictures: leave out --no-pictures")

    def formats(self) -> tuple[str, ...]:
        """Names of --format."""
        given = {part.strip() for part in self.format.split(",") if part.strip()}
        unknown = sorted(given - set(FORMATS))
        if unknown or not given:
            what = f"unknown {unknown[0]!r}" if unknown else "names none"
            raise UserError(f"--format: {what}; choose from {', '.join(FORMATS)}")
        return tuple(name for name in FORMATS if name in given)

    def parameters(self) -> dict[str, Any]:
        """Everything that the results depend on, plain values; the flow is described by its
        source."""
        base = self.base.parameters()
        shared = {name: base[name] for name in SHARED if name in base}
        return {
            **shared,
            "format": list(self.formats()),
            "pictures": self.pictures,
            "scale": self.scale,
        }


def own_fields() -> list[Field[Any]]:
    """Options that `align` has not."""
    return [entry for entry in fields(FlowOptions) if "help" in entry.metadata]


def shared_fields() -> list[Field[Any]]:
    """Options that `align` has too."""
    return [entry for entry in fields(AlignOptions) if entry.name in SHARED]


def flow_options(given: Mapping[str, Any]) -> FlowOptions:
    """Options by name. Raises UserError for a value without meaning, TypeError for a name that is
    none."""
    known = [*(entry.name for entry in own_fields()), *SHARED]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"flow has no option {name!r}{hint}")
    shared = {name: given[name] for name in SHARED if name in given}
    base = AlignOptions(**shared, wt=1, save="none")
    return FlowOptions(
        **{name: value for name, value in given.items() if name not in SHARED}, base=base
    )
