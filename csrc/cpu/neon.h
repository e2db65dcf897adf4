/* The vector layer of NEON (see layer.h): 4 lanes of float. */
#pragma once

#include "schedule.h"

#include <arm_neon.h>

#include "../layer.h"

namespace fastinit {

struct Neon {
  using Real = float;
  using F = float32x4_t;
  using I = uint32x4_t;
  using M = uint32x4_t;
  using Shift = int32x4_t; /* a left shift by minus the count */
  using W = uint32x4_t;
  static constexpr int LANES = 4, BLOCKS = 4, UNROLL = 2, MANTISSA = 23;
  static constexpr bool SPOTS = false; /* on AVX2 it pays; here nobody has measured it */

  FASTINIT_INLINE W word(uint32_t x) { return vdupq_n_u32(x); }
  FASTINIT_INLINE W counter(uint64_t block) {
    const uint32_t step[4] = {0, 1, 2, 3};
    return vaddq_u32(vdupq_n_u32((uint32_t)block), vld1q_u32(step));
  }
  FASTINIT_INLINE void multiply(W x, uint32_t m, W &high, W &low) {
    uint32x4_t a = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(x), vdup_n_u32(m)));
    uint32x4_t b = vreinterpretq_u32_u64(vmull_high_u32(x, vdupq_n_u32(m)));
    low = vuzp1q_u32(a, b);
    high = vuzp2q_u32(a, b);
  }
  FASTINIT_INLINE W xor_word(W a, W b) { return veorq_u32(a, b); }
  FASTINIT_INLINE W xor3(W a, W b, W c) { return veorq_u32(veorq_u32(b, c), a); }
  FASTINIT_INLINE void turn(I a, I b, I c, I d, I *out) { /* a 4 x 4 transpose */
    uint64x2_t ab0 = vreinterpretq_u64_u32(vzip1q_u32(a, b)), ab1 = vreinterpretq_u64_u32(vzip2q_u32(a, b));
    uint64x2_t cd0 = vreinterpretq_u64_u32(vzip1q_u32(c, d)), cd1 = vreinterpretq_u64_u32(vzip2q_u32(c, d));
    out[0] = vreinterpretq_u32_u64(vzip1q_u64(ab0, cd0));
    out[1] = vreinterpretq_u32_u64(vzip2q_u64(ab0, cd0));
    out[2] = vreinterpretq_u32_u64(vzip1q_u64(ab1, cd1));
    out[3] = vreinterpretq_u32_u64(vzip2q_u64(ab1, cd1));
  }
  FASTINIT_INLINE void interleave(W c0, W c1, W c2, W c3, I *words) { turn(c0, c1, c2, c3, words); }

  FASTINIT_INLINE F real(double x) { return vdupq_n_f32((float)x); }
  FASTINIT_INLINE I integer(uint64_t x) { return vdupq_n_u32((uint32_t)x); }
  FASTINIT_INLINE Shift shift(int count) { return vdupq_n_s32(-count); }
  FASTINIT_INLINE I bits(F x) { return vreinterpretq_u32_f32(x); }
  FASTINIT_INLINE F from_bits(I b) { return vreinterpretq_f32_u32(b); }
  FASTINIT_INLINE F to_real(I x) { return vcvtq_f32_s32(vreinterpretq_s32_u32(x)); }
  FASTINIT_INLINE F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  FASTINIT_INLINE F mul(F a, F b) { return vmulq_f32(a, b); }
  FASTINIT_INLINE F add(F a, F b) { return vaddq_f32(a, b); }
  FASTINIT_INLINE F sub(F a, F b) { return vsubq_f32(a, b); }
  FASTINIT_INLINE F abs(F a) { return vabsq_f32(a); }
  FASTINIT_INLINE F negate(F a) { return vnegq_f32(a); }
  FASTINIT_INLINE F copy_sign(F size, F sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, size); }
  FASTINIT_INLINE F truncate(F a) { return vrndq_f32(a); }
  FASTINIT_INLINE F at_least(F v, F low) { return vmaxq_f32(v, low); } /* takes -0 for less than +0 */
  FASTINIT_INLINE F at_most(F v, F high) { return vminq_f32(v, high); }
  FASTINIT_INLINE M less(F a, F b) { return vcltq_f32(a, b); }
  FASTINIT_INLINE M positive(I s) { return vcgtq_s32(vreinterpretq_s32_u32(s), vdupq_n_s32(0)); }
  FASTINIT_INLINE F select(M m, F a, F b) { return vbslq_f32(m, a, b); }
  FASTINIT_INLINE I select_int(M m, I a, I b) { return vbslq_u32(m, a, b); }
  FASTINIT_INLINE I and_(I a, I b) { return vandq_u32(a, b); }
  FASTINIT_INLINE I or_(I a, I b) { return vorrq_u32(a, b); }
  FASTINIT_INLINE I xor_(I a, I b) { return veorq_u32(a, b); }
  FASTINIT_INLINE I add_int(I a, I b) { return vaddq_u32(a, b); }
  FASTINIT_INLINE I sub_int(I a, I b) { return vsubq_u32(a, b); }
  FASTINIT_INLINE I shift_right(I a, Shift count) { return vshlq_u32(a, count); }
  FASTINIT_INLINE I shift_right_1(I a) { return vshrq_n_u32(a, 1); }
  template <int COUNT> FASTINIT_INLINE I shift_right_by(I a) { return vshrq_n_u32(a, COUNT); }
  template <int COUNT> FASTINIT_INLINE I shift_left_by(I a) { return vshlq_n_u32(a, COUNT); }
  FASTINIT_INLINE I distance(I s) {
    return sub_int(integer(0x80000000u), vreinterpretq_u32_s32(vabsq_s32(vreinterpretq_s32_u32(s))));
  }

  /* A cell's terms lie side by side: four rows are loaded by four terms and transposed. */
  template <int CELLS, int TERMS, int HALVES> struct Table {
    static constexpr int QUADS = (TERMS + 3) / 4;
    alignas(16) float row[HALVES * CELLS][4 * QUADS];
    FASTINIT_INLINE_MEMBER void load(const float *table) {
      for (int cell = 0; cell < HALVES * CELLS; cell++)
        for (int term = 0; term < TERMS; term++) row[cell][term] = table[(cell / CELLS * TERMS + term) * CELLS + cell % CELLS];
    }
    FASTINIT_INLINE_MEMBER I place(I cell, M upper) const {
      cell = and_(cell, integer(CELLS - 1));
      return HALVES == 2 ? or_(cell, and_(upper, integer(CELLS))) : cell;
    }
    FASTINIT_INLINE_MEMBER void look_up(I place, M, F *coefficient) const {
      uint32_t at[LANES];
      vst1q_u32(at, place);
      for (int quad = 0; quad < QUADS; quad++) {
        I rows[4], turned[4];
        for (int i = 0; i < 4; i++) rows[i] = bits(vld1q_f32(row[at[i]] + 4 * quad));
        turn(rows[0], rows[1], rows[2], rows[3], turned);
        for (int i = 0; i < 4 && 4 * quad + i < TERMS; i++) coefficient[4 * quad + i] = from_bits(turned[i]);
      }
    }
  };

  FASTINIT_INLINE I load_words(const uint32_t *words) { return vld1q_u32(words); }
  FASTINIT_INLINE F load_real(const float *at) { return vld1q_f32(at); }
  FASTINIT_INLINE I load_16(const uint16_t *at) { return vmovl_u16(vld1_u16(at)); }
  FASTINIT_INLINE I load_8(const uint8_t *at) {
    uint32_t four;
    __builtin_memcpy(&four, at, sizeof four);
    return vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)))));
  }
  FASTINIT_INLINE void store_words(uint32_t *out, I w) { vst1q_u32(out, w); }
  FASTINIT_INLINE void store_real(float *out, F v) { vst1q_f32(out, v); }
  FASTINIT_INLINE void store_16(uint16_t *out, I b) { vst1_u16(out, vmovn_u32(b)); }
  FASTINIT_INLINE void store_8(uint8_t *out, I b) {
    uint16x4_t half = vmovn_u32(b);
    vst1_lane_u32((uint32_t *)out, vreinterpret_u32_u8(vmovn_u16(vcombine_u16(half, half))), 0);
  }
};

static_assert(is_layer<Neon>());

using Vector = Neon; /* what kernel.h computes with */

}  // namespace fastinit
