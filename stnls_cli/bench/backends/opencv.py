"""OpenCV's search for similar patches: its non-local means, on 8-bit images, without flow."""

from __future__ import annotations

import time
from importlib.util import find_spec

from stnls_cli.bench.backends.base import Backend, Case, Outcome, Session
from stnls_cli.bench.timer import Timing


class OpenCv(Backend):
    """Compares every patch with those of a window in the same image, and averages them.

    OpenCV has no block matching that returns the matches of a two-dimensional window; this visits
    the same patches (sums of squared differences of 8-bit values), and does a little more.
    """

    name = "opencv"

    def available(self, session: Session) -> str | None:
        """On processors, where it is installed."""
        if find_spec("cv2") is None:
            return "cv2 is not installed"
        if session.device.type != "cpu":
            return "timed on processors only"
        try:
            import cv2  # noqa: F401
        except ImportError as error:
            return f"cv2 does not work here: {error}"
        return None

    def covers(self, case: Case) -> bool:
        """A pair of images on the whole-pixel grid, no flow, odd window and patch; every pixel is a
        query."""
        p = case.problem
        odd = p.ws % 2 == 1 and p.ps % 2 == 1
        plain = p.grid == "int" and case.flow == "zero" and p.gradients == "none"
        return p.paired and p.is_image and odd and plain and p.stride0 == 1

    def run(self, case: Case, session: Session) -> Outcome:
        """Times its call with as many threads as PyTorch has."""
        import cv2
        import torch

        p = case.problem
        image = case.inputs[0][0].permute(1, 2, 0).to(torch.uint8).contiguous().numpy()
        threads = cv2.getNumThreads()
        cv2.setNumThreads(torch.get_num_threads())
        try:
            times = []
            for _ in range(session.plan.repeat + 1):
                began = time.perf_counter()
                cv2.fastNlMeansDenoising(
                    image, h=10, templateWindowSize=p.ps, searchWindowSize=p.ws
                )
                times.append(1e3 * (time.perf_counter() - began))
        finally:
            cv2.setNumThreads(threads)
        note = "non-local means of one 8-bit image: the same patches, averaged in place of chosen"
        return Outcome(Timing(times[1:], None), note=note)
