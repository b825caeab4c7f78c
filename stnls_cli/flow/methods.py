"""Optical flow by name: the library's TV-L1, OpenCV's methods, each with its settings, and none.

A method is a pure function of two grey frames. One of OpenCV's makes a new object for each pair: a
TV-L1 object shrinks its own pyramid after a small frame and must not be shared between threads, and
making one costs microseconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from stnls_cli.flow.opencv import (
    import_cv2,
    opencv_single_threaded,
    require_contrib,
    require_tvl1,
)

Gray = npt.NDArray[np.uint8]
Flow = npt.NDArray[np.float32]
Parameter = float | int | bool | str

SMALLEST = 32
"""Rows and columns that every frame is padded to: OpenCV's DIS crashes on less than 16."""


@dataclass(frozen=True)
class FlowMethod:
    """A named way from two grey frames to a flow."""

    name: str
    summary: str
    create: Callable[[], Any] | None
    """Makes the OpenCV object; None needs no OpenCV."""
    fixed: Mapping[str, Parameter] = field(default_factory=dict)
    """Settings that the OpenCV object has but does not tell, or those of `native`."""
    native: Callable[..., Any] | None = None
    """The library's own method, which takes `fixed`: (N, 1, H, W) in [0, 1], twice, to the flows
    (N, 2, H, W), on any device. Without it and without `create`: zero flow."""

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Every setting by OpenCV's name for it, read back from the object where it tells.

        Raises OpenCVError when the method cannot run with the OpenCV that is installed.
        """
        if self.create is None:
            return dict(self.fixed)
        return {**read_back(self.create()), **self.fixed}

    def check(self) -> None:
        """Raises OpenCVError when the method cannot run with the OpenCV that is installed."""
        if self.create is not None:
            self.create()

    def compute(self, gray0: Gray, gray1: Gray) -> Flow:
        """Flow from `gray0` to `gray1`, both (H, W) uint8: (H, W, 2) float32, (dx, dy) pixels.

        It lives on the grid of `gray0`: what is at p there is at p + flow[p] in `gray1`.
        """
        for gray in (gray0, gray1):
            if gray.ndim != 2 or gray.dtype != np.uint8:
                raise ValueError(f"expected (H, W) uint8 frames, got {gray.shape} {gray.dtype}")
        if gray0.shape != gray1.shape:
            raise ValueError(f"the frames differ in size: {gray0.shape} and {gray1.shape}")
        height, width = gray0.shape
        if self.native is not None:
            flow = self.compute_batch(*(_as_batch(gray) for gray in (gray0, gray1)))[0]
            return np.ascontiguousarray(flow.permute(1, 2, 0).numpy())
        if self.create is None:
            return np.zeros((height, width, 2), dtype=np.float32)
        with opencv_single_threaded():
            flow = self.create().calc(padded(gray0), padded(gray1), None)
        return np.ascontiguousarray(flow[:height, :width], dtype=np.float32)

    def compute_batch(self, grays0: Any, grays1: Any) -> Any:
        """The same for tensors (N, H, W) uint8, on any device: (N, 2, H, W) float32 there.

        Only for methods that are `native`.
        """
        if self.native is None:
            raise ValueError(f"{self.name} takes one pair at a time")
        frames = (grays[:, None].float() / 255 for grays in (grays0, grays1))
        return self.native(*frames, **self.fixed)


def _as_batch(gray: Gray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(gray))[None]


def padded(gray: Gray) -> Gray:
    """The frame, its last row and column repeated to at least 32 x 32, contiguous."""
    height, width = gray.shape
    below, right = max(0, SMALLEST - height), max(0, SMALLEST - width)
    if below or right:
        gray = np.pad(gray, ((0, below), (0, right)), mode="edge")
    return np.ascontiguousarray(gray)


def read_back(algorithm: Any) -> dict[str, Parameter]:
    """What the getters of an OpenCV algorithm answer: getScaleStep() becomes scale_step."""
    parameters: dict[str, Parameter] = {}
    for name in dir(algorithm):
        if name.startswith("get") and name != "getDefaultName":
            value = getattr(algorithm, name)()
            if isinstance(value, float):
                value = shortest(value)
            parameters[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name[3:]).lower()] = value
    return parameters


def shortest(value: float) -> float:
    """OpenCV keeps some settings in float32: 0.01 comes back as 0.00999999977648258."""
    short = float(f"{value:.6g}")
    return short if math.isfinite(value) and np.float32(short) == np.float32(value) else value


def _tvl1(frames0: Any, frames1: Any, **settings: Any) -> Any:
    from stnls.flow import tvl1

    return tvl1(frames0, frames1, **settings)


_TVL1: dict[str, Parameter] = {
    "tau": 0.25,
    "lambda_": 0.15,
    "theta": 0.3,
    "nscales": 6,
    "warps": 5,
    "epsilon": 0.01,
    "innerIterations": 30,
    "outerIterations": 10,
    "scaleStep": 0.5,
    "medianFiltering": 5,
}

_TVL1_FAST: dict[str, Parameter] = {
    **_TVL1,
    "warps": 3,
    "epsilon": 0.0,
    "innerIterations": 15,
    "outerIterations": 1,
}


def _tvl1_opencv() -> Any:
    flow = require_tvl1()()
    flow.setScalesNumber(6)
    flow.setScaleStep(0.5)
    return flow


def _tvl1_paper() -> Any:
    flow = require_tvl1()()
    flow.setScalesNumber(5)
    flow.setScaleStep(0.8)
    return flow


def _dis() -> Any:
    flow = _dis_medium()
    flow.setFinestScale(0)
    flow.setPatchStride(3)
    flow.setGradientDescentIterations(50)
    flow.setVariationalRefinementIterations(10)
    return flow


def _dis_medium() -> Any:
    cv2 = import_cv2()
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def _deepflow() -> Any:
    return require_contrib("createOptFlow_DeepFlow", "DeepFlow")()


def _farneback() -> Any:
    return import_cv2().FarnebackOpticalFlow_create(
        numLevels=5, pyrScale=0.5, winSize=13, numIters=10, polyN=5, polySigma=1.1
    )


# DeepFlow's settings are constants of OpenCV's modules/optflow/src/deepflow.cpp.
_DEEPFLOW: dict[str, Parameter] = {
    "sigma": 0.6,
    "min_size": 25,
    "downscale_factor": 0.95,
    "fixed_point_iterations": 5,
    "sor_iterations": 25,
    "alpha": 1.0,
    "delta": 0.5,
    "gamma": 5.0,
    "omega": 1.6,
    "max_layers": 200,
}

FLOW_METHODS: Mapping[str, FlowMethod] = MappingProxyType(
    {
        method.name: method
        for method in (
            FlowMethod(
                "tvl1", "TV-L1, 6 scales x 0.5", None, MappingProxyType(_TVL1), native=_tvl1
            ),
            FlowMethod(
                "tvl1-fast",
                "TV-L1, few iterations",
                None,
                MappingProxyType(_TVL1_FAST),
                native=_tvl1,
            ),
            FlowMethod("tvl1-opencv", "OpenCV's TV-L1, 6 scales x 0.5", _tvl1_opencv),
            FlowMethod("tvl1-paper", "OpenCV's TV-L1, its defaults (5 scales x 0.8)", _tvl1_paper),
            FlowMethod("dis", "DIS down to full resolution, 50 + 10 iterations", _dis),
            FlowMethod("dis-medium", "DIS, OpenCV's medium preset", _dis_medium),
            FlowMethod("deepflow", "OpenCV's DeepFlow", _deepflow, MappingProxyType(_DEEPFLOW)),
            FlowMethod("farneback", "Farneback's polynomial expansion", _farneback),
            FlowMethod("zero", "no flow: the search alone", None),
        )
    }
)
