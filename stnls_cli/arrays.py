"""Arrays from .npy files, also on several threads at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARSING = threading.Lock()
"""Held while a header is read: NumPy parses it as Python, and some releases of Python 3.11 fail now
and then where two threads do that ("AST constructor recursion depth mismatch")."""


def load_array(path: Path) -> NDArray[Any]:
    """The array in a .npy file. Raises OSError, ValueError or EOFError where there is none."""
    with PARSING:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
        return array
