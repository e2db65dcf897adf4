/* One instruction set's kernels without the dispatch, which would ask the processor. */
#include "../../../../csrc/cpu/neon.cpp"

extern "C" {
void emulated_fill(const fastinit_plan *plan, int64_t first, int64_t count, char *out) {
  fastinit::neon_kernel(*plan->recipe).fill(*plan, first, count, out);
}
void emulated_transform(const fastinit_plan *plan, const char *words, int64_t count, char *out) {
  fastinit::neon_kernel(*plan->recipe).transform(*plan->recipe, words, count, out);
}
void emulated_blend(const fastinit_blending *blending, int64_t first, int64_t count, const char *old, char *out) {
  fastinit::neon_kernel(*blending->to.recipe).blend(*blending, first, count, old, out);
}
}
