"""What was wrong with a clip that is read all the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


def ranges(numbers: Iterable[int], limit: int = 8) -> str:
    """`[3, 5, 6, 7]` as "3, 5-7"; at most `limit` pieces, then how many more numbers."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs[:limit])
    more = sum(b - a + 1 for a, b in runs[limit:])
    return f"{text} and {more} more" if more else text


@dataclass
class DamageLog:
    """Collects damage while frames are decoded; `lines()` is what the report shows."""

    corrupt: list[int] = field(default_factory=list)
    undecodable: list[int] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    resized: list[tuple[int, str]] = field(default_factory=list)
    broken: tuple[int, int] | None = None
    """Where the container is damaged: offset in the file, packets of the stream before it."""
    truncated: str | None = None

    def lines(self) -> list[str]:
        """One line for each kind of damage; empty when nothing was wrong so far."""
        out = []
        if self.corrupt:
            count = len(self.corrupt)
            frames = "frame" if count == 1 else "frames"
            out.append(f"{count} {frames} decoded with concealed errors: {ranges(self.corrupt)}")
        if self.undecodable:
            count = len(self.undecodable)
            packets = "packet" if count == 1 else "packets"
            first = self.undecodable[0]
            out.append(f"{count} {packets} could not be decoded, the first after {first} frames")
        out += [f"left out: {name}" for name in self.skipped]
        if self.resized:
            index, change = self.resized[0]
            out.append(
                f"{len(self.resized)} frames of another size were resized, "
                f"the first is frame {index}: {change}"
            )
        if self.broken:
            offset, before = self.broken
            out.append(
                f"the container is damaged at byte {offset}, after {before} packets of the video: "
                "from there on frames may be missing or wrong"
            )
        if self.truncated:
            out.append(self.truncated)
        return out
