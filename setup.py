"""Builds the native library: plain C++ behind a C ABI, so it needs a compiler and neither torch nor Python's headers.

Without a compiler the package installs all the same, and `fastinit info` says so. FASTINIT_NATIVE=1 demands the library,
FASTINIT_NATIVE=0 leaves it out.
"""

import contextlib
import glob
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NATIVE = os.environ.get("FASTINIT_NATIVE")
FLAGS = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=off", "-fno-strict-aliasing", "-Wno-psabi"]
# One file per instruction set, with its own flags: flags on a whole target leak into code that runs everywhere.
X86 = {
    "csrc/cpu_avx2.cpp": ["-mavx2", "-mfma"],
    # gcc 12 takes its own headers' undefined vectors for uninitialised ones
    "csrc/cpu_avx512.cpp": [f"-m{name}" for name in ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma")]
    + ["-Wno-maybe-uninitialized", "-Wno-uninitialized"],
}
ARM = {"csrc/cpu_neon.cpp": []}


def sources() -> "dict[str, list[str]]":
    """Source file -> its own flags, for this processor."""
    machine = platform.machine().lower()
    vector = X86 if machine in ("x86_64", "amd64") else ARM if machine in ("aarch64", "arm64") else {}
    define = {id(X86): ["-DFASTINIT_HAS_X86"], id(ARM): ["-DFASTINIT_HAS_NEON"]}.get(id(vector), [])
    return {"csrc/cpu.cpp": define, "csrc/cpu_scalar.cpp": [], **vector}


class BuildLibrary(build_ext):
    """Compiles each file with its own flags into fastinit/libfastinit.so."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        path = self.get_ext_fullpath(ext.name)
        with contextlib.suppress(FileNotFoundError):
            # an earlier build's: where this one fails, it must not serve in its place
            os.remove(self.get_ext_filename(ext.name) if self.editable_mode else path)
        if NATIVE == "0":
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)

        def compiled(item: "tuple[str, list[str]]") -> "list[str]":
            source, flags = item
            return self.compiler.compile([source], output_dir=self.build_temp, extra_postargs=FLAGS + flags, depends=ext.depends)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [name for names in pool.map(compiled, sources().items()) for name in names]
        self.compiler.link_shared_object(objects, path, extra_postargs=["-pthread"], target_lang="c++")


class PlatformWheel(bdist_wheel):
    """One wheel for every Python and torch: the library knows neither."""

    def get_tag(self) -> "tuple[str, str, str]":
        return "py3", "none", super().get_tag()[2]


library = Extension(
    "fastinit.libfastinit",
    sources=list(sources()),
    depends=sorted(glob.glob("csrc/*")),  # also what other processors compile: a source distribution carries it all
    optional=NATIVE != "1",
)
setup(
    ext_modules=[library] if sys.platform != "win32" else [],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": PlatformWheel},
)
