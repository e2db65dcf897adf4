/* What cpu.cpp and the files of the instruction sets share. */
#pragma once

#include "fastinit.h"

namespace fastinit {

/* The loops for one plan: fill local elements [first, first + count) of its box into contiguous memory; map given words. */
struct Kernel {
  void (*fill)(const fastinit_plan &plan, int64_t first, int64_t count, char *out);
  void (*transform)(const fastinit_plan &plan, const char *words, int64_t count, char *out);
};

Kernel scalar_kernel(const fastinit_plan &plan);
Kernel avx2_kernel(const fastinit_plan &plan);
Kernel avx512_kernel(const fastinit_plan &plan);
Kernel neon_kernel(const fastinit_plan &plan);

/* Bytes of an element of a fastinit_dtype. */
static inline int item_size(int32_t dtype) {
  switch (dtype) {
    case FASTINIT_FLOAT64:
    case FASTINIT_UINT64: return 8;
    case FASTINIT_FLOAT16:
    case FASTINIT_BFLOAT16: return 2;
    case FASTINIT_FLOAT8_E4M3FN:
    case FASTINIT_FLOAT8_E5M2: return 1;
    default: return 4;
  }
}

}  // namespace fastinit
