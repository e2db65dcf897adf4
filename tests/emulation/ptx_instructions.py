"""What each PTX instruction does to the registers of a program's threads, as ptx.py executes it.

Reference: NVIDIA, "Parallel Thread Execution ISA".
"""

import numpy as np
import torch

from fastinit._backends import exact

UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
FLOATS = {32: np.float32, 64: np.float64}
SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
# A type such as s32: how a register holds it, and how an instruction takes it.
TYPES = {f"{kind}{bits}": (UNSIGNED[bits], UNSIGNED[bits]) for kind in "bu" for bits in UNSIGNED}
TYPES |= {f"s{bits}": (UNSIGNED[bits], signed) for bits, signed in SIGNED.items()}
TYPES |= {f"f{bits}": (UNSIGNED[bits], real) for bits, real in FLOATS.items()}
TYPES["f32x2"] = (np.uint64, np.float32)  # two for each thread
COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
COMPARE |= {"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}
LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
WARP = 32
PARAMETERS, SHARED = 1 << 60, 1 << 61  # where generic addresses have a kernel's parameters, and shared memory


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
            value = getattr(self, f"do_{name}")(operation, operation[-1], where[1:])
            self.put(where[0], value.view(np.uint64) if operation[-1] == "f32x2" else value)

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
        return with_one_nan(a * b)  # of floats, rounded once; lo of integers

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
        if kind[:3] == "f32":
            total = a.astype(np.float64) * b + c  # its product is exact
            tiny = (np.abs(total) < 2.0**-126) & (total != 0)
            if not ((total.view(np.int64) << np.int64(35) == exact.MIDPOINT) | tiny).any():
                return with_one_nan(total.astype(np.float32))  # rounding twice is rounding once, but for midpoints
        a, b, c = (torch.from_numpy(x.copy()) for x in (a, b, c))
        return with_one_nan(exact.fma_of_any(a, b, c).numpy())

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
        to = operation[-2]
        if kind == "f16":
            return with_one_nan(self.get(names[0], "b16").view(np.float16).astype(np.float32))
        parts = self.values(kind, names)
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


def with_one_nan(x):
    """Of float32, a result that is NaN has all bits but the sign; of float64 it is an operand's."""
    return np.where(x != x, np.array(0x7FFFFFFF, np.uint32).view(np.float32), x) if x.dtype == np.float32 else x


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
    bits = torch.from_numpy(x.copy()).to(dtype).view(torch.int16).numpy().view(np.uint16)
    return np.where(x != x, np.uint16(0x7FFF), bits)
