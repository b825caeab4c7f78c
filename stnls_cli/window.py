"""The frames around a reference frame, and the flows between them, as they stream in.

Holds only what is still needed: memory does not grow with the length of the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stnls_cli.flow import FlowSource, luma8
from stnls_cli.noise import add_noise
from stnls_cli.timings import Timings

if TYPE_CHECKING:
    from stnls_cli.flow.clip_flow import Kind
    from stnls_cli.video import Clip, Frame


@dataclass(frozen=True)
class Picture:
    """One frame: (3, H, W) float32 RGB on the 0-255 scale, clean and as flow and search see it."""

    clean: Tensor
    noisy: Tensor


class TemporalWindow:
    """Reads a clip, starts the flows that will be asked for, and yields reference frames.

    `ahead` frames are read further than the window needs, so that flows are computed while the
    search runs. References in `done` are not yielded, and flows that only they use not computed.
    """

    def __init__(
        self,
        clip: Clip,
        source: FlowSource | None,
        *,
        wt: int,
        sigma: float,
        seed: int,
        device: torch.device,
        ahead: int,
        done: Container[int],
        timings: Timings,
        on_frame: Callable[[], None],
        on_flow: Callable[[], None],
    ) -> None:
        self.wt = wt
        self._clip = clip
        self._source = source
        self._sigma = sigma
        self._seed = seed
        self._device = device
        self._ahead = ahead
        self._done = done
        self._timings = timings
        self._on_frame = on_frame
        self._on_flow = on_flow
        self._pictures: dict[int, Picture] = {}
        self._grays: dict[int, NDArray[np.uint8]] = {}
        self._futures: dict[tuple[Kind, int], Future[NDArray[np.float32]]] = {}
        self._flows: dict[tuple[Kind, int], Tensor] = {}
        self.first: int | None = None
        self.last: int | None = None

    @property
    def count(self) -> int:
        """Frames read so far."""
        return 0 if self.first is None or self.last is None else self.last - self.first + 1

    def __iter__(self) -> Iterator[int]:
        frames = iter(self._clip)
        ended = False
        t = None
        while True:
            while not ended and (t is None or self.last is None or self.last < t + self._reach):
                with self._timings.stage("decode"):
                    frame = next(frames, None)
                if frame is None:
                    ended = True
                    break
                self._take(frame)
                if t is None:
                    t = frame.index
            if t is None or self.last is None or t > self.last:
                return
            if t not in self._done:
                yield t
            t += 1
            self._forget_before(t - self.wt)

    @property
    def _reach(self) -> int:
        return self.wt + self._ahead

    def picture(self, t: int) -> Picture:
        """Frame t of the window."""
        return self._pictures[t]

    def neighbours(self, t: int) -> list[int]:
        """The dt of the neighbours that the clip has: -wt .. wt without 0."""
        assert self.first is not None
        assert self.last is not None
        low, high = max(self.first, t - self.wt) - t, min(self.last, t + self.wt) - t
        return [dt for dt in range(low, high + 1) if dt != 0]

    def steps(self, t: int, dt: int) -> list[Tensor]:
        """The neighbouring flows that lead from frame t to t + dt, each (2, H, W) on the device."""
        if dt > 0:
            return [self._flow("forward", i) for i in range(t, t + dt)]
        return [self._flow("backward", i) for i in range(t, t + dt, -1)]

    def raw_flow(self, kind: Kind, t: int) -> NDArray[np.float32]:
        """One neighbouring flow, (H, W, 2)."""
        return self._futures[kind, t].result()

    def _flow(self, kind: Kind, t: int) -> Tensor:
        if (kind, t) not in self._flows:
            with self._timings.stage("wait for flow"):
                flow = self._futures[kind, t].result()
            moved = torch.from_numpy(flow).to(self._device).permute(2, 0, 1).contiguous()
            self._flows[kind, t] = moved
        return self._flows[kind, t]

    def _take(self, frame: Frame) -> None:
        t = frame.index
        with self._timings.stage("prepare"):
            rgb = torch.from_numpy(np.ascontiguousarray(frame.rgb)).to(self._device)
            clean = rgb.permute(2, 0, 1).to(torch.float32).contiguous()
            noisy = clean
            if self._sigma > 0:
                noisy = add_noise(clean, self._sigma, self._seed, t)
            self._pictures[t] = Picture(clean, noisy)
            if self._source is not None and self._source.needs_frames:
                seen = frame.rgb if noisy is clean else noisy.permute(1, 2, 0).cpu().numpy()
                self._grays[t] = luma8(seen)
        if self.first is None:
            self.first = t
        else:
            self._submit("forward", t - 1, t, users=range(t - self.wt, t))
            self._submit("backward", t, t - 1, users=range(t, t + self.wt))
            self._grays.pop(t - 1, None)
        self.last = t
        self._on_frame()

    def _submit(self, kind: Kind, t: int, neighbour: int, users: range) -> None:
        if self._source is None or all(user in self._done for user in users):
            return
        future = self._source.submit(t, kind, self._grays.get(t), self._grays.get(neighbour))
        future.add_done_callback(lambda _: self._on_flow())
        self._futures[kind, t] = future

    def _forget_before(self, t: int) -> None:
        for pictures in (self._pictures, self._grays):
            for index in [index for index in pictures if index < t]:
                del pictures[index]
        for flows in (self._futures, self._flows):
            # The flow of frame t - 1 leads to a frame that is still in the window, but no
            # reference starts there any more.
            for key in [key for key in flows if key[1] < t]:
                del flows[key]
