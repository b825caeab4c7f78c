"""A lock that one process at a time holds on a folder, and that dies with the process."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from stnls_cli.errors import UserError
from stnls_cli.storage import storage_errors

LOCK_NAME = ".lock"
# File systems without locks: better to run unguarded there than not at all.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class FolderLock:
    """An exclusive lock on `folder`, held until `release` or the end of the process.

    The lock file moves with the folder when that is renamed; whoever waited at the old place must
    ask `held_at` before trusting the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_NAME
        with storage_errors(self.path):
            self._descriptor: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._lock(self._descriptor)
        except BaseException:
            self.release()
            raise

    def held_at(self, folder: Path) -> bool:
        """Whether the locked file is still the one in `folder`."""
        if self._descriptor is None:
            return False
        try:
            there = (folder / LOCK_NAME).stat()
        except OSError:
            return False
        here = os.fstat(self._descriptor)
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)

    def release(self) -> None:
        """Let go; more than once does no harm."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise UserError(f"cannot lock {self.path}: {error.strerror}") from error
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            who = f"process {holder}" if holder else "another process"
            raise UserError(
                f"{self.path.parent} is being written by {who} (lock file {self.path}); "
                "wait for it, or choose another -o"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
