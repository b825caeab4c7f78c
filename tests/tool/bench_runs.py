"""What tests of `stnls bench` have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from outcome import Ended

from stnls_cli.bench import presets
from stnls_cli.flow import write_flow_npz

Cli = Callable[..., Ended]
QUICK = ("bench", "--quick", "--device", "cpu", "--threads", "1")


def document(ended: Ended) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ended.out)
    return found


def clip_flow(path: Path, frames: int = 3, size: tuple[int, int] = presets.QUICK_ALIGNMENT) -> str:
    """A file of flow that is 1.5 px everywhere, backward -1.5; its name."""
    flow = [np.full((*size, 2), 1.5, np.float32)] * frames
    write_flow_npz(path, flow, [-f for f in flow], (frames, *size))
    return path.name
