"""Run directories: work in DIR.partial, become DIR when complete, resume, never lose a result.

DIR.partial holds run.json (the run's fingerprint), frames.ndjson (the finished reference frames),
a lock file, the outputs so far, and the mark `given-up` where the input ended the run (it is
damaged, say): the same command still takes up the work, with --allow-damaged for one, but other
parameters start afresh. DIR keeps run.json, so that the same command knows it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from stnls_cli.errors import StorageError, UserError
from stnls_cli.fingerprint import differences, normalised, told
from stnls_cli.journal import Journal
from stnls_cli.lock import LOCK_NAME, FolderLock
from stnls_cli.report import JSON_NAME, SCHEMA
from stnls_cli.storage import storage_errors, sync_folder, write_text

RUN_NAME = "run.json"
JOURNAL_NAME = "frames.ndjson"
GIVEN_UP_NAME = "given-up"
FORMAT = "stnls-run"
FORMAT_VERSION = 1
LONGEST_NAME = 255
"""Bytes, on the file systems that we know."""
# What every run writes into its folder; what else lies there is not ours to delete.
_OURS = {RUN_NAME, JOURNAL_NAME, GIVEN_UP_NAME, LOCK_NAME}
# What a run killed in its first moments leaves: not enough to be anyone's work.
_BEGINNINGS = {LOCK_NAME, f".{RUN_NAME}.tmp"}


@dataclass(frozen=True)
class RunKind:
    """What a command's finished run is known by, and all that it writes into its folder."""

    command: str
    document: str
    """Name of the file that a finished run has, and only that."""
    schema: str
    """What that document, JSON, says under "schema"."""
    names: frozenset[str]

    def is_finished(self, folder: Path) -> bool:
        """Whether `folder` holds a finished run of this kind, of whatever version."""
        try:
            document = json.loads((folder / self.document).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(document, dict) and document.get("schema") == self.schema


ALIGN_RUN = RunKind(
    "align",
    JSON_NAME,
    SCHEMA,
    frozenset(
        {
            *(JSON_NAME, "report.csv", "report.html", "pictures"),
            *("aligned", "flow", "offsets", "distance", "video", ".for-video"),
        }
    ),
)
FLOW_RUN = RunKind(
    "flow",
    "flow.json",
    "stnls-flow",
    frozenset({"flow.json", "flow.npz", "forward", "backward", "pictures"}),
)


@dataclass(frozen=True)
class Finished:
    """DIR is complete already, from the same input and parameters."""

    path: Path
    kind: RunKind = ALIGN_RUN

    @property
    def document_path(self) -> Path:
        """The document by which it is known: report.json of `align`."""
        return self.path / self.kind.document


class RunDirectory:
    """A run under way. `path` is where to write; `resumed` tells whether it was begun before.

    Leaving the `with` block without `finish` keeps the work for the next time; where no frame was
    recorded the folder goes.
    """

    def __init__(
        self,
        final: Path,
        path: Path,
        lock: FolderLock,
        journal: Journal,
        *,
        overwrite: bool,
        made: Sequence[Path],
        kind: RunKind,
    ) -> None:
        self.kind = kind
        self.final = final
        self.path = path
        self.overwrite = overwrite
        self.resumed = bool(journal.done)
        self._lock = lock
        self._journal = journal
        self._made = made  # folders above `path` that were not there, the innermost first

    @classmethod
    def open(
        cls,
        folder: Path,
        fingerprint: Mapping[str, Any],
        *,
        overwrite: bool = False,
        kind: RunKind = ALIGN_RUN,
    ) -> RunDirectory | Finished:
        """Begin or resume the run whose results go to `folder`.

        `fingerprint`: everything that results or outputs depend on, plain values. A finished run
        of the same fingerprint is returned as `Finished`, unless `overwrite`; one of another
        fingerprint is a UserError, unless `overwrite`. An unfinished run of the same fingerprint is
        resumed, with `overwrite` too. Folders that no run of ours made are never touched.
        """
        with storage_errors(folder):
            final = Path(os.path.realpath(folder)) if Path(folder).is_symlink() else Path(folder)
        if final.name in ("", ".."):
            raise UserError(f"{folder} cannot be an output folder; choose another -o")
        if any(known.is_finished(final.parent) for known in (ALIGN_RUN, FLOW_RUN)):
            raise UserError(
                f"{final} would lie inside {final.parent}, which is a run of stnls itself; choose "
                "another -o"
            )
        wanted = normalised(fingerprint)
        partial = final.with_name(f"{final.name}.partial")
        if len(os.fsencode(partial.name)) > LONGEST_NAME:
            raise UserError(
                f"{final}: the name is too long ({LONGEST_NAME} bytes with .partial); choose "
                "another -o"
            )
        while True:
            if _settled(final, wanted, overwrite, kind):
                return Finished(final, kind)
            _check_contents(final, kind)
            _check_partial(partial)
            made = [parent for parent in partial.parents if not parent.exists()]
            try:
                partial.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(
                    f"cannot write {partial}: {error.strerror or error}; choose another folder "
                    "with -o"
                ) from error
            lock = FolderLock(partial)
            try:
                # Another process may have renamed the folder between our two looks at it.
                if not lock.held_at(partial):
                    lock.release()
                    continue
                _restore(final, kind)
                if final.is_dir() and _settled(final, wanted, overwrite, kind):
                    _drop_beginnings(partial)
                    lock.release()
                    return Finished(final, kind)
                _prepare(partial, wanted, overwrite)
                journal = Journal(partial / JOURNAL_NAME)
            except BaseException:
                lock.release()
                raise
            return cls(final, partial, lock, journal, overwrite=overwrite, made=made, kind=kind)

    @property
    def done_frames(self) -> dict[int, Any]:
        """Payloads of the reference frames recorded so far, by frame index."""
        return dict(self._journal.done)

    def record(self, t: int, payload: Any) -> None:
        """Note that reference frame `t` is finished, its outputs written; survives a kill."""
        self._journal.record(t, payload)

    def give_up(self) -> None:
        """Note that the input does not let this run be finished: one with other parameters may
        take its place without being asked to overwrite it."""
        with contextlib.suppress(StorageError):  # why the run ended is what matters
            write_text(self.path / GIVEN_UP_NAME, "")

    def finish(self) -> Path:
        """Rename to the final folder, once the document lies in `path`; returns the final path.

        An older run there is set aside by a rename and deleted only when the new one is in place.
        """
        if not self.kind.is_finished(self.path):
            raise ValueError(f"{self.path} holds no {self.kind.document}")
        self._journal.close()
        _check_final(self.final, self.kind, overwrite=self.overwrite)
        _check_contents(self.final, self.kind)
        aside = _aside(self.final)
        with storage_errors(self.final):
            sync_folder(self.path)
            if _has_content(self.final):
                _discard(aside, self.kind)
                self.final.rename(aside)
            self.path.rename(self.final)
            sync_folder(self.final.parent)
            _discard(aside, self.kind)
        for name in (JOURNAL_NAME, LOCK_NAME):
            with contextlib.suppress(OSError):
                (self.final / name).unlink()
        self._lock.release()
        return self.final

    def close(self) -> None:
        """Let go of the folder; what was recorded stays for the next time, nothing else does."""
        self._journal.close()
        kept = self._journal.done or self.kind.is_finished(self.path)
        if not kept and self._lock.held_at(self.path):
            with contextlib.suppress(UserError, OSError):
                _empty(self.path)
                (self.path / LOCK_NAME).unlink()
                self.path.rmdir()
                for parent in self._made:
                    parent.rmdir()
        self._lock.release()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _settled(final: Path, wanted: dict[str, Any], overwrite: bool, kind: RunKind) -> bool:
    """Whether `final` holds the run asked for; raises where it holds anything in the way."""
    _check_final(final, kind, overwrite=True)
    if overwrite or not _has_content(final):
        return False
    if not kind.is_finished(final):
        raise UserError(
            f"{final} is a run whose {kind.document} is gone; make it again with --overwrite or "
            "choose another -o"
        )
    found = _fingerprint(final)
    if found is None:
        raise UserError(
            f"{final} holds a run without a readable {RUN_NAME}, so its parameters are unknown; "
            "replace it with --overwrite or choose another -o"
        )
    if changed := differences(found, wanted):
        raise UserError(
            f"{final} holds a finished run with other parameters ({told(changed)}); "
            "replace it with --overwrite or choose another -o"
        )
    return True


def _check_final(final: Path, kind: RunKind, *, overwrite: bool) -> None:
    """Raise unless `final` is absent, empty, or (with `overwrite`) a finished run of ours, which
    may have lost its document."""
    if not _has_content(final):
        return
    ours = kind.is_finished(final) or (_fingerprint(final) and not _holds_document(final))
    if not ours:
        raise UserError(
            f"{final} holds files that are no run of stnls {kind.command}; choose another -o"
        )
    if not overwrite:
        raise UserError(f"{final} appeared while this run was under way; its work is kept")


def _holds_document(final: Path) -> bool:
    """Whether there is any file by which a finished run is known, be it none of ours."""
    return any(os.path.lexists(final / known.document) for known in (ALIGN_RUN, FLOW_RUN))


def _check_contents(final: Path, kind: RunKind) -> None:
    """Raise where replacing `final` would delete what no run of ours wrote."""
    if not _has_content(final):
        return
    with storage_errors(final, "read"):
        strange = sorted({entry.name for entry in final.iterdir()} - _OURS - kind.names)
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise UserError(
            f"{final} holds {strange[0]}{more}, which no run of stnls wrote: --overwrite would "
            "delete it; move it away or choose another -o"
        )


def _check_partial(partial: Path) -> None:
    if not _has_content(partial) or _fingerprint(partial) is not None:
        return
    with storage_errors(partial, "read"):
        names = {entry.name for entry in partial.iterdir()}
    if names - _BEGINNINGS:
        raise UserError(
            f"{partial} holds files that are no unfinished run of stnls; "
            "move them away or choose another -o"
        )


def _prepare(partial: Path, wanted: dict[str, Any], overwrite: bool) -> None:
    """Under the lock: keep an unfinished run of the same fingerprint, else start from nothing."""
    found = _fingerprint(partial)
    given_up = partial / GIVEN_UP_NAME
    if found == wanted:
        with storage_errors(given_up, "delete"):
            given_up.unlink(missing_ok=True)
        return
    if found is not None:
        if not (overwrite or given_up.exists()):
            raise UserError(
                f"{partial} holds an unfinished run with other parameters "
                f"({told(differences(found, wanted))}); drop it with --overwrite or choose "
                "another -o"
            )
        _empty(partial)
    document = {"format": FORMAT, "version": FORMAT_VERSION, "fingerprint": wanted}
    write_text(partial / RUN_NAME, json.dumps(document, indent=2, allow_nan=False) + "\n")
    sync_folder(partial)


def is_run(folder: Path) -> bool:
    """Whether a run of stnls wrote `folder`, finished or not."""
    return _fingerprint(folder) is not None


def _fingerprint(folder: Path) -> dict[str, Any] | None:
    """The fingerprint in a run's folder; `None` where there is none of our format."""
    try:
        document = json.loads((folder / RUN_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return None
    if document.get("version") != FORMAT_VERSION:
        return {"run format": document.get("version")}
    found = document.get("fingerprint")
    return found if isinstance(found, dict) else None


def _has_content(folder: Path) -> bool:
    """Whether anything lies at `folder`; an empty folder is as good as none."""
    with storage_errors(folder, "read"):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file, not a folder; choose another -o")
        return folder.is_dir() and any(folder.iterdir())


def _aside(final: Path) -> Path:
    return final.with_name(f".{final.name}.replaced")


def _restore(final: Path, kind: RunKind) -> None:
    """Undo a replacement that was killed between its two renames."""
    aside = _aside(final)
    if not final.exists() and kind.is_finished(aside):
        with storage_errors(final):
            aside.rename(final)


def _discard(folder: Path, kind: RunKind) -> None:
    """Delete a run's folder, the marks by which it is known last, so that a kill leaves it ours."""
    if not folder.exists():
        return
    if not kind.is_finished(folder) and _fingerprint(folder) is None and _has_content(folder):
        raise UserError(f"{folder} holds files that are no run of stnls; move them away")
    with storage_errors(folder, "delete"):
        (folder / LOCK_NAME).unlink(missing_ok=True)
        _empty(folder)
        folder.rmdir()


def _drop_beginnings(partial: Path) -> None:
    """Remove a folder made for a run that turns out to be needless; work in it stays."""
    if _fingerprint(partial) is None:
        with contextlib.suppress(OSError):
            (partial / LOCK_NAME).unlink()
            partial.rmdir()


def _empty(folder: Path) -> None:
    """Delete all but the lock; run.json goes last."""
    with storage_errors(folder, "delete"):
        entries = [entry for entry in folder.iterdir() if entry.name not in (RUN_NAME, LOCK_NAME)]
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        (folder / RUN_NAME).unlink(missing_ok=True)
