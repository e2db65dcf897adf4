"""The console script `fastinit`. It stands outside the package, to hear Ctrl-C while torch is being imported."""

import sys


def main() -> int:
    """Run the command line. Returns its exit status, 130 after Ctrl-C."""
    try:
        from fastinit._cli import main as run
    except KeyboardInterrupt:
        print("fastinit: interrupted", file=sys.stderr)
        return 130
    return run()
