"""What every opened clip offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType

from stnls_cli.video.damage import DamageLog
from stnls_cli.video.info import ClipInfo, Frame


class Clip(ABC):
    """An opened clip: `info` at once, frames one by one in a single pass, damage as it is met."""

    info: ClipInfo

    def __init__(self) -> None:
        self._log = DamageLog()
        self._started = False

    @property
    def damage(self) -> list[str]:
        """What was wrong so far, one line a kind; complete after the last frame."""
        return self._log.lines()

    def __iter__(self) -> Iterator[Frame]:
        if self._started:
            raise RuntimeError("a clip is read once; open it again to read it again")
        self._started = True
        return self._frames()

    @abstractmethod
    def _frames(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Release what is open; no iteration begins any more."""
        self._started = True

    def __enter__(self) -> Clip:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
