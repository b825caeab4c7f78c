"""Alignment errors over a grid of settings: the job of `stnls compare`."""
