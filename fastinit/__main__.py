"""``python -m fastinit`` is the console script `fastinit`."""

import sys

from fastinit._cli import main

if __name__ == "__main__":
    sys.exit(main())
