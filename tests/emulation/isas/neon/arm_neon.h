/* NEON intrinsics in portable C, for processors that have none: the library's own source is compiled against them. */
#pragma once
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/arm/neon.h>

/* SIMDe's may be a multiply and an add: two roundings */
#undef vfmaq_f32
static inline float32x4_t vfmaq_f32(float32x4_t a, float32x4_t b, float32x4_t c) {
  float x[4], y[4], z[4];
  vst1q_f32(x, a);
  vst1q_f32(y, b);
  vst1q_f32(z, c);
  for (int i = 0; i < 4; i++) x[i] = __builtin_fmaf(y[i], z[i], x[i]);
  return vld1q_f32(x);
}
