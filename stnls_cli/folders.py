"""Where the results of each input go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from stnls_cli.errors import UserError

SUFFIX = ".stnls"
FLOW_SUFFIX = ".flow"


def output_folders(
    inputs: Sequence[Path], outputs: Sequence[Path], suffix: str = SUFFIX
) -> list[Path]:
    """The folder of each input's results.

    `-o` names the folder of one input, a folder for those of all, or (given once for each) the
    folder of each; without it they go to where we were started, named after their inputs. Two
    inputs with the same folder are refused.
    """
    if len(outputs) == len(inputs):
        folders = list(outputs)
    elif len(outputs) <= 1:
        parent = outputs[0] if outputs else Path()
        folders = [parent / (_stem(path) + suffix) for path in inputs]
    else:
        several = len(inputs) != 1
        raise UserError(
            f"{len(outputs)} -o for {len(inputs)} input{'s' if several else ''}: give none"
            + (", one, or one for each input" if several else " or one")
        )
    seen: dict[str, Path] = {}
    for path, folder in zip(inputs, folders, strict=True):
        place = os.path.realpath(folder)
        if place in seen:
            raise UserError(
                f"{seen[place]} and {path} would both be written to {folder}: tell them apart with "
                "one -o for each input"
            )
        seen[place] = path
    return folders


def check_pictures(inputs: Sequence[Path]) -> None:
    """Refuses the frames of a folder one by one (`folder/*.png`): each would be a clip."""
    from stnls_cli.video.images import IMAGE_KINDS

    folders = {path.parent for path in inputs}
    pictures = all(path.suffix.lower() in IMAGE_KINDS for path in inputs)
    if len(inputs) > 1 and pictures and len(folders) == 1:
        raise UserError(
            f"{inputs[0]} and {len(inputs) - 1} more pictures: give the folder that holds the "
            f"frames, {inputs[0].parent}, as one input"
        )


def given_path(name: str | os.PathLike[str], what: str) -> Path:
    """The path that a person gave; an empty name would be the current folder."""
    if not os.fspath(name):
        raise UserError(f"{what}: the name is empty")
    return Path(name)


def _stem(path: Path) -> str:
    """The input's own name, of a link too; a folder of frames keeps its dots."""
    name = Path(os.path.abspath(path))
    return name.name if os.path.isdir(name) else name.stem
