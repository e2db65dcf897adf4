"""Hard circumstances: many threads, forks, signals, no memory, no threads, no folders, bad libraries. The bits stay right."""

import decimal
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers.laws import KEY, LAWS, filled, same_bits
from helpers.quick import some

import fastinit
from fastinit._backends import abi, cpu, cuda, reference
from fastinit._core import keys, normal, recipes, rounding, tables
from fastinit._initializers import plain
from fastinit._usual import Usual

PACKAGE = pathlib.Path(fastinit.__file__).parent
needs_native = pytest.mark.skipif(
    cpu.unavailable(torch.device("cpu")) is not None, reason=f"native: {cpu.unavailable(torch.device('cpu'))}"
)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
START = """
import ctypes, os, resource, signal, sys, threading, time, torch, fastinit
def right(tensor, key=1, name="truncated_normal_", law=()):
    with fastinit.backend("reference"):
        expected = getattr(fastinit, name)(torch.empty(tensor.shape, dtype=tensor.dtype), *law, key=key)
    return torch.equal(tensor.view(torch.uint8), expected.view(torch.uint8))
def fill(count=1 << 20, key=1):
    return fastinit.truncated_normal_(torch.empty(count, dtype=torch.bfloat16), key=key)
"""


def python(code: str, before: str = "", **environment: str) -> subprocess.CompletedProcess:
    """The code in a process of its own, after START; what it prints last is what a test looks at."""
    command, env = [sys.executable, "-c", before + START + code], {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd="/", timeout=120)


def check(result: subprocess.CompletedProcess, printed: str = "right") -> None:
    ended = result.returncode, result.stdout, result.stderr[-2000:]
    assert result.returncode == 0 and result.stdout.split()[-1:] == [printed], ended


# --- threads ------------------------------------------------------------------------------------------------------------------

RACE = """
sys.setswitchinterval(1e-6)
gate, got = threading.Barrier(64), [None] * 64
calls = [("uniform_", (0.25, 1.0)), ("truncated_normal_", (0.5, 0.25)), ("truncated_normal_", (0.0, 1.0, -1.0, 3.0)),
         ("normal_", ()), ("sparse_", (0.5,)), ("glorot_normal_", ()), ("kaiming_uniform_", (2.0,)), ("trunc_normal_", ())]
def work(n):
    name, law = calls[n % 8]
    gate.wait()
    tensor = torch.empty(30, 40, dtype=torch.float64 if n % 3 else torch.float32)
    if n < 32:
        getattr(fastinit, name)(tensor, *law, key=n)
    else:
        with fastinit.accelerate(seed=n):
            torch.nn.init.uniform_(tensor, 1.0, 2.0)
            layer = torch.nn.Linear(40, 30)
    got[n] = tensor if n < 32 else (tensor, layer.weight.detach())
threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
for thread in threads: thread.start()
for thread in threads: thread.join()
good = all(right(got[n], n, *calls[n % 8]) for n in range(32))
good &= all(right(got[n][0], fastinit.key(n, 0), "uniform_", (1.0, 2.0)) for n in range(32, 64))
good &= all(right(got[n][1], fastinit.key(n, 1), "kaiming_uniform_", (5**0.5,)) for n in range(32, 64))
print("right" if good else "wrong")
"""


def test_the_first_fills_of_a_process_in_64_threads_at_once():
    """They race for the library, the tables and the caches, half of them in blocks of `accelerate`."""
    check(python(RACE))


@needs_native
@pytest.mark.parametrize("threads", some([2, 511, 512, 513, 4096], [513]))
def test_more_threads_than_there_can_be(threads):
    count, before = (1 << 26) + 5, torch.get_num_threads()
    words = torch.arange(0, count, 65_537)
    try:
        torch.set_num_threads(threads)
        got = filled(cpu, LAWS["uniform"], torch.float8_e5m2, count)
    finally:
        torch.set_num_threads(before)
    recipe = recipes.recipe(LAWS["uniform"], torch.float8_e5m2)
    for index in (*words.tolist(), count - 1):
        block = reference.philox(torch.tensor([index >> 2]), KEY, 0)[:, index & 3]
        assert same_bits(got[index : index + 1], reference.values(recipe, block)), index


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
static volatile int left = 1 << 30;
void allow_threads(int count) { left = count; }
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
  int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
  return left-- > 0 ? real(thread, attributes, start, argument) : EAGAIN;
}
"""
FEW_THREADS = """
shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
torch.set_num_threads(8)
expected, got, good = fill(1 << 22), [], True
for allowed in (0, 1, 3):
    shim.allow_threads(allowed)
    got.append(fill(1 << 22))
    if not allowed:
        try:
            threading.Thread(target=print).start()
            good = False  # the shim does not work
        except RuntimeError:
            pass
shim.allow_threads(1 << 30)  # torch's comparisons end the process without
good &= all(torch.equal(tensor, expected) for tensor in got)
print("right" if good and right(expected) else "wrong")
"""


@pytest.mark.full
@needs_native
@needs_linux
def test_no_thread_can_be_started(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("needs a C compiler")
    (tmp_path / "shim.c").write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "shim.so", tmp_path / "shim.c", "-ldl"], check=True)
    check(python(FEW_THREADS, LD_PRELOAD=str(tmp_path / "shim.so")))


# --- fork ---------------------------------------------------------------------------------------------------------------------

FORK = """
torch.set_num_threads(4)
expected = fill().view(torch.int16).numpy().tobytes()
a = torch.ones(600, 600) @ torch.ones(600, 600)  # torch's threads; they are gone in the children, where torch would wait for them
stop = threading.Event()
def keep_filling():
    while not stop.is_set(): fill(1 << 22, 3), fastinit.truncated_normal_(torch.empty(9), 0.0, time.time(), key=4)
other = threading.Thread(target=keep_filling, daemon=True)
for turn in range(20):
    if turn == 5: other.start()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        same = fill().view(torch.int16).numpy().tobytes() == expected
        new = fastinit.truncated_normal_(torch.empty(50), turn, 0.5, key=2)
        os._exit(0 if same and right(new, 2, law=(turn, 0.5)) else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status: sys.exit(f"child {turn} ended with {status}")
stop.set()
other.join()
print("right" if right(fill(key=5), 5) else "wrong")
"""


@pytest.mark.full
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_children_of_a_fork_fill_the_same_bits():
    """After the library's threads and torch's have run; from turn 5 on, while another thread is filling."""
    check(python(FORK))


# --- signals ------------------------------------------------------------------------------------------------------------------

INTERRUPT = """
big = torch.empty(1 << (26 if fastinit.backends()["native"] is None else 22), dtype=torch.float8_e5m2)
small, tables, good, turn, armed = torch.empty(1 << 14, dtype=torch.float8_e5m2), 0, True, 0, False
def handler(number, frame):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, handler)
while turn < 40 or tables <= 40:
    turn += 1
    armed, law = True, ()
    timer = threading.Timer(0.001 * turn, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        while armed:
            fastinit.truncated_normal_(big, key=1) if turn % 4 == 0 else None
            tables += 1
            law = (0.0, 1.0, -1.0, 1.0 + tables / 64)
            fastinit.truncated_normal_(small, *law, key=1)
    except KeyboardInterrupt:
        timer.join()
        good &= right(fastinit.truncated_normal_(small, *law, key=2), 2, law=law)
        good &= turn % 8 != 0 or right(fastinit.truncated_normal_(big, key=turn)[: 1 << 14], turn)
print("right" if good and tables > 40 else f"wrong:{good}:{tables}")
"""
REFILL = """
torch.set_num_threads(2)
seen, tables, good = [], 0, True
right(fill(9))  # an import that is not finished cannot be used from a handler
def handler(number, frame):
    key = len(seen)
    seen.append(fastinit.normal_(torch.empty(5), float(key), 0.5, key=key))
    signal.setitimer(signal.ITIMER_REAL, 1e-3)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 1e-3)
while len(seen) < 75 or tables < 15:
    tables += 1
    law = (0.0, 1.0, -1.0, 1.0 + tables)
    good &= right(fastinit.truncated_normal_(torch.empty(300), *law, key=1), law=law) and right(fill(1 << 18))
signal.signal(signal.SIGALRM, signal.SIG_IGN)
good &= all(right(tensor, key, "normal_", (float(key), 0.5)) for key, tensor in enumerate(seen))
print("right" if good else "wrong")
"""
DRAWS = """
from fastinit._core import keys
cpu, drawn, signals = torch.device("cpu"), [], 0
def draw(): drawn.append(keys.resolve(None, None, cpu))
def handler(number, frame):
    global signals
    signals += 1
    draw()
    signal.setitimer(signal.ITIMER_REAL, 1e-4)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 1e-4)
while signals < 1000: draw()
signal.signal(signal.SIGALRM, signal.SIG_IGN)
print("right" if len({*drawn}) == len(drawn) else f"wrong:{len(drawn) - len({*drawn})}:of:{len(drawn)}:with:{signals}")
"""
TERMINATE = """
big = torch.empty(1 << 28, dtype=torch.float8_e5m2)
print("filling", flush=True)
while True: fastinit.truncated_normal_(big, key=1)
"""


@pytest.mark.full
def test_ctrl_c_in_the_middle_of_fills_and_of_their_tables():
    """The very same calls, made again, give the right bits: nothing half made was kept."""
    check(python(INTERRUPT))


@pytest.mark.full
def test_a_handler_fills_in_the_middle_of_fills_and_of_their_tables():
    check(python(REFILL))


@pytest.mark.full
def test_keys_drawn_by_a_handler_are_no_one_else_s():
    check(python(DRAWS))


def test_a_draw_within_a_draw_is_another():
    """Before every bytecode of a draw, which is more often than a handler, a finalizer or another thread could come."""
    drawn, step = [], 0

    def draw() -> None:
        drawn.append(keys.resolve(None, None, torch.device("cpu")))

    def trace(frame, event, _):
        nonlocal left
        if frame.f_code.co_filename != keys.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                draw()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for it when a trace is set
    while len(drawn) == 2 * step:
        step += 1
        left = step
        sys.settrace(trace)
        try:
            draw()
        finally:
            sys.settrace(before)
    assert step > 20 and len(set(drawn)) == len(drawn)


@pytest.mark.full
@pytest.mark.parametrize(
    "handler, status", [("", -signal.SIGTERM), ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))", 7)], ids=["none", "exit"]
)
def test_a_termination_is_heard(handler, status):
    with subprocess.Popen([sys.executable, "-c", START + handler + TERMINATE], stdout=subprocess.PIPE, cwd="/") as process:
        try:
            assert process.stdout.readline() == b"filling\n"
            time.sleep(0.1)
            process.terminate()
            assert process.wait(60) == status
        finally:
            process.kill()


# --- no memory ----------------------------------------------------------------------------------------------------------------

TABLES = [
    f for module in (recipes, tables, normal, rounding) for f in vars(module).values() if hasattr(f, "cache_clear")
]  # what is kept of a build
BUILDERS = {module.__file__ for module in (recipes, tables, normal)}


def fails_at(step: int, error: type[BaseException], call) -> bool:
    """Whether the call raises the error, which comes before the step-th of the lines that make tables. Each line counts once."""
    seen = set()

    def trace(frame, event, _):
        if frame.f_code.co_filename not in BUILDERS:
            return None
        seen.add((frame.f_code.co_filename, frame.f_lineno))
        if len(seen) == step:
            raise error
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except error:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.one_of_each
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize(
    "name, law, dtype",
    [
        ("uniform_", (0.0, 3.0), torch.float32),
        ("normal_", (0.5, 2.0), torch.bfloat16),
        ("truncated_normal_", (0.0, 1.0, -1.0, 7.0), torch.float64),
    ],
)
def test_a_failure_at_any_line_of_a_table_build(error, name, law, dtype):
    """The tensor, torch's generator and decimal's context are as they were, and nothing half made is kept."""
    tensor, expected = torch.full((50,), 7.0, dtype=dtype), torch.empty(50, dtype=dtype)
    torch.manual_seed(3)
    getattr(fastinit, name)(expected, *law)
    untouched, version = tensor.clone(), tensor._version
    torch.manual_seed(3)
    state, context, step = torch.get_rng_state(), repr(decimal.getcontext()), 1
    while True:
        for cache in (*TABLES, *(usual.ready for usual in vars(plain).values() if isinstance(usual, Usual))):
            cache.cache_clear()
        if not fails_at(step, error, functools.partial(getattr(fastinit, name), tensor, *law)):
            break
        assert same_bits(tensor, untouched) and tensor._version == version and torch.equal(torch.get_rng_state(), state), step
        assert repr(decimal.getcontext()) == context, step
        assert same_bits(getattr(fastinit, name)(torch.empty_like(tensor), *law), expected), step
        torch.manual_seed(3)
        step += 1
    assert step > 10 and same_bits(tensor, expected)


LITTLE = """
torch.set_num_threads(1)
def within(room, smallest, call):  # what the call raises, with so many bytes of free addresses, no `smallest` of them in a row
    used, blocks, size, raised = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize(), [], room, None
    resource.setrlimit(resource.RLIMIT_AS, (used + room, -1))
    while smallest and size >= smallest:
        try: blocks.append(bytearray(size))
        except MemoryError: size //= 2
    try: call()
    except (MemoryError, RuntimeError) as error: raised = error.with_traceback(None)  # whose frames would hold tensors
    blocks.clear()
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    return raised
def refused(error):  # torch's allocator may have no memory for more of its message than a string holds in itself, or for none
    said = str(error)
    return isinstance(error, MemoryError) or said.startswith(("[enforce fail a", "std::bad_alloc")) or "allocate" in said
"""
NO_TABLES = """
fill(9), fastinit.uniform_(torch.empty(9, dtype=torch.float64), key=1)
wrong, refusals = [], 0
for smallest in (1 << 14, 1 << 13, 1 << 12):
    for dtype in (torch.float64, torch.float32):
        law, tensor = (0.0, 1.0, -1.0, 1.0 + smallest / 2**12), torch.full((100,), 7.0, dtype=dtype)
        for key in (None, 1):
            state = torch.get_rng_state()
            error = within(1 << 23, smallest, lambda: fastinit.truncated_normal_(tensor, *law, key=key))
            same = bool((tensor == 7).all()) and tensor._version == 0 and torch.equal(torch.get_rng_state(), state)
            if error is None: break
            refusals += 1
            if not (refused(error) and same): wrong.append((smallest, dtype, key, repr(error)))
        if not right(fastinit.truncated_normal_(tensor, *law, key=1), law=law): wrong.append((smallest, dtype))
print("right" if not wrong and refusals > 3 else f"wrong: {refusals} {wrong}".replace(" ", "_"))
"""
NO_TEMPORARIES = """
wrong = []
def check(name, tensor, call):
    call(torch.empty(4, 4, dtype=tensor.dtype))  # its tables are not what is tested
    before, version, state = tensor.clone(), tensor._version, torch.get_rng_state()
    error = within(1 << 24, 0, lambda: call(tensor))
    same = torch.equal(tensor, before) and tensor._version == version and torch.equal(torch.get_rng_state(), state)
    call(tensor)
    if not (refused(error) and same) or torch.equal(tensor, before): wrong.append((name, repr(error), same))
check("orthogonal", torch.ones(1 << 20, 9, dtype=torch.float16), fastinit.orthogonal_)
check("sparse", torch.ones(64, 72_000, dtype=torch.float16), lambda tensor: fastinit.sparse_(tensor, 0.5, key=1))
check("negated", torch.ones(1 << 24, dtype=torch.complex64).conj().imag, fastinit.uniform_)
with torch.device("meta"): model = torch.nn.Sequential(*(torch.nn.Linear(4000, 4000, bias=False) for _ in range(2)))
error = within(80 << 20, 0, lambda: fastinit.initialize_(model, seed=1, device="cpu"))
if not (refused(error) and all(parameter.is_meta for parameter in model.parameters())): wrong.append(("model", repr(error)))
fastinit.initialize_(model, seed=1, device="cpu")
if not right(model[1].weight.detach(), fastinit.key(1, "1.weight"), "glorot_uniform_"): wrong.append("model")
print("right" if not wrong else f"wrong: {wrong}".replace(" ", "_"))
"""


@pytest.mark.full
@needs_linux
def test_no_memory_for_a_table():
    """Refused, with tensor and generator as they were; the very same call works once there is memory."""
    check(python(LITTLE + NO_TABLES))


@pytest.mark.full
@needs_linux
def test_no_memory_for_what_a_fill_needs_beside_its_tensor():
    check(python(LITTLE + NO_TEMPORARIES))


# --- no folders ---------------------------------------------------------------------------------------------------------------

# A user by number, who has no name, may read what root may (the interpreter may be root's) and write what anyone may.
NOBODY = """
import ctypes, os
if os.geteuid() == 0:
    libc, read_all = ctypes.CDLL(None), 1 << 2
    libc.prctl(8, 1, 0, 0, 0)  # capabilities outlast the next line
    os.setgroups([]), os.setresgid(*[54321] * 3), os.setresuid(*[54321] * 3)
    assert libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(read_all, read_all, 0)) == 0
"""
FOLDERS = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TRITON_HOME", "TRITON_CACHE_DIR")
EVERY_BACKEND = """
from fastinit import _cli
def fill_all():
    for name, reason in fastinit.backends().items():
        if reason: continue
        with fastinit.backend(name), fastinit.accelerate(seed=7):
            layer = torch.nn.Linear(300, 40)
            yield right(fill(3000)) and right(layer.weight.detach(), fastinit.key(7, 0), "kaiming_uniform_", (5**0.5,))
print("right" if not _cli.main(["info"]) and all(list(fill_all())) else "wrong")
"""


def in_folders(folders: dict[str, str | None], here: str, become: str = "") -> str:
    """Code to go before all other: the process is in the folder `here`, and its environment names these folders."""
    setting = "".join(f"os.environ.pop({name!r}, None)\n" for name in folders)
    setting += "".join(f"os.environ[{name!r}] = {path!r}\n" for name, path in folders.items() if path)
    return f"import os\nos.chdir({here!r})\n{setting}{become}"


@pytest.mark.full
@needs_linux
@pytest.mark.parametrize("state", ["missing", "read-only", "unset", "removed"])
def test_fills_need_no_folder(tmp_path, state):
    """Nobody fills, where nothing can be written. CPU tensors need no cache on disk, Triton's interpreter included."""
    for name in ("locked", "removed"):
        (tmp_path / name).mkdir()
    (tmp_path / "locked").chmod(0o555)
    path = {"missing": tmp_path / "locked" / "missing", "unset": None}.get(state, tmp_path / "locked")
    if state == "removed":
        leave = f"import torch\nos.rmdir({str(tmp_path / state)!r})\n"  # some builds of torch cannot be imported from nowhere
        before = in_folders(dict.fromkeys(FOLDERS, str(path)), str(tmp_path / state), leave)
    else:
        before = in_folders(dict.fromkeys(FOLDERS, path and str(path)), str(tmp_path / "locked"))
    writable = f"""
for folder in (".", {str(path or ".")!r}):
    try: os.mkdir(folder + "/new"), sys.exit("can be written")
    except OSError: pass
"""
    check(python(writable + EVERY_BACKEND, before + NOBODY))


@pytest.mark.full
def test_fills_write_no_file(tmp_path):
    check(python(EVERY_BACKEND, in_folders(dict.fromkeys(FOLDERS, str(tmp_path)), str(tmp_path))))
    assert list(tmp_path.iterdir()) == []


# --- bad libraries ------------------------------------------------------------------------------------------------------------

# Copies of the package, each imported in a fork of a process that has imported torch and lost root's right to read everything.
TRY = """
import contextlib, ctypes, io, json, os, pathlib, sys, warnings, torch
def facts(folder):
    sys.path.insert(0, str(folder))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        import fastinit
        from fastinit import _cli
        from fastinit._commands import check
        values = fastinit.truncated_normal_(torch.empty(100), key=1).view(torch.int32).tolist()
        fastinit.uniform_(torch.empty(9))
    try:
        with fastinit.backend("native"): forced = fastinit.uniform_(torch.empty(9)) and None
    except RuntimeError as error: forced = str(error)
    check.SWEPT = check.THREADED = 1 << 10
    printed = {}
    for command in ("info", "check") if folder.name == "text" else ("info",):
        with contextlib.redirect_stdout(io.StringIO()) as text: status = _cli.main([command])
        printed[command] = [status, text.getvalue()]
    return {"package": fastinit.__file__, "native": fastinit.backends()["native"], "values": values, "forced": forced,
            "warned": [str(warning.message) for warning in warned], "printed": printed}
for folder in map(pathlib.Path, sys.argv[1:]):
    pid = os.fork()
    if pid == 0:
        if sys.platform == "linux" and os.geteuid() == 0:
            assert ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()) == 0
        try: found = facts(folder)
        except BaseException as error: found = {"raised": repr(error)}
        (folder / "facts.json").write_text(json.dumps(found))
        os._exit(0)
    os.waitpid(pid, 0)
"""
BAD = {  # kind of library, and what the reason must say
    "empty": "truncated",
    "half": "truncated",
    "text": "cannot be loaded",  # as the pointer that a large file leaves in an archive; here in a source tree
    "zeros": "cannot be loaded",
    "program": "cannot be loaded",
    "other processor": "cannot be loaded",
    "other class": "cannot be loaded",
    "foreign": "fastinit_abi",
    "old": f"has ABI {abi.ABI - 1}",
    "unreadable": "cannot be loaded",
    "folder": "",
    "lost link": "does not exist",
    "missing": "does not exist",
}


CHANGED = {"other processor": {18: 8}, "other class": {4: 1}, "half": {}, "unreadable": {}}  # of the good one's bytes


def put(kind: str, path: pathlib.Path) -> None:
    """A bad library in the place of a good one; nothing, where this machine cannot make it."""
    good = cpu.library_path().read_bytes() if cpu.library_path().is_file() else b""
    program, compiler = shutil.which("true"), shutil.which("cc") or shutil.which("gcc")
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("<html><body>404 Not Found</body></html>\n" * 100)
    elif kind == "zeros":
        path.write_bytes(bytes(1 << 16))
    elif kind == "folder":
        path.mkdir()
    elif kind == "lost link":
        path.symlink_to(path.parent / "nowhere.so")
    elif kind == "program" and program and is_elf(content := pathlib.Path(program).read_bytes()):
        path.write_bytes(content)
    elif kind in ("foreign", "old") and compiler:
        values = {"something_else": 0}
        if kind == "old":
            values = dict.fromkeys([*abi.CPU, *abi.CUDA], 0) | {"fastinit_abi": abi.ABI - 1}
        lines = [f"int {name}(void) {{ return {value}; }}\n" for name, value in values.items()]
        subprocess.run([compiler, "-shared", "-fPIC", "-xc", "-", "-o", path], input="".join(lines), text=True, check=True)
    elif kind in CHANGED and is_elf(good):
        content = bytearray(good[: len(good) // 2] if kind == "half" else good)
        for at, value in CHANGED[kind].items():
            content[at] = value
        path.write_bytes(content)
        path.chmod(0 if kind == "unreadable" else 0o755)


def is_elf(content: bytes) -> bool:
    """Of 64 bits, the least significant byte first."""
    return content[:6] == b"\x7fELF\x02\x01"


@pytest.fixture(scope="module")
def tried(tmp_path_factory) -> pathlib.Path:
    """A folder a kind of bad library, with a copy of the package and what came of its use."""
    top = tmp_path_factory.mktemp("bad libraries")
    for kind in BAD:
        shutil.copytree(PACKAGE, top / kind / "fastinit", ignore=shutil.ignore_patterns("*.so"))
        for path in (cpu.library_path(), cuda.library_path()):
            put(kind, top / kind / "fastinit" / path.name)
    (top / "text" / "csrc").mkdir()  # as in the source tree
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FASTINIT_")}
    command = [sys.executable, "-c", TRY, *(str(top / kind) for kind in BAD)]
    subprocess.run(command, cwd="/", timeout=120, check=True, env=environment)
    return top


@pytest.mark.full
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_library_is_named_and_the_bits_are_the_same(tried, kind):
    library = tried / kind / "fastinit" / cpu.library_path().name
    if kind not in ("missing", "lost link") and not library.exists():
        pytest.skip("this machine cannot make such a library")
    assert (tried / kind / "facts.json").is_file(), "the process was ended"
    found = json.loads((tried / kind / "facts.json").read_text())
    assert "raised" not in found, found
    assert pathlib.Path(found["package"]).parent == library.parent
    with fastinit.backend("reference"):
        expected = fastinit.truncated_normal_(torch.empty(100), key=1)
    assert found["values"] == expected.view(torch.int32).tolist()
    reason, told, (status, info) = found["native"], BAD[kind], found["printed"]["info"]
    assert str(library) in reason and told in reason
    assert reason in found["forced"] and "'native'" in found["forced"]
    assert status == 0 and reason in info and "backend   reference" in info
    assert str(library.with_name(cuda.library_path().name)) in info
    warned = [text for text in found["warned"] if "fastinit" in text]
    assert len(warned) == 1 and reason in warned[0], "plain torch is said, once"
    assert ("fastinit runs from its source tree" in warned[0]) == (kind == "text")
    if kind == "text":
        status, text = found["printed"]["check"]
        assert status == 0 and f"not checked: native: {reason}" in text and "no faults" in text
