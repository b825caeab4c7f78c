"""The frames around a reference frame, and the flows between them, as they stream in.

Holds only what is still needed: memory does not grow with the length of the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stnls_cli.flow import BatchedFlow, FlowSource, luma8
from stnls_cli.noise import add_noise
from stnls_cli.reader import FrameReader, ReadFrame
from stnls_cli.timings import Timings

if TYPE_CHECKING:
    from stnls_cli.flow.clip_flow import Kind
    from stnls_cli.video import Clip


@dataclass(frozen=True)
class Picture:
    """One frame: (3, H, W) float32 RGB on the 0-255 scale, clean and as flow and search see it."""

    clean: Tensor
    noisy: Tensor


class TemporalWindow:
    """Reads a clip, starts the flows that will be asked for, and yields reference frames.

    `ahead` frames are read further than the window needs, so that flows are computed while the
    search runs. References in `done` are not yielded, and flows that only they use not computed.
    `grey` makes the frames that the flow sees. `both_ways`: the flows that lead back from the
    neighbours to the reference are kept too. `batched` computes the flows on the device, in place
    of `source`, `ahead` frames at a time. Close it before the clip.
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
        grey: Callable[[NDArray[Any]], NDArray[np.uint8]] = luma8,
        both_ways: bool = False,
        batched: BatchedFlow | None = None,
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
        self._grey = grey
        self._both_ways = both_ways
        self._batched = batched
        self._reader: FrameReader | None = FrameReader(clip, device, timings)
        self._pictures: dict[int, Picture] = {}
        self._seen: dict[int, Any] = {}
        """What the flow sees: grey frames, or whole ones on the device."""
        self._futures: dict[tuple[Kind, int], Future[NDArray[np.float32]]] = {}
        self._flows: dict[tuple[Kind, int], Tensor] = {}
        self.runs: list[range] = []
        """The source frames read so far, in runs without a hole: flow goes from frame to frame."""

    @property
    def held(self) -> int:
        """Frames in memory: 2 wt + 1 + ahead at the most."""
        return len(self._pictures)

    @property
    def count(self) -> int:
        """Frames read so far."""
        return sum(map(len, self.runs))

    def begin(self) -> int:
        """Reads what the first reference frame needs, and what tells whether the clip is shorter
        than the window; answers how many frames that were."""
        if not self.runs:
            self._read_on()
        if self.runs:
            self._read_to(self.runs[0].start + max(self._reach, 2 * self.wt))
        return self.count

    def __iter__(self) -> Iterator[int]:
        self.begin()
        number = 0
        while number < len(self.runs):
            t = self.runs[number].start
            while t in self.runs[number]:
                self._forget_before(t)
                self._read_to(t + self._reach)
                if t not in self._done:
                    yield t
                t += 1
            number += 1

    @property
    def _reach(self) -> int:
        return self.wt + self._ahead

    def picture(self, t: int) -> Picture:
        """Frame t of the window."""
        return self._pictures[t]

    def neighbours(self, t: int) -> list[int]:
        """The dt of the neighbours that the clip has: -wt .. wt without 0, up to a hole."""
        return neighbours_in(self.runs, t, self.wt)

    def steps(self, t: int, dt: int) -> list[Tensor]:
        """The neighbouring flows that lead from frame t to t + dt, each (2, H, W) on the device."""
        if dt > 0:
            return [self._flow("forward", i) for i in range(t, t + dt)]
        return [self._flow("backward", i) for i in range(t, t + dt, -1)]

    def _flow(self, kind: Kind, t: int) -> Tensor:
        if (kind, t) not in self._flows:
            if self._batched is not None:
                self._compute_flows(self._batched)
            else:
                with self._timings.host("flow_wait"):
                    flow = torch.from_numpy(self._futures.pop((kind, t)).result())
                self._flows[kind, t] = flow.to(self._device).permute(2, 0, 1).contiguous()
        return self._flows[kind, t]

    def _compute_flows(self, batched: BatchedFlow) -> None:
        """All the flows between the frames read so far, on the device."""
        with self._timings.stage("flow"):
            flows = batched.take()
        for place, flow in flows.items():
            self._flows[place] = flow
            self._on_flow()

    def _read_to(self, last: int) -> None:
        """Reads up to frame `last`, or to the end of the clip."""
        while self._reader is not None and self.runs[-1].stop <= last:
            self._read_on()

    def _read_on(self) -> None:
        """Reads one more frame, if there is one."""
        if self._reader is None:
            return
        frame = self._reader.next()
        if frame is None:
            self.close()
        else:
            self._take(frame)

    def _take(self, frame: ReadFrame) -> None:
        t = frame.index
        with self._timings.stage("prepare"):
            clean = frame.pixels.here().permute(2, 0, 1).to(torch.float32).contiguous()
            noisy = clean
            if self._sigma > 0:
                noisy = add_noise(clean, self._sigma, self._seed, t)
            self._pictures[t] = Picture(clean, noisy)
            if self._batched is not None:
                self._seen[t] = noisy
            elif self._source is not None and self._source.needs_frames:
                seen = frame.rgb if noisy is clean else noisy.permute(1, 2, 0).cpu().numpy()
                self._seen[t] = self._grey(seen)
        if self.runs and self.runs[-1].stop == t:
            first = self.runs[-1].start
            self._submit("forward", t - 1, t, range(max(t - self.wt, first), t))
            self._submit("backward", t, t - 1, range(t, t + self.wt))
            self._seen.pop(t - 1, None)
            self.runs[-1] = range(first, t + 1)
        else:
            self._seen = {t: self._seen[t]} if t in self._seen else {}
            self.runs.append(range(t, t + 1))
        self._on_frame()

    def _submit(self, kind: Kind, t: int, neighbour: int, users: range) -> None:
        if self._source is None or all(user in self._done for user in users):
            return
        seen = self._seen.get(t), self._seen.get(neighbour)
        if self._batched is not None:
            self._batched.submit(t, kind, *seen)
            return
        future = self._source.submit(t, kind, *seen)
        future.add_done_callback(lambda _: self._on_flow())
        self._futures[kind, t] = future

    def close(self) -> None:
        """Reads no more."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def __enter__(self) -> TemporalWindow:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _forget_before(self, t: int) -> None:
        """Lets go of what no reference frame from t on will ask for."""
        for index in [index for index in self._pictures if index < t - self.wt]:
            del self._pictures[index]
        for flows in (self._futures, self._flows):
            # Backward paths from t on pass through the frames down to t - wt + 1, forward ones
            # begin at t.
            oldest = {
                "forward": t - self.wt if self._both_ways else t,
                "backward": t - self.wt + 1,
            }
            for key in [key for key in flows if key[1] < oldest[key[0]]]:
                del flows[key]


def neighbours_in(runs: list[range], t: int, wt: int) -> list[int]:
    """The dt, 0 < |dt| <= wt, of the frames that are in one run with frame t."""
    run = next(run for run in runs if t in run)
    first, last = max(-wt, run.start - t), min(wt, run.stop - 1 - t)
    return [dt for dt in range(first, last + 1) if dt != 0]
