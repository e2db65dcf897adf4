/* The vector layer of one lane (see layer.h), for float and double: portable C++, and what all processors compute float64
 * with. */
#pragma once

#include <stdint.h>
#include <string.h>

#include "layer.h"

namespace fastinit {

template <class R> struct ScalarTypes;
template <> struct ScalarTypes<float> {
  using Unsigned = uint32_t;
  using Signed = int32_t;
  static constexpr int MANTISSA = 23;
};
template <> struct ScalarTypes<double> {
  using Unsigned = uint64_t;
  using Signed = int64_t;
  static constexpr int MANTISSA = 52;
};

#if defined(__CUDA_ARCH__)
FASTINIT_INLINE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
FASTINIT_INLINE double fused(double a, double b, double c) { return __fma_rn(a, b, c); }
FASTINIT_INLINE float truncated(float a) { return truncf(a); }
FASTINIT_INLINE double truncated(double a) { return trunc(a); }
#else
/* A call where the compiler may not assume the instruction. Also tried: by way of a double, with the call only for ties and small
 * sums; the four conversions take 1.1 times as long. */
FASTINIT_INLINE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
FASTINIT_INLINE double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }
/* Not trunc, which is a call where SSE4.1 is not assumed. Numbers from the limit on have no fraction, and may be too large for an
 * integer. */
FASTINIT_INLINE float truncated(float a) { return __builtin_fabsf(a) < 0x1p23f ? (float)(int32_t)a : a; }
FASTINIT_INLINE double truncated(double a) { return __builtin_fabs(a) < 0x1p52 ? (double)(int64_t)a : a; }
#endif

template <class R> struct Scalar {
  using Real = R;
  using F = R;
  using I = typename ScalarTypes<R>::Unsigned;
  using Signed = typename ScalarTypes<R>::Signed;
  using M = bool;
  using Shift = int;
  using W = uint64_t; /* a counter word in the low half */
  static constexpr int LANES = 1, BLOCKS = 1, UNROLL = 1;
  static constexpr int MANTISSA = ScalarTypes<R>::MANTISSA;
  static constexpr bool SPOTS = false;

  FASTINIT_INLINE W word(uint32_t x) { return x; }
  FASTINIT_INLINE W counter(uint64_t block) { return (uint32_t)block; }
  FASTINIT_INLINE void multiply(W x, uint32_t m, W &high, W &low) {
    low = (uint64_t)(uint32_t)x * m; /* its upper half is cut off at the next use */
    high = low >> 32;
  }
  FASTINIT_INLINE W xor_word(W a, W b) { return a ^ b; }
  FASTINIT_INLINE W xor3(W a, W b, W c) { return a ^ b ^ c; }
  FASTINIT_INLINE void interleave(W c0, W c1, W c2, W c3, I *words) {
    words[0] = (uint32_t)c0;
    words[1] = (uint32_t)c1;
    words[2] = (uint32_t)c2;
    words[3] = (uint32_t)c3;
  }

  FASTINIT_INLINE F real(double x) { return (F)x; }
  FASTINIT_INLINE I integer(uint64_t x) { return (I)x; }
  FASTINIT_INLINE Shift shift(int count) { return count; }
  FASTINIT_INLINE I bits(F x) {
    I b;
    memcpy(&b, &x, sizeof b);
    return b;
  }
  FASTINIT_INLINE F from_bits(I b) {
    F x;
    memcpy(&x, &b, sizeof x);
    return x;
  }
  FASTINIT_INLINE F to_real(I x) { return (F)(Signed)x; }
  FASTINIT_INLINE F fma(F a, F b, F c) { return fused(a, b, c); }
  FASTINIT_INLINE F mul(F a, F b) { return a * b; }
  FASTINIT_INLINE F add(F a, F b) { return a + b; }
  FASTINIT_INLINE F sub(F a, F b) { return a - b; }
  FASTINIT_INLINE F abs(F a) { return from_bits(bits(a) & ~SIGN); }
  FASTINIT_INLINE F negate(F a) { return from_bits(bits(a) ^ SIGN); }
  FASTINIT_INLINE F copy_sign(F size, F sign) { return from_bits((bits(size) & ~SIGN) | (bits(sign) & SIGN)); }
  FASTINIT_INLINE F truncate(F a) { return truncated(a); }
  FASTINIT_INLINE F at_least(F v, F low) { return v <= low ? low : v; }
  FASTINIT_INLINE F at_most(F v, F high) { return v >= high ? high : v; }
  FASTINIT_INLINE M less(F a, F b) { return a < b; }
  FASTINIT_INLINE M positive(I s) { return (Signed)s > 0; }
  FASTINIT_INLINE F select(M m, F a, F b) { return m ? a : b; }
  FASTINIT_INLINE I select_int(M m, I a, I b) { return m ? a : b; }
  FASTINIT_INLINE I and_(I a, I b) { return a & b; }
  FASTINIT_INLINE I or_(I a, I b) { return a | b; }
  FASTINIT_INLINE I xor_(I a, I b) { return a ^ b; }
  FASTINIT_INLINE I add_int(I a, I b) { return a + b; }
  FASTINIT_INLINE I sub_int(I a, I b) { return a - b; }
  FASTINIT_INLINE I shift_right(I a, Shift count) { return a >> count; }
  FASTINIT_INLINE I shift_right_1(I a) { return a >> 1; }
  template <int COUNT> FASTINIT_INLINE I shift_right_by(I a) { return a >> COUNT; }
  template <int COUNT> FASTINIT_INLINE I shift_left_by(I a) { return a << COUNT; }
  FASTINIT_INLINE I distance(I s) { return SIGN - ((Signed)s < 0 ? (I)0 - s : s); } /* 2^31 - |s|, or 2^63 - |s| */

  template <int CELLS, int TERMS, int HALVES> struct Table {
    const R *at;
    FASTINIT_INLINE_MEMBER void load(const R *table) { at = table; }
    FASTINIT_INLINE_MEMBER I place(I cell, M) const { return cell; }
    FASTINIT_INLINE_MEMBER void look_up(I cell, M upper, F *coefficient) const {
      const R *row = at + (HALVES == 2 && upper ? TERMS * CELLS : 0) + (cell & (CELLS - 1));
      for (int term = 0; term < TERMS; term++) coefficient[term] = row[term * CELLS];
    }
  };

  FASTINIT_INLINE void store_real(R *out, F v) { memcpy(out, &v, sizeof v); }
  FASTINIT_INLINE I load_words(const uint32_t *words) {
    uint32_t w;
    memcpy(&w, words, sizeof w);
    return w;
  }
  FASTINIT_INLINE F load_real(const R *at) {
    F v;
    memcpy(&v, at, sizeof v);
    return v;
  }
  FASTINIT_INLINE I load_16(const uint16_t *at) {
    uint16_t bits;
    memcpy(&bits, at, sizeof bits);
    return bits;
  }
  FASTINIT_INLINE I load_8(const uint8_t *at) { return *at; }
  FASTINIT_INLINE void store_words(uint32_t *out, I w) { memcpy(out, &w, sizeof *out); }
  FASTINIT_INLINE void store_16(uint16_t *out, I bits) { memcpy(out, &bits, sizeof *out); }
  FASTINIT_INLINE void store_8(uint8_t *out, I bits) { *out = (uint8_t)bits; }

  static constexpr I SIGN = (I)1 << (8 * sizeof(I) - 1);
};

static_assert(is_layer<Scalar<float>>() && is_layer<Scalar<double>>());

}  // namespace fastinit
