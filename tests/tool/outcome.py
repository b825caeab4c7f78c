"""What a command left behind, and the check that it was refused in one line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """Exit code and both streams of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Lines on standard error."""
        return self.err.splitlines()


def refused(ended: Ended, words: str, code: int = 2) -> None:
    """One line on standard error, with these words."""
    assert ended.code == code
    assert ended.out == ""
    assert len(ended.lines) == 1, ended.err
    assert ended.err.startswith("stnls: ")
    assert words in ended.err, ended.err
    assert "Traceback" not in ended.err
