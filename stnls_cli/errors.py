"""What the tool raises when its user can put it right."""

from __future__ import annotations


class UserError(Exception):
    """Bad input or usage: one line that says what, where, and what to do.

    The command line prints it on standard error and exits with `exit_code`; callers of
    `stnls_cli.align` catch it like any other exception.
    """

    exit_code = 2


class DamagedClipError(UserError):
    """A clip of which not all can be read: the damage, and the option that goes on regardless."""

    def __init__(self, damage: str, remedy: str) -> None:
        super().__init__(damage, remedy)
        self.damage = damage

    def __str__(self) -> str:
        return "; ".join(self.args)


class WorkerError(Exception):
    """What went wrong in another process, in words for a person."""


class StorageError(UserError):
    """A file that cannot be written, read or deleted: nothing is wrong with the input."""
