"""Frames of one video stream, in order, with damage told from a clean end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stnls_cli.errors import DamagedClipError, UserError
from stnls_cli.video.container import ends_early, header_frames
from stnls_cli.video.damage import DamageLog
from stnls_cli.video.soundness import sound_until

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

GO_ON = "--allow-damaged goes on with what decodes"


class Decoder:
    """Iterates the decoded frames of a stream from its first one.

    Without `allow_damaged` the first frame lost is a UserError; with it, `log` takes note and
    decoding goes on. Frames with concealed errors are passed on: the caller judges them.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        path: Path,
        log: DamageLog,
        allow_damaged: bool,
    ) -> None:
        self.container = container
        self.stream = stream
        self.path = path
        self.log = log
        self.allow_damaged = allow_damaged
        self.promised = header_frames(container, stream)
        self.delivered = 0
        self._packets = 0
        self._last_partial = False
        self._sound_until = sound_until(path, container.format.name, stream.id)
        self._last_sound: int | None = None

    def __iter__(self) -> Iterator[av.VideoFrame]:
        import av

        source = self.container.demux(self.stream)
        while True:
            try:
                packet = next(source)
            except StopIteration:
                break
            except IndexError:
                # A packet of a stream that damage made up, which PyAV does not know.
                source = self.container.demux(self.stream)
                continue
            except (av.FFmpegError, OSError):
                # The file cannot be read on; what the decoder still holds can.
                self._last_partial = True
                yield from self._rest()
                break
            if packet.size:
                if self._is_unsound(packet):
                    if not self.allow_damaged:
                        yield from self._rest()
                        raise self._damage(self.delivered)
                    self._note_damage()
                self._packets += 1
                self._last_partial = packet.is_corrupt
            elif packet.dts is None and self._sound_until is not None:  # the end
                yield from self._rest()
                continue
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError):
                self._undecodable(source)
                continue
            for frame in frames:
                self.delivered += 1
                yield frame
        self._check_end()

    def _is_unsound(self, packet: Packet[VideoStream]) -> bool:
        """Whether a packet lies where the container is damaged, or behind."""
        if self._sound_until is None:
            return False
        if packet.pos is not None and packet.pos >= self._sound_until:
            return True
        self._last_sound = packet.dts
        return False

    def _rest(self) -> Iterator[av.VideoFrame]:
        """What the decoder still holds; of a damaged clip up to the first frame that a lost one
        might precede."""
        frames = self._flush()
        if self._is_damaged(len(frames)) and not self.allow_damaged:
            last = self._last_sound
            frames = [f for f in frames if f.pts is None or (last is not None and f.pts <= last)]
        for frame in frames:
            self.delivered += 1
            yield frame

    def _is_damaged(self, held: int = 0) -> bool:
        """Whether the container is damaged, `held` frames being all that still comes. Where a
        header counts the frames, and all are there, the damage is elsewhere."""
        if self._sound_until is None:
            return False
        return not self.promised or self.delivered + held < self.promised

    def _note_damage(self) -> None:
        """Once: where the container is damaged. What follows is decoded as well as it can be."""
        assert self._sound_until is not None
        self.log.broken = (self._sound_until, self._packets)
        self._sound_until = None

    def _flush(self) -> list[av.VideoFrame]:
        import av

        try:
            return self.stream.decode(None)
        except (av.FFmpegError, OSError):
            return []

    def _undecodable(self, rest: Iterator[Packet[VideoStream]]) -> None:
        if self.allow_damaged:
            self.log.undecodable.append(self.delivered)
            return
        if self._anything_follows(rest):
            raise self._damage(self.delivered) from None
        if self.delivered or self.ended_early():
            raise self.truncation(self.delivered) from None
        raise self._nothing_decoded() from None

    def _damage(self, frames: int) -> UserError:
        where = "in the middle" if frames else "at the start"
        return DamagedClipError(
            f"{self.path}: damaged {where}: {self.readable(frames)} could be read before the first "
            "error",
            GO_ON,
        )

    @staticmethod
    def _anything_follows(rest: Iterator[Packet[VideoStream]]) -> bool:
        import av

        try:
            return any(packet.size for packet in rest)
        except (av.FFmpegError, OSError):
            return False

    def _check_end(self) -> None:
        early = self.ended_early()
        if not self.delivered:
            raise self.truncation(0) if early else self._nothing_decoded()
        if self._is_damaged():
            if not self.allow_damaged:
                raise self._damage(self.delivered)
            self._note_damage()
        elif early:
            if not self.allow_damaged:
                raise self.truncation(self.delivered)
            self.log.truncated = f"truncated: {self.readable(self.delivered)} could be read"

    def ended_early(self) -> bool:
        """At the end: is something missing behind the last frame?"""
        return self._last_partial or ends_early(
            self.container, self.stream, self.path, self._packets, self.delivered
        )

    def truncation(self, frames: int) -> UserError:
        """The error for a file that ends early, with the number of good frames."""
        if not frames:
            return UserError(f"{self.path}: truncated: no frame could be read")
        damage = f"{self.path}: truncated: {self.readable(frames)} could be read"
        return DamagedClipError(damage, GO_ON)

    def _nothing_decoded(self) -> UserError:
        return UserError(f"{self.path}: no frame could be decoded")

    def readable(self, frames: int) -> str:
        """`28 of 50 frames`; the second number only where more were promised."""
        if self.promised and self.promised > frames:
            return f"{frames} of {self.promised} frames"
        return f"{frames} frame{'' if frames == 1 else 's'}"
