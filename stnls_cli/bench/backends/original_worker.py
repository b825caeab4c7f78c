"""The process that holds the original: `python -m stnls_cli.bench.backends.original_worker DIR`.

Requests and answers are lines of JSON on standard input and output. Of this tool it imports the
timer alone, and nothing of our library: `stnls` is the package in DIR here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from stnls_cli.bench.timer import Plan, measure

Tensors = tuple[Tensor, ...]


class _FromFolder(MetaPathFinder):
    """Finds `stnls` in one folder, before an installed package of that name is found."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The folder's own, or none of this finder's business."""
        if name != "stnls" and not name.startswith("stnls."):
            return None
        found = PathFinder.find_spec(name, [self._folder] if path is None else path)
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r} in {self._folder}", name=name)
        return found


def _imported(folder: str) -> str | None:
    """Imports the package; why it cannot be, or None."""
    sys.meta_path.insert(0, _FromFolder(folder))
    try:
        import stnls
        import stnls.agg
        import stnls.search
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    where = Path(str(stnls.__file__)).resolve()
    if Path(folder).resolve() not in where.parents:
        return f"the package was found in {where.parent}"
    return None


def _operator(request: dict[str, Any]) -> Callable[..., Any]:
    import stnls

    options = request["options"]
    if request["operator"] == "WeightedPatchSum":
        patch = request["patch"]
        return stnls.agg.NonLocalGatherAdd(patch["ps"], 1, 1, itype=patch["itype"])
    if request["operator"] == "PairedSearch":
        return stnls.search.PairedSearch(**options)
    return stnls.search.NonLocalSearch(**options)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """Times what is asked for."""
    device = torch.device(request["device"])
    torch.set_num_threads(request["threads"])
    inputs: list[Tensor] = [x.to(device) for x in torch.load(request["inputs"])]
    if request["operator"] == "WeightedPatchSum":
        # Its aggregation takes the heads apart.
        inputs[0] = inputs[0].unflatten(2, (request["heads"], -1)).transpose(1, 2).contiguous()
    run = _operator(request)
    wanted = {"none": [], "videos": [0, 1], "all": [0, 1, 2]}[request["gradients"]]
    given = [x.requires_grad_(number in wanted) for number, x in enumerate(inputs)]

    def call() -> Any:
        found = run(*given)
        result = found[0] if isinstance(found, (tuple, list)) else found
        if not wanted:
            return found
        return found, torch.autograd.grad(result, [given[n] for n in wanted], arriving)

    arriving = None
    if wanted:
        found = run(*given)
        arriving = torch.randn_like(found[0] if isinstance(found, (tuple, list)) else found)
    timing, _ = measure(call, device, Plan(request["repeat"], request["seconds"]))
    return {"times": timing.times, "peak_bytes": timing.peak_bytes}


def main(folder: str) -> None:
    """Answers until there is nothing more to read. What the original prints goes nowhere."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    problem = _imported(folder)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if problem is not None:
                answer: dict[str, Any] = {"error": problem}
            elif request:
                answer = _answer(request)
            else:
                answer = {}
        except Exception as error:
            words = str(error).splitlines() or [""]
            answer = {"error": f"{type(error).__name__}: {words[0]}"}
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
