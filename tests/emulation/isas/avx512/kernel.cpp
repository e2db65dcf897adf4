/* One instruction set's kernels without its dispatch, which would ask the processor. */
#include "cpu_avx512.cpp"

extern "C" {
void emulated_fill(const fastinit_plan *plan, int64_t first, int64_t count, char *out) {
  fastinit::avx512_kernel(*plan).fill(*plan, first, count, out);
}
void emulated_transform(const fastinit_plan *plan, const char *words, int64_t count, char *out) {
  fastinit::avx512_kernel(*plan).transform(*plan, words, count, out);
}
}
