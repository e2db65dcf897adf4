/* The vector layers of float: AVX-512, AVX2 or NEON, whichever the including file defines; Vector names it.
 *
 * On x86 a counter word sits in the even half of each 64-bit lane, where the widening multiply reads it; the odd halves hold
 * garbage that the multiply ignores, so that a round of Philox is two multiplies, two shifts and two three-way xors. */
#pragma once

#include "scalar.h"

#if defined(FASTINIT_VECTOR_AVX512) || defined(FASTINIT_VECTOR_AVX2)
#include <immintrin.h>
#elif defined(FASTINIT_VECTOR_NEON)
#include <arm_neon.h>
#endif

namespace fastinit {

#if defined(FASTINIT_VECTOR_AVX512) || defined(FASTINIT_VECTOR_AVX2)
enum { TO_ZERO = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }; /* the rounding of truncate() */
#endif

#if defined(FASTINIT_VECTOR_AVX512)

struct Avx512 {
  using Real = float;
  using F = __m512;
  using I = __m512i;
  using M = __mmask16;
  using Shift = __m128i;
  using W = __m512i;
  static constexpr int LANES = 16, BLOCKS = 8, UNROLL = 4, MANTISSA = 23;

  FASTINIT_INLINE W word(uint32_t x) { return _mm512_set1_epi32((int)x); }
  FASTINIT_INLINE W counter(uint64_t block) {
    /* in the order in which interleave() leaves the blocks of a vector consecutive */
    return _mm512_add_epi64(_mm512_set1_epi64((long long)block), _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7));
  }
  FASTINIT_INLINE void multiply(W x, uint32_t m, W &high, W &low) {
    low = _mm512_mul_epu32(x, _mm512_set1_epi32((int)m));
    high = _mm512_srli_epi64(low, 32);
  }
  FASTINIT_INLINE W xor_word(W a, W b) { return _mm512_xor_si512(a, b); }
  FASTINIT_INLINE W xor3(W a, W b, W c) { return _mm512_ternarylogic_epi32(a, b, c, 0x96); }
  FASTINIT_INLINE void interleave(W c0, W c1, W c2, W c3, I *words) {
    __m512 front = _mm512_shuffle_ps(_mm512_castsi512_ps(c0), _mm512_castsi512_ps(c1), 0x88);
    __m512 back = _mm512_shuffle_ps(_mm512_castsi512_ps(c2), _mm512_castsi512_ps(c3), 0x88);
    words[0] = _mm512_castps_si512(_mm512_shuffle_ps(front, back, 0x88));
    words[1] = _mm512_castps_si512(_mm512_shuffle_ps(front, back, 0xDD));
  }

  FASTINIT_INLINE F real(double x) { return _mm512_set1_ps((float)x); }
  FASTINIT_INLINE I integer(uint64_t x) { return _mm512_set1_epi32((int)x); }
  FASTINIT_INLINE Shift shift(int count) { return _mm_cvtsi32_si128(count); }
  FASTINIT_INLINE I bits(F x) { return _mm512_castps_si512(x); }
  FASTINIT_INLINE F from_bits(I b) { return _mm512_castsi512_ps(b); }
  FASTINIT_INLINE F to_real(I x) { return _mm512_cvtepi32_ps(x); }
  FASTINIT_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  FASTINIT_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  FASTINIT_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
  FASTINIT_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  FASTINIT_INLINE F abs(F a) { return from_bits(and_(bits(a), integer(0x7FFFFFFF))); }
  FASTINIT_INLINE F negate(F a) { return from_bits(xor_(bits(a), integer(0x80000000u))); }
  FASTINIT_INLINE F copy_sign(F size, F sign) {
    return from_bits(_mm512_ternarylogic_epi32(integer(0x80000000u), bits(sign), bits(size), 0xCA));
  }
  FASTINIT_INLINE F truncate(F a) { return _mm512_roundscale_ps(a, TO_ZERO); }
  FASTINIT_INLINE F at_least(F v, F low) { return _mm512_max_ps(v, low); } /* of two zeros, the second: low */
  FASTINIT_INLINE F at_most(F v, F high) { return _mm512_min_ps(v, high); }
  FASTINIT_INLINE M less(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  FASTINIT_INLINE M positive(I s) { return _mm512_cmpgt_epi32_mask(s, _mm512_setzero_si512()); }
  FASTINIT_INLINE F select(M m, F a, F b) { return _mm512_mask_blend_ps(m, b, a); }
  FASTINIT_INLINE I select_int(M m, I a, I b) { return _mm512_mask_blend_epi32(m, b, a); }
  FASTINIT_INLINE I and_(I a, I b) { return _mm512_and_si512(a, b); }
  FASTINIT_INLINE I or_(I a, I b) { return _mm512_or_si512(a, b); }
  FASTINIT_INLINE I xor_(I a, I b) { return _mm512_xor_si512(a, b); }
  FASTINIT_INLINE I add_int(I a, I b) { return _mm512_add_epi32(a, b); }
  FASTINIT_INLINE I sub_int(I a, I b) { return _mm512_sub_epi32(a, b); }
  FASTINIT_INLINE I shift_right(I a, Shift count) { return _mm512_srl_epi32(a, count); }
  FASTINIT_INLINE I shift_right_1(I a) { return _mm512_srli_epi32(a, 1); }
  template <int COUNT> FASTINIT_INLINE I shift_right_by(I a) { return _mm512_srli_epi32(a, COUNT); }
  FASTINIT_INLINE I distance(I s) { return sub_int(integer(0x80000000u), _mm512_abs_epi32(s)); }

  /* A term's 32 cells are two registers and one vpermt2ps, which reads the low five bits of the cell's number. */
  template <int CELLS, int TERMS, int HALVES> struct Table {
    F column[HALVES * TERMS][CELLS / LANES];
    FASTINIT_INLINE_MEMBER void load(const float *table) {
      for (int t = 0; t < HALVES * TERMS; t++)
        for (int part = 0; part < CELLS / LANES; part++) column[t][part] = _mm512_loadu_ps(table + t * CELLS + part * LANES);
    }
    FASTINIT_INLINE_MEMBER F at(int term, I cell, M second) const {
      F low = _mm512_permutex2var_ps(column[term][0], cell, column[term][1]);
      if (CELLS == 32) return low;
      return select(second, _mm512_permutex2var_ps(column[term][CELLS / LANES - 2], cell, column[term][CELLS / LANES - 1]), low);
    }
    FASTINIT_INLINE_MEMBER void look_up(I cell, M upper, F *coefficient) const {
      M second = CELLS == 32 ? (M)0 : _mm512_test_epi32_mask(cell, integer(32));
#pragma GCC unroll 8
      for (int term = 0; term < TERMS; term++) {
        coefficient[term] = at(term, cell, second);
        if (HALVES == 2) coefficient[term] = select(upper, at((HALVES - 1) * TERMS + term, cell, second), coefficient[term]);
      }
    }
  };

  FASTINIT_INLINE I load_words(const uint32_t *words) { return _mm512_loadu_si512(words); }
  FASTINIT_INLINE void store_words(uint32_t *out, I w) { _mm512_storeu_si512(out, w); }
  FASTINIT_INLINE void store_float(float *out, F v) { _mm512_storeu_ps(out, v); }
  FASTINIT_INLINE void store_16(uint16_t *out, I b) { _mm256_storeu_si256((__m256i *)out, _mm512_cvtepi32_epi16(b)); }
  FASTINIT_INLINE void store_8(uint8_t *out, I b) { _mm_storeu_si128((__m128i *)out, _mm512_cvtepi32_epi8(b)); }
};
using Vector = Avx512;

#elif defined(FASTINIT_VECTOR_AVX2)

struct Avx2 {
  using Real = float;
  using F = __m256;
  using I = __m256i;
  using M = __m256; /* all ones or all zeros a lane */
  using Shift = __m128i;
  using W = __m256i;
  static constexpr int LANES = 8, BLOCKS = 4, UNROLL = 4, MANTISSA = 23;

  FASTINIT_INLINE W word(uint32_t x) { return _mm256_set1_epi32((int)x); }
  FASTINIT_INLINE W counter(uint64_t block) {
    /* in the order in which interleave() leaves the blocks of a vector consecutive */
    return _mm256_add_epi64(_mm256_set1_epi64x((long long)block), _mm256_setr_epi64x(0, 2, 1, 3));
  }
  FASTINIT_INLINE void multiply(W x, uint32_t m, W &high, W &low) {
    low = _mm256_mul_epu32(x, _mm256_set1_epi32((int)m));
    high = _mm256_srli_epi64(low, 32);
  }
  FASTINIT_INLINE W xor_word(W a, W b) { return _mm256_xor_si256(a, b); }
  FASTINIT_INLINE W xor3(W a, W b, W c) { return _mm256_xor_si256(_mm256_xor_si256(b, c), a); }
  FASTINIT_INLINE void interleave(W c0, W c1, W c2, W c3, I *words) {
    __m256 front = _mm256_shuffle_ps(_mm256_castsi256_ps(c0), _mm256_castsi256_ps(c1), 0x88);
    __m256 back = _mm256_shuffle_ps(_mm256_castsi256_ps(c2), _mm256_castsi256_ps(c3), 0x88);
    words[0] = _mm256_castps_si256(_mm256_shuffle_ps(front, back, 0x88));
    words[1] = _mm256_castps_si256(_mm256_shuffle_ps(front, back, 0xDD));
  }

  FASTINIT_INLINE F real(double x) { return _mm256_set1_ps((float)x); }
  FASTINIT_INLINE I integer(uint64_t x) { return _mm256_set1_epi32((int)x); }
  FASTINIT_INLINE Shift shift(int count) { return _mm_cvtsi32_si128(count); }
  FASTINIT_INLINE I bits(F x) { return _mm256_castps_si256(x); }
  FASTINIT_INLINE F from_bits(I b) { return _mm256_castsi256_ps(b); }
  FASTINIT_INLINE F to_real(I x) { return _mm256_cvtepi32_ps(x); }
  FASTINIT_INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  FASTINIT_INLINE F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  FASTINIT_INLINE F add(F a, F b) { return _mm256_add_ps(a, b); }
  FASTINIT_INLINE F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  FASTINIT_INLINE F abs(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  FASTINIT_INLINE F negate(F a) { return _mm256_xor_ps(_mm256_set1_ps(-0.0f), a); }
  FASTINIT_INLINE F copy_sign(F size, F sign) { return _mm256_or_ps(abs(size), _mm256_and_ps(_mm256_set1_ps(-0.0f), sign)); }
  FASTINIT_INLINE F truncate(F a) { return _mm256_round_ps(a, TO_ZERO); }
  FASTINIT_INLINE F at_least(F v, F low) { return _mm256_max_ps(v, low); } /* of two zeros, the second: low */
  FASTINIT_INLINE F at_most(F v, F high) { return _mm256_min_ps(v, high); }
  FASTINIT_INLINE M less(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  FASTINIT_INLINE M positive(I s) { return _mm256_castsi256_ps(_mm256_cmpgt_epi32(s, _mm256_setzero_si256())); }
  FASTINIT_INLINE F select(M m, F a, F b) { return _mm256_blendv_ps(b, a, m); }
  FASTINIT_INLINE I select_int(M m, I a, I b) { return bits(select(m, from_bits(a), from_bits(b))); }
  FASTINIT_INLINE I and_(I a, I b) { return _mm256_and_si256(a, b); }
  FASTINIT_INLINE I or_(I a, I b) { return _mm256_or_si256(a, b); }
  FASTINIT_INLINE I xor_(I a, I b) { return _mm256_xor_si256(a, b); }
  FASTINIT_INLINE I add_int(I a, I b) { return _mm256_add_epi32(a, b); }
  FASTINIT_INLINE I sub_int(I a, I b) { return _mm256_sub_epi32(a, b); }
  FASTINIT_INLINE I shift_right(I a, Shift count) { return _mm256_srl_epi32(a, count); }
  FASTINIT_INLINE I shift_right_1(I a) { return _mm256_srli_epi32(a, 1); }
  template <int COUNT> FASTINIT_INLINE I shift_right_by(I a) { return _mm256_srli_epi32(a, COUNT); }
  FASTINIT_INLINE I distance(I s) { return sub_int(integer(0x80000000u), _mm256_abs_epi32(s)); }

  /* A cell's terms lie side by side: eight rows are loaded by four terms and transposed. vgatherdps is eight loads a term.
   * Slower on Zen 3 (2026-11): the fifth term alone by vpermps, a tenth of a fill; cells taken out as 16 bits, a fourteenth. */
  template <int CELLS, int TERMS, int HALVES> struct Table {
    static constexpr int QUADS = (TERMS + 3) / 4;
    alignas(32) float row[HALVES * CELLS][4 * QUADS];
    FASTINIT_INLINE_MEMBER void load(const float *table) {
      for (int cell = 0; cell < HALVES * CELLS; cell++)
        for (int term = 0; term < TERMS; term++)
          row[cell][term] = table[(cell / CELLS * TERMS + term) * CELLS + cell % CELLS];
    }
    FASTINIT_INLINE void four_lanes(__m128i cell, uint32_t *at) {
      const uint64_t low = (uint64_t)_mm_cvtsi128_si64(cell), high = (uint64_t)_mm_extract_epi64(cell, 1);
      at[0] = (uint32_t)low, at[1] = (uint32_t)(low >> 32), at[2] = (uint32_t)high, at[3] = (uint32_t)(high >> 32);
    }
    FASTINIT_INLINE_MEMBER __m128 four_terms(uint32_t byte, int quad) const {
      return _mm_load_ps((const float *)((const char *)row + byte) + 4 * quad);
    }
    FASTINIT_INLINE_MEMBER void look_up(I cell, M upper, F *coefficient) const {
      cell = and_(cell, integer(CELLS - 1));
      if (HALVES == 2) cell = or_(cell, and_(bits(upper), integer(CELLS)));
      cell = _mm256_slli_epi32(cell, QUADS == 2 ? 5 : 4);
      uint32_t at[LANES]; /* by 64 bits: on Zen 3 a sixth faster than through memory, a third than vpermps, half of vgatherdps */
      four_lanes(_mm256_castsi256_si128(cell), at);
      four_lanes(_mm256_extracti128_si256(cell, 1), at + 4);
#pragma GCC unroll 2
      for (int quad = 0; quad < QUADS; quad++) {
        F rows[4], turned[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
          rows[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(four_terms(at[i], quad)), four_terms(at[i + 4], quad), 1);
        F a = _mm256_unpacklo_ps(rows[0], rows[1]), b = _mm256_unpacklo_ps(rows[2], rows[3]);
        F c = _mm256_unpackhi_ps(rows[0], rows[1]), d = _mm256_unpackhi_ps(rows[2], rows[3]);
        turned[0] = _mm256_shuffle_ps(a, b, 0x44), turned[1] = _mm256_shuffle_ps(a, b, 0xEE);
        turned[2] = _mm256_shuffle_ps(c, d, 0x44), turned[3] = _mm256_shuffle_ps(c, d, 0xEE);
        for (int i = 0; i < 4 && 4 * quad + i < TERMS; i++) coefficient[4 * quad + i] = turned[i];
      }
    }
  };

  FASTINIT_INLINE I load_words(const uint32_t *words) { return _mm256_loadu_si256((const __m256i *)words); }
  FASTINIT_INLINE void store_words(uint32_t *out, I w) { _mm256_storeu_si256((__m256i *)out, w); }
  FASTINIT_INLINE void store_float(float *out, F v) { _mm256_storeu_ps(out, v); }
  FASTINIT_INLINE __m128i low_halves(I b) {
    return _mm_packus_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
  }
  FASTINIT_INLINE void store_16(uint16_t *out, I b) { _mm_storeu_si128((__m128i *)out, low_halves(b)); }
  FASTINIT_INLINE void store_8(uint8_t *out, I b) {
    __m128i half = low_halves(b);
    _mm_storel_epi64((__m128i *)out, _mm_packus_epi16(half, half));
  }
};
using Vector = Avx2;

#elif defined(FASTINIT_VECTOR_NEON)

struct Neon {
  using Real = float;
  using F = float32x4_t;
  using I = uint32x4_t;
  using M = uint32x4_t;
  using Shift = int32x4_t; /* a left shift by minus the count */
  using W = uint32x4_t;
  static constexpr int LANES = 4, BLOCKS = 4, UNROLL = 2, MANTISSA = 23;

  FASTINIT_INLINE W word(uint32_t x) { return vdupq_n_u32(x); }
  FASTINIT_INLINE W counter(uint64_t block) {
    const uint32_t step[4] = {0, 1, 2, 3};
    return vaddq_u32(vdupq_n_u32((uint32_t)block), vld1q_u32(step));
  }
  FASTINIT_INLINE void multiply(W x, uint32_t m, W &high, W &low) {
    uint32x4_t a = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(x), vdup_n_u32(m)));
    uint32x4_t b = vreinterpretq_u32_u64(vmull_high_u32(x, vdupq_n_u32(m)));
    low = vuzp1q_u32(a, b), high = vuzp2q_u32(a, b);
  }
  FASTINIT_INLINE W xor_word(W a, W b) { return veorq_u32(a, b); }
  FASTINIT_INLINE W xor3(W a, W b, W c) { return veorq_u32(veorq_u32(b, c), a); }
  FASTINIT_INLINE void turn(I a, I b, I c, I d, I *out) { /* a 4 x 4 transpose */
    uint64x2_t ab0 = vreinterpretq_u64_u32(vzip1q_u32(a, b)), ab1 = vreinterpretq_u64_u32(vzip2q_u32(a, b));
    uint64x2_t cd0 = vreinterpretq_u64_u32(vzip1q_u32(c, d)), cd1 = vreinterpretq_u64_u32(vzip2q_u32(c, d));
    out[0] = vreinterpretq_u32_u64(vzip1q_u64(ab0, cd0)), out[1] = vreinterpretq_u32_u64(vzip2q_u64(ab0, cd0));
    out[2] = vreinterpretq_u32_u64(vzip1q_u64(ab1, cd1)), out[3] = vreinterpretq_u32_u64(vzip2q_u64(ab1, cd1));
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
  FASTINIT_INLINE F at_least(F v, F low) { return vmaxq_f32(v, low); } /* which puts -0 below 0 */
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
  FASTINIT_INLINE I distance(I s) {
    return sub_int(integer(0x80000000u), vreinterpretq_u32_s32(vabsq_s32(vreinterpretq_s32_u32(s))));
  }

  /* A cell's terms lie side by side: four rows are loaded by four terms and transposed. */
  template <int CELLS, int TERMS, int HALVES> struct Table {
    static constexpr int QUADS = (TERMS + 3) / 4;
    alignas(16) float row[HALVES * CELLS][4 * QUADS];
    FASTINIT_INLINE_MEMBER void load(const float *table) {
      for (int cell = 0; cell < HALVES * CELLS; cell++)
        for (int term = 0; term < TERMS; term++)
          row[cell][term] = table[(cell / CELLS * TERMS + term) * CELLS + cell % CELLS];
    }
    FASTINIT_INLINE_MEMBER void look_up(I cell, M upper, F *coefficient) const {
      cell = and_(cell, integer(CELLS - 1));
      if (HALVES == 2) cell = or_(cell, and_(upper, integer(CELLS)));
      uint32_t at[LANES];
      vst1q_u32(at, cell);
      for (int quad = 0; quad < QUADS; quad++) {
        I rows[4], turned[4];
        for (int i = 0; i < 4; i++) rows[i] = bits(vld1q_f32(row[at[i]] + 4 * quad));
        turn(rows[0], rows[1], rows[2], rows[3], turned);
        for (int i = 0; i < 4 && 4 * quad + i < TERMS; i++) coefficient[4 * quad + i] = from_bits(turned[i]);
      }
    }
  };

  FASTINIT_INLINE I load_words(const uint32_t *words) { return vld1q_u32(words); }
  FASTINIT_INLINE void store_words(uint32_t *out, I w) { vst1q_u32(out, w); }
  FASTINIT_INLINE void store_float(float *out, F v) { vst1q_f32(out, v); }
  FASTINIT_INLINE void store_16(uint16_t *out, I b) { vst1_u16(out, vmovn_u32(b)); }
  FASTINIT_INLINE void store_8(uint8_t *out, I b) {
    uint16x4_t half = vmovn_u32(b);
    vst1_lane_u32((uint32_t *)out, vreinterpret_u32_u8(vmovn_u16(vcombine_u16(half, half))), 0);
  }
};
using Vector = Neon;

#else
using Vector = Scalar<float>;
#endif

}  // namespace fastinit
