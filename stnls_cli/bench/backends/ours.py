"""This library."""

from __future__ import annotations

from stnls_cli.bench.backends.base import Backend, Case, Outcome, Session, time_call
from stnls_cli.bench.calls import bound, operator


class Ours(Backend):
    """The operators under test."""

    name = "stnls"

    def available(self, session: Session) -> None:
        """Always; a library that is not built raises its own error."""
        return

    def covers(self, case: Case) -> bool:
        """Every problem."""
        return True

    def run(self, case: Case, session: Session) -> Outcome:
        """Times the call of the user's module."""
        return time_call(bound(case.problem, operator(case.problem), case.inputs), session)
