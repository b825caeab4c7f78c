"""`stnls bench`: how fast the operators are on this machine, beside a reference and other tools.

`python -m stnls_cli.bench` is the same command where Typer and Rich are not installed.
"""

from __future__ import annotations
