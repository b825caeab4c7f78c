"""`python -m stnls_cli`."""

from __future__ import annotations

from stnls_cli.app import main

main()
