"""Run the library of an aarch64 wheel on another processor: ``python -m release.emulated WHEEL``.

proof/stress.cpp, compiled by zig, fills and blends by it under qemu, and compares every tensor with the harness's. That needs
what release/requirements.txt lists, qemu-aarch64, and glibc for aarch64 (Debian's packages qemu-user and libc6-arm64-cross). The
exit status is 1 on a fault.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import zipfile

from release.wheel import FOREIGN, ROOT, ZIG, run

LIBRARY = "fastinit/libfastinit.so"
GLIBC = pathlib.Path("/usr/aarch64-linux-gnu")
FLAGS = ["-std=c++17", "-O1", "-fno-sanitize=all", "-ffp-contract=off", f"-I{ROOT / 'csrc'}", "-DFASTINIT_HAS_NEON"]
# Threads that cannot be started are proof/faults.py's: it links the objects, where that can be played.
FLAGS += ["-D__real_pthread_create=pthread_create"]


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m release.emulated", description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=pathlib.Path, help="such as dist/*_aarch64.whl")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(args.wheel) as wheel:
            library = wheel.extract(LIBRARY, folder)
        program = pathlib.Path(folder, "stress")
        compiler = [*ZIG.split(), "c++", "-target", FOREIGN["aarch64"][1]]
        found = f"-Wl,-rpath,{pathlib.Path(library).parent}"
        run(*compiler, *FLAGS, ROOT / "proof" / "stress.cpp", library, found, "-o", program)
        print("+ qemu-aarch64", program, flush=True)
        return subprocess.run(["qemu-aarch64", "-L", GLIBC, program, "quick"], timeout=1800).returncode


if __name__ == "__main__":
    sys.exit(main())
