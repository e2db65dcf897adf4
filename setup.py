"""Build the native libraries behind one C ABI: neither torch nor Python's headers are needed.

The CPU's needs a C++ compiler. Without one the package is installed without it, and `fastinit info` says so. FASTINIT_NATIVE=1
makes that an error, FASTINIT_NATIVE=0 leaves the library out.

CUDA's needs nvcc of CUDA 12.4 or newer (found by CUDACXX, CUDA_HOME, the PATH or in /usr/local/cuda), and no GPU. FASTINIT_CUDA=1
makes its absence an error, FASTINIT_CUDA=0 leaves the library out. It is compiled for the GPUs of this machine, for compute
capabilities 8.0 and 9.0 if there are none, and always to PTX, which serves later ones. FASTINIT_CUDA_ARCHS="75 120" names others,
FASTINIT_CUDA_ARCHS=all takes all that nvcc knows.

FASTINIT_NATIVE=0 and FASTINIT_CUDA=0 together make a wheel for every platform. FASTINIT_URL is the address of the repository: it
fills the links of the package's metadata, and those of its README.
"""

import contextlib
import glob
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor

import setuptools

OLDEST_SETUPTOOLS = 77  # pyproject.toml asks for it too, which pip does not look at where --no-build-isolation is given
if int(setuptools.__version__.split(".")[0]) < OLDEST_SETUPTOOLS:
    wanted = f"'setuptools>={OLDEST_SETUPTOOLS}'"
    sys.exit(f"fastinit is built by {wanted}, and this is {setuptools.__version__}. To get it: pip install -U {wanted}")

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

NATIVE = os.environ.get("FASTINIT_NATIVE")
CUDA = os.environ.get("FASTINIT_CUDA")
URL = os.environ.get("FASTINIT_URL", "").rstrip("/")
PAGES = {  # by their names on an index
    "Homepage": "",
    "Documentation": "/blob/v{}/docs/index.md",
    "Changelog": "/blob/v{}/CHANGELOG.md",
    "Source": "/tree/v{}",
    "Issues": "/issues",
}
FLAGS = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=off", "-fno-strict-aliasing", "-Wno-psabi"]
# One file per instruction set, with its own flags: flags on a whole target leak into code that runs everywhere.
X86 = {
    # fmaf is a call, six to nine times a value: without the jump table it takes 3/5 of the time. Vectors of gcc's own making have
    # the words of float64 take 1.4 times as long (gcc 12, SSE2), in twice the code.
    "csrc/cpu/scalar.cpp": ["-fno-plt", "-fno-tree-vectorize"],
    "csrc/cpu/avx2.cpp": ["-mavx2", "-mfma"],
    # gcc 12 takes the undefined vectors of its own headers for uninitialized ones
    "csrc/cpu/avx512.cpp": [f"-m{name}" for name in ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma")]
    + ["-Wno-maybe-uninitialized", "-Wno-uninitialized"],
}
ARM = {"csrc/cpu/neon.cpp": []}
# Products are not contracted; CUDA's runtime is linked in, its symbols hidden from torch's own copy.
NVCC_FLAGS = ["-shared", "-std=c++17", "-O3", "--fmad=false", "-cudart", "static", "--threads", "0", "-Xfatbin", "-compress-all"]
NVCC_FLAGS += ["-Xcompiler", "-fPIC,-fvisibility=hidden,-ffp-contract=off,-fno-strict-aliasing,-Wno-unknown-pragmas"]
NVCC_FLAGS += ["-Xlinker", "--exclude-libs,ALL"]
OLDEST_NVCC, OLDEST_ARCHITECTURE = (12, 4), 75
WITHOUT_GPU = [80, 90]  # their machine code also runs on 8.6 to 8.9; all that nvcc knows takes two minutes on two cores
BASES = (80, 75)  # compiled to PTX; other architectures add nothing that these kernels use


def processor() -> str:
    """Return what is compiled for: the platform of the wheel, which _PYTHON_HOST_PLATFORM names where it is not this one."""
    named = sysconfig.get_platform().rpartition("-")[2].lower()
    return platform.machine().lower() if named == "universal2" else named


def sources() -> "dict[str, list[str]]":
    """Return the source files for the processor, each with its own flags."""
    vector = X86 if processor() in ("x86_64", "amd64") else ARM if processor() in ("aarch64", "arm64") else {}
    define = {id(X86): ["-DFASTINIT_HAS_X86"], id(ARM): ["-DFASTINIT_HAS_NEON"]}.get(id(vector), [])
    # The only file that exceptions could pass through: without them nothing of the C++ library is needed, of any version.
    return {"csrc/cpu/cpu.cpp": ["-fno-exceptions", *define], "csrc/cpu/scalar.cpp": [], **vector}


def nvcc() -> str:
    """Return the path of nvcc. Raises CompileError if there is none, or if it is too old."""
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")] + ["/usr/local/cuda"]
    named = [os.environ.get("CUDACXX"), *(os.path.join(home, "bin", "nvcc") for home in homes[:2] if home)]
    found = next(filter(None, map(shutil.which, [*filter(None, named), "nvcc", f"{homes[2]}/bin/nvcc"])), None)
    if found is None:
        raise CompileError("there is no nvcc")
    version = tuple(map(int, re.findall(r"release (\d+)\.(\d+)", told(found, "--version"))[0]))
    if version < OLDEST_NVCC:
        raise CompileError(f"{found} is of CUDA {'.'.join(map(str, version))}: fastinit needs 12.4 or newer")
    return found


def told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def architectures(compiler: str) -> "list[int]":
    """Return the compute capabilities to compile for, such as 80 for 8.0."""
    known = [int(number) for number in re.findall(r"compute_(\d+)$", told(compiler, "--list-gpu-arch"), re.M)]
    known = [number for number in known if number >= OLDEST_ARCHITECTURE]
    wanted = os.environ.get("FASTINIT_CUDA_ARCHS", "").replace(".", "").strip()
    if wanted == "all":
        return known
    if not wanted:
        return sorted(set(gpus()) & set(known)) or WITHOUT_GPU
    chosen = [int(number) if number.isdigit() else 0 for number in re.split(r"[\s,;]+", wanted.strip(" ,;"))]
    if not set(chosen) <= set(known):
        raise CompileError(f"FASTINIT_CUDA_ARCHS={wanted!r}: this nvcc knows {' '.join(map(str, known))}, or all")
    return sorted(set(chosen))


def gpus() -> "list[int]":
    """Return the compute capabilities of this machine's GPUs, as its driver's tool tells them; none without the tool."""
    try:
        listed = told("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")
    except (OSError, subprocess.CalledProcessError):
        return []
    return [int(major + minor) for major, minor in re.findall(r"^(\d+)\.(\d+)$", listed, re.M)]


def code_flags(numbers: "list[int]") -> "list[str]":
    """Return the flags for machine code of each, and for PTX, which serves GPUs to come."""
    bases = {number: next(base for base in BASES if base <= number) for number in numbers}
    pairs = [(base, f"sm_{number}") for number, base in bases.items()]
    pairs.append((max(bases.values()), f"compute_{max(bases.values())}"))
    return [part for base, code in pairs for part in ("-gencode", f"arch=compute_{base},code={code}")]


class BuildLibraries(build_ext):
    """Compiles fastinit/libfastinit.so, each file with its own flags, and fastinit/libfastinit_cuda.so."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        path = self.get_ext_fullpath(ext.name)
        with contextlib.suppress(FileNotFoundError):
            # of an earlier build, which must not be used in its place if this one fails
            os.remove(self.get_ext_filename(ext.name) if self.editable_mode else path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if ext is cuda_library:
            self.build_cuda(path)
        else:
            self.build_cpu(path, ext)

    def build_cuda(self, path: str) -> None:
        if CUDA == "0":
            return
        compiler = nvcc()
        host = ["-ccbin", os.environ["CXX"]] if os.environ.get("CXX") else []
        pieces = ["--split-compile", "0"] if "--split-compile " in told(compiler, "--help") else []  # a third sooner
        beside = pathlib.Path(compiler).parent.parent / "lib"  # an nvcc that pip has installed looks in lib64
        places = ["-L", str(beside)] if (beside / "libcudart_static.a").exists() else []
        numbers = architectures(compiler)
        said = f"CUDA library for compute capabilities {' '.join(map(str, numbers))} and PTX"
        print(f"{said}; FASTINIT_CUDA_ARCHS chooses others, FASTINIT_CUDA=0 leaves it out", flush=True)
        try:
            self.spawn([compiler, *NVCC_FLAGS, *pieces, *host, *places, *code_flags(numbers), "csrc/cuda/cuda.cu", "-o", path])
        except Exception as error:  # of setuptools' own kinds, which differ between its versions
            raise CompileError(str(error)) from error

    def build_cpu(self, path: str, ext: Extension) -> None:
        if NATIVE == "0":
            return

        def compiled(item: "tuple[str, list[str]]") -> "list[str]":
            source, flags = item
            return self.compiler.compile([source], output_dir=self.build_temp, extra_postargs=FLAGS + flags, depends=ext.depends)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [name for names in pool.map(compiled, sources().items()) for name in names]
        lean = ["-Wl,--as-needed"] if sys.platform == "linux" else []  # of the C++ library nothing is needed
        self.compiler.link_shared_object(objects, path, extra_preargs=lean, extra_postargs=["-pthread"], target_lang="c++")


class PlatformWheel(bdist_wheel):
    """One wheel for every Python and torch: the libraries know neither. Without libraries, one for every platform too."""

    def get_tag(self) -> "tuple[str, str, str]":
        return "py3", "none", super().get_tag()[2].replace("universal2", processor())


def version() -> str:
    return re.search(r'^__version__ = "(.+)"$', pathlib.Path("fastinit/__init__.py").read_text(encoding="utf-8"), re.M)[1]


def readme() -> str:
    """Return README.md for a package index, where links and images are whole addresses: those of this version's tag."""
    text = pathlib.Path("README.md").read_text(encoding="utf-8")
    if not URL:
        return text

    def whole(link: "re.Match[str]") -> str:
        return f"{link[1]}({URL}/{'raw' if link[1].startswith('!') else 'blob'}/v{version()}/{link[2]})"

    return re.sub(r"(!?\[[^\]]*\])\((?![a-z]+:|#)([^)\s]+)\)", whole, text)


if sys.platform == "darwin":  # a Python for two processors would have both compiled, by flags that are for one
    os.environ.setdefault("ARCHFLAGS", f"-arch {processor()}")
files = sorted(glob.glob("csrc/**/*.*", recursive=True))  # all of it, as a source distribution is for every processor
cpu_library = Extension("fastinit.libfastinit", sources=list(sources()), depends=files, optional=NATIVE != "1")
cuda_library = Extension("fastinit.libfastinit_cuda", sources=["csrc/cuda/cuda.cu"], depends=files, optional=CUDA != "1")
libraries = {"win32": [], "darwin": [cpu_library]}.get(sys.platform, [cpu_library, cuda_library])
setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    project_urls={name: f"{URL}{path.format(version())}" for name, path in PAGES.items()} if URL else {},
    ext_modules=[] if NATIVE == CUDA == "0" else libraries,
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": PlatformWheel},
    options={"build_ext": {"parallel": 2}},  # both libraries at once: nvcc has one processor busy for most of its time
)
