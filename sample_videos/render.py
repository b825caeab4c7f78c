"""Render the sample clips and their motion files again, or check the ones that are here.

python sample_videos/render.py                 # all clips; equal ones are left as they are
python sample_videos/render.py --check         # exit code 1 when a decoded frame differs
python sample_videos/render.py --flow [DIR]    # .flo files too (default: sample_videos/flow)
"""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # works before the package is installed

from renderer.frames import render  # noqa: E402
from renderer.scenes import SCENES, Scene, motion_text  # noqa: E402
from renderer.video import read_video, write_video  # noqa: E402

from stnls_cli.flow import write_flow_folder  # noqa: E402
from stnls_cli.ground_truth import load_motion  # noqa: E402


def say(words: str) -> None:
    """Tell the person at the terminal."""
    print(words, file=sys.stderr, flush=True)


def difference(scene: Scene, frames: list[NDArray[np.uint8]], folder: Path) -> str | None:
    """What differs between the rendered clip and the files in `folder`; None: nothing."""
    video, motion = folder / f"{scene.name}.mp4", folder / f"{scene.name}.json"
    if not video.is_file() or not motion.is_file():
        return "files are missing"
    if motion.read_text(encoding="utf-8") != motion_text(scene.motion_document()):
        return f"{motion.name} differs"
    decoded = read_video(video)
    if len(decoded) != len(frames):
        return f"{len(decoded)} frames in the file, {len(frames)} rendered"
    for t, (old, new) in enumerate(zip(decoded, frames, strict=True)):
        if old.shape != new.shape:
            return f"frame {t}: {old.shape} in the file, {new.shape} rendered"
        if (old != new).any():
            return f"frame {t}: {int((old != new).any(axis=-1).sum())} pixels differ"
    return None


def write_flows(motion_path: Path, folder: Path) -> None:
    """Exact flow between neighbouring frames, `forward/00000.flo` and `backward/00001.flo`."""
    motion = load_motion(motion_path)
    write = write_flow_folder(folder)
    for t in range(motion.frames - 1):
        write("forward", t, motion.flow(t, 1))
        write("backward", t + 1, motion.flow(t + 1, -1))


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [scene.name for scene in SCENES]
    parser.add_argument("clips", nargs="*", metavar="CLIP", help=f"of {', '.join(names)}")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--flow", type=Path, nargs="?", const=HERE / "flow", metavar="DIR",
                        help="also write .flo files to DIR/CLIP")  # fmt: skip
    parser.add_argument("--output", type=Path, default=HERE, metavar="DIR",
                        help="folder of the clips (default: the one of this script)")  # fmt: skip
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.clips) - set(names))
    if unknown:
        parser.error(f"unknown clip {', '.join(unknown)} (there are {', '.join(names)})")

    options.output.mkdir(parents=True, exist_ok=True)
    differing = 0
    for scene in SCENES:
        if options.clips and scene.name not in options.clips:
            continue
        frames = list(render(scene))
        found = difference(scene, frames, options.output)
        if found is None:
            say(f"{scene.name}: unchanged, {len(frames)} frames")
        elif options.check:
            differing += 1
            say(f"{scene.name}: {found}")
        else:
            write_video(options.output / f"{scene.name}.mp4", frames, Fraction(12))
            motion = options.output / f"{scene.name}.json"
            motion.write_text(motion_text(scene.motion_document()), encoding="utf-8")
            say(f"{scene.name}: written ({found})")
        if options.flow and not options.check:
            write_flows(options.output / f"{scene.name}.json", options.flow / scene.name)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
