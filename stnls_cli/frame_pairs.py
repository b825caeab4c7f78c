"""Pairs of frames that are aligned together, and their frames as one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stnls_cli.window import Picture


@dataclass(frozen=True)
class FramePair:
    """Reference frame t and its neighbour t + dt, which is to be aligned with it by the flow."""

    t: int
    dt: int
    reference: Picture
    neighbour: Picture
    flow: Tensor | None


@dataclass(frozen=True)
class BatchFrames:
    """The frames of N pairs that are aligned together, (N, 3, H, W), and the flows (N, 2, H, W).
    References are (1, 3, H, W) where all pairs have the same one. Noisy is clean without noise."""

    clean_references: Tensor
    noisy_references: Tensor
    clean: Tensor
    noisy: Tensor
    flows: Tensor | None

    @classmethod
    def of(cls, batch: Sequence[FramePair]) -> BatchFrames:
        """Copies, but for a reference that is alone."""
        references = [pair.reference for pair in batch]
        if all(reference is references[0] for reference in references):
            references = references[:1]
        neighbours = [pair.neighbour for pair in batch]
        flows = [pair.flow for pair in batch if pair.flow is not None]
        return cls(
            *_stacked(references), *_stacked(neighbours), torch.stack(flows) if flows else None
        )


def _stacked(pictures: Sequence[Picture]) -> tuple[Tensor, Tensor]:
    """Clean and noisy; the same where there is no noise."""
    clean = _stack([picture.clean for picture in pictures])
    if pictures[0].noisy is pictures[0].clean:
        return clean, clean
    return clean, _stack([picture.noisy for picture in pictures])


def _stack(frames: list[Tensor]) -> Tensor:
    return torch.stack(frames) if len(frames) > 1 else frames[0][None]
