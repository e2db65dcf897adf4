/* AVX-512 intrinsics in portable C, for processors that have none: the library's own source is compiled against them. */
#pragma once
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512/abs.h>
#include <simde/x86/avx512/add.h>
#include <simde/x86/avx512/and.h>
#include <simde/x86/avx512/blend.h>
#include <simde/x86/avx512/cast.h>
#include <simde/x86/avx512/cmp.h>
#include <simde/x86/avx512/cmpgt.h>
#include <simde/x86/avx512/cvt.h>
#include <simde/x86/avx512/cvtt.h>
#include <simde/x86/avx512/loadu.h>
#include <simde/x86/avx512/max.h>
#include <simde/x86/avx512/min.h>
#include <simde/x86/avx512/mul.h>
#include <simde/x86/avx512/or.h>
#include <simde/x86/avx512/permutex2var.h>
#include <simde/x86/avx512/roundscale.h>
#include <simde/x86/avx512/set.h>
#include <simde/x86/avx512/set1.h>
#include <simde/x86/avx512/setr.h>
#include <simde/x86/avx512/setzero.h>
#include <simde/x86/avx512/shuffle.h>
#include <simde/x86/avx512/srl.h>
#include <simde/x86/avx512/srli.h>
#include <simde/x86/avx512/storeu.h>
#include <simde/x86/avx512/sub.h>
#include <simde/x86/avx512/ternarylogic.h>
#include <simde/x86/avx512/test.h>
#include <simde/x86/avx512/xor.h>

#define _MM_FROUND_NO_EXC SIMDE_MM_FROUND_NO_EXC /* the one without an alias */

/* SIMDe's is a multiply and an add: two roundings */
#undef _mm512_fmadd_ps
static inline __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
  float x[16], y[16], z[16];
  _mm512_storeu_ps(x, a);
  _mm512_storeu_ps(y, b);
  _mm512_storeu_ps(z, c);
  for (int i = 0; i < 16; i++) x[i] = __builtin_fmaf(x[i], y[i], z[i]);
  return _mm512_loadu_ps(x);
}

/* the three that SIMDe 0.8 lacks */
static inline __m256i _mm512_cvtepi32_epi16(__m512i a) {
  uint32_t from[16];
  uint16_t to[16];
  _mm512_storeu_si512(from, a);
  for (int i = 0; i < 16; i++) to[i] = (uint16_t)from[i];
  return _mm256_loadu_si256((const __m256i *)to);
}
static inline __m128i _mm512_cvtepi32_epi8(__m512i a) {
  uint32_t from[16];
  uint8_t to[16];
  _mm512_storeu_si512(from, a);
  for (int i = 0; i < 16; i++) to[i] = (uint8_t)from[i];
  return _mm_loadu_si128((const __m128i *)to);
}
static inline __m512i _mm512_cvtepu8_epi32(__m128i a) {
  uint8_t from[16];
  uint32_t to[16];
  _mm_storeu_si128((__m128i *)from, a);
  for (int i = 0; i < 16; i++) to[i] = from[i];
  return _mm512_loadu_si512(to);
}
