/* What cpu.cpp and the files of the instruction sets share. */
#pragma once

#include "../fastinit.h"

namespace fastinit {

/* The loops for one recipe: fill local elements [first, first + count) of a plan's box into contiguous memory; map
 * words; blend into such elements, from contiguous memory to contiguous memory. */
struct Kernel {
  void (*fill)(const fastinit_plan &plan, int64_t first, int64_t count, char *out);
  void (*transform)(const fastinit_recipe &recipe, const char *words, int64_t count, char *out);
  void (*blend)(const fastinit_blending &blending, int64_t first, int64_t count, const char *old, char *out);
};

Kernel scalar_kernel(const fastinit_recipe &recipe);
Kernel avx2_kernel(const fastinit_recipe &recipe);
Kernel avx512_kernel(const fastinit_recipe &recipe);
Kernel neon_kernel(const fastinit_recipe &recipe);

}  // namespace fastinit
