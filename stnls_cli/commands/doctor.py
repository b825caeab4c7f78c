"""`stnls doctor`: print what there is, and fail when something that was asked for is missing."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from stnls_cli.console import EXIT_PARTIAL, print_data
from stnls_cli.doctor import CHECKS, examine
from stnls_cli.doctor.fact import Fact
from stnls_cli.errors import UserError

SCHEMA_VERSION = 1


def doctor(
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            help="Exit with 1 unless these are ok, e.g. cuda,tvl1. Known: " + ", ".join(CHECKS),
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Say what this installation has, what it lacks, and what to do about it."""
    required = _names(require or [])
    facts = examine()
    print_data(_as_json(facts, required) if as_json else _as_text(facts))
    lacking = [name for name in required if not facts[name].ok]
    if lacking:
        sys.stderr.write(f"stnls: required, but not ok: {', '.join(lacking)}\n")
        raise typer.Exit(EXIT_PARTIAL)


def _names(require: list[str]) -> list[str]:
    """The names behind `--require a,b --require c`; UserError for one that does not exist."""
    names = [name for part in require for name in part.split(",")]
    for name in names:
        if name not in CHECKS:
            known = ", ".join(CHECKS)
            raise UserError(f"--require: there is nothing called {name!r}; known are {known}")
    return list(dict.fromkeys(names))


def _as_text(facts: dict[str, Fact]) -> str:
    width = max(map(len, facts))
    lines = []
    for name, fact in facts.items():
        lines.append(f"{fact.status:<8} {name:<{width}}  {fact.summary}")
        if fact.remedy:
            lines.append(f"{'':<{9 + width}}  -> {fact.remedy}")
    return "\n".join(lines) + "\n"


def _as_json(facts: dict[str, Fact], required: list[str]) -> str:
    document = {
        "schema_version": SCHEMA_VERSION,
        "ok": all(facts[name].ok for name in required),
        "facts": {
            name: {
                "status": fact.status,
                "summary": fact.summary,
                "remedy": fact.remedy,
                **fact.details,
            }
            for name, fact in facts.items()
        },
    }
    return json.dumps(document, indent=2) + "\n"
