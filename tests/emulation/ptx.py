"""Execute PTX on the CPU: what a compiler makes for an NVIDIA GPU, instruction by instruction, a program (a block) at a time.

A register is an array over the program's threads. Threads that branch differently go on as groups, the one that is furthest
behind first, so that they meet again where their paths do. As the threads of a group go in step, a missing barrier may go
unseen. Memory is the host's; an access outside the given buffers is an error. It knows the instructions that the kernels use and
refuses the rest, and also what leaves the result open, such as an addition of floats without its rounding, which may be
contracted. What instructions do is in ptx_instructions.py.

Reference: NVIDIA, "Parallel Thread Execution ISA".
"""

import ctypes
import functools
import re
from typing import NamedTuple

import numpy as np
from emulation.ptx_instructions import PARAMETERS, SHARED, UNSIGNED, WARP, State

__all__ = ["WARP", "Kernel", "Memory"]

LOG_BYTES = {8: 0, 16: 1, 32: 2, 64: 3}
VECTOR = {count: np.arange(count) for count in (1, 2, 4)}

# What may follow an instruction's name.
BITS, INTEGER, REAL, LOGICAL = "b(16|32|64)", "[us](16|32|64)", "f(32|64)", "(pred|b(16|32|64))"
ROUNDED = r"rn\.f(32(x2)?|64)"
WIDTH = f"([bu]8|[bu]16|[bus](32|64)|{REAL})"  # a register may be wider: zeros fill it, but signs, so no s8 or s16
TO_ZERO = rf"rzi\.({INTEGER}\.{REAL}|f32\.f32|f64\.f64)"
JOINED, HALF = r"(\.(and|or|xor))?", r"rn\.b?f16(x2)?\.f32"
KNOWN = {
    "ld": rf"((global(\.nc)?|shared|param)\.)?(v[24]\.)?{WIDTH}",
    "st": rf"((global|shared)\.)?(v[24]\.)?{WIDTH}",
    "mov": f"pred|{BITS}|{INTEGER}|{REAL}",
    "cvta": r"(to\.)?(global|shared|param)\.u64",
    "cvt": rf"(u16|[us](32|64))\.[us](8|16|32|64)|{TO_ZERO}|rn\.{REAL}\.{INTEGER}|f64\.f32|f32\.f16|rn\.f32\.f64|{HALF}",
    "add": f"{INTEGER}|{ROUNDED}",
    "sub": f"{INTEGER}|{ROUNDED}",
    "neg": f"s(16|32|64)|{REAL}",
    "abs": f"s(16|32|64)|{REAL}",
    "mul": rf"{ROUNDED}|lo\.{INTEGER}|wide\.[us](16|32)|hi\.(u32|s32|u64)",
    "mad": rf"lo\.{INTEGER}|wide\.[us](16|32)",
    "fma": ROUNDED,
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
