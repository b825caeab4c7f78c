"""Flows between neighbouring frames, many pairs at a time on the device that holds the frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stnls_cli.flow.clip_flow import Kind
from stnls_cli.flow.methods import FlowMethod
from stnls_cli.flow.source import FlowSource, MethodSource

if TYPE_CHECKING:
    from torch import Tensor

Place = tuple[Kind, int]


class BatchedFlow:
    """Collects pairs of grey frames and computes their flows together, at most `most` at once.

    A GPU is filled by the pixels of many pairs: the coarse scales of one have a few hundred.
    """

    def __init__(self, method: FlowMethod, most: int) -> None:
        self._method = method
        self._most = most
        self._pairs: list[tuple[Place, Tensor, Tensor]] = []

    def submit(self, t: int, kind: Kind, gray0: Tensor | None, gray1: Tensor | None) -> None:
        """Flow of frame t to its neighbour, both (H, W) uint8."""
        if gray0 is None or gray1 is None:
            raise ValueError(f"{self._method.name} needs both frames")
        self._pairs.append(((kind, t), gray0, gray1))

    def take(self) -> dict[Place, Tensor]:
        """The flows of all pairs submitted since, (2, H, W) float32."""
        import torch

        flows: dict[Place, Tensor] = {}
        for first in range(0, len(self._pairs), self._most):
            pairs = self._pairs[first : first + self._most]
            places, grays0, grays1 = zip(*pairs, strict=True)
            found = self._method.compute_batch(torch.stack(grays0), torch.stack(grays1))
            # Copies, so that one flow that is still wanted does not hold the memory of all.
            flows.update((place, flow.clone()) for place, flow in zip(places, found, strict=True))
        self._pairs.clear()
        return flows


def batched_flow(source: FlowSource | None, most: int) -> BatchedFlow | None:
    """For the method of `source`; None where `most` is 0: its threads compute the flows."""
    if most and isinstance(source, MethodSource):
        return BatchedFlow(source.method, most)
    return None


def thread_seconds(source: FlowSource | None, most: int) -> dict[str, float]:
    """Processor time of the threads of `source` so far, as the stage `flow_cpu`; empty where they
    compute nothing: flows are read, or `most` of them are computed together."""
    if source is None or not source.needs_frames or most:
        return {}
    return {"flow_cpu": source.cpu_seconds}
