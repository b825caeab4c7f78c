"""Pictures of flows, all on one scale, with the key to their colours."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from stnls_cli.colour_wheel import wheel_colours, wheel_disc
from stnls_cli.flow.clip_flow import KINDS
from stnls_cli.flow.flo import read_flo
from stnls_cli.storage import storage_errors
from stnls_cli.video import write_image

FOLDER = "pictures"
WHEEL_NAME = "wheel.png"
WHEEL_PIXELS = 241


def draw_flows(folder: Path, scale: float, threads: int) -> None:
    """Draws `folder`/forward/00000.flo as `folder`/pictures/forward/00000.png, and so on; motion of
    `scale` pixels has full colour. pictures/wheel.png is the key: motion from its middle."""
    pictures = folder / FOLDER
    jobs = []
    with storage_errors(pictures):
        for kind in KINDS:
            (pictures / kind).mkdir(parents=True, exist_ok=True)
            jobs += [
                (file, pictures / kind / f"{file.stem}.png")
                for file in sorted((folder / kind).glob("[0-9]*.flo"))
            ]

    def draw(job: tuple[Path, Path]) -> None:
        source, target = job
        flow = torch.from_numpy(read_flo(source)).permute(2, 0, 1)
        with storage_errors(target):
            write_image(target, wheel_colours(flow, scale))

    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(draw, jobs))
    with storage_errors(pictures):
        write_image(pictures / WHEEL_NAME, wheel_disc(WHEEL_PIXELS))
