"""Executes PTX on the CPU: what a compiler makes for an NVIDIA GPU, instruction by instruction, a program (a block) at a time.

A register is an array over the program's threads. Threads that branch differently go on as groups, the one that is furthest
behind first, so that they meet again where their ways do. As a group goes in step, a missing barrier may go unseen. Memory is
the host's; an access outside the buffers given is an error. Of PTX it knows what the kernels use and refuses the rest: also what
leaves the result open, such as an addition of floats without its rounding, which may be contracted.

Reference: NVIDIA, "Parallel Thread Execution ISA".
"""

import ctypes
import functools
import re
from typing import NamedTuple

import numpy as np
import torch

from fastinit._backends import reference

UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
FLOATS = {32: np.float32, 64: np.float64}
SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
# A type such as s32: how a register holds it, and how an instruction takes it.
TYPES = {f"{kind}{bits}": (UNSIGNED[bits], UNSIGNED[bits]) for kind in "bu" for bits in UNSIGNED}
TYPES |= {f"s{bits}": (UNSIGNED[bits], signed) for bits, signed in SIGNED.items()}
TYPES |= {f"f{bits}": (UNSIGNED[bits], real) for bits, real in FLOATS.items()}
COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
COMPARE |= {"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}
LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
WARP = 32
LOG_BYTES = {8: 0, 16: 1, 32: 2, 64: 3}
VECTOR = {count: np.arange(count) for count in (1, 2, 4)}
PARAMETERS, SHARED = 1 << 60, 1 << 61  # where generic addresses have a kernel's parameters, and shared memory

# What may follow an instruction's name.
BITS, INTEGER, REAL, LOGICAL = "b(16|32|64)", "[us](16|32|64)", "f(32|64)", "(pred|b(16|32|64))"
WIDTH = f"([bu]8|[bu]16|[bus](32|64)|{REAL})"  # a register may be wider: zeros fill it, but signs, so no s8 or s16
TO_ZERO = rf"rzi\.({INTEGER}\.{REAL}|f32\.f32|f64\.f64)"
JOINED, HALF = r"(\.(and|or|xor))?", r"rn\.b?f16(x2)?\.f32"
KNOWN = {
    "ld": rf"((global(\.nc)?|shared|param)\.)?(v[24]\.)?{WIDTH}",
    "st": rf"((global|shared)\.)?(v[24]\.)?{WIDTH}",
    "mov": f"pred|{BITS}|{INTEGER}|{REAL}",
    "cvta": r"(to\.)?(global|shared|param)\.u64",
    "cvt": rf"(u16|[us](32|64))\.[us](8|16|32|64)|{TO_ZERO}|rn\.{REAL}\.{INTEGER}|f64\.f32|rn\.f32\.f64|{HALF}",
    "add": rf"{INTEGER}|rn\.{REAL}",
    "sub": rf"{INTEGER}|rn\.{REAL}",
    "neg": f"s(16|32|64)|{REAL}",
    "abs": f"s(16|32|64)|{REAL}",
    "mul": rf"rn\.{REAL}|lo\.{INTEGER}|wide\.[us](16|32)|hi\.(u32|s32|u64)",
    "mad": rf"lo\.{INTEGER}|wide\.[us](16|32)",
    "fma": rf"rn\.{REAL}",
    "div": INTEGER,
    "rem": INTEGER,
    "max": f"{INTEGER}|{REAL}|b?f16x2",
    "min": f"{INTEGER}|{REAL}|b?f16x2",
    "and": LOGICAL,
    "or": LOGICAL,
    "xor": LOGICAL,
    "not": LOGICAL,
    "lop3": "b32",
    "shl": BITS,
    "shr": f"{BITS}|{INTEGER}",
    "shf": r"[lr]\.(wrap|clamp)\.b32",
    "bfe": "[us](32|64)",
    "bfi": "b(32|64)",
    "prmt": "b32",
    "selp": f"{BITS}|{INTEGER}|{REAL}",
    "setp": rf"(eq|ne|lt|le|gt|ge|lo|ls|hi|hs){JOINED}\.({BITS}|{INTEGER})|((eq|ne|lt|le|gt|ge)u?|num|nan){JOINED}\.{REAL}",
    "shfl": r"sync\.idx\.b32",
    "bra": "(uni)?",
    "bar": "sync",
    "ret": "",
}
STATEMENT = re.compile(
    r"""\s*(?: (?P<label>[$%\w.]+):(?!:) | (?P<brace>[{}]) | \.loc\b[^\n]* | (?P<directive>\.\w+)(?P<declared>[^;{}]*);
    | (?:@(?P<negated>!?)(?P<predicate>[%$\w]+)\s+)?(?P<operation>[a-z][\w.:]*)(?P<operands>[^;]*); )""",
    re.X,
)
PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.([busf]\d+)\s+(?:\.ptr\s.*?\d+\s+)?([$\w]+)(?:\[(\d+)\])?\s*(?:,|$)", re.S
)
SHARED_ARRAY = re.compile(r"\s*\.align\s+(\d+)\s+\.b8\s+([$\w]+)\[(\d+)\]")


class Memory:
    """The host's buffers by address; the program's shared memory, at address 0 of its own space; a kernel's parameters."""

    def __init__(self, tensors, shared):
        self.buffers = {}  # (space, address): bytes; the space of generic addresses has no name
        for tensor in tensors:
            view = tensor.untyped_storage()
            if view.nbytes():
                array = np.ctypeslib.as_array((ctypes.c_uint8 * view.nbytes()).from_address(view.data_ptr()))
                self.put("global", view.data_ptr(), view.data_ptr(), array)
        self.put("shared", 0, SHARED, np.full(shared, 0xFF, np.uint8))  # as floats, NaN until they are written

    def put(self, space, address, generic, array):
        self.buffers[space, address] = self.buffers["", generic] = array

    def locate(self, space, addresses, bits, count):
        """The buffer that holds all the addresses, as numbers of so many bits, and where they are in it, [thread, number]."""
        first, last, size = int(addresses.min()), int(addresses.max()), bits // 8 * count
        for (where, base), array in self.buffers.items():
            if where == space and first >= base and last - base + size <= len(array):
                offset = addresses - np.uint64(base)
                assert not int(np.bitwise_or.reduce(offset)) & size - 1, f"{size} bytes at an address that is no multiple"
                at = (offset >> np.uint64(LOG_BYTES[bits])).view(np.int64)
                return array[: len(array) & -size].view(UNSIGNED[bits]), at[:, None] + VECTOR[count]
        raise IndexError(f"{space}: {size} bytes outside all buffers, between {first:#x} and {last:#x}")

    def load(self, space, addresses, bits, count):
        if (addresses == addresses[0]).all():  # as of parameters
            return np.repeat(self.load_each(space, addresses[:1], bits, count), len(addresses), 0)
        return self.load_each(space, addresses, bits, count)

    def load_each(self, space, addresses, bits, count):
        array, at = self.locate(space, addresses, bits, count)
        return array[at]

    def store(self, space, addresses, parts):
        """Several threads may store the same value at one address, no two different ones."""
        data = np.stack(parts, 1)
        array, at = self.locate(space, addresses, 8 * data.itemsize, len(parts))
        array[at] = data
        assert np.array_equal(array[at], data), "two threads stored different values at one address"


class Instruction(NamedTuple):
    predicate: str | None
    negated: bool
    name: str
    operation: list[str]  # the name's parts
    operands: list


class Kernel:
    """One entry of the text: its instructions, and where its labels point."""

    def __init__(self, text, threads):
        self.threads = threads
        text = re.sub(r"//.*", "", text[text.index(".entry") :])
        head = re.match(r"\.entry\s+([$\w]+)\s*\((.*?)\)[^{;]*", text, re.S)
        self.name = head[1]
        self.parameters, self.parameter_bytes = laid_out(parameters(head[2]))
        self.code, self.labels, self.scopes, self.arrays = [], {}, [], []
        for statement in statements(text, head.end()):
            self.add(statement)
        self.shared, self.shared_bytes = laid_out(self.arrays)
        self.executed = np.zeros(len(self.code), bool)

    def add(self, statement):
        if statement["brace"] == "{":
            self.scopes.append(set())
        elif statement["brace"]:
            self.scopes.pop()
        elif statement["label"]:
            assert statement["label"] not in self.labels, f"two labels {statement['label']}"
            self.labels[statement["label"]] = len(self.code)
        elif statement["directive"]:
            self.declare(statement["directive"], statement["declared"])
        elif statement["operation"]:
            operation, where = checked(statement["operation"]), operands(statement["operands"])
            self.code.append(Instruction(statement["predicate"], statement["negated"] == "!", operation[0], operation, where))

    def declare(self, directive, declared):
        if directive == ".shared":
            alignment, name, size = SHARED_ARRAY.fullmatch(declared).groups()
            self.arrays.append((name, int(alignment), int(size)))
        elif directive == ".reg":
            names = set(re.findall(r"[%$\w]+(?=<|,|\s*$)", declared))
            assert not any(names & outer for outer in self.scopes), f"a register's name twice: {declared}"
            self.scopes[-1] |= names
        elif directive != ".pragma":
            raise NotImplementedError(f"a directive unknown here: {directive} {declared}")

    def run(self, arguments, memory, program, programs):
        """Arguments: numbers, or the bytes of all parameters."""
        if not isinstance(arguments, bytes):
            arguments = self.packed(arguments)
        assert len(arguments) == self.parameter_bytes, "as many bytes as the parameters have"
        memory.put("param", PARAMETERS, PARAMETERS, np.frombuffer(arguments, np.uint8))
        state = State(self, memory, program, programs)
        ready, waiting, steps = {0: np.arange(self.threads)}, {}, 0  # threads by the instruction they are at
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            while ready:
                at = min(ready)
                steps += self.advance(state, at, ready.pop(at), ready, waiting)
                assert steps < 1_000_000, "it does not end"
                if not ready and waiting:
                    assert len(waiting) == 1, "threads wait at different barriers"
                    ready, waiting = waiting, {}

    def advance(self, state, at, threads, ready, waiting):
        """Threads together, until they branch, wait, end, or come to where others are. Returns the number of instructions."""
        first, limit = at, min(ready, default=len(self.code))
        while at < limit:
            step, chosen = self.code[at], threads
            self.executed[at] = True
            at += 1
            if step.predicate is not None:
                holds = state.registers[step.predicate][threads] != step.negated
                chosen = threads[holds]
            if step.name not in ("bra", "bar", "ret"):
                if len(chosen):
                    state.step(step, chosen)
            elif len(chosen):
                if step.name == "bra":
                    join(ready, self.labels[step.operands[0]], chosen)
                elif step.name == "bar":
                    assert step.operands == ["0"], "another barrier than the first"
                    join(waiting, at, chosen)
                if len(chosen) < len(threads):
                    join(ready, at, threads[~holds])
                return at - first
        if at < len(self.code):
            join(ready, at, threads)
        return at - first

    def packed(self, numbers):
        made = np.zeros(self.parameter_bytes, np.uint8)
        for (offset, size), number in zip(self.parameters.values(), numbers, strict=False):
            made[offset : offset + size] = list((number & (1 << 8 * size) - 1).to_bytes(size, "little"))
        return made.tobytes()


def statements(text, at):
    """The matches of STATEMENT from a brace to the one that closes it."""
    depth = 0
    while statement := STATEMENT.match(text, at):
        at = statement.end()
        depth += {"{": 1, "}": -1}.get(statement["brace"], 0)
        yield statement
        if depth == 0:
            return
    raise NotImplementedError(f"unknown here: {text[at : at + 80]!r}")


def parameters(text):
    """(name, alignment, bytes) of a kernel's parameters."""
    found = PARAMETER.findall(text)
    assert len(found) == text.count(".param"), f"unknown parameters: {text}"
    for alignment, kind, name, count in found:
        size = int(kind[1:]) // 8
        yield name, int(alignment or size), size * int(count or 1)


def laid_out(variables):
    """{name: (offset, bytes)} of (name, alignment, bytes), and the bytes of all."""
    places, end = {}, 0
    for name, alignment, size in variables:
        start = -(-end // alignment) * alignment
        places[name], end = (start, size), start + size
    return places, end


def join(groups, at, threads):
    groups[at] = np.sort(np.concatenate([groups[at], threads])) if at in groups else threads


@functools.cache
def checked(operation):
    """An instruction's parts, of one that is known."""
    name, _, rest = operation.partition(".")
    if name not in KNOWN or not re.fullmatch(KNOWN[name], rest):
        raise NotImplementedError(f"an instruction unknown here: {operation}")
    return operation.split(".")


def operands(text):
    """Split at commas outside brackets."""
    if "{" not in text and "[" not in text:
        return text.replace(",", " ").split()
    found = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", text)
    return [re.findall(r"[^,{}\s]+", part) if part[0] == "{" else part for part in found]


class State:
    """The registers of one program, and the threads that the instruction at hand is for."""

    def __init__(self, kernel, memory, program, programs):
        self.n, self.memory, self.lanes, self.constants = kernel.threads, memory, None, {}
        self.registers = {"%tid.x": np.arange(self.n, dtype=np.uint32)}
        for name, value in (("%ntid.x", self.n), ("%ctaid.x", program), ("%nctaid.x", programs)):
            self.registers[name] = np.full(self.n, value, np.uint32)
        symbols = {"global_smem": 0} | {name: offset for name, (offset, _) in kernel.shared.items()}
        symbols |= {name: PARAMETERS + offset for name, (offset, _) in kernel.parameters.items()}
        self.symbols = {name: np.full(self.n, address, np.uint64) for name, address in symbols.items()}

    def get(self, name, kind):
        """An operand of the threads as an array of a type such as u32, s64, f32, b16 or pred."""
        if kind == "pred":
            value = self.registers[name.lstrip("!")]
            value = ~value if name[0] == "!" else value
            return value if self.lanes is None else value[self.lanes]
        held, taken = TYPES[kind]
        raw = self.registers.get(name)
        if raw is None:
            raw = self.symbols[name] if name in self.symbols else self.constant(name, held)
        if self.lanes is not None:
            raw = raw[self.lanes]
        if raw.dtype != held:
            assert kind[0] != "s" or raw.itemsize * 8 > int(kind[1:]), f"{name} is narrower than {kind}"
            raw = raw.astype(held)
        return raw.view(taken)

    def constant(self, text, held):
        """A number in the text, such as -5, 0x3FU or 0f3F800000."""
        if (text, held) not in self.constants:
            number = int(text[2:], 16) if text[:2] in ("0f", "0d") else int(text.rstrip("U"), 0)
            self.constants[text, held] = np.full(self.n, number & int(np.iinfo(held).max), held)
        return self.constants[text, held]

    def put(self, name, value):
        """To a register, or to several, which share the bytes that each thread has."""
        if isinstance(name, list):
            data = np.ascontiguousarray(value).view(np.uint8).reshape(len(value), len(name), -1)
            for part, each in zip(name, data.view(UNSIGNED[8 * data.shape[2]])[..., 0].T, strict=True):
                self.put(part, each)
        elif name != "_":
            value = np.asarray(value)
            raw = value if value.dtype == bool else np.ascontiguousarray(value).view(UNSIGNED[8 * value.itemsize])
            self.registers[name] = raw if self.lanes is None else self.merged(self.registers.get(name), raw)

    def merged(self, before, raw):
        """What the other threads had, which is poison where they have written nothing yet."""
        full = np.full(self.n, -1).astype(raw.dtype) if before is None else before.copy()
        assert full.dtype == raw.dtype, "a register of two widths"
        full[self.lanes] = raw
        return full

    def address(self, text):
        base, _, offset = text.strip("[] ").partition("+")
        return self.get(base.strip(), "u64") + np.uint64(int(offset or 0) & (1 << 64) - 1)

    def step(self, instruction, threads):
        self.lanes = None if len(threads) == self.n else threads
        _, _, name, operation, where = instruction
        if name == "st":
            self.store(operation, operation[-1], where)
        else:
            self.put(where[0], getattr(self, f"do_{name}")(operation, operation[-1], where[1:]))

    def values(self, kind, names):
        return [self.get(name, kind) for name in names]

    def store(self, operation, kind, where):
        names = where[1] if isinstance(where[1], list) else [where[1]]
        self.memory.store(space(operation), self.address(where[0]), self.values(f"b{kind[1:]}", names))

    def do_ld(self, operation, kind, where):
        count = {"v2": 2, "v4": 4}.get(operation[-2], 1)
        loaded = self.memory.load(space(operation), self.address(where[0]), int(kind[1:]), count)
        loaded = loaded.astype(np.uint16) if kind[1:] == "8" else loaded
        return loaded if count > 1 else loaded[:, 0]

    def do_cvta(self, operation, kind, names):
        address, window = self.get(names[0], kind), np.uint64(SHARED if "shared" in operation else 0)
        return address - window if "to" in operation else address + window

    def do_mov(self, operation, kind, names):
        if not isinstance(names[0], list):
            return self.get(names[0], kind)
        half = int(kind[1:]) // 2
        low, high = (self.get(part, f"u{half}").astype(UNSIGNED[2 * half]) for part in names[0])
        return low | high << np.array(half, low.dtype)

    def do_add(self, operation, kind, names):
        a, b = self.values(kind, names)
        return a + b

    def do_sub(self, operation, kind, names):
        a, b = self.values(kind, names)
        return a - b

    def do_neg(self, operation, kind, names):
        return -self.get(names[0], kind)

    def do_abs(self, operation, kind, names):
        return np.abs(self.get(names[0], kind))

    def do_mul(self, operation, kind, names):
        a, b = self.values(kind, names)
        if operation[1] == "hi":
            return high_half(a, b)
        if operation[1] == "wide":
            wider = TYPES[wide(kind)][1]
            return a.astype(wider) * b.astype(wider)
        return a * b  # of floats, rounded once; lo of integers

    def do_mad(self, operation, kind, names):
        return self.do_mul(operation, kind, names[:2]) + self.get(names[2], wide(kind) if operation[1] == "wide" else kind)

    def do_div(self, operation, kind, names):
        a, b = self.values(kind, names)
        assert (b > 0).all() and (a >= 0).all(), "a division by 0, or of negative numbers"
        return a // b

    def do_rem(self, operation, kind, names):
        a, b = self.values(kind, names)
        return a - self.do_div(operation, kind, names) * b

    def do_fma(self, operation, kind, names):
        a, b, c = self.values(kind, names)
        if kind == "f32":
            total = a.astype(np.float64) * b + c  # its product is exact
            if not (total.view(np.int64) << np.int64(35) == reference.MIDPOINT).any():
                return total.astype(np.float32)  # rounding twice is rounding once, but for midpoints
        a, b, c = (torch.from_numpy(x.copy()) for x in (a, b, c))
        return reference.fma(a, b, c, a.dtype).numpy()

    def do_max(self, operation, kind, names):
        return extreme(np.greater, kind, *self.values(kind.replace("bf16x2", "b32").replace("f16x2", "b32"), names))

    def do_min(self, operation, kind, names):
        return extreme(np.less, kind, *self.values(kind.replace("bf16x2", "b32").replace("f16x2", "b32"), names))

    def do_and(self, operation, kind, names):
        return LOGIC[operation[0]](*self.values(kind, names))

    do_or = do_xor = do_and

    def do_not(self, operation, kind, names):
        return ~self.get(names[0], kind)

    def do_lop3(self, operation, kind, names):
        a, b, c = self.values(kind, names[:3])
        table, result = int(names[3], 0), np.zeros_like(a)
        for row in range(8):
            if table >> row & 1:
                result |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
        return result

    def do_shl(self, operation, kind, names):
        return self.shifted(np.left_shift, kind, *names)

    def do_shr(self, operation, kind, names):
        return self.shifted(np.right_shift, kind, *names)

    def shifted(self, shift, kind, name, count):
        """Counts beyond the width shift everything out."""
        a, width = self.get(name, kind), int(kind[1:])
        if count.isdecimal() and int(count) < width:
            return shift(a, np.array(int(count), a.dtype))
        count = self.get(count, "u32")
        result = shift(a, np.minimum(count, width - 1).astype(a.dtype))
        beyond = np.zeros_like(a) if shift is np.left_shift or a.dtype.kind == "u" else shift(a, np.array(width - 1, a.dtype))
        return np.where(count < width, result, beyond)

    def do_shf(self, operation, kind, names):
        low, high, count = (x.astype(np.uint64) for x in self.values(kind, names))
        count = count % np.uint64(32) if operation[2] == "wrap" else np.minimum(count, np.uint64(32))
        pair = high << np.uint64(32) | low
        return (pair << count >> np.uint64(32) if operation[1] == "l" else pair >> count).astype(np.uint32)

    def do_bfe(self, operation, kind, names):
        a, width, at, count = self.get(names[0], kind), int(kind[1:]), int(names[1]), int(names[2])
        assert at >= 0 and count > 0 and at + count <= width, "a field beyond the number's end"
        return a << np.array(width - at - count, a.dtype) >> np.array(width - count, a.dtype)  # the last by a's sign

    def do_bfi(self, operation, kind, names):
        a, b = self.values(kind, names[:2])
        at, count = int(names[2]), int(names[3])
        assert at >= 0 and count > 0 and at + count <= int(kind[1:]), "a field beyond the number's end"
        field = np.array(((1 << count) - 1) << at, a.dtype)
        return b & ~field | a << np.array(at, a.dtype) & field

    def do_prmt(self, operation, kind, names):
        a, b, selector = self.values(kind, names)
        pair = np.stack([a, b], 1).view(np.uint8)
        picks = (selector[:, None] >> np.arange(0, 16, 4, dtype=np.uint32) & np.uint32(15)).astype(np.int64)
        chosen = np.take_along_axis(pair, picks & 7, 1)
        sign = np.where(chosen < 128, 0, 255)  # what picks above 7 ask for: the byte's sign, eight times
        chosen = np.where(picks < 8, chosen, sign).astype(np.uint8)
        return chosen.view(np.uint32)[:, 0]

    def do_selp(self, operation, kind, names):
        a, b = self.values(kind, names[:2])
        return np.where(self.get(names[2], "pred"), a, b)

    def do_setp(self, operation, kind, names):
        a, b = self.values(kind, names[:2])
        holds = compared_floats(operation[1], a, b) if kind[0] == "f" else COMPARE[operation[1]](a, b)
        return LOGIC[operation[2]](holds, self.get(names[2], "pred")) if len(operation) == 4 else holds

    def do_shfl(self, operation, kind, names):
        assert names[2:] == ["31", "-1"] and self.lanes is None, "a shuffle of a part of a warp"
        lane = np.arange(self.n) & -WARP | (self.get(names[1], "u32") & np.uint32(WARP - 1)).astype(np.int64)
        return self.get(names[0], kind)[lane]

    def do_cvt(self, operation, kind, names):
        to, parts = operation[-2], self.values(kind, names)
        if "f16" in to:
            halves = [half_bits(x, torch.bfloat16 if to[0] == "b" else torch.float16) for x in parts]
            return halves[0] if len(halves) == 1 else halves[0].astype(np.uint32) << np.uint32(16) | halves[1]
        (x,), (_, taken) = parts, TYPES[to]
        if operation[1] == "rzi" and to[0] == "f":
            return np.trunc(x)
        if operation[1] == "rzi":
            limits = np.iinfo(taken)
            assert ((x > float(limits.min) - 1) & (x < float(limits.max))).all(), "a number beyond the integers"
        return x.astype(taken)  # rn to floats; rzi and lower bits to integers


def space(operation):
    return operation[1] if operation[1] in ("global", "shared", "param") else ""


def wide(kind):
    return f"{kind[0]}{2 * int(kind[1:])}"


def high_half(a, b):
    if a.itemsize == 4:
        wider = np.uint64 if a.dtype.kind == "u" else np.int64
        return (a.astype(wider) * b.astype(wider) >> np.array(32, wider)).astype(a.dtype)
    return np.array([int(x) * int(y) >> 64 for x, y in zip(a, b, strict=True)], np.uint64)


def compared_floats(name, a, b):
    """With NaN, comparisons fail, and those whose name ends with u hold."""
    unordered = (a != a) | (b != b)
    if name in ("num", "nan"):
        return unordered == (name == "nan")
    return COMPARE[name[:2]](a, b) & ~unordered if len(name) == 2 else COMPARE[name[:2]](a, b) | unordered


def extreme(is_more, kind, a, b):
    """The greater or the less: -0 is less than +0. Of NaN and a number, the number, except of pairs, which refuse NaN."""
    if kind[-2:] == "x2":
        infinity = 0x7F80 if kind[0] == "b" else 0x7C00
        a, b = a.view(np.int16), b.view(np.int16)
        assert max(np.max(a & 0x7FFF), np.max(b & 0x7FFF)) <= infinity, "NaN in a pair"
        return np.where(is_more(in_order(a), in_order(b)), a, b).view(np.uint32)
    if kind[0] != "f":
        return np.where(is_more(a, b), a, b)
    assert ((a == a) | (b == b)).all(), "of two NaN, the extreme"
    bits = SIGNED[8 * a.itemsize]
    a_wins = is_more(in_order(a.view(bits)), in_order(b.view(bits))) & (a == a) | (b != b)
    return np.where(a_wins, a, b)


def in_order(bits):
    """The bits of floats, as signed integers, to integers in the same order."""
    return np.where(bits < 0, np.iinfo(bits.dtype).min - bits - 1, bits)


def half_bits(x, dtype):
    assert (x == x).all(), "NaN to 16 bits"
    return torch.from_numpy(x.copy()).to(dtype).view(torch.int16).numpy().view(np.uint16)
