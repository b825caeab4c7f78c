"""Which inputs have passed the checks before."""

from __future__ import annotations

from collections.abc import Hashable


class PassedChecks:
    """Remembers inputs by what their checks depend on, some thousand of them."""

    _most = 1024

    def __init__(self) -> None:
        self._known: set[Hashable] = set()

    def __contains__(self, inputs: Hashable) -> bool:
        return inputs in self._known

    def add(self, inputs: Hashable) -> None:
        """They passed."""
        if len(self._known) >= self._most:
            self._known.clear()
        self._known.add(inputs)
