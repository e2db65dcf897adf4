"""``python -m benchmarks.convergence``."""

import sys

from benchmarks.convergence.command import main

if __name__ == "__main__":  # the processes of the study import this file too
    sys.exit(main())
