"""The page itself: sections and pictures put into the template."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stnls_cli.colour_wheel import wheel_disc
from stnls_cli.metrics import IDENTICAL_DB
from stnls_cli.page.pictures import HEAT_COLOURS, HEAT_RANGE, PairPictures, jpeg
from stnls_cli.page.plots import bar_scale

ROLE_WORDS = {
    "worst": "The worst pair",
    "median": "A pair in the middle",
    "best": "The best pair",
}
SLIDER_WORDS = {
    "neighbour": "not aligned",
    "flow": "flow",
    "nls": "search",
    "shifted-nls": "search around flow",
}
"""Short enough for a corner of the picture on a phone."""
MOTION_WORDS = {
    "flow": "The optical flow.",
    "nls": "Offsets found by the search without flow.",
    "shifted-nls": "Offsets found by the search around the flow.",
}
METHOD_WORDS = {
    "neighbour": "not aligned",
    "flow": "aligned by the flow",
    "nls": "aligned by the search without flow",
    "shifted-nls": "aligned by the search around the flow",
}


@dataclass(frozen=True)
class Table:
    """A table: `left` columns hold words, the others numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


@dataclass(frozen=True)
class Plot:
    """Panels side by side, what their lines are (label, colour, CSS line style), and what they
    show."""

    panels: Sequence[str]
    legend: Sequence[tuple[str, str, str]]
    caption: str


@dataclass(frozen=True)
class Page:
    """What a page says."""

    title: str
    subtitle: str
    verdict: str
    table: Table
    table_caption: str
    time: Plot | None
    windows: Plot | None
    pairs: dict[str, PairPictures]
    facts: Sequence[tuple[str, str]]
    versions: Sequence[tuple[str, str]]
    notes: Sequence[str] = field(default_factory=tuple)
    words: Sequence[tuple[str, str]] = field(default_factory=tuple)
    """Terms of the tables and what they mean."""
    clips: Table | None = None
    clips_caption: str = ""
    pairs_caption: str = ""
    """By which setting the pictures are."""


def render(page: Page) -> str:
    """The HTML text: one file, nothing loaded from anywhere."""
    import jinja2

    template = (Path(__file__).parent / "template.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["data"] = _data
    return environment.from_string(template).render(
        page=page,
        pairs=[_pair(role, pictures) for role, pictures in page.pairs.items()],
        heat_scale=bar_scale(
            HEAT_RANGE,
            HEAT_COLOURS,
            "mean absolute error (0-255)",
        )
        if page.pairs
        else "",
        wheel=jpeg(wheel_disc()) if page.pairs else b"",
    )


def _data(image: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(image).decode("ascii")


def _pair(role: str, pictures: PairPictures) -> dict[str, Any]:
    """What the template needs of a pair."""
    told, images = pictures.told, pictures.images
    psnr: dict[str, Any] = told["psnr"]
    clip = f"{told['clip']}, " if told.get("clip") else ""
    aligned = [name for name in ("flow", "nls", "shifted-nls") if name in images]
    both = {"flow", "shifted-nls"} <= set(aligned)
    compared: list[str] = ["flow", "shifted-nls"] if both else ["neighbour", *aligned[-1:]]
    return {
        "role": role,
        "heading": ROLE_WORDS[role],
        "where": f"{clip}frame {told['t'] + told['dt']} aligned to frame {told['t']}",
        "reference": images["reference"],
        "strip": _strip(pictures, aligned, psnr),
        "slider": [(name, SLIDER_WORDS[name], METHOD_WORDS[name]) for name in compared],
        "images": images,
    }


def _strip(
    pictures: PairPictures, aligned: Sequence[str], psnr: dict[str, Any]
) -> list[tuple[str, str]]:
    """Names and captions, three in a row: the frames as they are, then for each method the frame,
    its error and the motion."""
    scale = f"Rim of the wheel: {pictures.told['motion_scale']} pixels."
    strip = [
        ("reference", "The reference frame: what the others should look like."),
        ("neighbour", f"The neighbour as it is{_score(psnr, 'none')}."),
        ("error neighbour", f"Error, {METHOD_WORDS['neighbour']}."),
    ]
    for name in aligned:
        strip += [
            (name, f"The neighbour {METHOD_WORDS[name]}{_score(psnr, name)}."),
            (f"error {name}", f"Error, {METHOD_WORDS[name]}."),
            (f"motion {name}", f"{MOTION_WORDS[name]} {scale}"),
        ]
    return [(name, caption) for name, caption in strip if name in pictures.images]


def _score(psnr: dict[str, Any], method: str) -> str:
    value = psnr.get(method)
    if value is None:
        return ""
    return ", identical" if value == "inf" or value >= IDENTICAL_DB else f", {value:.2f} dB"
