"""The machine's side of the GPU kernels, without the machine: their PTX, executed, gives the reference's bits."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from emulation import ptx, twin

from fastinit._backends import cuda

pytestmark = pytest.mark.full

TESTS = pathlib.Path(__file__).parent
THREADS = 64


def told_by(program, *options):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    command = [sys.executable, str(TESTS / program), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux")
def test_compiled_fills_have_the_bits_of_the_reference():
    pytest.importorskip("triton")
    told = told_by("emulation/ptx_fills.py")
    assert "0 wrong" in told and told.count("True") == 2, told


@pytest.mark.skipif(not twin.compiler(), reason="the host code needs a C++ compiler")
@pytest.mark.skipif(not shutil.which("nvcc") and not shutil.which("/usr/local/cuda/bin/nvcc"), reason="there is no nvcc")
def test_fills_compiled_by_nvcc_have_the_bits_of_the_reference():
    told = told_by("emulation/cuda_ptx.py", "--library", str(cuda.library_path()))
    assert ", 0 wrong" in told and told.count("True") == 3, told


# --- what executes PTX --------------------------------------------------------------------------------------------------------


def executed(body):
    """What each of 64 threads leaves in %r9; of one that returns before its end, 0."""
    out = torch.zeros(THREADS, dtype=torch.int32)
    text = f""".visible .entry k(
    .param .u64 .ptr .global .align 4 out
) {{
    .reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<10>; .reg .f32 %f<9>; .reg .b64 %rd<9>;
    .shared .align 16 .b8 common[{4 * THREADS}];
    mov.u32 %r0, %tid.x;
    {body}
    ld.param.u64 %rd8, [out];  cvta.to.global.u64 %rd8, %rd8;
    mad.wide.u32 %rd8, %r0, 4, %rd8;  st.global.u32 [%rd8], %r9;  ret;
}}"""
    kernel = ptx.Kernel(text, THREADS)
    kernel.run([out.data_ptr()], ptx.Memory([out], kernel.shared_bytes), 0, 1)
    return out.numpy().view(np.uint32)


def test_threads_go_their_own_ways_and_meet_at_barriers():
    loops = """mov.u32 %r9, 0;  mov.u32 %r1, 0;
    $loop: setp.ge.u32 %p1, %r1, %r0;  @%p1 bra $done;  add.s32 %r9, %r9, %r1;  add.s32 %r1, %r1, 1;  bra.uni $loop;
    $done:"""
    thread = np.arange(THREADS)
    assert (executed(loops) == thread * (thread - 1) // 2).all()
    exchange = """setp.lt.u32 %p2, %r0, 8;  setp.gt.u32 %p3, %r0, 55;  @%p2 bra $small;  @%p3 ret;
    add.s32 %r9, %r9, 1000;  bra $store;
    $small: add.s32 %r9, %r0, 5000;
    $store: shl.b32 %r2, %r0, 2;  mov.u32 %r3, common;  add.s32 %r3, %r3, %r2;  st.shared.b32 [%r3], %r9;
    bar.sync 0;  ld.shared.b32 %r4, [%r3+4];  setp.lt.u32 %p4, %r0, 55;  selp.b32 %r9, %r4, %r9, %p4;"""
    mine = np.where(thread < 8, thread + 5000, thread * (thread - 1) // 2 + 1000)
    expected = np.where(thread < 55, np.roll(mine, -1), mine)
    assert (executed(loops + exchange) == np.where(thread > 55, 0, expected)).all()


ANSWERS = {
    "lop3.b32 %r9, 0xF0F0F0F0, 0xCCCCCCCC, 0xAAAAAAAA, 0x96;": 0x96969696,
    "shf.l.wrap.b32 %r9, 0x80000001, 0x12345678, 36;": 0x23456788,
    "shf.r.clamp.b32 %r9, 0x80000001, 0x12345678, 40;": 0x12345678,
    "prmt.b32 %r9, 0x80112233, 0x44556677, 0x70B1;": 0x4433FF22,
    "bfe.s32 %r9, 0x00000F80, 8, 4;": 0xFFFFFFFF,
    "bfi.b32 %r9, 0x5, 0xFFFF0000, 4, 8;": 0xFFFF0050,
    "mul.hi.s32 %r9, -2, 3;": 0xFFFFFFFF,
    "mul.hi.u32 %r9, -2, 3;": 2,
    "rem.u32 %r9, 29, 6;": 5,
    "mul.wide.u32 %rd1, -1, -1;  mov.b64 {%r1, %r9}, %rd1;": 0xFFFFFFFE,
    "mov.b32 %r9, {%rs1, %rs2};": 0x00070003,
    "max.f32 %f1, 0f80000000, 0f00000000;  mov.b32 %r9, %f1;": 0,
    "min.f32 %f1, 0f00000000, 0f80000000;  mov.b32 %r9, %f1;": 0x80000000,
    "max.f32 %f1, 0f7FC00000, 0fC0000000;  mov.b32 %r9, %f1;": 0xC0000000,
    "max.bf16x2 %r9, 0x8000C000, 0x0000BF80;": 0x0000BF80,
    "min.f16x2 %r9, 0x0000C000, 0x80003C00;": 0x8000C000,
    "cvt.rn.bf16x2.f32 %r9, 0f3F808000, 0f3F818000;": 0x3F803F82,  # halves, to even
    "cvt.rn.bf16x2.f32 %r9, 0fFFC00000, 0f00000000;": 0x7FFF0000,  # one NaN
    "cvt.rn.f16x2.f32 %r9, 0f38800000, 0f477FF000;": 0x04007C00,
    "fma.rn.f32 %f1, 0f3F800800, 0f3F800800, 0fBF801000;  mov.b32 %r9, %f1;": 0x33800000,  # 0, if rounded twice
    "mov.b64 %rd1, {0, 0x3F800800};  fma.rn.f32x2 %rd1, %rd1, %rd1, 0xBF80100000000000;  mov.b64 {_, %r9}, %rd1;": 0x33800000,
    "mov.b64 %rd1, {0x3F800000, 0x40000000};  mul.rn.f32x2 %rd1, %rd1, %rd1;  mov.b64 {%r9, _}, %rd1;": 0x3F800000,
    "setp.leu.f32 %p1, 0f7FC00000, 0f00000000;  selp.b32 %r9, 1, 0, %p1;": 1,
    "setp.ne.f32 %p1, 0f7FC00000, 0f00000000;  selp.b32 %r9, 1, 0, %p1;": 0,
    "setp.lo.and.u32 %p1, 1, -1, !%p0;  selp.b32 %r9, 1, 0, %p1;": 1,
    "{ .reg .b64 %tmp; cvt.u64.u32 %tmp, 0; cvta.shared.u64 %rd1, %tmp; }  st.b32 [%rd1], 7;  ld.shared.u32 %r9, [common];": 7,
}


@pytest.mark.parametrize("body", ANSWERS)
def test_known_answers(body):
    registers = "mov.u16 %rs1, 3;  mov.u16 %rs2, 7;  setp.eq.u32 %p0, 1, 2;"
    assert (executed(registers + body) == ANSWERS[body]).all()


REFUSED = {
    "add.f32 %f1, %f1, %f1;": "unknown",  # may be contracted
    "add.ftz.rn.f32 %f1, %f1, %f1;": "unknown",
    "max.NaN.f32 %f1, %f1, %f1;": "unknown",
    "popc.b32 %r9, %r0;": "unknown",
    "call f, (%r0);": "unknown",
    ".local .align 4 .b8 depot[4];": "unknown",
    "{ .reg .b32 %r<2>; }": "twice",
    "cvt.rzi.s32.f32 %r9, 0f4F000000;": "beyond",
    "div.s32 %r9, %r0, 0;": "division",
    "st.shared.u32 [common], %r0;": "different values",
    "st.shared.u32 [common+2], 0;": "multiple",
    "st.shared.u32 [common+256], 0;": "outside",
    "ld.global.u32 %r9, [common];": "outside",
    "ld.param.u32 %r9, [out+8];": "outside",
    "mov.b32 %r9, %r8;": "r8",  # which nothing has written
    "setp.lt.u32 %p1, %r0, 8;  @%p1 bar.sync 0;  @!%p1 bar.sync 0;": "different barriers",
    "$on: bra $on;": "end",
}


@pytest.mark.parametrize("body", REFUSED)
def test_refusals(body):
    with pytest.raises((NotImplementedError, AssertionError, IndexError, ValueError), match=REFUSED[body]):
        executed(body)
