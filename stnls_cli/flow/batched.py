"""Flows between neighbouring frames, many pairs at a time on the device that holds the frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stnls_cli.flow.clip_flow import Kind
from stnls_cli.flow.luma import luma8_of_tensor
from stnls_cli.flow.methods import FlowMethod
from stnls_cli.flow.source import FlowSource, MethodSource

if TYPE_CHECKING:
    from torch import Tensor

Place = tuple[Kind, int]


class BatchedFlow:
    """Collects pairs of frames and computes their flows together, at most `most` at once.

    A GPU is filled by the pixels of many pairs: the coarse scales of one have a few hundred.
    """

    def __init__(self, method: FlowMethod, most: int) -> None:
        self._method = method
        self._most = most
        self._pairs: list[tuple[Place, Tensor, Tensor]] = []

    def submit(self, t: int, kind: Kind, frame0: Tensor | None, frame1: Tensor | None) -> None:
        """Flow of frame t to its neighbour, both (3, H, W) RGB on the 0-255 scale."""
        if frame0 is None or frame1 is None:
            raise ValueError(f"{self._method.name} needs both frames")
        self._pairs.append(((kind, t), frame0, frame1))

    def take(self) -> dict[Place, Tensor]:
        """The flows of all pairs submitted since, (2, H, W) float32."""
        import torch

        flows: dict[Place, Tensor] = {}
        for first in range(0, len(self._pairs), self._most):
            pairs = self._pairs[first : first + self._most]
            places, *sides = zip(*pairs, strict=True)
            # Most frames are in four pairs.
            frames = {id(frame): frame for side in sides for frame in side}
            lumas = luma8_of_tensor(torch.stack(list(frames.values()))).unbind()
            grays = dict(zip(frames, lumas, strict=True))
            found = self._method.compute_batch(
                *(torch.stack([grays[id(frame)] for frame in side]) for side in sides)
            )
            # Copies, so that one flow that is still wanted does not hold the memory of all.
            flows.update((place, flow.clone()) for place, flow in zip(places, found, strict=True))
        self._pairs.clear()
        return flows


def batched_flow(source: FlowSource | None, most: int) -> BatchedFlow | None:
    """For the method of `source`; None where `most` is 0: its threads compute the flows."""
    if most and isinstance(source, MethodSource):
        return BatchedFlow(source.method, most)
    return None
