"""`python FILE MODULE JOB`, FILE being this one: a command's module in a process of its own, of the package that this file is in.

`python -m` would run what is called fastinit in the current directory. This file's own folder, which Python puts first on the
path instead, has modules of common names.
"""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
import sys


def main() -> None:
    here = pathlib.Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if pathlib.Path(place).resolve() != here]
    found = importlib.util.spec_from_file_location("fastinit", here.parent / "__init__.py")
    assert found is not None and found.loader is not None
    sys.modules["fastinit"] = package = importlib.util.module_from_spec(found)
    found.loader.exec_module(package)
    importlib.import_module(f"fastinit._commands.{sys.argv[1]}").main()


if __name__ == "__main__":
    main()
