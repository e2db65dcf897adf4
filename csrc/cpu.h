/* What cpu.cpp and the files of the instruction sets share. */
#pragma once

#include "plan.h"

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

}  // namespace fastinit
