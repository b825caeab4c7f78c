"""Draw how the time of a search grows, from the sweeps that `make gpu-bench` keeps.

python docs/pictures/growth.py benchmarks/results/bench-cuda.json docs/pictures/growth_h200.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stnls_cli.bench.plot import draw


def main(results: Path, picture: Path) -> None:
    """PICTURE, of the sweeps in RESULTS."""
    found = json.loads(results.read_text(encoding="utf-8"))
    draw(found["sweeps"], f"NonLocalSearch on {found['machine']}, flow edges", picture)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
