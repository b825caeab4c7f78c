"""TV-L1 optical flow, from coarse to fine."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from stnls import _checks, _ops

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601."""
WHITE = 255.0
"""The scale on which lambda is meant, as in OpenCV."""
SMALLEST = 16
"""Pixels along the shorter side of the coarsest scale, at least; OpenCV's limit."""
MEDIANS = (1, 3, 5)


def tvl1(
    frame0: Tensor,
    frame1: Tensor,
    initial_flow: Tensor | None = None,
    *,
    tau: float = 0.25,
    lambda_: float = 0.15,
    theta: float = 0.3,
    nscales: int = 6,
    warps: int = 5,
    epsilon: float = 0.01,
    innerIterations: int = 30,
    outerIterations: int = 10,
    scaleStep: float = 0.5,
    medianFiltering: int = 5,
) -> Tensor:
    """Flow from `frame0` to `frame1`: what is at p in the one is at p + flow(p) in the other.

    Minimises the total variation of the flow plus `lambda_` times the absolute difference in
    brightness (Zach, Pock & Bischof: A Duality Based Approach for Realtime TV-L1 Optical Flow,
    2007), by the scheme of Sanchez Perez, Meinhardt-Llopis & Facciolo (IPOL 2013): on every scale
    of a pyramid the second frame is warped by the flow so far (bicubically), the difference made
    linear there, and the flow found by alternating steps. Parameters are those of OpenCV's
    `DualTVL1OpticalFlow`, `lambda_` for the word that Python keeps; the defaults of the two for
    the pyramid are not OpenCV's (5 scales of 0.8), which lose motion above some ten pixels.
    OpenCV's `gamma`, the weight of an unknown for changes of brightness, is left out: it is 0
    there by default, and so it is wherever the two are compared.

    Args:
        frame0, frame1: (N, 1, H, W) grey or (N, 3, H, W) RGB, in [0, 1], on the CPU or a GPU. RGB
            is made grey by the luma of BT.601. Computed in float32.
        initial_flow: (N, 2, H, W) in pixels, channel 0 = dx, 1 = dy, where to begin (default: 0).
        tau: time step of the dual variables, up to 0.25 by their proof of convergence.
        lambda_: weight of the brightness; smaller is smoother.
        theta: how tightly the auxiliary flow is held.
        nscales: scales of the pyramid; fewer where the coarsest would be under 16 pixels.
        warps: times that the second frame is warped, on each scale.
        epsilon: a warp's iterations end where the root mean square change of the flow in the last
            of `innerIterations` is not above this, in pixels, and the next warp begins; 0 does them
            all.
        innerIterations: iterations between median filters.
        outerIterations: median filters for each warp.
        scaleStep: size of a scale over that of the next finer one, between 0 and 1.
        medianFiltering: pixels along the median filter of the flow: 1 (none), 3 or 5.

    Returns:
        (N, 2, H, W) float32, channel 0 = dx, 1 = dy in pixels. There is no gradient.

    On a GPU all pairs are computed at once, on the current stream and without waiting for it (a
    pair ends early by itself), so that the call can be captured in a graph. For each pair it takes
    90 bytes of memory for each pixel while it runs. The flows of CPU and GPU differ in
    rounding, which the iterations enlarge where the frames leave the flow undetermined.

    Values are not checked, for that would mean to wait for a GPU. Frames s times as large have the
    flow of a `lambda_` s times as large: in 0 to 255 it follows the frames, noise included, with
    next to no smoothness. Where `frame0` is NaN or infinite the flow there and nearby is
    meaningless; in `frame1` and `initial_flow` such a value may turn the whole flow of its pair
    into NaN. The other pairs of the batch keep theirs.

    Raises:
        StnlsError: (also ValueError, TypeError or RuntimeError) for tensors that do not fit
            together, and for parameters without meaning.

    """
    _checks.tensor("frame0", frame0, (4,), "(N, 1 or 3, H, W)")
    _checks.tensor("frame1", frame1, (4,), "(N, 1 or 3, H, W)")
    _checks.floating("frame0", frame0)
    _checks.floating("frame1", frame1)
    _checks.same_place("frame0", frame0, "frame1", frame1)
    _checks.same("shape", "frame0", tuple(frame0.shape), "frame1", tuple(frame1.shape))
    _checks.one_of("channels of frame0", frame0.shape[1], (1, 3))
    _checks.not_empty_frames("frame0", frame0)
    count, _, height, width = frame0.shape
    if initial_flow is not None:
        _checks.tensor("initial_flow", initial_flow, (4,), "(N, 2, H, W)")
        _checks.floating("initial_flow", initial_flow)
        _checks.same_place("frame0", frame0, "initial_flow", initial_flow)
        _checks.shape("initial_flow", initial_flow, (count, 2, height, width), "(N, 2, H, W)")
    for name, value in (("tau", tau), ("lambda_", lambda_), ("theta", theta)):
        _checks.positive_number(name, value, maximum=1e6)
    _checks.not_negative_number("epsilon", epsilon)
    for name, number in (
        ("nscales", nscales),
        ("warps", warps),
        ("innerIterations", innerIterations),
        ("outerIterations", outerIterations),
        ("medianFiltering", medianFiltering),
    ):
        _checks.positive_int(name, number)
    _checks.between("scaleStep", scaleStep, 0.0, 1.0)
    _checks.one_of("medianFiltering", medianFiltering, MEDIANS)

    scales = _pyramid(_grey(frame0), _grey(frame1), nscales, scaleStep)
    coarsest = scales[-1][0].shape[-2:]
    if initial_flow is None:
        flow = frame0.new_zeros((count, 2, *coarsest), dtype=torch.float32)
    else:
        flow = _resized_flow(initial_flow.detach().float(), coarsest)
    for gray0, gray1 in reversed(scales):
        flow = _ops.tvl1_scale(
            gray0,
            gray1,
            _resized_flow(flow, gray0.shape[-2:]),
            float(tau),
            float(lambda_),
            float(theta),
            float(epsilon),
            warps,
            outerIterations,
            innerIterations,
            medianFiltering,
        )
    return flow


def _grey(frame: Tensor) -> Tensor:
    """(N, H, W) float32, 0 to 255."""
    frame = frame.detach().float()
    if frame.shape[1] == 1:
        return (frame[:, 0] * WHITE).contiguous()
    # Numbers of Python's: a tensor of weights would have to be copied to the device.
    red, green, blue = frame.unbind(1)
    return (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]) * WHITE


def _pyramid(
    gray0: Tensor, gray1: Tensor, nscales: int, step: float
) -> list[tuple[Tensor, Tensor]]:
    """Both frames, the finest scale first."""
    scales = [(gray0, gray1)]
    while len(scales) < nscales:
        height, width = scales[-1][0].shape[-2:]
        size = round(height * step), round(width * step)
        if min(size) < SMALLEST or size == (height, width):
            break
        smaller = (
            interpolate(gray[:, None], size=size, mode="bilinear")[:, 0] for gray in scales[-1]
        )
        scales.append(cast("tuple[Tensor, Tensor]", tuple(smaller)))
    return scales


def _resized_flow(flow: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """On another grid, in its pixels."""
    height, width = flow.shape[-2:]
    if (height, width) == tuple(size):
        return flow
    resized = interpolate(flow, size=tuple(size), mode="bilinear")
    resized[:, 0] *= size[1] / width
    resized[:, 1] *= size[0] / height
    return resized
