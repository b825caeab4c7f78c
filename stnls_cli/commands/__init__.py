"""The subcommands of `stnls`, one file each."""
