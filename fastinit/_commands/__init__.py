"""The subcommands of the command line, one module each: `run(args)` returns the exit status."""
