"""Build one wheel on a Linux machine, without a container: ``python -m release.wheel {x86_64,aarch64,macos-arm64,pure}``.

It needs what release/requirements.txt lists. The compilers of this machine, g++ and nvcc, make x86_64's code, and zig that of
other processors. zig links all of them: it has the symbols of old versions of glibc and of macOS, where this machine's linker
would ask for this machine's glibc. CUDA's library goes into x86_64's wheel alone, for all architectures; FASTINIT_CUDA_ARCHS
names others, FASTINIT_CUDA=0 leaves it out.

The wheels of a release are built and tested on machines of their own kind, CUDA's library of aarch64 among them:
.github/workflows/wheels.yml.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
ZIG, GLIBC = f"{sys.executable} -m ziglang", "2.28"
FOREIGN = {  # what the platform is called in Python, and in zig
    "aarch64": ("linux-aarch64", f"aarch64-linux-gnu.{GLIBC}"),
    "macos-arm64": ("macosx-11.0-arm64", "aarch64-macos.11.0"),
}
KINDS = ("x86_64", *FOREIGN, "pure")
# zig's linker knows no --exclude-libs, and CUDA's archives show nothing without it. zig would put its own fmaf before glibc's,
# which uses the processor's instruction: so it brings nothing of its own, and __builtin_cpu_supports comes from gcc.
NATIVE = """\
#!/bin/bash
for argument; do
  case $argument in
  -Xlinker | --exclude-libs | ALL) ;;
  -shared) linking=1 && kept+=("$argument") ;;
  *) kept+=("$argument") ;;
  esac
done
[ -z "$linking" ] && exec g++ "$@"
libraries="-lm -lpthread -ldl -lrt -lc $(g++ -print-libgcc-file-name)"
for name in libstdc++.so.6 libgcc_s.so.1; do libraries+=" $(g++ -print-file-name=$name)"; done
exec {zig} cc -target x86_64-linux-gnu.{glibc} -nostdlib -s -Wl,-z,defs "${{kept[@]}}" -Wl,--as-needed $libraries
"""
CROSS = """\
#!/bin/sh
exec {zig} c++ -target {target} -fno-sanitize=all -s "$@"
"""


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m release.wheel", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "dist", metavar="FOLDER", help="default: dist")
    args = parser.parse_args(argv)
    if not os.environ.get("FASTINIT_URL"):
        print("FASTINIT_URL is not set: on an index the README's links and images would lead nowhere", file=sys.stderr)
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(args.kind, pathlib.Path(folder))
        if args.kind in ("x86_64", "aarch64"):  # named by the oldest platform that it serves: manylinux_2_28, or one before it
            run("auditwheel", "repair", "--plat", "auto", "--only-plat", "--wheel-dir", args.output, wheel)
        else:
            shutil.copy(wheel, args.output)


def build(kind, folder):
    """The wheel as setup.py makes it of a source distribution: what lies about in the checkout has no part in it."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, env={**os.environ, **environment(kind, folder)})
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment(kind, folder):
    """The variables that setup.py and setuptools read."""
    if kind == "pure":
        return {"FASTINIT_NATIVE": "0", "FASTINIT_CUDA": "0"}
    compiler = folder / "c++"
    script = CROSS if kind in FOREIGN else NATIVE
    compiler.write_text(script.format(zig=ZIG, glibc=GLIBC, target=FOREIGN.get(kind, [""])[-1]))
    compiler.chmod(0o755)
    linker = f"{compiler} -shared"
    chosen = {"FASTINIT_NATIVE": "1", "CC": str(compiler), "CXX": str(compiler), "LDSHARED": linker, "LDCXXSHARED": linker}
    if kind in FOREIGN:
        return {**chosen, "FASTINIT_CUDA": "0", "_PYTHON_HOST_PLATFORM": FOREIGN[kind][0]}
    wanted = {"FASTINIT_CUDA": "1", "FASTINIT_CUDA_ARCHS": "all"}
    return {**chosen, **{name: os.environ.get(name, value) for name, value in wanted.items()}}


def run(*command, **options):
    print("+", *command, flush=True)
    subprocess.run(command, check=True, **options)


if __name__ == "__main__":
    main()
