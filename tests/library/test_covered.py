"""Patches that do not cover a frame: what the error advises helps, and is the least that does."""

from __future__ import annotations

import itertools
import re

import pytest
from stnls._checks import covered
from stnls._errors import StnlsValueError

FRAMES = ((1, 5), (8, 9), (17, 12), (2, 31))


def complaint(height: int, width: int, ps: int, stride0: int, dilation: int, adj: bool) -> str:
    """The message, or nothing where the frame is covered."""
    try:
        covered(height, width, ps, stride0, dilation, adj)
    except StnlsValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("adj", [False, True])
@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_advice_helps(frame: tuple[int, int], adj: bool) -> None:
    told = 0
    strides = (1, 2, 3, 5, 8, 40, 10**9)
    for ps, stride0, dilation in itertools.product(range(1, 8), strides, (1, 2, 3)):
        message = complaint(*frame, ps, stride0, dilation, adj)
        if not message:
            continue
        told += 1
        found = re.search(r"take (.*) or stride0=(\d+)$", message)
        assert found is not None, message
        nearer = int(found[2])
        assert not complaint(*frame, ps, nearer, dilation, adj), message
        between = range(nearer + 1, min(stride0, max(frame)))
        assert all(complaint(*frame, ps, s, dilation, adj) for s in between), message
        if larger := re.fullmatch(r"a larger ps \((\d+) is enough\)", found[1]):
            enough = int(larger[1])
            assert not complaint(*frame, enough, stride0, dilation, adj), message
            assert all(complaint(*frame, p, stride0, dilation, adj) for p in range(ps, enough))
        else:
            plain = re.fullmatch(r"dilation 1(?: with ps=(\d+))?", found[1])
            assert plain is not None, message
            assert not complaint(*frame, int(plain[1] or ps), stride0, 1, adj), message
    assert told > 20
