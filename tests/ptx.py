"""Executes PTX on the CPU: what a compiler makes for an NVIDIA GPU, instruction by instruction, a program (a block) at a time.

A register is an array over the program's threads, which go in step, so a branch must go one way for all of them. Memory is the
host's; an access outside the buffers given is an error. Of PTX it knows what the kernels use and refuses the rest.

Reference: NVIDIA, "Parallel Thread Execution ISA".
"""

import ctypes
import re

import numpy as np
import torch

from fastinit.backends import reference

UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
FLOATS = {32: np.float32, 64: np.float64}
SIGNED = {16: np.int16, 32: np.int32, 64: np.int64}
COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
WARP = 32


class Memory:
    """The host's buffers by address, and the program's shared memory at address 0."""

    def __init__(self, tensors, shared):
        self.buffers = [(0, np.zeros(shared, np.uint8))]
        for tensor in tensors:
            view = tensor.untyped_storage()
            array = np.ctypeslib.as_array((ctypes.c_uint8 * view.nbytes()).from_address(view.data_ptr()))
            self.buffers.append((view.data_ptr(), array))

    def locate(self, addresses, size):
        """The buffer that holds all the addresses, and the bytes' positions in it, [thread, byte]."""
        for base, array in self.buffers:
            offset = addresses.astype(np.int64) - base
            if len(array) and offset.min() >= 0 and offset.max() + size <= len(array):
                assert not (addresses % np.uint64(size)).any(), f"an access of {size} bytes at an address that is no multiple"
                return array, offset[:, None] + np.arange(size)
        raise IndexError(f"an access of {size} bytes outside all buffers, between {addresses.min():#x} and {addresses.max():#x}")

    def load(self, addresses, size, count):
        array, at = self.locate(addresses, size * count)
        return np.ascontiguousarray(array[at]).view(UNSIGNED[8 * size])

    def store(self, addresses, parts):
        """Several threads may store the same value at one address, no two different ones."""
        data = np.ascontiguousarray(np.stack(parts, 1)).view(np.uint8)
        array, at = self.locate(addresses, data.shape[1])
        array[at] = data
        assert np.array_equal(array[at], data), "two threads stored different values at one address"


class Kernel:
    """One entry of the text: its instructions as (predicate, operation, operands), and where its labels point."""

    def __init__(self, text, threads):
        self.threads = threads
        head, body = re.search(r"\.entry \w+\((.*?)\).*?\n\{(.*)\n\}", text, re.S).groups()
        self.parameters = re.findall(r"\.param \.(\w\d+)[^,]*?(\w+_param_\d+)", head)
        self.code, self.labels = [], {}
        for line in body.splitlines():
            line = re.sub(r"//.*", "", line).strip()
            label = re.match(r"(\$\w+):", line)
            if label:
                self.labels[label[1]] = len(self.code)
            elif line and line[0] not in ".{}$)(":
                for part in filter(None, map(str.strip, line.split(";"))):
                    predicate, operation, rest = re.match(r"(?:@(!?%p\d+)\s+)?(\S+)\s*(.*)", part).groups()
                    self.code.append((predicate, operation.split("."), operands(rest)))

    def run(self, arguments, memory, program, programs):
        state = State(self, dict(zip((name for _, name in self.parameters), arguments, strict=False)), memory, program, programs)
        at, steps = 0, 0
        while at < len(self.code):
            predicate, operation, where = self.code[at]
            active = state.active(predicate)
            at += 1
            steps += 1
            if operation[0] in ("bra", "ret"):
                assert active.all() or not active.any(), "a branch that threads take differently"
                if active.any():
                    at = self.labels[where[0]] if operation[0] == "bra" else len(self.code)
            elif active.any():
                state.step(operation, where, active)
            assert steps < 1_000_000, "it does not end"


def operands(text):
    """Split at commas outside brackets."""
    found = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", text)
    return [re.findall(r"[^,{}\s]+", part) if part[0] == "{" else part for part in found]


class State:
    """The registers of one program."""

    def __init__(self, kernel, parameters, memory, program, programs):
        self.n, self.parameters, self.memory = kernel.threads, parameters, memory
        self.registers = {"%tid.x": np.arange(self.n, dtype=np.uint32), "global_smem": np.zeros(self.n, np.uint64)}
        self.registers["%ctaid.x"] = np.full(self.n, program, np.uint32)
        self.registers["%nctaid.x"] = np.full(self.n, programs, np.uint32)

    def active(self, predicate):
        if predicate is None:
            return np.ones(self.n, bool)
        value = self.registers[predicate.lstrip("!")]
        return ~value if predicate[0] == "!" else value

    def get(self, name, kind):
        """An operand as an array of a type such as u32, s64, f32, b16 or pred."""
        if kind == "pred":
            return self.registers[name]
        bits = int(re.sub(r"\D", "", kind))
        if name in self.registers:
            raw = self.registers[name].astype(UNSIGNED[bits], copy=False)
        elif name[:2] in ("0f", "0d"):
            raw = np.full(self.n, int(name[2:], 16), UNSIGNED[bits])
        else:
            raw = np.full(self.n, int(name.rstrip("U"), 0) & (1 << bits) - 1, UNSIGNED[bits])
        table = {"s": SIGNED, "f": FLOATS}.get(kind[0], UNSIGNED)
        return raw.view(table[bits])

    def put(self, name, value, active):
        if name == "_":
            return
        value = np.asarray(value)
        raw = value if value.dtype == bool else np.ascontiguousarray(value).view(UNSIGNED[8 * value.itemsize])
        if not active.all():
            raw = np.where(active, raw, self.registers.get(name, np.zeros_like(raw)))
        self.registers[name] = raw

    def address(self, text):
        base, _, offset = text.strip("[] ").partition("+")
        return self.get(base.strip(), "u64") + np.uint64(int(offset or 0))

    def step(self, operation, where, active):
        name, kind = operation[0], operation[-1]
        if name == "ld" and operation[1] == "param":
            value = self.parameters[where[1].strip("[]")]
            self.put(where[0], np.full(self.n, value & (1 << int(kind[1:])) - 1, UNSIGNED[int(kind[1:])]), active)
        elif name == "ld":
            names = where[0] if isinstance(where[0], list) else [where[0]]
            loaded = self.memory.load(self.address(where[1])[active], int(kind[1:]) // 8, len(names))
            for number, register in enumerate(names):
                full = np.zeros(self.n, loaded.dtype)
                full[active] = loaded[:, number]
                self.put(register, full, active)
        elif name == "st":
            names = where[1] if isinstance(where[1], list) else [where[1]]
            self.memory.store(self.address(where[0])[active], [self.get(register, kind)[active] for register in names])
        elif name == "mov" and isinstance(where[0], list):
            whole = self.get(where[1], kind)
            half = int(kind[1:]) // 2
            for number, register in enumerate(where[0]):
                self.put(register, (whole >> np.array(number * half, whole.dtype)).astype(UNSIGNED[half]), active)
        elif name == "mov" and isinstance(where[1], list):
            half = int(kind[1:]) // 2
            low, high = (self.get(part, f"u{half}").astype(UNSIGNED[2 * half]) for part in where[1])
            self.put(where[0], low | high << np.array(half, low.dtype), active)
        elif name != "bar":
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                self.put(where[0], getattr(self, f"do_{name}")(operation, kind, where[1:]), active)

    def values(self, kind, names):
        return [self.get(name, kind) for name in names]

    def do_mov(self, operation, kind, names):
        return self.get(names[0], kind)

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
        if "wide" in operation:
            wider = np.uint64 if kind == "u32" else np.int64
            return a.astype(wider) * b.astype(wider)
        return a * b  # of floats, rounded once; lo of integers

    def do_mad(self, operation, kind, names):
        wide = kind.replace("32", "64") if "wide" in operation else kind
        return self.do_mul(operation, kind, names[:2]) + self.get(names[2], wide)

    def do_div(self, operation, kind, names):
        a, b = self.values(kind, names)
        assert (b != 0).all() and (kind[0] == "u" or (a >= 0).all()), "a division by 0, or of a negative number"
        return a // b

    def do_fma(self, operation, kind, names):
        a, b, c = (torch.from_numpy(x.copy()) for x in self.values(kind, names))
        return reference.fma(a, b, c, a.dtype).numpy()

    def do_max(self, operation, kind, names):
        a, b = self.values(kind, names)
        return np.where(ordered(a) > ordered(b), a, b)

    def do_min(self, operation, kind, names):
        a, b = self.values(kind, names)
        return np.where(ordered(a) < ordered(b), a, b)

    def do_and(self, operation, kind, names):
        a, b = self.values(kind, names)
        return a & b

    def do_or(self, operation, kind, names):
        a, b = self.values(kind, names)
        return a | b

    def do_xor(self, operation, kind, names):
        a, b = self.values(kind, names)
        return a ^ b

    def do_not(self, operation, kind, names):
        return ~self.get(names[0], kind)

    def do_shl(self, operation, kind, names):
        return shifted(np.left_shift, self.get(names[0], kind), self.get(names[1], "u32"))

    def do_shr(self, operation, kind, names):
        return shifted(np.right_shift, self.get(names[0], kind), self.get(names[1], "u32"))

    def do_bfe(self, operation, kind, names):
        width = int(kind[1:])
        a, above = self.get(names[0], kind), width - int(names[1]) - int(names[2])
        return a << np.array(above, a.dtype) >> np.array(width - int(names[2]), a.dtype)  # the last by a's sign

    def do_prmt(self, operation, kind, names):
        a, b, selector = self.values("b32", names)
        pair = np.stack([a, b], 1).view(np.uint8)
        picks = selector[:, None] >> np.arange(0, 16, 4, dtype=np.uint32) & np.uint32(15)
        assert (picks < 8).all(), "a replicated sign"
        return np.take_along_axis(pair, picks.astype(np.int64), 1).copy().view(np.uint32)[:, 0]

    def do_selp(self, operation, kind, names):
        a, b = self.values(kind, names[:2])
        return np.where(self.registers[names[2]], a, b)

    def do_setp(self, operation, kind, names):
        a, b = self.values(kind, names)
        return COMPARE[operation[1]](a, b)

    def do_shfl(self, operation, kind, names):
        assert operation[1:3] == ["sync", "idx"] and names[2:] == ["31", "-1"]
        lane = np.arange(self.n) & -WARP | (self.get(names[1], "u32") & np.uint32(WARP - 1)).astype(np.int64)
        return self.get(names[0], kind)[lane]

    def do_cvt(self, operation, kind, names):
        to = operation[-2]
        if to in ("bf16x2", "f16x2", "bf16", "f16"):
            dtype = torch.bfloat16 if to[0] == "b" else torch.float16
            parts = [
                torch.from_numpy(x.copy()).to(dtype).view(torch.int16).numpy().view(np.uint16) for x in self.values(kind, names)
            ]
            if len(parts) == 1:
                return parts[0]
            high, low = (part.astype(np.uint32) for part in parts)
            return high << np.uint32(16) | low
        x, bits = self.get(names[0], kind), int(to[1:])
        return x.astype({"s": SIGNED, "f": FLOATS}.get(to[0], UNSIGNED)[bits])  # rn to floats; rzi and lower bits to integers


def ordered(x):
    """Floats as integers in the order of PTX's max and min, where -0 is less than +0. No NaN comes here."""
    if x.dtype.kind != "f":
        return x
    bits = x.view(SIGNED[8 * x.itemsize])
    return np.where(bits < 0, np.iinfo(bits.dtype).min - bits, bits) if (x == x).all() else x


def shifted(shift, a, count):
    """Counts beyond the width shift everything out."""
    width = 8 * a.itemsize
    result = shift(a, np.minimum(count, width - 1).astype(a.dtype))
    beyond = np.zeros_like(a) if shift is np.left_shift or a.dtype.kind == "u" else result
    return np.where(count < width, result, beyond)
