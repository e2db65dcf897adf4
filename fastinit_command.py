"""The console script `fastinit`. It stands outside the package, to hear Ctrl-C while torch is being imported."""

import os
import signal
from types import FrameType


def main() -> int:
    """Run the command line of the process's arguments, and return its exit status."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    from fastinit._cli import main as run

    signal.signal(signal.SIGINT, before)
    status = run()
    if status == 130:  # a second Ctrl-C would be a traceback of Python's own end
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return status


def end(number: int, frame: "FrameType | None") -> None:
    """End the process at once: an exception inside of an import may be taken for a module that is not there."""
    os.write(2, b"fastinit: interrupted\n")
    os._exit(130)
