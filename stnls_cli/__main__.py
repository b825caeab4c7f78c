"""`python -m stnls_cli`."""

from __future__ import annotations

from stnls_cli.entry import main

main()
