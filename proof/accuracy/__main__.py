"""``python -m proof.accuracy``."""

import sys

from proof.accuracy.command import main

if __name__ == "__main__":
    sys.exit(main())
